/**
 * Owns the requests of one peer that wait to be served: a ring of (piece, begin, length), oldest first.
 *
 * Nothing is dropped silently: past `LIMIT`, what we advertise as reqq, the caller rejects (BEP 6) or stops reading from
 * the peer; it bounds what still comes then. The ring grows by doubling.
 */

import { assert } from '../base/assert.ts';

const FIRST_SIZE = 16;
const NOTHING = new Int32Array(0);

export class UploadQueue {
  /** Advertised as `reqq` (libtorrent's figure, DEMANDS W5). */
  static readonly LIMIT = 2000;
  count = 0;
  /** Bytes being read for it, in whole blocks. */
  readingBytes = 0;
  #ring = NOTHING;
  #head = 0;

  get full(): boolean {
    return this.count >= UploadQueue.LIMIT;
  }

  push(piece: number, begin: number, length: number): void {
    if (this.count * 3 === this.#ring.length) this.#grow();
    const at = ((this.#head + this.count) % (this.#ring.length / 3)) * 3;
    this.#ring[at] = piece;
    this.#ring[at + 1] = begin;
    this.#ring[at + 2] = length;
    this.count++;
  }

  /** The i-th oldest request's piece; likewise below. */
  piece(i: number): number {
    return this.#ring[((this.#head + i) % (this.#ring.length / 3)) * 3]!;
  }

  begin(i: number): number {
    return this.#ring[((this.#head + i) % (this.#ring.length / 3)) * 3 + 1]!;
  }

  length(i: number): number {
    return this.#ring[((this.#head + i) % (this.#ring.length / 3)) * 3 + 2]!;
  }

  /** Takes the n oldest off. */
  shift(n: number): void {
    assert(n <= this.count, 'shift past the end');
    if (n === this.count) this.clear();
    else {
      this.#head = (this.#head + n) % (this.#ring.length / 3);
      this.count -= n;
    }
  }

  /** Where a request stands, 0 the oldest, or -1. Looks at all of them in turn. */
  find(piece: number, begin: number, length: number): number {
    const ring = this.#ring;
    let at = this.#head * 3;
    for (let i = 0; i < this.count; i++) {
      if (ring[at] === piece && ring[at + 1] === begin && ring[at + 2] === length) return i;
      at += 3;
      if (at === ring.length) at = 0;
    }
    return -1;
  }

  /** Takes out the i-th oldest request. */
  removeAt(i: number): void {
    assert(i >= 0 && i < this.count, 'a request that is not there');
    if (i < this.count >> 1) {
      for (let k = i; k > 0; k--) this.#copy(k - 1, k);
      this.shift(1);
      return;
    }
    for (let k = i; k + 1 < this.count; k++) this.#copy(k + 1, k);
    this.count--;
  }

  clear(): void {
    this.count = 0;
    this.#head = 0;
  }

  /** Gives the memory back; for peers that ask no more. */
  free(): void {
    this.clear();
    this.#ring = NOTHING;
  }

  #copy(from: number, to: number): void {
    const size = this.#ring.length / 3;
    const a = ((this.#head + from) % size) * 3;
    this.#ring.copyWithin(((this.#head + to) % size) * 3, a, a + 3);
  }

  #grow(): void {
    const grown = new Int32Array(Math.max(FIRST_SIZE * 3, this.#ring.length * 2));
    const size = this.#ring.length / 3;
    for (let i = 0; i < this.count; i++) {
      const at = ((this.#head + i) % size) * 3;
      grown.set(this.#ring.subarray(at, at + 3), i * 3);
    }
    this.#ring = grown;
    this.#head = 0;
  }
}
