/**
 * Owns the blocks that wait to be written and those being written, until their piece is verified and all of it written.
 *
 * A block goes   blank -> pending -> writing -> written   and back to pending when a write of it fails.
 *
 * What is written when: a run of >= 256 KiB at once, as one gathered write per file; less than that waits for its
 * neighbours, until there is so much in a row, `LINGER_MS` have passed, or memory is short. Unverified blocks go out at the
 * end of the turn.
 *
 * Invariants: a pending or writing block's slot has one hold of the cache, and one more of each write it is part of, so
 * that dropping a piece never pulls memory from under a write. No block is in two writes at a time: a piece that was
 * dropped with writes under way writes nothing new before these have ended.
 * Limits: the slots of the pool; 512 buffers a write (readv and writev stop silently at 1,024).
 */

import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import type { FileRef } from '../base/ports.ts';
import { BLOCK_BYTES, type SlotPool } from '../base/slot-pool.ts';
import { type Io, Job } from './io.ts';
import { NO_FILE, type Places } from './part-file.ts';

/** A write of this many bytes costs no more a byte than a longer one. */
const RUN_BYTES = 262144;
/** How long small pieces wait for neighbours: far below the 2 s of progress that may be lost. */
const LINGER_MS = 400;
const MAX_BUFFERS = 512;

const BLANK = 0;
const PENDING = 1;
const WRITING = 2;
/** In a write that failed, while other writes of it are under way. */
const FAILED = 3;
const WRITTEN = 4;

export interface WriteSink {
  /** The piece is verified and written. */
  onPieceWritten(piece: number): void;
  /** All that was put of the piece so far is written. */
  onPutWritten(piece: number): void;
  /** The file (a number of `Places`) has bytes that are not synced. */
  onFileWritten(file: number): void;
  onWriteFault(fault: IoFault, file: number): void;
  /** A write gave slots back. */
  onReleased(): void;
  /** `tick` wants to be called at the end of this turn. */
  onWork(): void;
}

/** What the cache knows of a piece. */
class CachedPiece {
  readonly piece: number;
  readonly slots: Int32Array;
  readonly state: Uint8Array;
  /** Writes under way per block; a block may lie in thousands of tiny files. */
  readonly left: Uint16Array;
  verified = false;
  putCount = 0;
  pendingCount = 0;
  writtenCount = 0;
  /** Blocks counted as lingering. */
  lingerCount = 0;
  /** Parts of writes under way that belong to this piece, and how many of them to what was dropped. */
  partCount = 0;
  staleCount = 0;
  /** One up for each drop; a write of an older one is stale. */
  generation = 0;

  constructor(piece: number, blockCount: number) {
    this.piece = piece;
    this.slots = new Int32Array(blockCount).fill(-1);
    this.state = new Uint8Array(blockCount);
    this.left = new Uint16Array(blockCount);
  }
}

export class WriteCache {
  /** Blocks pending or being written. */
  slotCount = 0;
  /** While set, nothing is written. */
  fault: IoFault | null = null;
  readonly #io: Io;
  readonly #places: Places;
  readonly #slots: SlotPool;
  readonly #sink: WriteSink;
  readonly #pieces: Map<number, CachedPiece> = new Map();
  /** Verified pieces that wait for neighbours, and how many blocks they have. */
  readonly #lingering: Set<number> = new Set();
  #lingeringCount = 0;
  #lingerUntil: number = Number.POSITIVE_INFINITY;
  /** Pieces with unverified blocks to write at the end of the turn. */
  readonly #spilling: Set<number> = new Set();
  /** Pieces of pads alone, which no completion will come for. */
  #padOnly: CachedPiece[] = [];
  #lastNow = 0;
  #job: WriteJob | null = null;

  constructor(io: Io, places: Places, slots: SlotPool, sink: WriteSink) {
    this.#io = io;
    this.#places = places;
    this.#slots = slots;
    this.#sink = sink;
  }

  put(piece: number, firstBlock: number, slots: Int32Array, from: number, count: number): void {
    const { layout } = this.#places;
    let cached = this.#pieces.get(piece);
    if (cached === undefined) {
      cached = new CachedPiece(piece, layout.blockCount(piece));
      this.#pieces.set(piece, cached);
    }
    assert(!cached.verified && firstBlock + count <= cached.slots.length, 'put past a piece or after its verdict');
    for (let i = 0; i < count; i++) {
      assert(cached.state[firstBlock + i] === BLANK, 'a block put twice');
      cached.state[firstBlock + i] = PENDING;
      cached.slots[firstBlock + i] = slots[from + i]!;
    }
    cached.putCount += count;
    cached.pendingCount += count;
    this.slotCount += count;
    if (count * BLOCK_BYTES >= RUN_BYTES) return this.#submit([piece]);
    this.#spilling.add(piece);
    this.#sink.onWork();
  }

  /** Returns whether the piece is written already. */
  verified(piece: number): boolean {
    const cached = this.#pieces.get(piece);
    assert(cached !== undefined && cached.putCount === cached.slots.length, 'verified, but not put');
    assert(!cached.verified, 'verified twice');
    cached.verified = true;
    this.#spilling.delete(piece);
    if (cached.writtenCount === cached.slots.length) {
      this.#pieces.delete(piece);
      return true;
    }
    if (cached.pendingCount > 0) this.#linger(cached);
    return false;
  }

  /** Drops the piece. What is being written of it is still written, and its slots come back then. */
  discard(piece: number): void {
    const cached = this.#pieces.get(piece);
    if (cached === undefined) return;
    this.#drop(cached);
    if (cached.partCount === 0) this.#pieces.delete(piece);
  }

  /** Drops verified pieces, the newest first and all but one, until at most `keepSlots` wait. Returns which. */
  shed(keepSlots: number): number[] {
    const waiting: number[] = [];
    for (const cached of this.#pieces.values()) if (cached.verified) waiting.push(cached.piece);
    const dropped: number[] = [];
    while (this.slotCount > keepSlots && waiting.length > 1) {
      const piece = waiting.pop()!;
      this.discard(piece);
      dropped.push(piece);
    }
    return dropped;
  }

  /** Drops everything that is not being written. */
  clear(): void {
    for (const cached of this.#pieces.values()) this.#drop(cached);
    this.#pieces.clear();
  }

  /** Drops what nobody can vouch for: blocks pending of pieces that are not verified. */
  discardUnverified(): void {
    for (const [piece, cached] of this.#pieces) if (!cached.verified) this.discard(piece);
  }

  /** The slot of a block that may be served, or -1. Adds no hold. */
  slotOf(piece: number, block: number): number {
    const cached = this.#pieces.get(piece);
    return cached === undefined || !cached.verified ? -1 : cached.slots[block]!;
  }

  /** Whether the piece is verified and not yet written. */
  isVerified(piece: number): boolean {
    return this.#pieces.get(piece)?.verified === true;
  }

  /** Whether all that was put of the piece is written and nothing dropped of it is under way. */
  isPutWritten(piece: number): boolean {
    const cached = this.#pieces.get(piece);
    return cached === undefined || (cached.writtenCount === cached.putCount && cached.partCount === 0);
  }

  isBlockWritten(piece: number, block: number): boolean {
    return this.#pieces.get(piece)?.state[block] === WRITTEN;
  }

  /** Whether anything is known of the piece here. */
  holds(piece: number): boolean {
    return this.#pieces.has(piece);
  }

  /** Up to `limit` pieces that are verified and not yet written. */
  unwritten(limit: number): number[] {
    const found: number[] = [];
    for (const cached of this.#pieces.values()) {
      if (found.length === limit) break;
      if (cached.verified) found.push(cached.piece);
    }
    return found;
  }

  /** Whether nothing waits to be written. */
  get isClean(): boolean {
    return this.slotCount === 0;
  }

  /** Writes what was put of this piece, without waiting for more. */
  flushPiece(piece: number): void {
    this.#submit([piece]);
  }

  /** Writes all that is pending. */
  flush(): void {
    const pieces: number[] = [];
    for (const cached of this.#pieces.values()) if (cached.pendingCount > 0) pieces.push(cached.piece);
    if (pieces.length > 0) this.#submit(pieces.sort(ascending));
  }

  tick(now: number): void {
    this.#lastNow = now;
    if (this.#padOnly.length > 0) {
      const settled = this.#padOnly;
      this.#padOnly = [];
      for (const cached of settled) this.#settle(cached);
    }
    if (this.#spilling.size > 0) this.#submit([...this.#spilling].sort(ascending));
    if (this.#lingering.size === 0) return;
    const short = this.#slots.freeCount < this.#slots.count >> 2 || this.#lingeringCount > this.#slots.count >> 3;
    if (this.#lingerUntil === Number.POSITIVE_INFINITY) this.#lingerUntil = now + LINGER_MS;
    if (short || now >= this.#lingerUntil) this.#submit([...this.#lingering].sort(ascending));
  }

  nextAt(): number {
    if (this.fault !== null || this.#io.held) return Number.POSITIVE_INFINITY;
    if (this.#spilling.size > 0) return this.#lastNow;
    return this.#lingering.size > 0 ? Math.min(this.#lingerUntil, this.#lastNow + LINGER_MS) : Number.POSITIVE_INFINITY;
  }

  retry(): void {
    this.fault = null;
    this.flush();
  }

  // ------------------------------------------------------------------------------------------------------- completion

  /** A write has ended, well or not. */
  written(job: WriteJob, fault: IoFault | null): void {
    for (let i = 0; i < job.slots.length; i++) this.#slots.release(job.slots[i]!);
    if (fault === null) this.#sink.onFileWritten(job.file);
    const first = fault !== null && this.fault === null;
    if (first) this.fault = fault;
    for (let i = 0; i < job.pieces.length; i++) this.#partWritten(job, i, fault !== null);
    this.#sink.onReleased();
    if (first) this.#sink.onWriteFault(fault, job.file);
    for (let i = 0; i < job.pieces.length; i++) {
      if (i === 0 || job.pieces[i] !== job.pieces[i - 1]) this.#settle(job.pieces[i]!);
    }
  }

  #partWritten(job: WriteJob, i: number, failed: boolean): void {
    const cached = job.pieces[i]!;
    cached.partCount--;
    if (cached.generation !== job.generations[i]) {
      cached.staleCount--;
      return;
    }
    const end = job.firsts[i]! + job.counts[i]!;
    for (let b = job.firsts[i]!; b < end; b++) {
      cached.left[b]! -= 1;
      if (failed) cached.state[b] = FAILED;
      if (cached.left[b]! > 0) continue;
      if (cached.state[b] === FAILED) {
        cached.state[b] = PENDING;
        cached.pendingCount++;
      } else this.#blockWritten(cached, b);
    }
  }

  #blockWritten(cached: CachedPiece, block: number): void {
    cached.state[block] = WRITTEN;
    cached.writtenCount++;
    this.slotCount--;
    this.#slots.release(cached.slots[block]!);
    cached.slots[block] = -1;
  }

  /** Says what came of a piece after a write of it has ended. */
  #settle(cached: CachedPiece): void {
    const { piece } = cached;
    if (this.#pieces.get(piece) !== cached || cached.partCount > 0) return;
    if (cached.putCount === 0) {
      this.#pieces.delete(piece);
      return this.#sink.onPutWritten(piece);
    }
    if (cached.pendingCount > 0 && !this.#lingering.has(piece) && !this.#spilling.has(piece)) this.#submit([piece]);
    if (cached.writtenCount < cached.putCount) return;
    if (cached.verified && cached.writtenCount === cached.slots.length) {
      this.#pieces.delete(piece);
      this.#sink.onPieceWritten(piece);
    } else this.#sink.onPutWritten(piece);
  }

  // ------------------------------------------------------------------------------------------------------------ policy

  #drop(cached: CachedPiece): void {
    this.#unlinger(cached);
    this.#spilling.delete(cached.piece);
    for (let b = 0; b < cached.slots.length; b++) {
      if (cached.slots[b]! < 0) continue;
      this.#slots.release(cached.slots[b]!);
      this.slotCount--;
    }
    cached.slots.fill(-1);
    cached.state.fill(BLANK);
    cached.left.fill(0);
    cached.verified = false;
    cached.putCount = 0;
    cached.pendingCount = 0;
    cached.writtenCount = 0;
    cached.staleCount = cached.partCount;
    cached.generation++;
  }

  #linger(cached: CachedPiece): void {
    if (cached.pendingCount * BLOCK_BYTES >= RUN_BYTES) return this.#submit([cached.piece]);
    this.#lingering.add(cached.piece);
    cached.lingerCount = cached.pendingCount;
    this.#lingeringCount += cached.pendingCount;
    const { pieceLength } = this.#places.meta;
    let from = cached.piece;
    let to = cached.piece;
    const most = Math.ceil(RUN_BYTES / pieceLength);
    while (to - from < most && this.#lingering.has(from - 1)) from--;
    while (to - from < most && this.#lingering.has(to + 1)) to++;
    if ((to - from + 1) * pieceLength < RUN_BYTES) return this.#sink.onWork();
    const run: number[] = [];
    for (let p = from; p <= to; p++) run.push(p);
    this.#submit(run);
  }

  #unlinger(cached: CachedPiece): void {
    if (!this.#lingering.delete(cached.piece)) return;
    this.#lingeringCount -= cached.lingerCount;
    if (this.#lingering.size === 0) this.#lingerUntil = Number.POSITIVE_INFINITY;
  }

  /** Writes the pending blocks of these pieces (ascending), as few and as long writes as they make. */
  #submit(pieces: readonly number[]): void {
    const stop = this.fault !== null || this.#io.held;
    for (let i = 0; i < pieces.length; i++) {
      const cached = this.#pieces.get(pieces[i]!);
      if (cached === undefined) continue;
      this.#spilling.delete(cached.piece);
      this.#unlinger(cached);
      if (stop || cached.staleCount > 0 || cached.pendingCount === 0) continue;
      const count = cached.state.length;
      let b = 0;
      while (b < count) {
        const from = cached.state.indexOf(PENDING, b);
        if (from < 0) break;
        b = from + 1;
        while (b < count && cached.state[b] === PENDING) b++;
        this.#plan(cached, from, b);
      }
      if (cached.partCount > 0) continue;
      this.#padOnly.push(cached);
      this.#sink.onWork();
    }
    this.#send();
  }

  /** Adds blocks [from, to) to the writes being gathered. */
  #plan(cached: CachedPiece, from: number, to: number): void {
    const { layout } = this.#places;
    const { piece } = cached;
    const begin = from * BLOCK_BYTES;
    const places = this.#places.find(piece, begin, Math.min(to * BLOCK_BYTES, layout.pieceSize(piece)) - begin);
    cached.state.fill(WRITING, from, to);
    cached.pendingCount -= to - from;
    let at = begin;
    for (let i = 0; i < places.length; i++) {
      const place = places[i]!;
      const end = at + place.length;
      let offset = place.offset;
      while (at < end) {
        const block = Math.floor(at / BLOCK_BYTES);
        const inBlock = at - block * BLOCK_BYTES;
        const length = Math.min(BLOCK_BYTES - inBlock, end - at);
        if (place.file !== NO_FILE) this.#gather(cached, block, inBlock, length, place.file, offset);
        at += length;
        offset += length;
      }
    }
    // blocks of nothing but pad bytes
    for (let b = from; b < to; b++) if (cached.left[b] === 0) this.#blockWritten(cached, b);
  }

  #gather(cached: CachedPiece, block: number, inBlock: number, length: number, file: number, offset: number): void {
    if (this.#job === null || !this.#job.takes(file, offset)) {
      this.#send();
      this.#job = new WriteJob(this, file, this.#places.ref(file), offset);
    }
    const slot = cached.slots[block]!;
    const payload = this.#slots.payload(slot);
    this.#slots.retain(slot);
    cached.left[block]! += 1;
    this.#job.add(cached, block, slot, length === BLOCK_BYTES ? payload : payload.subarray(inBlock, inBlock + length));
  }

  #send(): void {
    const job = this.#job;
    if (job === null) return;
    this.#job = null;
    this.#io.write(job, job.ref, job.offset, job.views);
  }
}

/** One gathered write: `views` into one file from `offset` on, and which blocks they are. */
class WriteJob extends Job {
  readonly file: number;
  readonly ref: FileRef;
  readonly offset: number;
  readonly views: Uint8Array[] = [];
  readonly slots: number[] = [];
  /** Parallel: blocks firsts[i].. of pieces[i], as of generations[i]. */
  readonly pieces: CachedPiece[] = [];
  readonly firsts: number[] = [];
  readonly counts: number[] = [];
  readonly generations: number[] = [];
  #end: number;
  readonly #cache: WriteCache;

  constructor(cache: WriteCache, file: number, ref: FileRef, offset: number) {
    super();
    this.#cache = cache;
    this.file = file;
    this.ref = ref;
    this.offset = offset;
    this.#end = offset;
  }

  takes(file: number, offset: number): boolean {
    return this.file === file && this.#end === offset && this.views.length < MAX_BUFFERS;
  }

  add(cached: CachedPiece, block: number, slot: number, view: Uint8Array): void {
    this.views.push(view);
    this.slots.push(slot);
    this.#end += view.length;
    const last = this.pieces.length - 1;
    if (last >= 0 && this.pieces[last] === cached && block === this.firsts[last]! + this.counts[last]!) {
      this.counts[last]! += 1;
      return;
    }
    this.pieces.push(cached);
    this.firsts.push(block);
    this.counts.push(1);
    this.generations.push(cached.generation);
    cached.partCount++;
  }

  override onIo(fault: IoFault | null, _bytes: number): void {
    this.#cache.written(this, fault);
  }
}

function ascending(a: number, b: number): number {
  return a - b;
}
