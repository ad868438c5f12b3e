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
import { concat, equal, utf8Encode } from '../base/bytes.ts';
import { sha1 } from '../base/hash.ts';
import type { Crypto } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import { BencodeError, scan } from '../codec/bencode.ts';
import { HashTable } from './dht-hash-table.ts';
import { SAMPLE } from './dht-peers.ts';
import { networkOf } from './node-id.ts';

export const MAX_VALUE_BYTES = 1000;
export const MAX_SALT_BYTES = 64;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const EXPIRE_MS = 2 * 3600_000;
const SWEEP_MS = 60_000;
const NO_BYTES = new Uint8Array(0);
const KEY_AT = 20;
const SIGNATURE_AT = KEY_AT + KEY_BYTES;
const SALT_AT = SIGNATURE_AT + SIGNATURE_BYTES;
const VALUE_AT = SALT_AT + MAX_SALT_BYTES;
/** A few hundred targets are soon looked through, even if somebody chose all of them to fall in one bucket. */
const NO_SALT: Pick<Rng, 'u32'> = { u32: () => 0x9e3779b1 };

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
  readonly #targets: HashTable;
  /** Per slot, used again by those that come later: a flood of puts leaves no garbage. */
  readonly #boxes: Box[] = [];
  #sweepAt = Number.NEGATIVE_INFINITY;
  /** Where the next search for the least worth begins. */
  #cursor = 0;

  constructor(crypto: Crypto, maxItems: number) {
    this.#crypto = crypto;
    this.#targets = new HashTable(NO_SALT, maxItems);
  }

  get count(): number {
    return this.#targets.count;
  }

  /** `target`: 20 bytes. What is returned is borrowed until the next input. */
  get(now: number, target: Uint8Array): DhtItem | null {
    const slot = this.#find(now, target);
    return slot < 0 ? null : this.#boxes[slot]!.item();
  }

  /** `cas`: the `seq` the item here must have, or -1. `from`: the address it came from, or null. Keeps copies. */
  put(now: number, item: DhtItem, cas: number, from: Uint8Array | null = null): PutError {
    const shape = checkShape(item);
    if (shape !== PutError.None) return shape;
    const held = this.get(now, item.target);
    const same = held !== null && held.seq === item.seq && equal(held.value, item.value);
    if (!(same && equal(held.signature ?? NO_BYTES, item.signature ?? NO_BYTES)) && !verifyItem(this.#crypto, item)) {
      return PutError.Signature;
    }
    if (held !== null && held.publicKey !== null) {
      if (cas >= 0 && cas !== held.seq) return PutError.Cas;
      if (item.seq < held.seq || (item.seq === held.seq && !same)) return PutError.Seq;
    }
    const network = from === null ? null : networkOf(from);
    if (held === null && this.#targets.isFull) this.#drop(this.#leastWorth(network));
    const slot = held === null ? this.#targets.add(item.target) : this.#targets.find(item.target);
    if (slot === this.#boxes.length) this.#boxes.push(new Box());
    const box = this.#boxes[slot]!;
    box.putAt = now;
    if (held === null) box.network = network;
    if (!same) box.fill(item);
    return PutError.None;
  }

  tick(now: number): void {
    if (now < this.#sweepAt) return;
    this.#sweepAt = now + SWEEP_MS;
    for (let i = this.count - 1; i >= 0; i--) if (now - this.#boxes[i]!.putAt >= EXPIRE_MS) this.#drop(i);
  }

  #find(now: number, target: Uint8Array): number {
    const slot = this.#targets.find(target);
    if (slot < 0 || now - this.#boxes[slot]!.putAt < EXPIRE_MS) return slot;
    this.#drop(slot);
    return -1;
  }

  #leastWorth(network: number | string | null): number {
    let worst = -1;
    for (let i = 0; i < SAMPLE; i++) {
      const slot = this.#cursor++ % this.count;
      const box = this.#boxes[slot]!;
      if (network !== null && box.network === network) return slot;
      if (worst < 0 || box.putAt < this.#boxes[worst]!.putAt) worst = slot;
    }
    return worst;
  }

  #drop(slot: number): void {
    const last = this.count - 1;
    const box = this.#boxes[slot]!;
    this.#boxes[slot] = this.#boxes[last]!;
    this.#boxes[last] = box;
    this.#targets.remove(slot);
  }
}

/** Room for one item of any size. */
class Box {
  putAt = 0;
  /** Who brought it. */
  network: number | string | null = null;
  #seq = 0;
  #mutable = false;
  #valueLength = 0;
  #saltLength = 0;
  /** target | key | signature | salt | value */
  readonly #bytes: Uint8Array = new Uint8Array(VALUE_AT + MAX_VALUE_BYTES);

  fill(item: DhtItem): void {
    this.#seq = item.seq;
    this.#mutable = item.publicKey !== null;
    this.#valueLength = item.value.length;
    this.#saltLength = item.salt.length;
    this.#bytes.set(item.target, 0);
    if (item.publicKey !== null) this.#bytes.set(item.publicKey, KEY_AT);
    if (item.signature !== null) this.#bytes.set(item.signature, SIGNATURE_AT);
    this.#bytes.set(item.salt, SALT_AT);
    this.#bytes.set(item.value, VALUE_AT);
  }

  /** Views. */
  item(): DhtItem {
    const bytes = this.#bytes;
    return {
      value: bytes.subarray(VALUE_AT, VALUE_AT + this.#valueLength),
      publicKey: this.#mutable ? bytes.subarray(KEY_AT, SIGNATURE_AT) : null,
      salt: bytes.subarray(SALT_AT, SALT_AT + this.#saltLength),
      seq: this.#seq,
      signature: this.#mutable ? bytes.subarray(SIGNATURE_AT, SALT_AT) : null,
      target: bytes.subarray(0, KEY_AT),
    };
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
