/**
 * Owns what one torrent has under way at the ports Files and Hasher: a table of jobs by number.
 *
 * Invariant: a job stays in the table until its completion, whatever happened to the torrent meanwhile, so that the slots
 * it lends out come back then and not before. Numbers are never used twice, so that a late completion finds its own job.
 * Limit: none here; writes are bounded by the slots, reads by the read cache, checks and stats by their own windows.
 */

import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import type {
  FileRef,
  FileSink,
  FileStat,
  FileStatSink,
  Files,
  Hasher,
  HashKind,
  HashSink,
  HashSpan,
} from '../base/ports.ts';

/** What waits for a completion; each kind of job overrides what it asks for. */
export abstract class Job {
  onIo(_fault: IoFault | null, _bytes: number): void {
    assert(false, 'a completion of another kind');
  }

  onStat(_fault: IoFault | null, _stat: FileStat | null): void {
    assert(false, 'a completion of another kind');
  }

  onHash(_fault: IoFault | null, _digest: Uint8Array): void {
    assert(false, 'a completion of another kind');
  }
}

/** A job that ends in one call with a fault or none. */
export class Call extends Job {
  readonly #done: (fault: IoFault | null, count: number) => void;

  constructor(done: (fault: IoFault | null, count: number) => void) {
    super();
    this.#done = done;
  }

  override onIo(fault: IoFault | null, bytes: number): void {
    this.#done(fault, bytes);
  }
}

/** Told when the last job under way has ended. */
export interface IdleSink {
  onIdle(): void;
}

export class Io implements FileSink, FileStatSink, HashSink {
  readonly files: Files;
  readonly hasher: Hasher;
  /** While set, nothing new is started but by the one who set it. */
  held = false;
  readonly #sink: IdleSink;
  readonly #jobs: Map<number, Job> = new Map();
  #next = 1;

  constructor(files: Files, hasher: Hasher, sink: IdleSink) {
    this.files = files;
    this.hasher = hasher;
    this.#sink = sink;
  }

  get inFlight(): number {
    return this.#jobs.size;
  }

  read(job: Job, file: FileRef, offset: number, views: readonly Uint8Array[]): void {
    this.files.read(this.#number(job), file, offset, views, this);
  }

  write(job: Job, file: FileRef, offset: number, views: readonly Uint8Array[]): void {
    this.files.write(this.#number(job), file, offset, views, this);
  }

  sync(job: Job, files: readonly FileRef[]): void {
    this.files.sync(this.#number(job), files, this);
  }

  stat(job: Job, file: FileRef): void {
    this.files.stat(this.#number(job), file, this);
  }

  allocate(job: Job, file: FileRef, size: number, full: boolean): void {
    this.files.allocate(this.#number(job), file, size, full, this);
  }

  link(job: Job, file: FileRef, target: readonly string[]): void {
    this.files.link(this.#number(job), file, target, this);
  }

  remove(job: Job, files: readonly FileRef[]): void {
    this.files.remove(this.#number(job), files, this);
  }

  move(job: Job, files: readonly FileRef[], newRoot: string): void {
    this.files.move(this.#number(job), files, newRoot, this);
  }

  copy(job: Job, from: FileRef, to: FileRef): void {
    this.files.copy(this.#number(job), from, to, this);
  }

  hashFiles(job: Job, kind: HashKind, spans: readonly HashSpan[], pieceLength: number, leafCount: number): void {
    this.hasher.hashFiles(this.#number(job), kind, spans, pieceLength, leafCount, this);
  }

  onFile(number: number, fault: IoFault | null, bytes: number): void {
    this.#take(number).onIo(fault, bytes);
    this.#settle();
  }

  onStat(number: number, fault: IoFault | null, stat: FileStat | null): void {
    this.#take(number).onStat(fault, stat);
    this.#settle();
  }

  onHashed(number: number, fault: IoFault | null, digest: Uint8Array): void {
    this.#take(number).onHash(fault, digest);
    this.#settle();
  }

  #number(job: Job): number {
    const number = this.#next++;
    this.#jobs.set(number, job);
    return number;
  }

  #take(number: number): Job {
    const job = this.#jobs.get(number);
    assert(job !== undefined, 'a completion nobody waits for');
    this.#jobs.delete(number);
    return job;
  }

  #settle(): void {
    if (this.#jobs.size === 0) this.#sink.onIdle();
  }
}
