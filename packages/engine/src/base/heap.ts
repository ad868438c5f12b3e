/**
 * Binary heap of deadlines: smallest key first, each entry known by a small integer id that its owner chose, so that a
 * deadline can be moved or taken out. Ties go by id: the order is total, which the simulation needs. An id is in the
 * heap at most once.
 */

import { assert } from './assert.ts';

export class Heap {
  length = 0;
  #ids: Int32Array = new Int32Array(16);
  #keys: Float64Array = new Float64Array(16);
  /** id -> place + 1; 0: not in the heap. */
  #places: Int32Array = new Int32Array(16);

  /** Smallest key; Infinity when empty. */
  get minKey(): number {
    return this.length === 0 ? Number.POSITIVE_INFINITY : this.#keys[0]!;
  }

  /** Id of the smallest key; -1 when empty. */
  get minId(): number {
    return this.length === 0 ? -1 : this.#ids[0]!;
  }

  has(id: number): boolean {
    return id < this.#places.length && this.#places[id]! !== 0;
  }

  /** Key of an id, or Infinity when it is not there. */
  keyOf(id: number): number {
    return this.has(id) ? this.#keys[this.#places[id]! - 1]! : Number.POSITIVE_INFINITY;
  }

  /** Puts in, or moves. */
  set(id: number, key: number): void {
    assert(id >= 0, 'heap ids start at 0');
    if (id >= this.#places.length) this.#places = grown(this.#places, id + 1);
    let place = this.#places[id]! - 1;
    if (place < 0) {
      if (this.length === this.#ids.length) {
        this.#ids = grown(this.#ids, this.length + 1);
        const keys = new Float64Array(this.#ids.length);
        keys.set(this.#keys);
        this.#keys = keys;
      }
      place = this.length++;
    }
    this.#settle(place, id, key);
  }

  /** True when it was there. */
  remove(id: number): boolean {
    if (!this.has(id)) return false;
    const place = this.#places[id]! - 1;
    this.#places[id] = 0;
    this.length--;
    if (place < this.length) this.#settle(place, this.#ids[this.length]!, this.#keys[this.length]!);
    return true;
  }

  /** Takes out the smallest; its id, or -1 when empty. */
  pop(): number {
    const id = this.minId;
    if (id >= 0) this.remove(id);
    return id;
  }

  /** Puts the entry where it belongs, starting from a place that is free for it. */
  #settle(place: number, id: number, key: number): void {
    let hole = place;
    while (hole > 0) {
      const parent = (hole - 1) >>> 1;
      if (!this.#before(id, key, parent)) break;
      this.#put(hole, this.#ids[parent]!, this.#keys[parent]!);
      hole = parent;
    }
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= this.length) break;
      if (child + 1 < this.length && this.#before(this.#ids[child + 1]!, this.#keys[child + 1]!, child)) child++;
      if (this.#before(id, key, child)) break;
      this.#put(hole, this.#ids[child]!, this.#keys[child]!);
      hole = child;
    }
    this.#put(hole, id, key);
  }

  #before(id: number, key: number, place: number): boolean {
    const other = this.#keys[place]!;
    return key < other || (key === other && id < this.#ids[place]!);
  }

  #put(place: number, id: number, key: number): void {
    this.#ids[place] = id;
    this.#keys[place] = key;
    this.#places[id] = place + 1;
  }
}

function grown(old: Int32Array, atLeast: number): Int32Array {
  const bigger = new Int32Array(Math.max(atLeast, old.length * 2));
  bigger.set(old);
  return bigger;
}
