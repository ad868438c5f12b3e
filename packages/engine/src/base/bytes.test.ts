import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compare,
  copyOf,
  equal,
  fromBase32,
  fromHex,
  latin1,
  plainView,
  readU16,
  readU32,
  toHex,
  utf8Decode,
  utf8DecodeStrict,
  utf8Encode,
  writeU16,
  writeU32,
} from './bytes.ts';

describe('bytes', () => {
  it('reads the vectors of RFC 4648, in both cases', () => {
    for (const [text, plain] of [
      ['MY', 'f'],
      ['MZXQ====', 'fo'],
      ['mzxw6', 'foo'],
      ['MZXW6YQ', 'foob'],
      ['MZXW6YTB', 'fooba'],
      ['MZXW6YTBOI======', 'foobar'],
    ] as const) {
      expect(latin1(fromBase32(text)!)).toBe(plain);
    }
    expect(toHex(fromHex('666F6f626172')!)).toBe('666f6f626172');
  });

  it('refuses what is no hex and no base32', () => {
    for (const text of ['0', 'zz', '0g', ' 00', 'é0']) expect(fromHex(text)).toBeNull();
    for (const text of ['M', 'MZX', '0MZX', 'M1', 'MZXW6YT!', 'MZ=Q']) expect(fromBase32(text)).toBeNull();
    // 'MZ' leaves spare bits that are not zero
    expect(fromBase32('MZ')).toBeNull();
  });

  it('keeps every value through hex, text and numbers', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(0xffffffff), (bytes, n) => {
        expect(fromHex(toHex(bytes))).toEqual(bytes);
        expect([...latin1(bytes)].map((c) => c.charCodeAt(0))).toEqual([...bytes]);
        const room = new Uint8Array(8);
        writeU32(room, 1, n);
        writeU16(room, 5, n & 0xffff);
        expect([readU32(room, 1), readU16(room, 5)]).toEqual([n, n & 0xffff]);
        expect(utf8DecodeStrict(bytes) === null).toBe(!equal(utf8Encode(utf8Decode(bytes)), bytes));
      }),
    );
  });

  it('orders by bytes, a prefix first', () => {
    const a = Uint8Array.of(1, 2);
    expect(compare(a, Uint8Array.of(1, 2, 0))).toBeLessThan(0);
    expect(compare(Uint8Array.of(200), Uint8Array.of(100, 1))).toBeGreaterThan(0);
    expect(compare(a, Uint8Array.of(1, 2))).toBe(0);
    expect(equal(a, Uint8Array.of(1, 3))).toBe(false);
  });

  it('makes real copies and bare views of node Buffers', () => {
    const buffer = Buffer.from([1, 2, 3]);
    const copy = copyOf(buffer);
    const view = plainView(buffer);
    buffer[0] = 9;
    expect([copy[0], view[0]]).toEqual([1, 9]);
    expect([copy.constructor, view.constructor]).toEqual([Uint8Array, Uint8Array]);
  });
});
