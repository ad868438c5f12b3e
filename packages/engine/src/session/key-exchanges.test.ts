import { expect, test } from 'vitest';
import { KeyExchanges } from './key-exchanges.ts';

test('a crowd: 16 a turn, 256 a second and some at once, in order, none of those who left', () => {
  const queue = new KeyExchanges();
  const begun: { name: number; at: number }[] = [];
  const left = new Set<number>();
  let now = 5000;
  let name = 0;
  for (let turn = 0; turn < 1000; turn++, now += 5) {
    const before = begun.length;
    queue.run(now);
    for (let i = 0; i < 10; i++) {
      const one = { name: name++, exchangeKeys: () => begun.push({ name: one.name, at: now }) };
      if (queue.admit(one, now)) one.exchangeKeys();
      else if (one.name % 3 === 0) {
        queue.forget(one);
        left.add(one.name);
      }
    }
    expect(begun.length - before).toBeLessThanOrEqual(16);
  }
  expect(begun.length).toBeLessThanOrEqual(64 + 256 * 5);
  expect(begun.length).toBeGreaterThan(256 * 5);
  const names = begun.map((one) => one.name);
  expect(names).toEqual([...names].sort((x, y) => x - y));
  expect(left.size).toBeGreaterThan(1000);
  expect(names.some((one) => left.has(one))).toBe(false);
});

test('who waits is served when the next turn is due, and nobody waits in the quiet', () => {
  const queue = new KeyExchanges();
  const one = { exchangeKeys: () => served++ };
  let served = 0;
  expect(queue.nextAt()).toBe(Number.POSITIVE_INFINITY);
  for (let i = 0; i < 80; i++) if (queue.admit({ exchangeKeys: () => served++ }, 1000)) served++;
  expect([served, queue.nextAt()]).toEqual([16, 1000]);
  let now = 1000;
  while (queue.nextAt() < Number.POSITIVE_INFINITY) {
    now = Math.max(now, queue.nextAt());
    queue.run(now);
  }
  expect(served).toBe(80);
  expect(now).toBeLessThanOrEqual(1000 + 2 * 62.5);
  queue.run(now + 1000);
  expect(queue.admit(one, now + 1000)).toBe(true);
});
