/**
 * A set of IP addresses as sorted ranges that neither touch nor overlap, in typed arrays: 8 bytes a range of IPv4, 32 of
 * IPv6. Built once from any number of ranges in any order; a look-up is a binary search, well below a microsecond.
 */

/** Collects ranges; `build` makes the set. */
export class IpRangesBuilder {
  #v4: Uint32Array = new Uint32Array(1024);
  #v4Count = 0;
  readonly #v6: { readonly first: Uint8Array; readonly last: Uint8Array }[] = [];

  /** How many were added, before merging. */
  get count(): number {
    return this.#v4Count / 2 + this.#v6.length;
  }

  /** Both ends belong to it. False: they are in the wrong order. */
  addV4(first: number, last: number): boolean {
    if (first > last) return false;
    if (this.#v4Count + 2 > this.#v4.length) {
      const more = new Uint32Array(this.#v4.length * 2);
      more.set(this.#v4);
      this.#v4 = more;
    }
    this.#v4[this.#v4Count++] = first;
    this.#v4[this.#v4Count++] = last;
    return true;
  }

  /** Of 4 or 16 bytes each, both of one family. False: they are not, or in the wrong order. */
  add(first: Uint8Array, last: Uint8Array): boolean {
    if (first.length !== last.length) return false;
    if (first.length === 4) return this.addV4(word(first, 0), word(last, 0));
    if (first.length !== 16 || compare(first, last) > 0) return false;
    this.#v6.push({ first: first.slice(), last: last.slice() });
    return true;
  }

  /** Ranges of another set. */
  addAll(ranges: IpRanges): void {
    ranges.each((first, last) => this.add(first, last));
  }

  build(): IpRanges {
    return new IpRanges(this.#mergedV4(), this.#mergedV6());
  }

  #mergedV4(): Uint32Array {
    const count = this.#v4Count / 2;
    // a double holds start * 2^21 + index exactly for 2^21 ranges; beyond that the order is by start alone
    const order = new Float64Array(count);
    for (let i = 0; i < count; i++) order[i] = this.#v4[2 * i]! * 0x200000 + (i & 0x1fffff);
    const starts = sortedOrder(order, this.#v4);
    const merged = new Uint32Array(2 * count);
    let n = 0;
    for (const i of starts) {
      const first = this.#v4[2 * i]!;
      const last = this.#v4[2 * i + 1]!;
      if (n > 0 && first <= merged[n - 1]! + 1) {
        if (last > merged[n - 1]!) merged[n - 1] = last;
        continue;
      }
      merged[n++] = first;
      merged[n++] = last;
    }
    return merged.slice(0, n);
  }

  #mergedV6(): Uint32Array {
    const sorted = this.#v6.sort((a, b) => compare(a.first, b.first) || compare(a.last, b.last));
    const merged: { first: Uint8Array; last: Uint8Array }[] = [];
    for (const range of sorted) {
      const before = merged.at(-1);
      if (before !== undefined && compare(range.first, before.last) <= 0) {
        if (compare(range.last, before.last) > 0) before.last = range.last;
      } else merged.push({ first: range.first, last: range.last });
    }
    const words = new Uint32Array(8 * merged.length);
    merged.forEach(({ first, last }, i) => {
      for (let w = 0; w < 4; w++) {
        words[8 * i + w] = word(first, 4 * w);
        words[8 * i + 4 + w] = word(last, 4 * w);
      }
    });
    return words;
  }
}

export class IpRanges {
  /** first, last, first, last ... */
  readonly #v4: Uint32Array;
  /** Four words of the first, four of the last. */
  readonly #v6: Uint32Array;

  /** Made by IpRangesBuilder. */
  constructor(v4: Uint32Array, v6: Uint32Array) {
    this.#v4 = v4;
    this.#v6 = v6;
  }

  /** Ranges after merging. */
  get count(): number {
    return this.#v4.length / 2 + this.#v6.length / 8;
  }

  /** Of 4 or 16 bytes. */
  has(ip: Uint8Array): boolean {
    return ip.length === 4 ? this.#hasV4(word(ip, 0)) : this.#hasV6(ip);
  }

  /** The ranges in order; the arrays are the caller's. */
  each(visit: (first: Uint8Array, last: Uint8Array) => void): void {
    for (let i = 0; i < this.#v4.length; i += 2) visit(bytesOf(this.#v4, i, 1), bytesOf(this.#v4, i + 1, 1));
    for (let i = 0; i < this.#v6.length; i += 8) visit(bytesOf(this.#v6, i, 4), bytesOf(this.#v6, i + 4, 4));
  }

  #hasV4(ip: number): boolean {
    const v4 = this.#v4;
    let low = 0;
    let high = v4.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (v4[2 * middle]! <= ip) low = middle + 1;
      else high = middle;
    }
    return low > 0 && ip <= v4[2 * low - 1]!;
  }

  #hasV6(ip: Uint8Array): boolean {
    const a = word(ip, 0);
    const b = word(ip, 4);
    const c = word(ip, 8);
    const d = word(ip, 12);
    let low = 0;
    let high = this.#v6.length / 8;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compareV6(8 * middle, a, b, c, d) <= 0) low = middle + 1;
      else high = middle;
    }
    return low > 0 && this.#compareV6(8 * low - 4, a, b, c, d) >= 0;
  }

  #compareV6(at: number, a: number, b: number, c: number, d: number): number {
    const v6 = this.#v6;
    return v6[at]! - a || v6[at + 1]! - b || v6[at + 2]! - c || v6[at + 3]! - d;
  }
}

/** Indices of ranges by their start. */
function sortedOrder(keys: Float64Array, ranges: Uint32Array): Iterable<number> {
  const indices = new Uint32Array(keys.length);
  if (keys.length <= 0x200000) {
    keys.sort();
    for (let i = 0; i < keys.length; i++) indices[i] = keys[i]! % 0x200000;
    return indices;
  }
  for (let i = 0; i < indices.length; i++) indices[i] = i;
  return indices.sort((i, k) => ranges[2 * i]! - ranges[2 * k]!);
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

function bytesOf(words: Uint32Array, at: number, count: number): Uint8Array {
  const bytes = new Uint8Array(4 * count);
  for (let w = 0; w < count; w++) {
    const value = words[at + w]!;
    bytes.set([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255], 4 * w);
  }
  return bytes;
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}
