/** Queues over a circle of places that doubles when full; no allocation otherwise. Capacity is always a power of two. */

export class Ring<T> {
  length = 0;
  #places: (T | undefined)[];
  #head = 0;

  constructor(capacity = 8) {
    this.#places = new Array(powerOfTwo(capacity));
  }

  push(value: T): void {
    if (this.length === this.#places.length) this.#grow();
    this.#places[(this.#head + this.length++) & (this.#places.length - 1)] = value;
  }

  /** The oldest, taken out. */
  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const value = this.#places[this.#head];
    this.#places[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#places.length - 1);
    this.length--;
    return value;
  }

  /** The i-th oldest, left in. */
  at(i: number): T | undefined {
    return i >= 0 && i < this.length ? this.#places[(this.#head + i) & (this.#places.length - 1)] : undefined;
  }

  clear(): void {
    this.#places.fill(undefined);
    this.#head = 0;
    this.length = 0;
  }

  #grow(): void {
    const old = this.#places;
    const places: (T | undefined)[] = new Array(old.length * 2);
    for (let i = 0; i < this.length; i++) places[i] = old[(this.#head + i) & (old.length - 1)];
    this.#places = places;
    this.#head = 0;
  }
}

/** The same for integers of 32 bits. */
export class IntRing {
  length = 0;
  #places: Int32Array;
  #head = 0;

  constructor(capacity = 8) {
    this.#places = new Int32Array(powerOfTwo(capacity));
  }

  push(value: number): void {
    if (this.length === this.#places.length) this.#grow();
    this.#places[(this.#head + this.length++) & (this.#places.length - 1)] = value;
  }

  /** The oldest, taken out; -1 when empty, so keep to numbers of 0 and more where that matters. */
  shift(): number {
    if (this.length === 0) return -1;
    const value = this.#places[this.#head]!;
    this.#head = (this.#head + 1) & (this.#places.length - 1);
    this.length--;
    return value;
  }

  /** The i-th oldest, left in; -1 outside. */
  at(i: number): number {
    return i >= 0 && i < this.length ? this.#places[(this.#head + i) & (this.#places.length - 1)]! : -1;
  }

  clear(): void {
    this.#head = 0;
    this.length = 0;
  }

  #grow(): void {
    const old = this.#places;
    const places = new Int32Array(old.length * 2);
    for (let i = 0; i < this.length; i++) places[i] = old[(this.#head + i) & (old.length - 1)]!;
    this.#places = places;
    this.#head = 0;
  }
}

function powerOfTwo(atLeast: number): number {
  let n = 1;
  while (n < atLeast) n *= 2;
  return n;
}
