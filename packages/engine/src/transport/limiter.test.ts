import { describe, expect, test } from 'vitest';
import { Rng } from '../base/random.ts';
import { Limiter } from './limiter.ts';

const BLOCK = 16384;
const KIB = 1024;
const MIB = 1 << 20;

/** Asks in turns of irregular length for 10 s after `warmMs`; returns what was granted in these. */
function drive(limiter: Limiter, rng: Rng, wanted: number, warmMs: number): number {
  let now = 1000;
  const from = now + warmMs;
  let granted = 0;
  while (now < from + 10_000) {
    for (;;) {
      const got = limiter.grant(now, wanted);
      if (got === 0) break;
      if (now >= from) granted += got;
      if (limiter.rateBps === 0) break;
    }
    // a turn comes some time after its deadline, as on a busy machine
    now = Math.max(now + 0.3, limiter.nextAt(now)) + rng.float() * 12;
  }
  return granted;
}

test.each([16, 50, 100, 512, 1024, 10_240, 102_400, 1_048_576])('within a twentieth over 10 s at %d KiB/s', (kib) => {
  for (const wanted of [BLOCK, 9 * BLOCK, 40 * BLOCK]) {
    for (const warmMs of [0, 4000, 12_345]) {
      const granted = drive(
        new Limiter(kib * KIB, null),
        new Rng(Uint32Array.of(kib, wanted, warmMs, 1)),
        wanted,
        warmMs,
      );
      const right = kib * KIB * 10;
      // a block is the least that can be granted: at 16 KiB/s that is one second
      const slack = Math.max(right * 0.05, BLOCK * 1.01);
      expect(Math.abs(granted - right), `${granted} of ${right}`).toBeLessThanOrEqual(slack);
    }
  }
});

/** The most bytes in any second that begins with one of them. */
function mostInASecond(events: readonly { readonly at: number; readonly bytes: number }[]): number {
  let most = 0;
  let sum = 0;
  let last = 0;
  for (let first = 0; first < events.length; first++) {
    while (last < events.length && events[last]!.at < events[first]!.at + 1000) sum += events[last++]!.bytes;
    most = Math.max(most, sum);
    sum -= events[first]!.bytes;
  }
  return most;
}

describe('on a busy machine', () => {
  const rates = [64 * KIB, MIB, 5 * MIB, 20 * MIB, 500 * MIB];
  test.each(rates)('turns 5 to 200 ms late cost nothing, and bring no rush: %d B/s', (rate) => {
    for (const [seed, stallMs] of [
      [1, 0],
      [2, 0],
      [3, 900],
    ] as const) {
      const session = new Limiter(rate, null);
      const torrent = new Limiter(0, session);
      const rng = new Rng(Uint32Array.of(rate, seed, 3, 4));
      const events: { at: number; bytes: number }[] = [];
      let now = 1000;
      let stallAt = 10_000;
      while (now < 71_000) {
        for (let got = 1; got > 0; ) {
          got = torrent.grant(now, 32 * BLOCK);
          if (got > 0) events.push({ at: now, bytes: got });
        }
        now = Math.max(now + 0.3, torrent.nextAt(now)) + 5 + rng.float() * 195;
        // all stands still for most of a second, four times
        if (stallMs > 0 && now > stallAt && now < 55_000) {
          now += stallMs;
          stallAt += 12_000;
        }
      }
      const mean = session.total / 70;
      expect(Math.abs(mean / rate - 1), `mean ${mean / rate}`).toBeLessThan(Math.max(0.01, BLOCK / 30 / rate));
      expect(mostInASecond(events)).toBeLessThanOrEqual(rate >= MIB ? 1.25 * rate : 1.2 * rate + 2 * BLOCK);
    }
  });

  test.each(rates.slice(1))('reading turns 5 to 200 ms late hold nothing up for long: %d B/s', (rate) => {
    const session = new Limiter(rate, null);
    const rng = new Rng(Uint32Array.of(rate, 7, 3, 4));
    const events: { at: number; bytes: number }[] = [];
    let now = 1000;
    let taken = 0;
    while (now < 71_000) {
      // the other side sends at the rate, but for four pauses of most of a second, after which it sends the rest at once
      const sending = now % 15_000 < 14_100 ? now : Math.floor(now / 15_000) * 15_000 + 14_100;
      let holdMs = 0;
      while (holdMs < 1) {
        const bytes = Math.min(65_536, Math.floor(((sending - 1000) / 1000) * rate) - taken);
        if (bytes <= 0) break;
        taken += bytes;
        events.push({ at: now, bytes });
        holdMs = session.arrived(now, bytes);
      }
      now += Math.max(0.3, holdMs) + 5 + rng.float() * 195;
    }
    expect(taken / (70 * rate)).toBeGreaterThan(0.99);
    expect(mostInASecond(events)).toBeLessThanOrEqual(1.25 * rate);
  });

  test('who does not ask saves nothing up', () => {
    for (const idleMs of [2500, 60_000]) {
      const limiter = new Limiter(MIB, null);
      let now = 0;
      for (; now < 3000; now += 5) limiter.grant(now, BLOCK);
      now += idleMs;
      const from = limiter.total;
      for (const end = now + 10_000; now < end; now += 5) while (limiter.grant(now, BLOCK) > 0);
      expect((limiter.total - from) / MIB).toBeLessThan(10.3);
    }
  });

  test('what a slow other side leaves over is credit for two seconds at most', () => {
    const limiter = new Limiter(MIB, null);
    let now = 0;
    for (; now < 60_000; now += 25) limiter.grant(now, BLOCK);
    const from = limiter.total;
    for (const end = now + 60_000; now < end; now += 5) while (limiter.grant(now, BLOCK) > 0);
    expect((limiter.total - from) / MIB).toBeLessThan(62.4);
    expect((limiter.total - from) / MIB).toBeGreaterThan(61.5);
  });
});

test('what was saved up while idle is at most a block and a quarter second', () => {
  for (const rate of [16 * KIB, 1024 * KIB, 1 << 30]) {
    const limiter = new Limiter(rate, null);
    limiter.grant(0, BLOCK);
    let burst = 0;
    for (let got = 1; got > 0; burst += got) got = limiter.grant(3_600_000, 64 * BLOCK);
    expect(burst).toBeLessThanOrEqual(BLOCK + rate / 4);
    expect(burst).toBeGreaterThanOrEqual(Math.min(BLOCK, rate / 10));
  }
});

test('grants are whole blocks, or all that was wanted', () => {
  const limiter = new Limiter(100 * KIB, null);
  const rng = new Rng(Uint32Array.of(1, 2, 3, 4));
  for (let now = 0; now < 20_000; now += 7) {
    const wanted = 1 + rng.below(10 * BLOCK);
    const got = limiter.grant(now, wanted);
    expect(got === wanted || got % BLOCK === 0).toBe(true);
  }
});

test('rate 0 grants everything, and a change of rate holds at once', () => {
  const limiter = new Limiter(0, null);
  expect(limiter.grant(0, 1e9)).toBe(1e9);
  expect(limiter.nextAt(5)).toBe(5);
  limiter.setRate(10, 64 * KIB);
  let granted = 0;
  for (let now = 10; now < 10_010; now++) granted += limiter.grant(now, BLOCK);
  expect(Math.abs(granted - 640 * KIB)).toBeLessThanOrEqual(32 * KIB);
  limiter.setRate(10_010, 0);
  expect(limiter.grant(10_010, 5e6)).toBe(5e6);
});

test('every level holds, and the global limit is used up', () => {
  const global = new Limiter(1000 * KIB, null);
  const rates = [100 * KIB, 0, 5000 * KIB, 200 * KIB];
  const torrents = rates.map((rate) => new Limiter(rate, global));
  for (let now = 0; now < 10_000; now += 3) for (const torrent of torrents) torrent.grant(now, 4 * BLOCK);
  const got = torrents.map((torrent) => torrent.total / 10 / KIB);
  expect(global.total).toBe(torrents.reduce((sum, torrent) => sum + torrent.total, 0));
  expect(Math.abs(global.total / 10 / KIB - 1000)).toBeLessThanOrEqual(50);
  expect(Math.abs(got[0]! - 100)).toBeLessThanOrEqual(5);
  expect(Math.abs(got[3]! - 200)).toBeLessThanOrEqual(10);
  expect(Math.abs(got[1]! - got[2]!) / got[1]!).toBeLessThan(0.2);
});

test.each([32, 300, 50_000])('nobody starves at %d KiB/s, whatever the order of asking', (kib) => {
  const global = new Limiter(kib * KIB, null);
  const torrents = Array.from({ length: 8 }, () => new Limiter(0, global));
  for (let now = 0; now < 60_000; now += 5) {
    // the first is always asked first, and wants most
    torrents.forEach((torrent, i) => {
      for (let got = 1; got > 0; ) got = torrent.grant(now, i === 0 ? 64 * BLOCK : BLOCK);
    });
  }
  const fair = (kib * KIB * 60) / 8;
  for (const torrent of torrents) expect(torrent.total).toBeGreaterThan(Math.min(fair * 0.45, fair - 2 * BLOCK));
  expect(Math.abs(global.total - kib * KIB * 60)).toBeLessThanOrEqual(kib * KIB * 3);
});

test.each([300, 20_000])(
  'peers of a torrent share what the session has at %d KiB/s, whatever the order of asking',
  (kib) => {
    const global = new Limiter(kib * KIB, null);
    const torrents = [new Limiter(0, global), new Limiter(0, global)];
    const peers = [5, 1].map((count, i) => Array.from({ length: count }, () => new Limiter(0, torrents[i]!)));
    for (let now = 0; now < 60_000; now += 5) {
      // as turns follow each other until nobody gets any more
      for (let more = true; more; ) {
        more = false;
        for (const swarm of peers) {
          for (const peer of swarm) if (peer.grant(now, peer === swarm[0] ? 64 * BLOCK : BLOCK) > 0) more = true;
        }
      }
    }
    expect(Math.abs(global.total / (kib * KIB * 60) - 1)).toBeLessThan(0.05);
    for (const [i, swarm] of peers.entries()) {
      const fair = torrents[i]!.total / swarm.length;
      for (const peer of swarm) expect(Math.abs(peer.total / fair - 1)).toBeLessThan(0.15);
      expect(torrents[i]!.total).toBeGreaterThan(global.total * 0.4);
    }
  },
);

test('many that asked and went away hold nobody up for longer than one', () => {
  const global = new Limiter(640 * KIB, null);
  const torrent = new Limiter(0, global);
  const gone = Array.from({ length: 50 }, () => new Limiter(0, torrent));
  const here = new Limiter(0, torrent);
  for (const peer of gone) expect(peer.grant(0, BLOCK)).toBe(0);
  for (let now = 0; now < 1000; now += 10) here.grant(now, BLOCK);
  expect(here.total).toBeGreaterThan(640 * KIB * 0.8);
});

test('one that asked and went away holds nobody up', () => {
  const global = new Limiter(64 * KIB, null);
  const gone = new Limiter(0, global);
  const here = new Limiter(0, global);
  expect(gone.grant(0, BLOCK)).toBe(0);
  for (let now = 0; now < 10_000; now += 10) here.grant(now, BLOCK);
  expect(here.total).toBeGreaterThan(64 * KIB * 10 * 0.95);
});

test('one held back by its own limit holds nobody up', () => {
  const global = new Limiter(64 * KIB, null);
  const slow = new Limiter(KIB, global);
  const here = new Limiter(0, global);
  for (let now = 0; now < 10_000; now += 10) {
    slow.grant(now, BLOCK);
    here.grant(now, BLOCK);
  }
  expect(here.total + slow.total).toBeGreaterThan(64 * KIB * 10 * 0.95);
  const full = new Limiter(16 * KIB, null);
  const first = new Limiter(0, full);
  expect(first.grant(0, BLOCK)).toBe(0);
  first.setRate(0, KIB);
  expect(first.grant(1000, BLOCK)).toBe(0);
  expect(new Limiter(0, full).grant(1000, BLOCK)).toBe(BLOCK);
});

test('what went without asking is made up for', () => {
  const limiter = new Limiter(160 * KIB, null);
  let total = 0;
  for (let now = 0; now < 10_000; now += 10) {
    if (now % 1000 === 0) {
      limiter.spend(now, 2 * BLOCK);
      total += 2 * BLOCK;
    }
    total += limiter.grant(now, BLOCK);
  }
  expect(Math.abs(total - 1600 * KIB)).toBeLessThanOrEqual(80 * KIB);
});

test('what comes in a rush is read over no second faster than 1.25 times the rate, and steady arrivals are never held', () => {
  for (const rate of [MIB, 5 * MIB, 20 * MIB]) {
    const session = new Limiter(rate, null);
    const torrent = new Limiter(0, session);
    // ten seconds at the rate, in pieces of two blocks
    let now = 1000;
    for (; now < 11_000; now += (32_768 / rate) * 1000) expect(torrent.arrived(now, 32_768)).toBe(0);
    // then nothing for two seconds, and all of it at once
    now += 2000;
    const read: { readonly at: number; readonly bytes: number }[] = [];
    for (let left = 2 * rate; left > 0; left -= 65_536) {
      read.push({ at: now, bytes: 65_536 });
      const waitMs = torrent.arrived(now, 65_536);
      if (waitMs >= 1) now += waitMs;
    }
    for (const { at } of read) {
      const second = read.filter((each) => each.at >= at && each.at < at + 1000);
      expect(second.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(1.25 * rate + 65_536);
    }
    // what is held back is no more than the rush itself
    expect(now).toBeLessThan(11_000 + 2000 + 2100);
  }
});
