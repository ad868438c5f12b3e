/** What a transfer tells, and who listens: JSON lines, the live display, or plain lines. One view per command. */

import type { Torrent } from '@shoal/engine';
import type { ExitCode, Failure } from './exit-code.ts';

/** One source of a `get` or `seed`, from the command line to its end. */
export interface Job {
  /** As the user wrote it, made safe to print. */
  readonly label: string;
  /** Null until the session took it. */
  torrent: Torrent | null;
  state: 'waiting' | 'running' | 'done' | 'failed' | 'interrupted';
  startedMs: number;
  endedMs: number | null;
}

export interface TransferView {
  listening(host: string, port: number): void;
  /** A router forwards this port to ours; `host` null: it did not say at which address. */
  mapped(host: string | null, port: number, method: string): void;
  /** Something a person wants to know and a program does not. */
  note(text: string): void;
  /** A publisher's key stands for this torrent now, by its number so and so. */
  version(job: Job, seq: number): void;
  /** What is claimed before any peer is asked. */
  claimed(job: Job): void;
  /** Called several times a second while anything runs. `dhtNodes`: how many the session knows; null: it uses no DHT. */
  tick(jobs: readonly Job[], dhtNodes: number | null): void;
  done(job: Job): void;
  failed(job: Job | null, failure: Failure): void;
  /** The user asked to stop; what follows is quick. */
  stopping(): void;
  /** The last call. */
  end(exitCode: ExitCode): void;
}

/** Monotonic milliseconds. */
export function nowMs(): number {
  return performance.now();
}

export function elapsedSeconds(job: Job): number {
  return ((job.endedMs ?? nowMs()) - job.startedMs) / 1000;
}

/** How often views are ticked; each draws or prints as often as it likes. */
export const TICK_MS = 100;
