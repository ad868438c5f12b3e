import { describe, expect, it } from 'vitest';
import { fromHex, toHex } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import { Rng } from '../base/random.ts';
import { compareDistance, idMatches, isSecure, makeNodeId, networkOf, randomIdNear, sharedBits } from './node-id.ts';

const rng = new Rng(Uint32Array.of(1, 2, 3, 4));

/** BEP 42: address, last byte, first 21 bits, example. */
const VECTORS: readonly [string, number, string][] = [
  ['124.31.75.21', 1, '5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401'],
  ['21.75.31.124', 86, '5a3ce9c14e7a08645677bbd1cfe7d8f956d53256'],
  ['65.23.51.170', 22, 'a5d43220bc8f112a3d426c84764f8c2a1150e616'],
  ['84.124.73.14', 65, '1b0321dd1bb1fe518101ceef99462b947a01ff41'],
  ['43.213.53.83', 90, 'e56f6cbf5b7c4be0237986d5243b87aa6d51305a'],
];

describe('ids bound to an address (BEP 42)', () => {
  it('match the vectors', () => {
    for (const [text, r, hex] of VECTORS) {
      const ip = parseIp(text)!;
      const id = makeNodeId(rng, ip, r);
      expect(toHex(id).slice(0, 5)).toBe(hex.slice(0, 5));
      expect((id[2]! ^ fromHex(hex)![2]!) & 0xf8).toBe(0);
      expect(id[19]).toBe(r);
      const example = fromHex(hex)!;
      expect(idMatches(example, ip)).toBe(true);
      // the 21 bits count, and of the last byte the three that were hashed
      for (const bit of [0, 7, 8, 15, 16, 20, 157, 158, 159]) expect(idMatches(flipped(example, bit), ip)).toBe(false);
      for (const bit of [21, 22, 23, 24, 100, 152, 156]) expect(idMatches(flipped(example, bit), ip)).toBe(true);
      for (const [other] of VECTORS) if (other !== text) expect(idMatches(example, parseIp(other)!)).toBe(false);
    }
  });

  it('are made for IPv6 from its upper half', () => {
    const id = makeNodeId(rng, parseIp('2001:db8:1:2::3')!);
    expect(idMatches(id, parseIp('2001:db8:1:2:ffff::1')!)).toBe(true);
    expect(idMatches(id, parseIp('2001:db8:1:3::3')!)).toBe(false);
  });

  it('differ where only bits that do not count differ', () => {
    // the mask takes 2 bits of the first byte
    const id = makeNodeId(rng, parseIp('1.2.3.4')!);
    expect(idMatches(id, parseIp('5.2.3.4')!)).toBe(true);
    expect(idMatches(id, parseIp('1.2.3.5')!)).toBe(false);
  });

  it('are not asked of local addresses', () => {
    const id = new Uint8Array(20);
    for (const ip of [
      '10.1.2.3',
      '172.16.0.9',
      '192.168.4.5',
      '169.254.1.1',
      '127.0.0.1',
      '::1',
      'fe80::1',
      'fd00::1',
    ]) {
      expect(isSecure(id, parseIp(ip)!)).toBe(true);
    }
    expect(isSecure(id, parseIp('9.9.9.9')!)).toBe(false);
  });
});

describe('distances', () => {
  it('share as many bits as asked for', () => {
    const id = makeNodeId(rng, null);
    for (let bits = 0; bits <= 160; bits++) expect(sharedBits(id, randomIdNear(rng, id, bits))).toBe(bits);
  });

  it('are ordered as the XOR of BEP 5', () => {
    for (let i = 0; i < 200; i++) {
      const [a, b, t] = [makeNodeId(rng, null), makeNodeId(rng, null), makeNodeId(rng, null)];
      const xor = (x: Uint8Array): bigint => BigInt(`0x${toHex(x.map((byte, k) => byte ^ t[k]!))}`);
      expect(compareDistance(a, b, t) < 0).toBe(xor(a) < xor(b));
      expect(compareDistance(a, a, t)).toBe(0);
    }
  });

  it('count networks by /24 and /64', () => {
    const same = (a: string, b: string): boolean => networkOf(parseIp(a)!) === networkOf(parseIp(b)!);
    expect([same('1.2.3.4', '1.2.3.250'), same('1.2.3.4', '1.2.4.4')]).toEqual([true, false]);
    expect([same('2001:db8::1', '2001:db8::ffff:1'), same('2001:db8::1', '2001:db8:0:1::1')]).toEqual([true, false]);
  });
});

function flipped(id: Uint8Array, bit: number): Uint8Array {
  const other = id.slice();
  other[bit >> 3]! ^= 0x80 >> (bit & 7);
  return other;
}
