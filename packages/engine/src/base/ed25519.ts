/**
 * Ed25519 (RFC 8032) by the platform, for the two implementations of the Crypto port alone: everything else goes through
 * the port. Raw keys are wrapped in their DER envelopes (RFC 8410), the only door node:crypto has for them.
 *
 * Invariant: nothing throws on what came from outside; a bad key verifies nothing. Making a key object costs as much as
 * a third of a verification, so those of the keys used last are kept.
 */

import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { assert } from './assert.ts';
import { concat, latin1 } from './bytes.ts';
import type { Crypto } from './ports.ts';

const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const KEPT_KEYS = 16;
/** PrivateKeyInfo and SubjectPublicKeyInfo of id-Ed25519 (1.3.101.112), up to the key itself. */
const PRIVATE_HEAD = Uint8Array.of(0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32);
const PUBLIC_HEAD = Uint8Array.of(0x30, 42, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 33, 0);

export class Ed25519 implements Pick<Crypto, 'ed25519PublicKey' | 'ed25519Sign' | 'ed25519Verify'> {
  /** The one used longest ago first. */
  readonly #publicKeys = new Map<string, KeyObject>();

  ed25519PublicKey(seed: Uint8Array): Uint8Array {
    const der = createPublicKey(secretKey(seed)).export({ format: 'der', type: 'spki' });
    return new Uint8Array(der.subarray(PUBLIC_HEAD.length));
  }

  ed25519Sign(seed: Uint8Array, message: Uint8Array): Uint8Array {
    return new Uint8Array(sign(null, message, secretKey(seed)));
  }

  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
    if (publicKey.length !== KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
    try {
      return verify(null, message, this.#publicKey(publicKey), signature);
    } catch {
      // a key that OpenSSL will not even look at
      return false;
    }
  }

  #publicKey(bytes: Uint8Array): KeyObject {
    const name = latin1(bytes);
    let key = this.#publicKeys.get(name);
    if (key === undefined) {
      key = createPublicKey({ key: der(PUBLIC_HEAD, bytes), format: 'der', type: 'spki' });
      for (const oldest of this.#publicKeys.keys()) {
        if (this.#publicKeys.size < KEPT_KEYS) break;
        this.#publicKeys.delete(oldest);
      }
    } else {
      this.#publicKeys.delete(name);
    }
    this.#publicKeys.set(name, key);
    return key;
  }
}

/** Never kept: secrets live as short as they can. */
function secretKey(seed: Uint8Array): KeyObject {
  assert(seed.length === KEY_BYTES, 'a seed has 32 bytes');
  return createPrivateKey({ key: der(PRIVATE_HEAD, seed), format: 'der', type: 'pkcs8' });
}

/** Typed away: node takes any bytes here, its types only its own kind. */
function der(head: Uint8Array, key: Uint8Array): never {
  return concat([head, key]) as never;
}
