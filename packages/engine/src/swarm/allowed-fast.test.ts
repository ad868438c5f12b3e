import { expect, test } from 'vitest';
import { allowedFastSet } from './allowed-fast.ts';

const hash = new Uint8Array(20).fill(0xaa);

test('the vectors of BEP 6', () => {
  const ip = Uint8Array.of(80, 4, 4, 200);
  expect(allowedFastSet(ip, hash, 1313, 7)).toEqual([1059, 431, 808, 1217, 287, 376, 1188]);
  expect(allowedFastSet(ip, hash, 1313, 9)).toEqual([1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
});

test('neighbours share a set', () => {
  const set = allowedFastSet(Uint8Array.of(80, 4, 4, 1), hash, 1313, 10);
  expect(allowedFastSet(Uint8Array.of(80, 4, 4, 255), hash, 1313, 10)).toEqual(set);
  expect(allowedFastSet(Uint8Array.of(80, 4, 5, 1), hash, 1313, 10)).not.toEqual(set);
  const v6 = Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
  expect(allowedFastSet(v6, hash, 1313, 10)).toEqual(allowedFastSet(v6.slice().fill(9, 6), hash, 1313, 10));
});

test('ends with all pieces where there are few', () => {
  expect(allowedFastSet(Uint8Array.of(1, 2, 3, 4), hash, 3, 10).sort()).toEqual([0, 1, 2]);
});
