/**
 * Runs many `hashFiles` jobs, enough at once to keep every hash thread busy and no more. Tasks are made one by one as
 * they are needed. An abort takes no new task and waits for those under way, so that no worker reads on afterwards.
 */

import { type IoFault, ShoalError } from '../base/errors.ts';
import type { Hasher, HashKind, HashSpan } from '../base/ports.ts';

/** Called with bytes hashed so far and bytes in all. */
export type OnProgress = (bytesDone: number, bytesTotal: number) => void;

export interface HashTask {
  readonly kind: HashKind;
  readonly spans: readonly HashSpan[];
  readonly pieceLength: number;
  readonly leafCount: number;
  /** Of the spans, for progress. */
  readonly bytes: number;
  /** The digests, joined and borrowed; with a fault those of unreadable pieces are zeros. May throw to end the run. */
  readonly onDigests: (digests: Uint8Array, fault: IoFault | null) => void;
}

export interface HashRun {
  readonly bytesTotal: number;
  readonly onProgress: OnProgress | undefined;
  readonly signal: AbortSignal | undefined;
}

/** A task of about this much: long enough that its message costs nothing, short enough to share out evenly. */
export const TASK_BYTES: number = 8 * 1024 * 1024;
/** Two for each thread: one it works on and one that waits. */
const TASKS_PER_THREAD = 2;

/** Rejects with what a task threw, or ShoalError 'aborted'. */
export async function runHashTasks(hasher: Hasher, tasks: Iterable<HashTask>, run: HashRun): Promise<void> {
  const { bytesTotal, onProgress, signal } = run;
  const queue = tasks[Symbol.iterator]();
  const underWay = new Map<number, HashTask>();
  let nextJob = 1;
  let bytesDone = 0;
  let failure: unknown = null;
  let ended = false;
  await new Promise<void>((resolve) => {
    const sink = {
      onHashed(job: number, fault: IoFault | null, digests: Uint8Array): void {
        const task = underWay.get(job)!;
        underWay.delete(job);
        bytesDone += task.bytes;
        if (failure === null && !signal?.aborted) {
          try {
            task.onDigests(digests, fault);
            onProgress?.(bytesDone, bytesTotal);
          } catch (error) {
            failure = error;
          }
        }
        feed();
      },
    };
    const feed = (): void => {
      while (!ended && underWay.size < hasher.threads * TASKS_PER_THREAD && failure === null && !signal?.aborted) {
        const next = queue.next();
        if (next.done === true) ended = true;
        else {
          const { kind, spans, pieceLength, leafCount } = next.value;
          underWay.set(nextJob, next.value);
          hasher.hashFiles(nextJob++, kind, spans, pieceLength, leafCount, sink);
        }
      }
      if (underWay.size === 0) resolve();
    };
    feed();
  });
  if (failure !== null) throw failure;
  if (signal?.aborted) throw new ShoalError('aborted', 'interrupted');
}
