import { describe, expect, it } from 'vitest';
import { toHex } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import { BloomFilter } from './dht-bloom.ts';

/** BEP 33: 192.0.2.0 - 192.0.2.255 and 2001:db8:: - 2001:db8::3e7. */
const VECTOR = `
  F6C3F5EA A07FFD91 BDE89F77 7F26FB2B FF37BDB8 FB2BBAA2 FD3DDDE7 BACFFF75 EE7CCBAE FE5EEDB1 FBFAFF67 F6ABFF5E 43DDBCA3
  FD9B9FFD F4FFD3E9 DFF12D1B DF59DB53 DBE9FA5B 7FF3B8FD FCDE1AFB 8BEDD7BE 2F3EE71E BBBFE93B CDEEFE14 8246C2BC 5DBFF7E7
  EFDCF24F D8DC7ADF FD8FFFDF DDFFF7A4 BBEEDF5C B95CE81F C7FCFF1F F4FFFFDF E5F7FDCB B7FD79B3 FA1FC77B FE07FFF9 05B7B7FF
  C7FEFEFF E0B8370B B0CD3F5B 7F2BD93F EB4386CF DD6F7FD5 BFAF2E9E BFFFFEEC D67ADBF7 C67F17EF D5D75EBA 6FFEBA7F FF47A91E
  B1BFBB53 E8ABFB57 62ABE8FF 237279BF EFBFEEF5 FFC5FEBF DFE5ADFF ADFEE1FB 737FFFFB FD9F6AEF FEEE76B6 FD8F72EF`
  .replace(/\s/g, '')
  .toLowerCase();

function part(v4From: number, v4To: number, v6From: number, v6To: number): BloomFilter {
  const filter = new BloomFilter();
  for (let i = v4From; i < v4To; i++) filter.add(Uint8Array.of(192, 0, 2, i));
  for (let i = v6From; i < v6To; i++) filter.add(parseIp(`2001:db8::${i.toString(16)}`)!);
  return filter;
}

describe('the filters of BEP 33', () => {
  it('are bit for bit those of its vector, and so is the estimate', () => {
    const filter = part(0, 256, 0, 1000);
    expect(toHex(filter.bytes)).toBe(VECTOR);
    expect(BloomFilter.estimate(filter.bytes)).toBeCloseTo(1224.9308, 3);
    expect(filter.has(Uint8Array.of(192, 0, 2, 77))).toBe(true);
  });

  it('merge to the same filter, from whatever parts', () => {
    const one = part(0, 200, 0, 10);
    one.merge(part(100, 256, 0, 500).bytes);
    one.merge(part(0, 0, 400, 1000).bytes);
    expect(toHex(one.bytes)).toBe(VECTOR);
  });

  it('count nothing in an empty one, and stay finite when full', () => {
    expect(BloomFilter.estimate(new BloomFilter().bytes)).toBe(0);
    expect(BloomFilter.estimate(part(7, 8, 0, 0).bytes)).toBeCloseTo(1, 2);
    const full = BloomFilter.estimate(new Uint8Array(256).fill(255));
    expect(full).toBeGreaterThan(6000);
    expect(full).toBeLessThan(10_000);
    expect(new BloomFilter().has(Uint8Array.of(1, 2, 3, 4))).toBe(false);
  });
});
