/** Syncs files a few at a time, then their folders: a new name is durable only when its folder is. */

import type { IoFault } from '../base/errors.ts';
import type { FileRef, FileSink } from '../base/ports.ts';

/** Who does the single steps. */
export interface Syncer {
  syncOne(job: number, file: FileRef, sink: FileSink): void;
  syncFolders(files: readonly FileRef[], done: (why: IoFault | null) => void): void;
}

const SYNC_AT_ONCE = 4;

export class SyncJob implements FileSink {
  readonly #files: Syncer;
  readonly #job: number;
  readonly #refs: readonly FileRef[];
  readonly #sink: FileSink;
  #next = 0;
  #running = 0;
  #synced = 0;
  #fault: IoFault | null = null;

  constructor(files: Syncer, job: number, refs: readonly FileRef[], sink: FileSink) {
    this.#files = files;
    this.#job = job;
    this.#refs = refs;
    this.#sink = sink;
  }

  start(): void {
    while (this.#running < SYNC_AT_ONCE && this.#next < this.#refs.length) {
      this.#running += 1;
      this.#files.syncOne(0, this.#refs[this.#next++]!, this);
    }
    if (this.#running > 0) return;
    this.#files.syncFolders(this.#refs, (why) => this.#sink.onFile(this.#job, this.#fault ?? why, this.#synced));
  }

  onFile(_job: number, why: IoFault | null): void {
    this.#running -= 1;
    if (why === null) this.#synced += 1;
    else if (why.code !== 'ENOENT') this.#fault ??= why;
    this.start();
  }
}
