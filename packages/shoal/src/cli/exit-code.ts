/**
 * How a command ends: the exit codes that scripts rely on (also in `shoal --help`), and the one mapping from anything
 * that can be thrown to a code, a word for `--json` and a line for people. No stack trace reaches a user.
 */

import type { ShoalError, ShoalErrorCode } from '@shoal/engine';
import { sanitize } from './format.ts';

export const ExitCode = {
  /** All done; also a `seed` that was ended by SIGINT or SIGTERM. */
  Done: 0,
  /** It failed; also `verify` that found bad pieces. */
  Failed: 1,
  WrongUse: 2,
  /** A .torrent file or magnet link that cannot be read. */
  BadSource: 3,
  Disk: 4,
  /** No peer within `--timeout`. */
  NoPeers: 5,
  /** `get` was interrupted; the same command resumes. */
  Interrupted: 130,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The command line does not make sense; the message says what to write instead. */
export class UsageError extends Error {}

/** What was looked for is not there. */
export class NotFoundError extends Error {}

/** What is told about a failure: `code` and `message` as in `--json`, and the code to exit with. */
export interface Failure {
  readonly code: ShoalErrorCode | 'usage' | 'not-found' | 'internal';
  readonly message: string;
  readonly exitCode: ExitCode;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof UsageError) return { code: 'usage', message: oneLine(error), exitCode: ExitCode.WrongUse };
  if (error instanceof NotFoundError) return { code: 'not-found', message: oneLine(error), exitCode: ExitCode.Failed };
  if (isShoalError(error)) {
    return { code: error.code, message: oneLine(error), exitCode: exitCodeByError[error.code] ?? ExitCode.Failed };
  }
  if (isSystemError(error)) {
    const network = NETWORK_CALLS.has(error.syscall);
    const exitCode = network ? ExitCode.Failed : ExitCode.Disk;
    return { code: network ? 'network' : 'disk', message: describeSystemError(error), exitCode };
  }
  return { code: 'internal', message: `internal error: ${oneLine(error)}`, exitCode: ExitCode.Failed };
}

const exitCodeByError: Readonly<Record<ShoalErrorCode, ExitCode>> = {
  'bad-torrent': ExitCode.BadSource,
  'bad-magnet': ExitCode.BadSource,
  'bad-option': ExitCode.WrongUse,
  'bad-piece': ExitCode.Failed,
  disk: ExitCode.Disk,
  'in-use': ExitCode.Failed,
  duplicate: ExitCode.WrongUse,
  'no-peers': ExitCode.NoPeers,
  aborted: ExitCode.Interrupted,
  closed: ExitCode.Failed,
  network: ExitCode.Failed,
};

const NETWORK_CALLS: ReadonlySet<string> = new Set(['listen', 'bind', 'connect', 'getaddrinfo', 'accept']);

/** Told by its name, so that `--help` need not load the engine. */
function isShoalError(error: unknown): error is ShoalError {
  return error instanceof Error && error.name === 'ShoalError';
}

interface SystemError extends Error {
  readonly code: string;
  readonly syscall: string;
  readonly path?: string;
}

function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && typeof (error as Partial<SystemError>).syscall === 'string' && 'code' in error;
}

const PLAIN_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EISDIR: 'is a folder',
  ENOTDIR: 'is not a folder',
  EEXIST: 'exists already',
  ENOSPC: 'no space left on the disk',
  EROFS: 'the file system is read-only',
  EADDRINUSE: 'the address is in use',
  EADDRNOTAVAIL: 'no such local address',
};

function describeSystemError(error: SystemError): string {
  const reason = PLAIN_REASONS[error.code];
  if (reason === undefined) return oneLine(error);
  return error.path === undefined ? `${reason} (${error.code})` : `${sanitize(error.path)}: ${reason} (${error.code})`;
}

function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return sanitize(text.replace(/\s*[\r\n]+\s*/g, ' ')).trim();
}
