import { describe, expect, it } from 'vitest';
import { toHex, utf8Encode } from './bytes.ts';
import { crc32c, sha1, sha256 } from './hash.ts';

describe('hashes', () => {
  it('match the vectors of FIPS 180 and RFC 3720', () => {
    expect(toHex(sha1(utf8Encode('abc')))).toBe('a9993e364706816aba3e25717850c26c9cd0d89d');
    expect(toHex(sha256(utf8Encode('abc')))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    expect(crc32c(utf8Encode('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
  });

  it('give bare arrays', () => {
    expect(sha1(new Uint8Array(0)).constructor).toBe(Uint8Array);
  });
});
