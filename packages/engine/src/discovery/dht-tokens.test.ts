import { describe, expect, it } from 'vitest';
import { toHex } from '../base/bytes.ts';
import { Rng } from '../base/random.ts';
import { DhtTokens } from './dht-tokens.ts';

const MINUTE = 60_000;
const ip = Uint8Array.of(203, 0, 113, 7);
const made = (seed = 1): DhtTokens => new DhtTokens(new Rng(Uint32Array.of(seed, 2, 3, 4)));

describe('write tokens', () => {
  it('are good for the address they were given to alone', () => {
    const tokens = made();
    const token = tokens.issue(0, ip);
    expect(token.length).toBeGreaterThanOrEqual(4);
    expect(tokens.valid(0, ip, token)).toBe(true);
    for (let i = 0; i < 32; i++) {
      const other = ip.slice();
      other[i >> 3]! ^= 1 << (i & 7);
      expect(tokens.valid(0, other, token)).toBe(false);
    }
    const mapped = new Uint8Array(16);
    mapped.set(ip);
    expect(tokens.valid(0, mapped, token)).toBe(false);
    expect(tokens.valid(0, mapped, tokens.issue(0, mapped))).toBe(true);
  });

  it('live at least 5 minutes and at most 10, whenever they were given', () => {
    for (const start of [0, 1, 123_456, 299_999, 7_000_000]) {
      for (let at = start; at < start + 11 * MINUTE; at += 47_001) {
        const tokens = made();
        tokens.issue(start, ip);
        const token = tokens.issue(at, ip);
        expect(tokens.valid(at + 5 * MINUTE - 1, ip, token)).toBe(true);
        expect(tokens.valid(at + 10 * MINUTE, ip, token)).toBe(false);
      }
    }
  });

  it('do not come back to life after a long silence', () => {
    const tokens = made();
    const token = tokens.issue(0, ip);
    expect(tokens.valid(24 * 60 * MINUTE, ip, token)).toBe(false);
    expect(tokens.valid(24 * 60 * MINUTE, ip, tokens.issue(24 * 60 * MINUTE, ip))).toBe(true);
  });

  it('cannot be had by cutting, by adding, or from another node', () => {
    const tokens = made();
    const token = tokens.issue(0, ip);
    for (const bad of [new Uint8Array(0), token.subarray(0, 4), Uint8Array.of(...token, 0), new Uint8Array(8)]) {
      expect(tokens.valid(0, ip, bad)).toBe(false);
    }
    expect(toHex(made(9).issue(0, ip))).not.toBe(toHex(token));
  });
});
