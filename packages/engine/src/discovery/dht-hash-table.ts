/**
 * A table of 20-byte hashes packed in typed arrays: hash -> slot, slots 0 .. count - 1 without gaps. It grows up to
 * `max`. Which bucket a hash falls in depends on a number drawn at the start, so nobody can choose hashes that collide.
 */

import { assert } from '../base/assert.ts';
import type { Rng } from '../base/random.ts';

const HASH_BYTES = 20;

export class HashTable {
  count = 0;
  readonly #max: number;
  readonly #salt: Uint32Array;
  #bytes: Uint8Array = new Uint8Array(0);
  /** Bucket -> slot, -1: empty; a power of two, at least as many as slots. */
  #heads: Int32Array = new Int32Array(0);
  /** Slot -> next slot of its bucket, or -1. */
  #next: Int32Array = new Int32Array(0);

  constructor(rng: Pick<Rng, 'u32'>, max: number) {
    this.#max = max;
    this.#salt = Uint32Array.from({ length: HASH_BYTES / 4 }, () => rng.u32());
  }

  get isFull(): boolean {
    return this.count >= this.#max;
  }

  /** The slot of a hash, or -1. */
  find(hash: Uint8Array): number {
    if (this.count === 0) return -1;
    for (let slot = this.#heads[this.#bucket(hash, 0)]!; slot >= 0; slot = this.#next[slot]!) {
      if (this.#equals(slot, hash)) return slot;
    }
    return -1;
  }

  /** A hash that is not here yet gets the slot `count`. */
  add(hash: Uint8Array): number {
    assert(hash.length === HASH_BYTES && !this.isFull, 'no room for this hash');
    if (this.count === this.#next.length) this.#grow();
    const slot = this.count++;
    this.#bytes.set(hash, slot * HASH_BYTES);
    this.#link(slot);
    return slot;
  }

  /** Takes a slot out; the last one gets its number. */
  remove(slot: number): void {
    const last = this.count - 1;
    this.#unlink(slot);
    if (slot !== last) {
      this.#unlink(last);
      this.#bytes.copyWithin(slot * HASH_BYTES, last * HASH_BYTES, (last + 1) * HASH_BYTES);
      this.#link(slot);
    }
    this.count = last;
  }

  /** Writes the hash of a slot to `target`. */
  copy(slot: number, target: Uint8Array, at: number): void {
    target.set(this.#bytes.subarray(slot * HASH_BYTES, (slot + 1) * HASH_BYTES), at);
  }

  #bucket(bytes: Uint8Array, at: number): number {
    let mix = 0;
    for (let i = 0; i < HASH_BYTES; i += 4) {
      const word = bytes[at + i]! | (bytes[at + i + 1]! << 8) | (bytes[at + i + 2]! << 16) | (bytes[at + i + 3]! << 24);
      mix = Math.imul((mix ^ (mix >>> 15)) + word, this.#salt[i >> 2]! | 1);
    }
    return (mix ^ (mix >>> 16)) & (this.#heads.length - 1);
  }

  #equals(slot: number, hash: Uint8Array): boolean {
    const at = slot * HASH_BYTES;
    for (let i = 0; i < HASH_BYTES; i++) if (this.#bytes[at + i] !== hash[i]) return false;
    return true;
  }

  #link(slot: number): void {
    const bucket = this.#bucket(this.#bytes, slot * HASH_BYTES);
    this.#next[slot] = this.#heads[bucket]!;
    this.#heads[bucket] = slot;
  }

  #unlink(slot: number): void {
    const bucket = this.#bucket(this.#bytes, slot * HASH_BYTES);
    let at = this.#heads[bucket]!;
    if (at === slot) {
      this.#heads[bucket] = this.#next[slot]!;
      return;
    }
    while (this.#next[at] !== slot) at = this.#next[at]!;
    this.#next[at] = this.#next[slot]!;
  }

  #grow(): void {
    const length = Math.max(8, 2 * this.#next.length);
    const bytes = new Uint8Array(length * HASH_BYTES);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
    this.#next = new Int32Array(length);
    this.#heads = new Int32Array(length).fill(-1);
    for (let slot = 0; slot < this.count; slot++) this.#link(slot);
  }
}
