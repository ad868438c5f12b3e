/**
 * Owns the requests in flight to one peer, and how many there should be.
 *
 * Requests lie in a list in the order they were sent, and in a hash table by (piece, block), both in typed arrays, so that
 * adding and removing are O(1) in whatever order the answers come.
 *
 * Size: one more per block received (which doubles the window each round trip) until the rate grows no more, then what
 * the peer sends in 3 s (libtorrent's slow start and request_queue_time); never more than the peer says it queues (BEP 10
 * reqq). A neighbour on the same machine or network needs less, see FAST_BYTES_PER_MS. A peer that snubs us is asked for one block at a time until one comes.
 *
 * Limits: 2..2000 requests (2,000 blocks = 32 MiB in flight, 1.5 GB/s at 20 ms); 1 while snubbed.
 */

import { assert } from '../base/assert.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';

export const MAX_REQUESTS = 2000;
/** A peer that does not say how many it queues: libtorrent's default before it was raised to 500. */
const UNKNOWN_REQQ = 250;
const START = 4;
const MIN = 2;
/** Seconds of data to have asked for (libtorrent's request_queue_time). */
const QUEUE_S = 3;
const MEASURE_MS = 1000;
/** A second whose rate is not by so much above the best before ends the slow start. */
const GROWTH = 1.05;
/**
 * So fast (256 MiB/s) what the peer answers in twice its quickest time and a little more fills the pipe, and what is in
 * flight stays in reach of the processor's address cache (8 MiB; past it hashing costs half as much again).
 */
const FAST_BYTES_PER_MS = 268_435;
const FAST_MEASURE_MS = 20;
const FAST_QUEUE_MS = 3;
/** Shared, so that a window not used is small. */
const NOTHING = new Int32Array(0);
const NEVER = new Float64Array(0);

export class RequestWindow {
  /** In flight. */
  count = 0;
  /** How many there should be. */
  target: number = START;
  snubbed = false;

  private readonly limit: number;
  private peerLimit: number = UNKNOWN_REQQ;
  private growing = true;
  private measuredBytes = 0;
  /** The quickest answer of this measurement and of the one before. */
  private leastMs: number = Number.POSITIVE_INFINITY;
  private leastBeforeMs: number = Number.POSITIVE_INFINITY;
  /** When the request taken out last was sent. */
  private removedSentMs = 0;
  private measuredFromMs = -1;
  private lastRate = 0;

  private pieces: Int32Array = NOTHING;
  private blocks: Int32Array = NOTHING;
  private sentMs: Float64Array = NEVER;
  /** The list; `next` chains the free entries too. */
  private next: Int32Array = NOTHING;
  private previous: Int32Array = NOTHING;
  /** Hash table: first entry by hash, next entry of the same hash. */
  private heads: Int32Array = NOTHING;
  private chain: Int32Array = NOTHING;
  private first = -1;
  private last = -1;
  private free = -1;
  /** Where `pieceAt` looked last, so that walking by index is not quadratic. */
  private cachedIndex = -1;
  private cachedEntry = -1;

  constructor(limit: number = MAX_REQUESTS) {
    this.limit = limit;
  }

  /**
   * What the peer says it queues (BEP 10 reqq); out of range values are bent to 1..limit. One less is used: Transmission
   * rejects the last of those that it says it queues, and says so ten seconds later.
   */
  setPeerLimit(reqq: number): void {
    this.peerLimit = Math.max(1, Math.min(reqq - 1, this.limit));
    this.target = Math.min(this.target, this.peerLimit);
  }

  /** How many more may be sent now. */
  get room(): number {
    return Math.max(0, this.target - this.count);
  }

  add(piece: number, block: number, now: number): void {
    assert(this.find(piece, block) === -1, 'a block asked for twice of one peer');
    if (this.free === -1) this.grow();
    const entry = this.free;
    this.free = this.next[entry]!;
    this.pieces[entry] = piece;
    this.blocks[entry] = block;
    this.sentMs[entry] = now;
    this.previous[entry] = this.last;
    this.next[entry] = -1;
    if (this.last === -1) this.first = entry;
    else this.next[this.last] = entry;
    this.last = entry;
    this.link(entry);
    this.count++;
  }

  has(piece: number, block: number): boolean {
    return this.count > 0 && this.find(piece, block) !== -1;
  }

  /** Answered, rejected, cancelled or given up. False: it is not in flight. */
  remove(piece: number, block: number): boolean {
    if (this.count === 0) return false;
    const entry = this.find(piece, block);
    if (entry === -1) return false;
    this.unlink(entry);
    this.removedSentMs = this.sentMs[entry]!;
    const before = this.previous[entry]!;
    const after = this.next[entry]!;
    if (before === -1) this.first = after;
    else this.next[before] = after;
    if (after === -1) this.last = before;
    else this.previous[after] = before;
    this.next[entry] = this.free;
    this.free = entry;
    this.count--;
    this.cachedIndex = -1;
    return true;
  }

  clear(): void {
    while (this.first !== -1) this.remove(this.pieces[this.first]!, this.blocks[this.first]!);
  }

  /** Of the i-th oldest request, 0 <= i < count. Walking up or down by one is cheap, and so are both ends. */
  pieceAt(i: number): number {
    return this.pieces[this.entryAt(i)]!;
  }

  blockAt(i: number): number {
    return this.blocks[this.entryAt(i)]!;
  }

  sentAt(i: number): number {
    return this.sentMs[this.entryAt(i)]!;
  }

  /** When the oldest request was sent; Infinity: none is in flight. */
  oldestMs(): number {
    return this.first === -1 ? Number.POSITIVE_INFINITY : this.sentMs[this.first]!;
  }

  /** A block that was asked for came: sizes the window. */
  received(now: number, bytes: number): void {
    if (this.snubbed) {
      this.snubbed = false;
      this.growing = true;
      this.target = START;
      this.measuredFromMs = -1;
      this.lastRate = 0;
    }
    if (this.growing) this.target = Math.min(this.target + 1, this.limit, this.peerLimit);
    const elapsedMs = now - this.measuredFromMs;
    if (this.measuredFromMs < 0 || elapsedMs > MEASURE_MS * 3) {
      // after a pause the average says nothing about what the peer can do
      this.measuredFromMs = now;
      this.measuredBytes = 0;
      return;
    }
    this.measuredBytes += bytes;
    if (now - this.removedSentMs < this.leastMs) this.leastMs = now - this.removedSentMs;
    const fast = elapsedMs >= FAST_MEASURE_MS && this.measuredBytes >= elapsedMs * FAST_BYTES_PER_MS;
    if (elapsedMs < MEASURE_MS && !fast) return;
    const rate = (this.measuredBytes * 1000) / elapsedMs;
    this.measuredFromMs = now;
    this.measuredBytes = 0;
    if (fast || (this.growing && rate < this.lastRate * GROWTH)) this.growing = false;
    if (!this.growing) {
      const queueS = fast ? (FAST_QUEUE_MS + 2 * Math.min(this.leastMs, this.leastBeforeMs)) / 1000 : QUEUE_S;
      const wanted = Math.ceil((Math.max(rate, this.lastRate) * queueS) / BLOCK_BYTES);
      this.target = Math.max(Math.min(MIN, this.peerLimit), Math.min(wanted, this.limit, this.peerLimit));
    }
    this.lastRate = rate;
    this.leastBeforeMs = this.leastMs;
    this.leastMs = Number.POSITIVE_INFINITY;
  }

  /** Nothing came for long: one request at a time, until a block comes. */
  snub(): void {
    this.snubbed = true;
    this.target = 1;
  }

  // ---------------------------------------------------------------------------------------------------------- private

  private entryAt(i: number): number {
    assert(i >= 0 && i < this.count, 'a request that is not there');
    let at = 0;
    let entry = this.first;
    if (this.count - 1 - i < i) {
      at = this.count - 1;
      entry = this.last;
    }
    if (this.cachedIndex >= 0 && Math.abs(this.cachedIndex - i) < Math.abs(at - i)) {
      at = this.cachedIndex;
      entry = this.cachedEntry;
    }
    for (; at < i; at++) entry = this.next[entry]!;
    for (; at > i; at--) entry = this.previous[entry]!;
    this.cachedIndex = i;
    this.cachedEntry = entry;
    return entry;
  }

  private hash(piece: number, block: number): number {
    const mixed = Math.imul(piece, 0x9e3779b1) + Math.imul(block, 0x85ebca6b);
    return (mixed ^ (mixed >>> 15)) & (this.heads.length - 1);
  }

  private find(piece: number, block: number): number {
    if (this.heads.length === 0) return -1;
    let entry = this.heads[this.hash(piece, block)]!;
    while (entry !== -1 && (this.blocks[entry] !== block || this.pieces[entry] !== piece)) entry = this.chain[entry]!;
    return entry;
  }

  private link(entry: number): void {
    const hash = this.hash(this.pieces[entry]!, this.blocks[entry]!);
    this.chain[entry] = this.heads[hash]!;
    this.heads[hash] = entry;
  }

  private unlink(entry: number): void {
    const hash = this.hash(this.pieces[entry]!, this.blocks[entry]!);
    let at = this.heads[hash]!;
    if (at === entry) {
      this.heads[hash] = this.chain[entry]!;
      return;
    }
    while (this.chain[at] !== entry) at = this.chain[at]!;
    this.chain[at] = this.chain[entry]!;
  }

  /** Twice the room; called only when all of it is used. */
  private grow(): void {
    const from = this.pieces.length;
    const to = Math.max(16, from * 2);
    this.pieces = copyInto(new Int32Array(to), this.pieces);
    this.blocks = copyInto(new Int32Array(to), this.blocks);
    this.next = copyInto(new Int32Array(to), this.next);
    this.previous = copyInto(new Int32Array(to), this.previous);
    const sent = new Float64Array(to);
    sent.set(this.sentMs);
    this.sentMs = sent;
    for (let entry = from; entry < to; entry++) this.next[entry] = entry + 1 < to ? entry + 1 : -1;
    this.free = from;
    this.chain = new Int32Array(to);
    this.heads = new Int32Array(to * 2).fill(-1);
    for (let entry = this.first; entry !== -1; entry = this.next[entry]!) this.link(entry);
  }
}

function copyInto(target: Int32Array, source: Int32Array): Int32Array {
  target.set(source);
  return target;
}
