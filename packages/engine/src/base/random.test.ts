import { describe, expect, it } from 'vitest';
import { Rng } from './random.ts';

const seed = (a: number): Rng => new Rng(Uint32Array.of(a, 2, 3, 4));

describe('Rng', () => {
  it('is xoshiro128**: the first numbers of the state 1, 2, 3, 4', () => {
    const rng = seed(1);
    // worked by hand from the definition: rotl(s1 * 5, 7) * 9
    expect([rng.u32(), rng.u32()]).toEqual([11520, 0]);
    expect(rng.u32()).toBe(5927040);
  });

  it('depends on the seed alone', () => {
    const one = seed(7);
    const two = seed(7);
    const three = seed(8);
    const list = (rng: Rng): number[] => Array.from({ length: 50 }, () => rng.below(1000));
    const first = list(one);
    expect(list(two)).toEqual(first);
    expect(list(three)).not.toEqual(first);
  });

  it('spreads evenly', () => {
    const rng = seed(99);
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[rng.below(7)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    let sum = 0;
    for (let i = 0; i < 10_000; i++) sum += rng.float();
    expect(Math.abs(sum / 10_000 - 0.5)).toBeLessThan(0.02);
  });

  it('shuffles to a permutation and fills every byte', () => {
    const rng = seed(5);
    const list = Array.from({ length: 100 }, (_, i) => i);
    const shuffled = [...list];
    rng.shuffle(shuffled);
    expect(shuffled).not.toEqual(list);
    expect([...shuffled].sort((a, b) => a - b)).toEqual(list);
    for (const size of [1, 3, 5, 16]) {
      const seen = new Uint8Array(size);
      for (let i = 0; i < 40; i++) {
        const bytes = new Uint8Array(size);
        rng.fill(bytes);
        bytes.forEach((b, k) => {
          seen[k]! |= b;
        });
      }
      expect(seen.every((b) => b === 255)).toBe(true);
    }
  });

  it('survives a seed of zeros', () => {
    const rng = new Rng({ fill: (target) => target.fill(0) });
    expect(new Set(Array.from({ length: 20 }, () => rng.u32())).size).toBeGreaterThan(10);
  });
});
