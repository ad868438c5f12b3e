/**
 * The Hasher: threads that hash pieces by slot number in shared memory, or files by reading them.
 *
 * A job goes to the thread with the fewest bytes waiting; the calls of a running hash go to the thread that has it.
 * Threads start with the first job and hold the process only while they have work.
 * Invariant: each job is answered once, also when its thread dies (fault EWORKER) or the pool is closed (ECANCELED).
 * Limits: see hash-ring.ts; what does not fit a ring waits here, in order.
 */

import { SHARE_ENV, Worker } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import { type Hasher, type HashKind, type HashSink, type HashSpan, HashKind as Kinds } from '../base/ports.ts';
import type { SlotPool } from '../base/slot-pool.ts';
import { fault } from './fault.ts';
import {
  COMMAND_HEAD_WORDS,
  COMMAND_MAX_SLOTS,
  type HashFilesMessage,
  HashOp,
  type HashReplyMessage,
  type HashSlotsMessage,
  type HashWorkerData,
  RING_BELL,
  RING_BYTES,
  RING_COMMAND_WORDS,
  RING_COMMANDS,
  RING_HEAD,
  RING_REPLIES,
  RING_REPLY_COUNT,
  RING_REPLY_HEAD,
  RING_REPLY_TAIL,
  RING_REPLY_WORDS,
  RING_TAIL,
} from './hash-ring.ts';

/** Some 3 ms of hashing: what waits behind it hardly notices. */
const LITTLE_BYTES = 4 << 20;
const EMPTY = new Uint8Array(0);
const NO_SLOTS = new Int32Array(0);

export class HashPool implements Hasher {
  readonly threads: number;
  readonly #slots: SlotPool;
  readonly #workers: (HashThread | null)[];
  readonly #jobs: JobTable = new JobTable();
  /** Which thread runs a stream. */
  readonly #streams = new Map<number, HashThread>();
  #closed = false;

  constructor(slots: SlotPool, threads: number) {
    assert(slots.buffer instanceof SharedArrayBuffer, 'slots of a hash pool lie in shared memory');
    this.threads = Math.max(1, threads);
    this.#slots = slots;
    this.#workers = new Array<HashThread | null>(this.threads).fill(null);
  }

  hash(
    job: number,
    kind: HashKind,
    slots: Int32Array,
    count: number,
    byteLength: number,
    leafCount: number,
    stream: number,
    last: boolean,
    sink: HashSink,
  ): void {
    if (this.#closed) {
      refuse(job, sink);
      return;
    }
    let thread = stream === 0 ? undefined : this.#streams.get(stream);
    if (thread === undefined || thread.dead) thread = this.#leastLoaded();
    if (stream !== 0) {
      if (last) this.#streams.delete(stream);
      else this.#streams.set(stream, thread);
    }
    const index = this.#jobs.add(job, sink, thread, byteLength);
    thread.started(byteLength);
    if (count > COMMAND_MAX_SLOTS) {
      const own = slots.slice(0, count);
      thread.message({ type: 'slots', index, kind, slots: own, byteLength, leafCount, stream, last });
    } else thread.command(kind, index, byteLength, leafCount, stream, last ? 1 : 0, slots, count);
  }

  abandon(stream: number): void {
    const thread = this.#streams.get(stream);
    if (thread === undefined) return;
    this.#streams.delete(stream);
    thread.command(HashOp.Abandon, 0, 0, 0, stream, 0, NO_SLOTS, 0);
  }

  /**
   * A span that cannot be read whole gives a fault together with all digests; those of the pieces it touches are zeros,
   * which no data has. So a check goes on past a missing file and a creation stops.
   */
  hashFiles(
    job: number,
    kind: HashKind,
    spans: readonly HashSpan[],
    pieceLength: number,
    leafCount: number,
    sink: HashSink,
  ): void {
    assert(kind !== Kinds.EachSha1 && pieceLength > 0, 'hashFiles: kind and piece length');
    if (this.#closed) {
      refuse(job, sink);
      return;
    }
    let bytes = 0;
    const own = spans.map((span) => {
      bytes += span.length;
      const { file, offset, length } = span;
      return { root: file?.root ?? null, path: file?.path ?? [], offset, length };
    });
    const thread = this.#leastLoaded();
    const index = this.#jobs.add(job, sink, thread, bytes);
    thread.started(bytes);
    thread.message({ type: 'files', index, kind, spans: own, pieceLength, leafCount });
  }

  /** Jobs that were given and not answered. */
  get jobCount(): number {
    return this.#jobs.count;
  }

  /** Stops the threads; jobs under way are answered with ECANCELED. */
  close(done: () => void): void {
    this.#closed = true;
    let waiting = 1;
    const one = (): void => {
      waiting -= 1;
      if (waiting === 0) done();
    };
    for (const thread of this.#workers) {
      if (thread === null || thread.dead) continue;
      waiting += 1;
      thread.stop(one);
    }
    setImmediate(() => {
      this.#jobs.failAll(null, fault('ECANCELED', 'hashing was stopped'));
      one();
    });
  }

  /** The first thread that has little to do, started if need be: fewer threads cost less memory and warm up once. */
  #leastLoaded(): HashThread {
    let best: HashThread | null = null;
    for (let i = 0; i < this.threads; i++) {
      const thread = this.#workers[i];
      if (thread === null || thread === undefined || thread.dead) {
        const fresh = new HashThread(this.#slots, this.#jobs);
        this.#workers[i] = fresh;
        return fresh;
      }
      if (thread.loadBytes < LITTLE_BYTES) return thread;
      if (best === null || thread.loadBytes < best.loadBytes) best = thread;
    }
    return best!;
  }
}

function refuse(job: number, sink: HashSink): void {
  setImmediate(() => sink.onHashed(job, fault('ECANCELED', 'hashing was stopped'), EMPTY));
}

/** Jobs under way, by index; indices are used again. */
class JobTable {
  count = 0;
  readonly #job: number[] = [];
  readonly #sink: (HashSink | null)[] = [];
  readonly #thread: (HashThread | null)[] = [];
  readonly #bytes: number[] = [];
  readonly #free: number[] = [];

  add(job: number, sink: HashSink, thread: HashThread, bytes: number): number {
    const index = this.#free.pop() ?? this.#job.length;
    this.#job[index] = job;
    this.#sink[index] = sink;
    this.#thread[index] = thread;
    this.#bytes[index] = bytes;
    this.count += 1;
    return index;
  }

  finish(index: number, why: IoFault | null, digest: Uint8Array): void {
    const sink = this.#sink[index];
    // a late answer of a thread whose jobs were given up
    if (sink === null || sink === undefined) return;
    const job = this.#job[index]!;
    this.#sink[index] = null;
    this.#thread[index]?.finished(this.#bytes[index]!);
    this.#thread[index] = null;
    this.#free.push(index);
    this.count -= 1;
    sink.onHashed(job, why, digest);
  }

  /** Answers all jobs of a thread (null: of all) with a fault. */
  failAll(thread: HashThread | null, why: IoFault): void {
    for (let i = 0; i < this.#sink.length; i++) {
      if (this.#sink[i] !== null && (thread === null || this.#thread[i] === thread)) this.finish(i, why, EMPTY);
    }
  }
}

/** One thread, seen from the network thread. */
class HashThread {
  dead = false;
  loadBytes = 0;
  jobCount = 0;
  readonly #jobs: JobTable;
  readonly #worker: Worker;
  readonly #ring: Int32Array;
  readonly #ringBytes: Uint8Array;
  readonly #digest = new Uint8Array(64);
  /** Commands that wait for room in the ring, as words. */
  readonly #overflow: Int32Array[] = [];
  #head = 0;
  #stopping = false;

  constructor(slots: SlotPool, jobs: JobTable) {
    this.#jobs = jobs;
    const ring = new SharedArrayBuffer(RING_BYTES);
    this.#ring = new Int32Array(ring);
    this.#ringBytes = new Uint8Array(ring);
    const data: HashWorkerData = { memory: slots.buffer as SharedArrayBuffer, slotBase: slots.offset(0), ring };
    this.#worker = new Worker(new URL('./hash-worker.js', import.meta.url), {
      workerData: data,
      env: SHARE_ENV,
      execArgv: [],
      // a worker holds views and digests, no more
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
    });
    this.#worker.unref();
    this.#worker.on('message', (m: number | HashReplyMessage) => {
      if (typeof m === 'number') this.#drain();
      else {
        this.#jobs.finish(m.index, m.code === '' ? null : fault(m.code, m.message), m.digest);
        this.#refill();
      }
    });
    this.#worker.on('error', (error) => this.#died(error));
    this.#worker.on('exit', () => this.#died(null));
  }

  started(bytes: number): void {
    this.loadBytes += bytes;
    this.jobCount += 1;
    if (this.jobCount === 1) this.#worker.ref();
  }

  finished(bytes: number): void {
    this.loadBytes -= bytes;
    this.jobCount -= 1;
    if (this.jobCount === 0 && !this.#stopping) this.#worker.unref();
  }

  message(m: HashSlotsMessage | HashFilesMessage): void {
    this.#worker.postMessage(m);
    this.command(HashOp.Message, 0, 0, 0, 0, 0, NO_SLOTS, 0);
  }

  command(
    op: number,
    index: number,
    byteLength: number,
    leafCount: number,
    stream: number,
    last: number,
    slots: Int32Array,
    count: number,
  ): void {
    if (this.dead) return;
    const words = COMMAND_HEAD_WORDS + count;
    if (this.#overflow.length > 0 || this.#room() < words) {
      const kept = new Int32Array(words);
      kept.set([op, index, byteLength, leafCount, stream, last, count]);
      kept.set(slots.subarray(0, count), COMMAND_HEAD_WORDS);
      this.#overflow.push(kept);
      return;
    }
    const ring = this.#ring;
    const mask = RING_COMMAND_WORDS - 1;
    let at = this.#head;
    ring[RING_COMMANDS + (at++ & mask)] = op;
    ring[RING_COMMANDS + (at++ & mask)] = index;
    ring[RING_COMMANDS + (at++ & mask)] = byteLength;
    ring[RING_COMMANDS + (at++ & mask)] = leafCount;
    ring[RING_COMMANDS + (at++ & mask)] = stream;
    ring[RING_COMMANDS + (at++ & mask)] = last;
    ring[RING_COMMANDS + (at++ & mask)] = count;
    for (let i = 0; i < count; i++) ring[RING_COMMANDS + (at++ & mask)] = slots[i]!;
    this.#publish(at);
  }

  stop(done: () => void): void {
    this.#stopping = true;
    this.#worker.ref();
    this.#worker.once('exit', () => done());
    // a long check need not be finished first
    void this.#worker.terminate();
  }

  #room(): number {
    return RING_COMMAND_WORDS - ((this.#head - Atomics.load(this.#ring, RING_TAIL)) | 0);
  }

  #publish(head: number): void {
    this.#head = head | 0;
    Atomics.store(this.#ring, RING_HEAD, this.#head);
    Atomics.notify(this.#ring, RING_HEAD, 1);
  }

  #drain(): void {
    const ring = this.#ring;
    Atomics.store(ring, RING_BELL, 0);
    let tail = ring[RING_REPLY_TAIL]!;
    while (tail !== Atomics.load(ring, RING_REPLY_HEAD)) {
      const at = RING_REPLIES + (tail & (RING_REPLY_COUNT - 1)) * RING_REPLY_WORDS;
      const index = ring[at]!;
      const length = ring[at + 1]!;
      const from = (at + 2) * 4;
      for (let i = 0; i < length; i++) this.#digest[i] = this.#ringBytes[from + i]!;
      tail = (tail + 1) | 0;
      Atomics.store(ring, RING_REPLY_TAIL, tail);
      Atomics.notify(ring, RING_REPLY_TAIL, 1);
      this.#jobs.finish(index, null, this.#digest.subarray(0, length));
    }
    this.#refill();
  }

  #refill(): void {
    const ring = this.#ring;
    while (this.#overflow.length > 0 && this.#room() >= this.#overflow[0]!.length) {
      const words = this.#overflow.shift()!;
      for (let i = 0; i < words.length; i++) {
        ring[RING_COMMANDS + ((this.#head + i) & (RING_COMMAND_WORDS - 1))] = words[i]!;
      }
      this.#publish(this.#head + words.length);
    }
  }

  #died(error: Error | null): void {
    if (this.dead) return;
    this.dead = true;
    if (this.#stopping) return;
    this.#jobs.failAll(this, fault('EWORKER', `a hash thread ended: ${error?.message ?? 'no reason given'}`));
  }
}
