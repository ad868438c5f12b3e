/**
 * Filters that count addresses without naming them (BEP 33): 2,048 bits, two set per address. Filters of many nodes are
 * merged by OR, and the count of the union is estimated from its empty bits. Good up to some 6,000 addresses.
 */

import { assert } from '../base/assert.ts';
import { sha1 } from '../base/hash.ts';

export const BLOOM_BYTES = 256;
const BITS = BLOOM_BYTES * 8;
/** Bits set per address. */
const HASHES = 2;

export class BloomFilter {
  /** BLOOM_BYTES, as they go over the wire. */
  readonly bytes: Uint8Array = new Uint8Array(BLOOM_BYTES);

  /** Of 4 or 16 bytes. */
  add(ip: Uint8Array): void {
    this.addPlaces(bloomPlaces(ip));
  }

  /** What `bloomPlaces` gave for an address. */
  addPlaces(places: number): void {
    setBit(this.bytes, places & 0x7ff);
    setBit(this.bytes, (places >>> 11) & 0x7ff);
  }

  /** Whether the address may have been added; false is certain. */
  has(ip: Uint8Array): boolean {
    const places = bloomPlaces(ip);
    return isSet(this.bytes, places & 0x7ff) && isSet(this.bytes, (places >>> 11) & 0x7ff);
  }

  /** Adds all that another filter holds; BLOOM_BYTES. */
  merge(other: Uint8Array): void {
    assert(other.length === BLOOM_BYTES, 'a filter of another size');
    for (let i = 0; i < BLOOM_BYTES; i++) this.bytes[i]! |= other[i]!;
  }

  /** How many addresses a filter holds, about. */
  static estimate(bytes: Uint8Array): number {
    let empty = 0;
    for (let i = 0; i < BLOOM_BYTES; i++) for (let b = bytes[i]! ^ 255; b !== 0; b &= b - 1) empty++;
    // a full filter says as much as one with a single empty bit, an empty one that nobody is there
    const c = Math.min(BITS - 1, Math.max(1, empty));
    return empty === BITS ? 0 : Math.log(c / BITS) / (HASHES * Math.log(1 - 1 / BITS));
  }
}

/** The two bits of an address, 11 bits of number each: what is worth keeping instead of hashing again. */
export function bloomPlaces(ip: Uint8Array): number {
  const digest = sha1(ip);
  const first = (digest[0]! | (digest[1]! << 8)) % BITS;
  const second = (digest[2]! | (digest[3]! << 8)) % BITS;
  return first | (second << 11);
}

function setBit(bytes: Uint8Array, place: number): void {
  bytes[place >>> 3]! |= 1 << (place & 7);
}

function isSet(bytes: Uint8Array, place: number): boolean {
  return (bytes[place >>> 3]! & (1 << (place & 7))) !== 0;
}
