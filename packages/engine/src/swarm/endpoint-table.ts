/**
 * A set of endpoints that gives each a small number, by which its owner keeps more of it in columns of his own.
 *
 * Packed: an address, a port, a link and half a head of a hash chain, 21 bytes each; nothing for an empty one.
 *
 * Invariants: an endpoint stands here once; its number is the lowest free one, below `capacity`, and stays. Port 0 is no
 * endpoint's: it marks a free place.
 *
 * Limit: given at construction, at most 32,767.
 */

import { assert } from '../base/assert.ts';

/** The address looked for; never needed after a call returns. */
const KEY = new Uint8Array(16);
/** Shared, so that an empty table is small. */
const NO_BYTES = new Uint8Array(0);
const NO_PORTS = new Uint16Array(0);
const NO_INDICES = new Int16Array(0);

export class EndpointTable {
  count = 0;
  /** Numbers are below it. It only grows. */
  capacity = 0;
  readonly #limit: number;
  /** 16 bytes each, IPv4 as ::ffff:a.b.c.d. */
  #ip: Uint8Array = NO_BYTES;
  #port: Uint16Array = NO_PORTS;
  #heads: Int16Array = NO_INDICES;
  #chain: Int16Array = NO_INDICES;
  /** No number before it is free. */
  #lowestFree = 0;

  constructor(limit: number) {
    assert(limit >= 1 && limit <= 32767, 'a table holds 1 .. 32,767');
    this.#limit = limit;
  }

  /** Number of an endpoint, or -1. `ip`: 4 or 16 bytes. */
  find(ip: Uint8Array, port: number): number {
    if (this.count === 0) return -1;
    setKey(ip);
    let at = this.#heads[this.#hash(KEY, 0, port)]!;
    while (at !== -1 && (this.#port[at] !== port || !this.#isKey(at))) at = this.#chain[at]!;
    return at;
  }

  /** Of one that is not here, while there is room. Returns its number. */
  insert(ip: Uint8Array, port: number): number {
    if (this.count === this.capacity) this.#grow();
    let index = this.#lowestFree;
    while (this.#port[index] !== 0) index++;
    this.#lowestFree = index + 1;
    setKey(ip);
    this.#ip.set(KEY, index * 16);
    this.#port[index] = port;
    this.#link(index);
    this.count++;
    return index;
  }

  remove(index: number): void {
    const hash = this.#hash(this.#ip, index * 16, this.#port[index]!);
    let at = this.#heads[hash]!;
    if (at === index) this.#heads[hash] = this.#chain[index]!;
    else {
      while (this.#chain[at] !== index) at = this.#chain[at]!;
      this.#chain[at] = this.#chain[index]!;
    }
    this.#port[index] = 0;
    if (index < this.#lowestFree) this.#lowestFree = index;
    this.count--;
  }

  /** Whether at least `count` ports of this address are here. */
  hasPorts(ip: Uint8Array, count: number): boolean {
    setKey(ip);
    let n = 0;
    for (let i = 0; i < this.capacity; i++) if (this.#port[i] !== 0 && this.#isKey(i) && ++n >= count) return true;
    return false;
  }

  /** 4 or 16 bytes. */
  ip(index: number): Uint8Array {
    const at = index * 16;
    const ip = this.#ip.subarray(at, at + 16);
    for (let i = 0; i < 10; i++) if (ip[i] !== 0) return ip.slice();
    return ip[10] === 255 && ip[11] === 255 ? ip.slice(12) : ip.slice();
  }

  port(index: number): number {
    return this.#port[index]!;
  }

  #isKey(index: number): boolean {
    const at = index * 16;
    for (let i = 15; i >= 0; i--) if (this.#ip[at + i] !== KEY[i]) return false;
    return true;
  }

  #hash(ip: Uint8Array, at: number, port: number): number {
    let hash = port ^ 0x811c9dc5;
    for (let i = at; i < at + 16; i++) hash = Math.imul(hash ^ ip[i]!, 0x01000193);
    return (hash ^ (hash >>> 15)) & (this.#heads.length - 1);
  }

  #link(index: number): void {
    const hash = this.#hash(this.#ip, index * 16, this.#port[index]!);
    this.#chain[index] = this.#heads[hash]!;
    this.#heads[hash] = index;
  }

  #grow(): void {
    const from = this.capacity;
    const to = Math.min(Math.max(4, from * 2), this.#limit);
    assert(to > from, 'a table beyond its limit');
    this.capacity = to;
    this.#ip = widened(new Uint8Array(to * 16), this.#ip);
    this.#port = widened(new Uint16Array(to), this.#port);
    this.#chain = new Int16Array(to);
    // half as many heads as endpoints keeps it small
    let heads = 2;
    while (heads * 2 < to) heads *= 2;
    this.#heads = new Int16Array(heads).fill(-1);
    for (let i = 0; i < from; i++) if (this.#port[i] !== 0) this.#link(i);
  }
}

/** A longer column with what stood in the shorter one. */
export function widened<T extends Uint8Array | Uint16Array | Uint32Array>(target: T, source: T): T {
  target.set(source);
  return target;
}

function setKey(ip: Uint8Array): void {
  if (ip.length === 16) {
    KEY.set(ip);
    return;
  }
  KEY.fill(0, 0, 10);
  KEY[10] = 255;
  KEY[11] = 255;
  KEY.set(ip, 12);
}
