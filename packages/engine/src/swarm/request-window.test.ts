import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RequestWindow } from './request-window.ts';

test('agrees with a plain list over any sequence of operations', () => {
  const op = fc.tuple(fc.nat(5), fc.nat(3), fc.nat(3));
  fc.assert(
    fc.property(fc.array(op, { maxLength: 200, size: 'max' }), (ops) => {
      const window = new RequestWindow();
      let list: [number, number, number][] = [];
      let now = 0;
      for (const [kind, piece, block] of ops) {
        now++;
        const at = list.findIndex(([p, b]) => p === piece && b === block);
        expect(window.has(piece, block)).toBe(at >= 0);
        if (kind <= 2 && at < 0) {
          window.add(piece, block, now);
          list.push([piece, block, now]);
        } else if (kind <= 4) {
          expect(window.remove(piece, block)).toBe(at >= 0);
          if (at >= 0) list.splice(at, 1);
        } else if (block === 0) {
          window.clear();
          list = [];
        }
        expect(window.count).toBe(list.length);
        expect(window.oldestMs()).toBe(list[0]?.[2] ?? Number.POSITIVE_INFINITY);
        if (list.length > 2) {
          // leaves the walk in the middle, for what comes next to upset
          const middle = list.length >> 1;
          expect([window.pieceAt(middle), window.blockAt(middle)]).toEqual(list[middle]!.slice(0, 2));
          if (kind === 2) continue;
        }
        const order = piece % 2 === 0 ? list.map((_, i) => i) : list.map((_, i) => list.length - 1 - i);
        for (const i of order) expect([window.pieceAt(i), window.blockAt(i), window.sentAt(i)]).toEqual(list[i]);
      }
    }),
    { numRuns: 40 },
  );
});

test('answers out of order cost no more than in order', () => {
  const window = new RequestWindow();
  const n = 100_003;
  for (let i = 0; i < n; i++) window.add(i >> 6, i & 63, i);
  const started = process.hrtime.bigint();
  let removed = 0;
  for (let i = 0; i < n; i++) {
    const j = (i * 12_377) % n;
    if (window.remove(j >> 6, j & 63)) removed++;
  }
  const tookMs = Number(process.hrtime.bigint() - started) / 1e6;
  expect(removed).toBe(n);
  expect(window.count).toBe(0);
  // some 20 ms; by linear search 5 thousand million steps
  expect(tookMs).toBeLessThan(2500);
});

/** A link of `rateBps` and `rttMs`, kept full by the window, in steps of 1 ms. Returns the rate of the last second. */
function run(window: RequestWindow, rateBps: number, rttMs: number, ms: number): number {
  let now = 0;
  let next = 0;
  let credit = 0;
  let lastSecond = 0;
  const due: number[] = [];
  let head = 0;
  for (; now < ms; now++) {
    for (; window.count < window.target; next++) {
      window.add(next, 0, now);
      due.push(now + rttMs);
    }
    credit = Math.min(credit + rateBps / 1000, rateBps / 1000 + 16384);
    while (head < due.length && due[head]! <= now && credit >= 16384) {
      credit -= 16384;
      window.remove(head++, 0);
      window.received(now, 16384);
      if (now >= ms - 1000) lastSecond += 16384;
    }
  }
  return lastSecond;
}

test.each([
  [20e6, 100, 6000],
  [100e6, 200, 6000],
  [1500e6, 5, 3000],
])('fills a link of %d B/s at %d ms', (rate, rtt, ms) => {
  const window = new RequestWindow();
  window.setPeerLimit(2000);
  expect(run(window, rate, rtt, ms)).toBeGreaterThan(rate * 0.93);
});

test('opens fast: 1,000 requests within 10 round trips', () => {
  const window = new RequestWindow();
  window.setPeerLimit(2000);
  run(window, 1e9, 90, 900);
  expect(window.target).toBeGreaterThan(1000);
});

test('a slow peer gets a short queue, never below 2', () => {
  const window = new RequestWindow();
  run(window, 50_000, 30, 20_000);
  expect(window.target).toBeGreaterThanOrEqual(2);
  expect(window.target).toBeLessThanOrEqual(12);
});

test.each([
  [0, 1],
  [1, 1],
  [64, 64],
  [1e8, 2000],
  [-5, 1],
])('keeps to a reqq of %d', (reqq, most) => {
  const window = new RequestWindow();
  window.setPeerLimit(reqq);
  run(window, 1000e6, 5, 2500);
  expect(window.target).toBeLessThanOrEqual(most);
  expect(window.target).toBeGreaterThanOrEqual(1);
});

test('a snubbed peer is asked for one block until one comes', () => {
  const window = new RequestWindow();
  run(window, 1e6, 50, 3000);
  window.snub();
  expect(window.target).toBe(1);
  window.received(99_000, 16384);
  expect(window.snubbed).toBe(false);
  expect(window.target).toBeGreaterThanOrEqual(4);
});
