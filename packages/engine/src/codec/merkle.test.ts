import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, equal, toHex } from '../base/bytes.ts';
import { sha256 } from '../base/hash.ts';
import { merkleLayer, merkleProof, merkleRoot, nextPowerOfTwo, padHash, verifyProof } from './merkle.ts';

/** The definition of BEP 52, plainly: hash pairs until one is left. */
function plainRoot(leaves: Uint8Array[], width: number): Uint8Array {
  let layer = [...leaves];
  while (layer.length < width) layer.push(new Uint8Array(32));
  while (layer.length > 1) {
    const above: Uint8Array[] = [];
    for (let i = 0; i < layer.length; i += 2) above.push(sha256(concat([layer[i]!, layer[i + 1]!])));
    layer = above;
  }
  return layer[0]!;
}

const anyLeaves = fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { minLength: 1, maxLength: 19 });

describe('Merkle trees (BEP 52)', () => {
  it('pad with zeros, not with hashes of zeros', () => {
    expect(padHash(0)).toEqual(new Uint8Array(32));
    expect(toHex(padHash(1))).toBe('f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b');
    expect(padHash(3)).toEqual(plainRoot([], 8));
  });

  it('have the root of the definition, from any layer', () => {
    fc.assert(
      fc.property(anyLeaves, fc.nat(2), fc.nat(3), (leaves, more, levels) => {
        const width = nextPowerOfTwo(leaves.length) * 2 ** more;
        const flat = concat(leaves);
        const root = plainRoot(leaves, width);
        expect(merkleRoot(flat, width)).toEqual(root);
        if (2 ** levels > width) return;
        const layer = merkleLayer(flat, levels);
        expect(layer.length / 32).toBe(Math.ceil(leaves.length / 2 ** levels));
        expect(merkleRoot(layer, width / 2 ** levels, padHash(levels))).toEqual(root);
      }),
    );
  });

  it('prove each hash and nothing else', () => {
    fc.assert(
      fc.property(anyLeaves, fc.nat(), (leaves, pick) => {
        const width = nextPowerOfTwo(leaves.length);
        const flat = concat(leaves);
        const root = merkleRoot(flat, width);
        const index = pick % width;
        const hash = leaves[index] ?? padHash(0);
        const proof = merkleProof(flat, index, width);
        expect(verifyProof(hash, index, proof, root)).toBe(true);
        expect(verifyProof(hash, index + width, proof, root)).toBe(false);
        if (proof.length === 0) return;
        const changed = proof.slice();
        changed[pick % changed.length]! ^= 1;
        expect(verifyProof(hash, index, changed, root)).toBe(false);
        const pair = index ^ 1;
        expect(verifyProof(hash, pair, proof, root)).toBe(equal(hash, leaves[pair] ?? padHash(0)));
        expect(verifyProof(hash, index, proof.subarray(1), root)).toBe(false);
      }),
    );
  });

  it('of no leaf at all is the padding', () => {
    expect(merkleRoot(new Uint8Array(0), 4)).toEqual(padHash(2));
  });
});
