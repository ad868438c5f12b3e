import { describe, expect, it } from 'vitest';
import { fromHex, toHex, utf8Encode } from './bytes.ts';
import { Ed25519 } from './ed25519.ts';

/** RFC 8032, 7.1: seed, public key, message, signature. */
const VECTORS = [
  [
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    '72',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
  [
    'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    'af82',
    '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  ],
] as const;

const bytes = (hex: string): Uint8Array => fromHex(hex)!;

describe('ed25519', () => {
  it('gives the keys and signatures of RFC 8032', () => {
    const crypto = new Ed25519();
    for (const [seed, key, message, signature] of VECTORS) {
      expect(toHex(crypto.ed25519PublicKey(bytes(seed)))).toBe(key);
      expect(toHex(crypto.ed25519Sign(bytes(seed), bytes(message)))).toBe(signature);
      expect(crypto.ed25519Verify(bytes(key), bytes(message), bytes(signature))).toBe(true);
      expect(crypto.ed25519PublicKey(bytes(seed)).constructor).toBe(Uint8Array);
    }
  });

  it('refuses every changed bit, and lengths that are none, without throwing', () => {
    const crypto = new Ed25519();
    const [, key, message, signature] = VECTORS[2];
    const flipped = (hex: string, bit: number): Uint8Array => {
      const copy = bytes(hex);
      copy[bit >> 3]! ^= 1 << (bit & 7);
      return copy;
    };
    for (let bit = 0; bit < 512; bit += 3) {
      expect(crypto.ed25519Verify(bytes(key), bytes(message), flipped(signature, bit))).toBe(false);
    }
    for (let bit = 0; bit < 256; bit += 3) {
      expect(crypto.ed25519Verify(flipped(key, bit), bytes(message), bytes(signature))).toBe(false);
    }
    for (const length of [0, 1, 31, 33, 63, 65, 1000]) {
      expect(crypto.ed25519Verify(new Uint8Array(length), bytes(message), bytes(signature))).toBe(false);
      expect(crypto.ed25519Verify(bytes(key), bytes(message), new Uint8Array(length))).toBe(false);
    }
    expect(crypto.ed25519Verify(new Uint8Array(32).fill(255), bytes(message), bytes(signature))).toBe(false);
  });

  it('keeps verifying right while keys come and go', () => {
    const crypto = new Ed25519();
    const keys = Array.from({ length: 50 }, (_, i) => {
      const seed = new Uint8Array(32).fill(i);
      const message = utf8Encode(`message ${i}`);
      return { key: crypto.ed25519PublicKey(seed), message, signature: crypto.ed25519Sign(seed, message) };
    });
    for (let round = 0; round < 200; round++) {
      const { key, message, signature } = keys[(round * 7) % 50]!;
      expect(crypto.ed25519Verify(key, message, signature)).toBe(true);
      expect(crypto.ed25519Verify(keys[(round * 7 + 1) % 50]!.key, message, signature)).toBe(false);
    }
  });
});
