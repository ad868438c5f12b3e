/** Makes an IoFault of whatever node throws: the errno name, and one sentence that names the path or address. */

import type { IoFault } from '../base/errors.ts';

/** `what` completes "could not ..." and names the path or address. */
export function faultOf(error: unknown, what: string): IoFault {
  const code = errorCode(error);
  return { code, message: `could not ${what}: ${REASONS[code] ?? detail(error, code)}` };
}

export function fault(code: string, message: string): IoFault {
  return { code, message };
}

export function errorCode(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string')
    return error.code;
  return 'EIO';
}

function detail(error: unknown, code: string): string {
  const text = error instanceof Error ? error.message : String(error);
  // node writes "EIO: i/o error, read"; the code is a field of its own
  return text === '' ? code : text.replace(/^[A-Z0-9_]+: /, '').slice(0, 300);
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EADDRINUSE: 'the address is in use',
  EADDRNOTAVAIL: 'this machine does not have that address',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the other side reset the connection',
  EDQUOT: 'the disk quota is used up',
  EEXIST: 'something is there already',
  EHOSTUNREACH: 'no route to the host',
  EIO: 'input/output error',
  EISDIR: 'a folder stands there',
  ELOOP: 'a symbolic link stands there and is not followed',
  EMFILE: 'too many open files',
  ENETUNREACH: 'the network is unreachable',
  ENFILE: 'too many open files on this system',
  ENOENT: 'nothing is there',
  ENOSPC: 'no space left on the disk',
  ENOTDIR: 'a file or link stands where a folder should be',
  ENOTFOUND: 'the name does not resolve',
  ENXIO: 'no regular file stands there',
  EPERM: 'operation not permitted',
  EPIPE: 'the other side closed the connection',
  EROFS: 'the file system is read-only',
};
