/**
 * A set of piece numbers as the wire carries it: most significant bit first, spare bits zero (BEP 3). Owns its bytes;
 * `count` is always the number of set bits.
 */

import { assert } from './assert.ts';

export class Bitfield {
  /** Bits. */
  readonly length: number;
  readonly bytes: Uint8Array;
  /** Bits set. Kept by the methods; for others to read. */
  count: number;

  constructor(length: number) {
    this.length = length;
    this.bytes = new Uint8Array((length + 7) >>> 3);
    this.count = 0;
  }

  /** Copies a bitfield as received. Null: wrong size, or spare bits set. */
  static from(bytes: Uint8Array, length: number): Bitfield | null {
    const size = (length + 7) >>> 3;
    if (bytes.length !== size) return null;
    const spare = size * 8 - length;
    if (spare > 0 && (bytes[size - 1]! & ((1 << spare) - 1)) !== 0) return null;
    const made = new Bitfield(length);
    made.bytes.set(bytes);
    made.count = popCount(made.bytes);
    return made;
  }

  get isFull(): boolean {
    return this.count === this.length;
  }

  get isEmpty(): boolean {
    return this.count === 0;
  }

  get(i: number): boolean {
    return (this.bytes[i >>> 3]! & (128 >>> (i & 7))) !== 0;
  }

  /** True when it was not set before. */
  set(i: number): boolean {
    assert(i >= 0 && i < this.length, 'bit outside a bitfield');
    const bit = 128 >>> (i & 7);
    const old = this.bytes[i >>> 3]!;
    if ((old & bit) !== 0) return false;
    this.bytes[i >>> 3] = old | bit;
    this.count++;
    return true;
  }

  /** True when it was set before. */
  clear(i: number): boolean {
    assert(i >= 0 && i < this.length, 'bit outside a bitfield');
    const bit = 128 >>> (i & 7);
    const old = this.bytes[i >>> 3]!;
    if ((old & bit) === 0) return false;
    this.bytes[i >>> 3] = old & ~bit;
    this.count--;
    return true;
  }

  setAll(): void {
    this.bytes.fill(255);
    const spare = this.bytes.length * 8 - this.length;
    if (spare > 0) this.bytes[this.bytes.length - 1] = 255 & ~((1 << spare) - 1);
    this.count = this.length;
  }

  clearAll(): void {
    this.bytes.fill(0);
    this.count = 0;
  }

  /** The first set bit at or after `from`, or -1. */
  nextSet(from: number): number {
    return this.#next(from, 0);
  }

  /** The first clear bit at or after `from`, or -1. */
  nextClear(from: number): number {
    return this.#next(from, 255);
  }

  clone(): Bitfield {
    const made = new Bitfield(this.length);
    made.bytes.set(this.bytes);
    made.count = this.count;
    return made;
  }

  #next(from: number, flip: number): number {
    let i = from;
    while (i < this.length) {
      const left = ((this.bytes[i >>> 3]! ^ flip) << (i & 7)) & 255;
      if (left !== 0) {
        const found = i + Math.clz32(left) - 24;
        return found < this.length ? found : -1;
      }
      i = (i | 7) + 1;
    }
    return -1;
  }
}

function popCount(bytes: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < bytes.length; i++) {
    let b = bytes[i]!;
    b -= (b >>> 1) & 0x55;
    b = (b & 0x33) + ((b >>> 2) & 0x33);
    count += (b + (b >>> 4)) & 15;
  }
  return count;
}
