/**
 * Diffie-Hellman in the 768-bit group of Message Stream Encryption, g = 2, by the platform, for the implementations of the
 * Crypto port. The prime is not one of OpenSSL's own; checking it costs 15 ms, so one object serves all.
 */

import { createDiffieHellman, type DiffieHellman } from 'node:crypto';
import { fromHex } from './bytes.ts';

const KEY_BYTES = 96;
const PRIME: Uint8Array = fromHex(
  'ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74' +
    '020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437' +
    '4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563',
)!;

/** 2^exponent mod p, 96 bytes. */
export function msePublic(exponent: Uint8Array): Uint8Array {
  const dh = group();
  dh.setPrivateKey(exponent);
  return padded(dh.generateKeys());
}

/** remote^exponent mod p, 96 bytes; null for a key that makes the secret known to all: 0, 1, p - 1 and beyond. */
export function mseShared(exponent: Uint8Array, remote: Uint8Array): Uint8Array | null {
  if (isDegenerate(remote)) return null;
  const dh = group();
  dh.setPrivateKey(exponent);
  try {
    return padded(dh.computeSecret(remote));
  } catch {
    return null;
  }
}

let cachedGroup: DiffieHellman | null = null;

function group(): DiffieHellman {
  cachedGroup ??= createDiffieHellman(PRIME, 2);
  return cachedGroup;
}

function isDegenerate(key: Uint8Array): boolean {
  let first = 0;
  while (first < key.length - 1 && key[first] === 0) first++;
  if (first === key.length - 1 && key[first]! <= 1) return true;
  for (let i = 0; i < KEY_BYTES; i++) {
    const least = i === KEY_BYTES - 1 ? PRIME[i]! - 1 : PRIME[i]!;
    if (key[i]! !== least) return key[i]! > least;
  }
  return true;
}

function padded(number: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(KEY_BYTES);
  bytes.set(number, KEY_BYTES - number.length);
  return bytes;
}
