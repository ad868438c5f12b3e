/**
 * What a conversation has to say and has not said yet: control bytes in an arena and, between them in their order,
 * borrowed views of slots. Batches of it are given out for gathered writes, without a copy.
 *
 *     queued:   control bytes 0..k | slot view | slot view | control bytes k..m | slot view
 *     a batch:  [ one view of the arena , view , view , one view of the arena , ... ]
 *
 * There are two arenas. Commands write into `arena`; `takeOut` turns them round, so that what is out is never written,
 * moved or grown, and carries over what did not fit into the batch.
 *
 * Invariants: each view that stands in the queue or the batch carries one hold on its slot, given by `pushSlot` and
 * given back by `sentOut` or `close`. At most one batch is out. `queuedBytes` counts what is not taken yet.
 *
 * Limits: MAX_CONTROL_BYTES in the arena; past it nothing more is written and `overflowed` says so (the stream would
 * have a hole: the peer must be dropped). Slots are limited by their pool.
 */

import { assert } from '../base/assert.ts';
import type { SlotPool } from '../base/slot-pool.ts';

/** One gathered write: views[0..count) in order, `bytes` in all. */
export interface OutBatch {
  readonly views: Uint8Array[];
  readonly count: number;
  readonly bytes: number;
}

/** DEMANDS W6: a reader that stands still costs at most 1 MiB. A bitfield of the largest torrent is a quarter of it. */
export const MAX_CONTROL_BYTES = 1048576;
/** Views of a batch; below the 1,024 that the system takes in one call (IOV_MAX). */
export const MAX_BATCH_VIEWS = 512;

const FIRST_ARENA = 128;
/** An arena above this is given back once sent: it came from a bitfield or metadata. */
const KEEP_ARENA = 4096;
const FIRST_RING = 8;
const NOTHING = new Uint8Array(0);
const NO_NUMBERS = new Int32Array(0);
const NO_POSITIONS = new Float64Array(0);

export class OutBuffer {
  /** Control bytes and payload not taken yet. */
  queuedBytes = 0;
  /** Something was left out for want of room. */
  overflowed = false;
  /** Takes no more. */
  closed = false;
  /** Where `reserve` reserves. Another one after each `reserve` and `takeOut`. */
  arena: Uint8Array = NOTHING;

  private readonly slots: SlotPool;
  private readonly batch = { views: [] as Uint8Array[], count: 0, bytes: 0 };
  private used = 0;
  /** Position in the stream of control bytes where `arena` begins; doubles, exact to 2^53. */
  private base = 0;
  /** The other arena; borrowed while a batch is out. */
  private other: Uint8Array = NOTHING;
  private isOut = false;
  /** Ring of queued views; the i-th goes after control byte positions[i]. Its size is a power of two. */
  private ringViews: Uint8Array[] = [];
  private ringSlots: Int32Array = NO_NUMBERS;
  private ringPositions: Float64Array = NO_POSITIONS;
  private ringHead = 0;
  private ringCount = 0;
  /** Holds of the batch that is out. */
  private outSlots: Int32Array = NO_NUMBERS;
  private outCount = 0;

  constructor(slots: SlotPool) {
    this.slots = slots;
  }

  /** Slots that wait to be taken. */
  get queuedSlots(): number {
    return this.ringCount;
  }

  /** Makes room for n bytes that the caller writes into `arena` at once. Returns where, or -1: say nothing. */
  reserve(n: number): number {
    const at = this.used;
    if (this.closed || this.overflowed) return -1;
    if (at + n > this.arena.length) {
      if (at + n > MAX_CONTROL_BYTES) {
        this.overflowed = true;
        return -1;
      }
      this.arena = grown(this.arena, at, at + n);
    }
    this.used = at + n;
    this.queuedBytes += n;
    return at;
  }

  /** Queues a view of a slot and takes over one hold on it. */
  pushSlot(slot: number, view: Uint8Array): void {
    if (this.closed || this.overflowed) {
      this.slots.release(slot);
      return;
    }
    const size = this.ringSlots.length;
    if (this.ringCount === size) this.growRing();
    const i = (this.ringHead + this.ringCount) & (this.ringSlots.length - 1);
    this.ringViews[i] = view;
    this.ringSlots[i] = slot;
    this.ringPositions[i] = this.base + this.used;
    this.ringCount++;
    this.queuedBytes += view.length;
  }

  /**
   * The next batch, borrowed until `sentOut`, or null when nothing waits. It holds at most `maxBytes`, but a slot's view
   * is never cut: when one stands first it goes whole.
   */
  takeOut(maxBytes: number): OutBatch | null {
    assert(!this.isOut, 'a batch taken while one is out');
    if (this.queuedBytes === 0 || maxBytes <= 0) return null;
    const batch = this.batch;
    const arena = this.arena;
    let at = 0;
    let bytes = 0;
    let count = 0;
    while (count < MAX_BATCH_VIEWS && bytes < maxBytes) {
      const head = this.ringHead;
      const next = this.ringCount > 0 ? this.ringPositions[head]! - this.base : this.used;
      if (at < next) {
        const n = Math.min(next - at, maxBytes - bytes);
        batch.views[count++] = arena.subarray(at, at + n);
        at += n;
        bytes += n;
        continue;
      }
      if (this.ringCount === 0) break;
      const view = this.ringViews[head]!;
      if (bytes > 0 && bytes + view.length > maxBytes) break;
      batch.views[count++] = view;
      bytes += view.length;
      this.moveOut(head);
    }
    this.turnArenas(at);
    this.isOut = true;
    this.queuedBytes -= bytes;
    batch.count = count;
    batch.bytes = bytes;
    return batch;
  }

  /** The batch has left: its slots are given back, its arena is ours again. Nothing after `close`. */
  sentOut(): void {
    if (!this.isOut && this.closed) return;
    assert(this.isOut, 'sentOut without a batch');
    this.endBatch();
    if (this.closed) this.forget();
    else if (this.other.length > KEEP_ARENA) this.other = NOTHING;
  }

  /** Gives back what is queued and takes no more; a batch that is out stays lent until `sentOut` or `close`. */
  closeQueue(): void {
    if (this.closed) return;
    this.closed = true;
    const mask = this.ringSlots.length - 1;
    for (let i = 0; i < this.ringCount; i++) this.slots.release(this.ringSlots[(this.ringHead + i) & mask]!);
    this.ringCount = 0;
    this.queuedBytes = 0;
    if (!this.isOut) this.forget();
  }

  /** Gives back every hold and all memory, also of a batch that is out: the transport must have let go of it. */
  close(): void {
    this.closeQueue();
    if (this.isOut) this.sentOut();
  }

  /** Gives memory back when there is nothing to say; for peers that have been silent for long. */
  trim(): void {
    if (!this.isOut && this.queuedBytes === 0) this.forget();
  }

  private forget(): void {
    this.used = 0;
    this.arena = NOTHING;
    this.other = NOTHING;
    this.ringViews = [];
    this.ringSlots = NO_NUMBERS;
    this.ringPositions = NO_POSITIONS;
    this.ringHead = 0;
    this.outSlots = NO_NUMBERS;
    this.batch.views = [];
  }

  /** The first view of the ring goes into the batch, with its hold. */
  private moveOut(head: number): void {
    if (this.outCount === this.outSlots.length) {
      const more = new Int32Array(Math.max(FIRST_RING, this.outCount * 2));
      more.set(this.outSlots);
      this.outSlots = more;
    }
    this.outSlots[this.outCount++] = this.ringSlots[head]!;
    this.ringViews[head] = NOTHING;
    this.ringHead = (head + 1) & (this.ringSlots.length - 1);
    this.ringCount--;
  }

  /** The arena of which `taken` bytes are out becomes the other one; what is left moves over. */
  private turnArenas(taken: number): void {
    const full = this.arena;
    const left = this.used - taken;
    let fresh = this.other;
    if (left > 0) {
      if (fresh.length < left) fresh = grown(NOTHING, 0, left);
      fresh.set(full.subarray(taken, this.used));
    }
    this.other = full;
    this.arena = fresh;
    this.used = left;
    this.base += taken;
  }

  private endBatch(): void {
    for (let i = 0; i < this.outCount; i++) this.slots.release(this.outSlots[i]!);
    this.outCount = 0;
    // a view kept would keep its arena
    for (let i = 0; i < this.batch.count; i++) this.batch.views[i] = NOTHING;
    this.batch.count = 0;
    this.isOut = false;
  }

  private growRing(): void {
    const size = this.ringSlots.length;
    const slots = new Int32Array(Math.max(FIRST_RING, size * 2));
    const positions = new Float64Array(slots.length);
    const views: Uint8Array[] = [];
    for (let i = 0; i < size; i++) {
      const from = (this.ringHead + i) & (size - 1);
      slots[i] = this.ringSlots[from]!;
      positions[i] = this.ringPositions[from]!;
      views.push(this.ringViews[from]!);
    }
    for (let i = size; i < slots.length; i++) views.push(NOTHING);
    this.ringSlots = slots;
    this.ringPositions = positions;
    this.ringViews = views;
    this.ringHead = 0;
  }
}

function grown(old: Uint8Array, used: number, needed: number): Uint8Array {
  let size = FIRST_ARENA;
  while (size < needed) size *= 2;
  const arena = new Uint8Array(size);
  arena.set(old.subarray(0, used));
  return arena;
}
