/**
 * Merkle trees of BEP 52: SHA-256 over pairs, a power of two of leaves, missing leaves are 32 zero bytes. All hashes are
 * joined in flat arrays of 32 bytes each.
 */

import { assert } from '../base/assert.ts';
import { copyOf, equal } from '../base/bytes.ts';
import { sha256 } from '../base/hash.ts';

export const MERKLE_HASH_BYTES = 32;
/** Bytes under one leaf. */
export const LEAF_BYTES = 16384;

/**
 * Root over `leaves` (joined hashes), filled up to `leafCount` (a power of two) with `pad`, by default the zeros that
 * stand for leaves past the end of a file. For layers above the leaves pass `padHash(layer)`.
 */
export function merkleRoot(leaves: Uint8Array, leafCount: number, pad: Uint8Array = padHash(0)): Uint8Array {
  assert(leaves.length % MERKLE_HASH_BYTES === 0 && isPowerOfTwo(leafCount), 'leaves of a tree');
  let count = leaves.length / MERKLE_HASH_BYTES;
  assert(count <= leafCount, 'more leaves than the tree holds');
  if (count === 0) return padAbove(pad, leafCount);
  let layer: Uint8Array = copyOf(leaves);
  let padding = pad;
  for (let width = leafCount; width > 1; width /= 2) {
    layer = parents(layer, count, padding);
    count = (count + 1) >>> 1;
    padding = padHashAbove(padding);
  }
  return layer.slice(0, MERKLE_HASH_BYTES);
}

/** The layer `levels` above the given one, of ceil(count / 2^levels) hashes: leaves to piece layer, for example. */
export function merkleLayer(hashes: Uint8Array, levels: number, pad: Uint8Array = padHash(0)): Uint8Array {
  let layer: Uint8Array = hashes;
  let padding = pad;
  for (let i = 0; i < levels; i++) {
    layer = parents(layer, layer.length / MERKLE_HASH_BYTES, padding);
    padding = padHashAbove(padding);
  }
  return layer;
}

/** Root of a subtree of 2^layer leaves that all lie past the end. */
export function padHash(layer: number): Uint8Array {
  let made = padHashes[layer];
  for (let i = padHashes.length; made === undefined; i++) {
    padHashes[i] = padHashAbove(padHashes[i - 1]!);
    made = padHashes[layer];
  }
  return made;
}

/**
 * The siblings from hash `index` of a layer up to the root, nearest first: joined hashes, one for each of the
 * log2(width) steps. `hashes` is the known part of the layer, the rest up to `width` is `pad`.
 */
export function merkleProof(
  hashes: Uint8Array,
  index: number,
  width: number,
  pad: Uint8Array = padHash(0),
): Uint8Array {
  assert(isPowerOfTwo(width) && index >= 0 && index < width, 'index in a layer');
  const steps = Math.log2(width);
  const proof = new Uint8Array(steps * MERKLE_HASH_BYTES);
  let layer: Uint8Array = hashes;
  let padding = pad;
  for (let step = 0; step < steps; step++) {
    const sibling = ((index >>> step) ^ 1) * MERKLE_HASH_BYTES;
    const hash = sibling < layer.length ? layer.subarray(sibling, sibling + MERKLE_HASH_BYTES) : padding;
    proof.set(hash, step * MERKLE_HASH_BYTES);
    layer = parents(layer, layer.length / MERKLE_HASH_BYTES, padding);
    padding = padHashAbove(padding);
  }
  return proof;
}

/** Whether `hash`, being number `index` of its layer, leads to `root` by the siblings of `proof`. */
export function verifyProof(hash: Uint8Array, index: number, proof: Uint8Array, root: Uint8Array): boolean {
  if (proof.length % MERKLE_HASH_BYTES !== 0) return false;
  const pair = new Uint8Array(2 * MERKLE_HASH_BYTES);
  let own = hash;
  let at = index;
  for (let i = 0; i < proof.length; i += MERKLE_HASH_BYTES) {
    const sibling = proof.subarray(i, i + MERKLE_HASH_BYTES);
    pair.set(own, at % 2 === 0 ? 0 : MERKLE_HASH_BYTES);
    pair.set(sibling, at % 2 === 0 ? MERKLE_HASH_BYTES : 0);
    own = sha256(pair);
    at = Math.floor(at / 2);
  }
  return at === 0 && equal(own, root);
}

/** The smallest power of two that is at least n (and at least 1). */
export function nextPowerOfTwo(n: number): number {
  let p = 1;
  while (p < n) p *= 2;
  return p;
}

export function isPowerOfTwo(n: number): boolean {
  return n >= 1 && Number.isInteger(Math.log2(n));
}

const padHashes: Uint8Array[] = [new Uint8Array(MERKLE_HASH_BYTES)];

function padHashAbove(below: Uint8Array): Uint8Array {
  const place = padHashes.indexOf(below);
  if (place >= 0 && place + 1 < padHashes.length) return padHashes[place + 1]!;
  const pair = new Uint8Array(2 * MERKLE_HASH_BYTES);
  pair.set(below, 0);
  pair.set(below, MERKLE_HASH_BYTES);
  const made = sha256(pair);
  if (place >= 0) padHashes[place + 1] = made;
  return made;
}

function padAbove(pad: Uint8Array, width: number): Uint8Array {
  let hash = pad;
  for (let w = width; w > 1; w /= 2) hash = padHashAbove(hash);
  return hash;
}

/** One layer up; an odd last hash is paired with `pad`. */
function parents(layer: Uint8Array, count: number, pad: Uint8Array): Uint8Array {
  const above = new Uint8Array(((count + 1) >>> 1) * MERKLE_HASH_BYTES);
  const pairBytes = 2 * MERKLE_HASH_BYTES;
  for (let i = 0; 2 * i < count; i++) {
    let pair = layer.subarray(i * pairBytes, (i + 1) * pairBytes);
    if (2 * i + 1 === count) {
      pair = new Uint8Array(pairBytes);
      pair.set(layer.subarray(i * pairBytes, i * pairBytes + MERKLE_HASH_BYTES));
      pair.set(pad, MERKLE_HASH_BYTES);
    }
    above.set(sha256(pair), i * MERKLE_HASH_BYTES);
  }
  return above;
}
