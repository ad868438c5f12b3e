/**
 * Values in the DHT (BEP 44): what an item is, when it is genuine, and the store of those others put here.
 *
 *   immutable: target = SHA-1(v)              mutable: target = SHA-1(public key, salt), signed, newer by `seq`
 *
 * Invariant: the store holds genuine items alone, and the `seq` of a mutable one never falls. Limits: v of 1,000 bytes
 * and salt of 64 (BEP 44), `seq` of 2^53 - 1, `maxItems` items, 2 hours since the last put. When it is full, an item of
 * the newcomer's own network gives way, else the one longest not put of a few: a flood from one place drives out
 * itself.
 */

import { assert } from '../base/assert.ts';
import { concat, copyOf, equal, latin1, utf8Encode } from '../base/bytes.ts';
import { sha1 } from '../base/hash.ts';
import type { Crypto } from '../base/ports.ts';
import { BencodeError, scan } from '../codec/bencode.ts';
import { SAMPLE } from './dht-peers.ts';
import { networkOf } from './node-id.ts';

export const MAX_VALUE_BYTES = 1000;
export const MAX_SALT_BYTES = 64;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const EXPIRE_MS = 2 * 3600_000;
const SWEEP_MS = 60_000;
const NO_BYTES = new Uint8Array(0);

export interface DhtItem {
  /** v, bencoded. */
  readonly value: Uint8Array;
  /** Null: immutable; then `signature` is null too, `seq` 0 and `salt` empty. */
  readonly publicKey: Uint8Array | null;
  readonly salt: Uint8Array;
  readonly seq: number;
  readonly signature: Uint8Array | null;
  /** 20 bytes; `itemTarget` says what it must be. */
  readonly target: Uint8Array;
}

/** What a put is answered with; 0: stored. */
export const PutError = {
  None: 0,
  /** Not canonical bencoding, a key or signature of another length, a `seq` out of range. */
  Protocol: 203,
  ValueTooBig: 205,
  Signature: 206,
  SaltTooBig: 207,
  Cas: 301,
  Seq: 302,
} as const;
export type PutError = (typeof PutError)[keyof typeof PutError];

export class DhtItems {
  readonly #crypto: Crypto;
  readonly #maxItems: number;
  readonly #places = new Map<string, number>();
  readonly #keys: string[] = [];
  readonly #items: DhtItem[] = [];
  readonly #putAt: number[] = [];
  readonly #networks: (number | string | null)[] = [];
  #sweepAt = Number.NEGATIVE_INFINITY;
  /** Where the next search for the least worth begins. */
  #cursor = 0;

  constructor(crypto: Crypto, maxItems: number) {
    this.#crypto = crypto;
    this.#maxItems = maxItems;
  }

  get count(): number {
    return this.#items.length;
  }

  /** `target`: 20 bytes. */
  get(now: number, target: Uint8Array): DhtItem | null {
    const place = this.#places.get(latin1(target));
    if (place === undefined) return null;
    if (now - this.#putAt[place]! >= EXPIRE_MS) {
      this.#drop(place);
      return null;
    }
    return this.#items[place]!;
  }

  /** `cas`: the `seq` the item here must have, or -1. `from`: the address it came from, or null. Keeps copies. */
  put(now: number, item: DhtItem, cas: number, from: Uint8Array | null = null): PutError {
    const shape = checkShape(item);
    if (shape !== PutError.None) return shape;
    const held = this.get(now, item.target);
    const key = latin1(item.target);
    const same = held !== null && held.seq === item.seq && equal(held.value, item.value);
    if (!(same && equal(held.signature ?? NO_BYTES, item.signature ?? NO_BYTES)) && !verifyItem(this.#crypto, item)) {
      return PutError.Signature;
    }
    if (held !== null && held.publicKey !== null) {
      if (cas >= 0 && cas !== held.seq) return PutError.Cas;
      if (item.seq < held.seq || (item.seq === held.seq && !same)) return PutError.Seq;
    }
    if (held === null) {
      if (this.#items.length >= this.#maxItems) this.#drop(this.#leastWorth(from));
      this.#places.set(key, this.#items.length);
      this.#keys.push(key);
      this.#items.push(copyItem(item));
      this.#putAt.push(now);
      this.#networks.push(from === null ? null : networkOf(from));
      return PutError.None;
    }
    const place = this.#places.get(key)!;
    this.#putAt[place] = now;
    if (!same) this.#items[place] = copyItem(item);
    return PutError.None;
  }

  tick(now: number): void {
    if (now < this.#sweepAt) return;
    this.#sweepAt = now + SWEEP_MS;
    for (let i = this.#items.length - 1; i >= 0; i--) if (now - this.#putAt[i]! >= EXPIRE_MS) this.#drop(i);
  }

  #leastWorth(from: Uint8Array | null): number {
    const network = from === null ? null : networkOf(from);
    let worst = -1;
    for (let i = 0; i < SAMPLE; i++) {
      const place = this.#cursor++ % this.#items.length;
      if (network !== null && this.#networks[place] === network) return place;
      if (worst < 0 || this.#putAt[place]! < this.#putAt[worst]!) worst = place;
    }
    return worst;
  }

  #drop(place: number): void {
    this.#places.delete(this.#keys[place]!);
    const last = this.#items.length - 1;
    if (place < last) {
      this.#keys[place] = this.#keys[last]!;
      this.#items[place] = this.#items[last]!;
      this.#putAt[place] = this.#putAt[last]!;
      this.#networks[place] = this.#networks[last]!;
      this.#places.set(this.#keys[place]!, place);
    }
    this.#keys.pop();
    this.#items.pop();
    this.#putAt.pop();
    this.#networks.pop();
  }
}

/** Where an item belongs. */
export function itemTarget(item: Pick<DhtItem, 'value' | 'publicKey' | 'salt'>): Uint8Array {
  return item.publicKey === null ? sha1(item.value) : mutableTarget(item.publicKey, item.salt);
}

export function mutableTarget(publicKey: Uint8Array, salt: Uint8Array): Uint8Array {
  return sha1(salt.length === 0 ? publicKey : concat([publicKey, salt]));
}

/** What is signed; an empty salt leaves no trace. */
export function signedBytes(salt: Uint8Array, seq: number, value: Uint8Array): Uint8Array {
  const head = salt.length === 0 ? NO_BYTES : concat([utf8Encode(`4:salt${salt.length}:`), salt]);
  return concat([head, utf8Encode(`3:seqi${seq}e1:v`), value]);
}

/** Whether the item is what its target promises: sizes, form, hash, signature. */
export function verifyItem(crypto: Crypto, item: DhtItem): boolean {
  if (checkShape(item) !== PutError.None || !equal(itemTarget(item), item.target)) return false;
  if (item.publicKey === null) return true;
  return crypto.ed25519Verify(item.publicKey, signedBytes(item.salt, item.seq, item.value), item.signature!);
}

/** Signs with a secret seed of 32 bytes. `value`: bencoded, in canonical form, at most 1,000 bytes. */
export function makeMutable(
  crypto: Crypto,
  seed: Uint8Array,
  salt: Uint8Array,
  seq: number,
  value: Uint8Array,
): DhtItem {
  const publicKey = crypto.ed25519PublicKey(seed);
  const signature = crypto.ed25519Sign(seed, signedBytes(salt, seq, value));
  const item: DhtItem = { value, publicKey, salt, seq, signature, target: mutableTarget(publicKey, salt) };
  assert(checkShape(item) === PutError.None, 'no item can be made of this');
  return item;
}

/** `value`: bencoded, in canonical form, at most 1,000 bytes. */
export function makeImmutable(value: Uint8Array): DhtItem {
  const item: DhtItem = { value, publicKey: null, salt: NO_BYTES, seq: 0, signature: null, target: sha1(value) };
  assert(checkShape(item) === PutError.None, 'no item can be made of this');
  return item;
}

/** Sizes and form, all that needs no arithmetic. */
export function checkShape(item: DhtItem): PutError {
  if (item.value.length > MAX_VALUE_BYTES) return PutError.ValueTooBig;
  if (item.salt.length > MAX_SALT_BYTES) return PutError.SaltTooBig;
  if (item.target.length !== 20 || !isCanonical(item.value)) return PutError.Protocol;
  if (item.publicKey === null) {
    const bare = item.salt.length === 0 && item.signature === null && item.seq === 0;
    return bare ? PutError.None : PutError.Protocol;
  }
  if (item.publicKey.length !== KEY_BYTES || item.signature?.length !== SIGNATURE_BYTES) return PutError.Protocol;
  return Number.isSafeInteger(item.seq) && item.seq >= 0 ? PutError.None : PutError.Protocol;
}

function isCanonical(value: Uint8Array): boolean {
  try {
    scan(value, { canonical: true });
    return true;
  } catch (error) {
    if (error instanceof BencodeError) return false;
    throw error;
  }
}

function copyItem(item: DhtItem): DhtItem {
  return {
    value: copyOf(item.value),
    publicKey: item.publicKey === null ? null : copyOf(item.publicKey),
    salt: copyOf(item.salt),
    seq: item.seq,
    signature: item.signature === null ? null : copyOf(item.signature),
    target: copyOf(item.target),
  };
}
