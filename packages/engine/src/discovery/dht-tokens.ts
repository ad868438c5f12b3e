/**
 * The write tokens of the DHT (BEP 5): a node that wants to announce or put here shows that it receives what is sent to
 * its address. A token is a keyed hash of the address, so nothing is stored per asker.
 *
 * Invariant: the secret changes every 5 minutes and the one before still counts, so a token works for 5 to 10 minutes
 * and never longer; a secret that was not needed for longer is forgotten.
 */

import { assert } from '../base/assert.ts';
import { sha1 } from '../base/hash.ts';

export const TOKEN_BYTES = 8;
const SECRET_BYTES = 32;
const ROTATE_MS = 5 * 60_000;

export class DhtTokens {
  readonly #random: { fill(target: Uint8Array): void };
  /** The secret, followed by room for an address. */
  #current: Uint8Array;
  #previous: Uint8Array;
  #rotateAt = Number.NEGATIVE_INFINITY;

  /** `random`: the Random port, or whatever cannot be guessed from what we send. */
  constructor(random: { fill(target: Uint8Array): void }) {
    this.#random = random;
    this.#current = this.#secret();
    this.#previous = this.#current;
  }

  /** TOKEN_BYTES bytes for an address of 4 or 16 bytes. */
  issue(now: number, ip: Uint8Array): Uint8Array {
    this.#rotate(now);
    return token(this.#current, ip);
  }

  valid(now: number, ip: Uint8Array, bytes: Uint8Array): boolean {
    this.#rotate(now);
    return same(token(this.#current, ip), bytes) || same(token(this.#previous, ip), bytes);
  }

  #rotate(now: number): void {
    if (now < this.#rotateAt) return;
    const idle = now >= this.#rotateAt + ROTATE_MS;
    this.#previous = idle ? this.#secret() : this.#current;
    this.#current = this.#secret();
    this.#rotateAt = idle ? now + ROTATE_MS : this.#rotateAt + ROTATE_MS;
  }

  #secret(): Uint8Array {
    const bytes = new Uint8Array(SECRET_BYTES + 16);
    this.#random.fill(bytes.subarray(0, SECRET_BYTES));
    return bytes;
  }
}

/** An address of 4 bytes and one of 16 never meet: the length of what is hashed tells them apart. */
function token(secret: Uint8Array, ip: Uint8Array): Uint8Array {
  assert(ip.length === 4 || ip.length === 16, 'an address has 4 or 16 bytes');
  secret.set(ip, SECRET_BYTES);
  return sha1(secret.subarray(0, SECRET_BYTES + ip.length)).slice(0, TOKEN_BYTES);
}

/** Takes as long whatever differs. */
function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let differing = 0;
  for (let i = 0; i < a.length; i++) differing |= a[i]! ^ b[i]!;
  return differing === 0;
}
