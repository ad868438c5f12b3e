/**
 * Owns all payload memory: `count` slots of 16 KiB, by number, in one stretch of memory with the receive buffer.
 *
 *     | receive buffer | slot 0: headroom 64 | payload 16384 | slot 1: headroom | payload | ...
 *
 * The headroom makes a full block *wire-ready*: its 13-byte piece header is written right before the payload, so that an
 * upload is one view and needs no copy. The header of a block is the same for every peer, so a slot may be sent to
 * several at once. Payloads are 64-byte aligned.
 *
 * Invariant: a slot is free, or has a count of holders of at least 1. One holder may write; with two or more holders the
 * content is final. The memory may be shared with hash workers, who know slots by number too.
 *
 * Limit: `count` is fixed at birth (memory budget / 16 KiB); `take` returns -1 when none is free, and callers wait.
 */

import { assert } from './assert.ts';

/** Bytes of payload in a slot = block size of the protocol (BEP 3 practice). */
export const BLOCK_BYTES = 16384;
/** 4 length + 1 id + 4 index + 4 begin. */
export const PIECE_HEADER_BYTES = 13;
const HEADROOM = 64;
/** Distance of two slots in memory. */
export const SLOT_STRIDE: number = BLOCK_BYTES + HEADROOM;

/**
 * Memory for a pool. `copy` moves bytes inside it: (target, source, length) as offsets; host gives WASM memory.copy.
 * `move` copies all of `source` to `target`, from its place `at` on, whether either is shared or not; default: `set`.
 */
export interface SlotMemory {
  readonly buffer: ArrayBufferLike;
  readonly copy: (target: number, source: number, length: number) => void;
  readonly move?: Move;
  /** Where the host has one. */
  readonly rc4?: Rc4Kernel;
}

/** RC4 inside the memory of the slots, faster than script. One cipher at a time puts its state here and fetches it again. */
export interface Rc4Kernel {
  /** The permutation of 256; each entry is four times its value. */
  readonly state: Int32Array;
  /** Memory for what is enciphered. */
  readonly room: Uint8Array;
  /**
   * target[0..length) = source[0..length) with the key stream laid over it; both are offsets in the memory, and may be
   * the same. `i` is the index of the next step, `j` that of the last, each times four; returns the new j. Both i / 4 and
   * the length are multiples of RC4_ROUND, the length is not 0.
   */
  run(i: number, j: number, target: number, source: number, length: number): number;
}

export const RC4_ROUND = 8;

export type Move = (target: Uint8Array, at: number, source: Uint8Array) => void;

export class SlotPool {
  readonly count: number;
  readonly buffer: ArrayBufferLike;
  /** Copies between this memory and any other. */
  readonly move: Move;
  readonly rc4: Rc4Kernel | null;
  /** Where sockets read into; shared by all connections, since what is in it is used up before the next read. */
  readonly receive: Uint8Array<ArrayBufferLike>;
  /** Free now. */
  freeCount: number;
  readonly #bytes: Uint8Array<ArrayBufferLike>;
  readonly #copy: (target: number, source: number, length: number) => void;
  readonly #holders: Uint16Array;
  readonly #free: Int32Array;
  readonly #payload: (Uint8Array | undefined)[];
  readonly #wire: (Uint8Array | undefined)[];
  readonly #firstSlot: number;

  /** Bytes of memory a pool of this shape needs. */
  static bytesFor(receiveBytes: number, count: number): number {
    return SlotPool.#slotsStart(receiveBytes) + count * SLOT_STRIDE;
  }

  static #slotsStart(receiveBytes: number): number {
    return Math.ceil(receiveBytes / 64) * 64;
  }

  constructor(memory: SlotMemory, receiveBytes: number, count: number) {
    assert(memory.buffer.byteLength >= SlotPool.bytesFor(receiveBytes, count), 'slot memory too small');
    this.count = count;
    this.freeCount = count;
    this.buffer = memory.buffer;
    this.receive = new Uint8Array(memory.buffer, 0, receiveBytes);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#copy = memory.copy;
    this.move = memory.move ?? plainMove;
    this.rc4 = memory.rc4 ?? null;
    this.#holders = new Uint16Array(count);
    this.#free = new Int32Array(count);
    // the lowest numbers come out first, so that memory never needed is never touched
    for (let i = 0; i < count; i++) this.#free[i] = count - 1 - i;
    this.#payload = new Array(count);
    this.#wire = new Array(count);
    this.#firstSlot = SlotPool.#slotsStart(receiveBytes) + HEADROOM;
  }

  /** A slot with one holder, or -1. */
  take(): number {
    if (this.freeCount === 0) return -1;
    const slot = this.#free[--this.freeCount]!;
    this.#holders[slot] = 1;
    return slot;
  }

  /** One more holder; the content is final from now on. */
  retain(slot: number): void {
    assert(this.#holders[slot]! > 0 && this.#holders[slot]! < 65535, 'retain of a free slot');
    this.#holders[slot]! += 1;
  }

  /** One holder less; the last one frees the slot. */
  release(slot: number): void {
    const holders = this.#holders[slot]!;
    assert(holders > 0, 'release of a free slot');
    this.#holders[slot] = holders - 1;
    if (holders === 1) this.#free[this.freeCount++] = slot;
  }

  holders(slot: number): number {
    return this.#holders[slot]!;
  }

  /** Byte offset of the payload in `buffer`. */
  offset(slot: number): number {
    return this.#firstSlot + slot * SLOT_STRIDE;
  }

  /** The 16 KiB of payload; the same view each time. */
  payload(slot: number): Uint8Array {
    const made = this.#payload[slot];
    if (made !== undefined) return made;
    const view = new Uint8Array(this.buffer, this.offset(slot), BLOCK_BYTES);
    this.#payload[slot] = view;
    return view;
  }

  /** Copies received bytes into a slot; fast when `source` lies in the pool's own memory (the receive buffer). */
  write(slot: number, at: number, source: Uint8Array, from: number, length: number): void {
    assert(at >= 0 && at + length <= BLOCK_BYTES, 'write past a slot');
    const target = this.offset(slot) + at;
    if (source.buffer === this.buffer) this.#copy(target, source.byteOffset + from, length);
    else {
      const all = from === 0 && length === source.length;
      this.move(this.#bytes, target, all ? source : source.subarray(from, from + length));
    }
  }

  /** Fills with zeros (pad files, BEP 47). */
  zero(slot: number, at: number, length: number): void {
    const target = this.offset(slot) + at;
    this.#bytes.fill(0, target, target + length);
  }

  /**
   * The `piece` message of a whole block of 16 KiB: header and payload in one view. Writes the header, which is the same
   * for every receiver.
   */
  wireBlock(slot: number, index: number, begin: number): Uint8Array {
    const header = this.offset(slot) - PIECE_HEADER_BYTES;
    const b = this.#bytes;
    const length = BLOCK_BYTES + 9;
    b[header] = 0;
    b[header + 1] = 0;
    b[header + 2] = length >>> 8;
    b[header + 3] = length & 255;
    b[header + 4] = 7;
    b[header + 5] = index >>> 24;
    b[header + 6] = index >>> 16;
    b[header + 7] = index >>> 8;
    b[header + 8] = index;
    b[header + 9] = begin >>> 24;
    b[header + 10] = begin >>> 16;
    b[header + 11] = begin >>> 8;
    b[header + 12] = begin;
    const made = this.#wire[slot];
    if (made !== undefined) return made;
    const view = new Uint8Array(this.buffer, header, PIECE_HEADER_BYTES + BLOCK_BYTES);
    this.#wire[slot] = view;
    return view;
  }
}

export function plainMove(target: Uint8Array, at: number, source: Uint8Array): void {
  target.set(source, at);
}
