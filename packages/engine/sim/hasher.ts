/**
 * The Hasher port of one process: digests of made content (content.ts) after the time a worker would take. The bytes are
 * read when the work ends, so that a slot given back too early gives a wrong digest.
 *
 * A Merkle leaf is the block's summary, not its SHA-256: right between simulated parties, not for a real v2 torrent.
 */

import { assert } from '../src/base/assert.ts';
import { concat, toHex } from '../src/base/bytes.ts';
import type { IoFault } from '../src/base/errors.ts';
import { type Hasher, HashKind, type HashSink, type HashSpan } from '../src/base/ports.ts';
import { BLOCK_BYTES, type SlotPool } from '../src/base/slot-pool.ts';
import { merkleRoot } from '../src/codec/merkle.ts';
import { PieceDigest } from './content.ts';
import type { EventTarget } from './event-queue.ts';
import type { SimFiles } from './files.ts';
import type { World } from './world.ts';

export interface HasherOptions {
  readonly threads?: number;
  /** Of each thread. */
  readonly hashBps?: number;
}

interface HashJob {
  readonly job: number;
  readonly kind: HashKind;
  readonly slots: Int32Array;
  readonly byteLength: number;
  readonly leafCount: number;
  readonly stream: number;
  readonly last: boolean;
  readonly sink: HashSink;
}

const NOTHING = new Uint8Array(0);

export class SimHasher implements Hasher, EventTarget {
  readonly threads: number;
  /** Told of each digest of a piece, before who asked. */
  onDigest: ((hex: string) => void) | null = null;
  readonly #world: World;
  readonly #nodeId: number;
  readonly #slots: SlotPool;
  readonly #files: SimFiles;
  readonly #hashBps: number;
  readonly #freeAt: Float64Array;
  readonly #jobs: Map<number, HashJob> = new Map();
  readonly #streams: Map<number, { digest: PieceDigest; freeAt: number }> = new Map();
  #next = 0;
  #alive = true;

  constructor(world: World, nodeId: number, slots: SlotPool, files: SimFiles, options: HasherOptions) {
    this.#world = world;
    this.#nodeId = nodeId;
    this.#slots = slots;
    this.#files = files;
    this.threads = options.threads ?? 1;
    this.#hashBps = options.hashBps ?? 1.8e9;
    this.#freeAt = new Float64Array(this.threads);
  }

  /** Jobs not answered yet. */
  get pendingCount(): number {
    return this.#jobs.size;
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
    assert(this.#alive, 'hashing for a dead process');
    assert(
      byteLength <= count * BLOCK_BYTES && byteLength > (count - 1) * BLOCK_BYTES,
      'slots and bytes to hash disagree',
    );
    for (let i = 0; i < count; i++) assert(this.#slots.holders(slots[i]!) > 0, 'hashing a free slot');
    const after = stream === 0 ? 0 : this.#stream(stream).freeAt;
    const at = this.#workEnds(byteLength, after);
    if (stream !== 0) this.#stream(stream).freeAt = at;
    const id = this.#next++;
    this.#jobs.set(id, { job, kind, slots: slots.slice(0, count), byteLength, leafCount, stream, last, sink });
    this.#world.atTime(at, this, 0, id);
  }

  abandon(stream: number): void {
    this.#streams.delete(stream);
  }

  hashFiles(
    job: number,
    kind: HashKind,
    spans: readonly HashSpan[],
    pieceLength: number,
    leafCount: number,
    sink: HashSink,
  ): void {
    assert(this.#alive, 'hashing for a dead process');
    let bytes = 0;
    for (const span of spans) bytes += span.length;
    this.#files.readSpans(spans, bytes, (fault) => {
      let digests: Uint8Array = NOTHING;
      let failed: IoFault | null = fault;
      if (fault === null) {
        const made = this.#digestSpans(kind, spans, bytes, pieceLength, leafCount);
        if (made instanceof Uint8Array) digests = made;
        else failed = made;
      }
      this.#world.call(0, () => {
        if (!this.#alive) return;
        this.#world.mix(5, this.#nodeId, digests.length);
        sink.onHashed(job, failed, digests);
      });
    });
  }

  onEvent(_kind: number, arg: number): void {
    const job = this.#jobs.get(arg);
    if (job === undefined || !this.#alive) return;
    this.#jobs.delete(arg);
    this.#world.mix(5, this.#nodeId, job.byteLength);
    job.sink.onHashed(job.job, null, this.#run(job));
  }

  crash(): void {
    this.#alive = false;
    this.#jobs.clear();
  }

  #run(job: HashJob): Uint8Array {
    const running = job.stream === 0 ? new PieceDigest() : this.#stream(job.stream).digest;
    let left = job.byteLength;
    for (let i = 0; i < job.slots.length; i++) {
      assert(this.#slots.holders(job.slots[i]!) > 0, 'a slot was freed while it was hashed');
      running.add(this.#slots.payload(job.slots[i]!), 0, Math.min(BLOCK_BYTES, left));
      left -= BLOCK_BYTES;
    }
    if (job.stream !== 0) {
      if (!job.last) return NOTHING;
      this.#streams.delete(job.stream);
    }
    return this.#finish(job.kind, running, job.leafCount);
  }

  #finish(kind: HashKind, running: PieceDigest, leafCount: number): Uint8Array {
    if (kind === HashKind.EachSha1) {
      const each = running.each();
      running.take();
      return each;
    }
    const leaves = running.summaries().slice();
    const whole = running.take();
    if (this.onDigest !== null) this.onDigest(toHex(whole));
    if (kind === HashKind.Sha1) return whole;
    const root = merkleRoot(leaves, leafCount);
    return kind === HashKind.Merkle ? root : concat([whole, root]);
  }

  #digestSpans(
    kind: HashKind,
    spans: readonly HashSpan[],
    bytes: number,
    pieceLength: number,
    leafCount: number,
  ): Uint8Array | IoFault {
    const joined: Uint8Array[] = [];
    const running = new PieceDigest();
    const block = new Uint8Array(BLOCK_BYTES);
    let span = 0;
    let spanAt = 0;
    let inPiece = 0;
    for (let done = 0; done < bytes; ) {
      const size = Math.min(BLOCK_BYTES, pieceLength - inPiece, bytes - done);
      for (let filled = 0; filled < size; ) {
        const from = spans[span]!;
        const take = Math.min(size - filled, from.length - spanAt);
        const target = block.subarray(filled, filled + take);
        if (from.file === null) target.fill(0);
        else if (take > 0) {
          const key = this.#files.disk.keyOf(from.file);
          const fault = this.#files.readNow(key, from.offset + spanAt, [target], take);
          if (fault !== null) return fault;
        }
        filled += take;
        spanAt += take;
        if (spanAt === from.length) {
          span++;
          spanAt = 0;
        }
      }
      running.add(block, 0, size);
      done += size;
      inPiece += size;
      if (inPiece === pieceLength || done === bytes) {
        joined.push(this.#finish(kind, running, leafCount));
        inPiece = 0;
      }
    }
    return concat(joined);
  }

  #stream(stream: number): { digest: PieceDigest; freeAt: number } {
    let found = this.#streams.get(stream);
    if (found === undefined) {
      found = { digest: new PieceDigest(), freeAt: 0 };
      this.#streams.set(stream, found);
    }
    return found;
  }

  /** When the thread that is free first ends such a piece of work. */
  #workEnds(bytes: number, notBefore: number): number {
    let thread = 0;
    for (let i = 1; i < this.threads; i++) if (this.#freeAt[i]! < this.#freeAt[thread]!) thread = i;
    const start = Math.max(this.#world.now, this.#freeAt[thread]!, notBefore);
    const end = start + (bytes / this.#hashBps) * 1000;
    this.#freeAt[thread] = end;
    return end + 0.02;
  }
}
