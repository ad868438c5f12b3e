import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Rng } from '../base/random.ts';
import { type ChokeRecord, Choker, ROUND_MS } from './choker.ts';

type Mutable = { -readonly [K in keyof ChokeRecord]: ChokeRecord[K] } & { served: number; unchokes: number };

const PIECE = 262_144;

function peer(id: number, over: Partial<Mutable> = {}): Mutable {
  return {
    id,
    interested: true,
    choked: true,
    downRate: 0,
    upRate: 0,
    uploadedSinceUnchoke: 0,
    unchokedAt: 0,
    waitingSince: 0,
    snubbed: false,
    uploadOnly: false,
    isNew: false,
    served: 0,
    unchokes: 0,
    ...over,
  };
}

function rng(seed: number): Rng {
  const made = new Rng(Uint32Array.of(seed, 1, 2, 3));
  // seeds that differ little need some steps to part
  for (let i = 0; i < 20; i++) made.u32();
  return made;
}

function turnOver(record: Mutable, now: number): void {
  record.choked = !record.choked;
  if (record.choked) {
    record.waitingSince = now;
    return;
  }
  record.unchokedAt = now;
  record.uploadedSinceUnchoke = 0;
  record.unchokes++;
}

/** Rounds from `from` on; each unchoked peer gets its share of `upBps`, at most its own speed. */
function play(
  choker: Choker<Mutable>,
  peers: Mutable[],
  seeding: boolean,
  from: number,
  rounds: number,
  speedOf: (peer: Mutable) => number,
): number {
  let now = from;
  for (let round = 0; round < rounds; round++, now += ROUND_MS) {
    for (const record of [...choker.decide(now, peers, seeding, PIECE)]) turnOver(record, now);
    for (const record of peers) {
      if (record.choked || !record.interested) continue;
      const bytes = (speedOf(record) * ROUND_MS) / 1000;
      record.served += bytes;
      record.uploadedSinceUnchoke += bytes;
    }
  }
  return now;
}

function unchoked(peers: Mutable[]): number[] {
  return peers.filter((p) => !p.choked).map((p) => p.id);
}

test('leeching: the best senders keep regular slots, everybody gets a chance, no slot is idle', () => {
  const peers = Array.from({ length: 30 }, (_, i) => peer(i, { downRate: i < 6 ? 0 : i * 1000 }));
  const choker = new Choker<Mutable>(8, rng(1));
  let now = 0;
  for (let round = 0; round < 200; round++) {
    now = play(choker, peers, false, now, 1, () => 1000);
    expect(unchoked(peers).length).toBe(8);
    if (round > 3) expect(unchoked(peers)).toEqual(expect.arrayContaining([23, 24, 25, 26, 27, 28, 29]));
  }
  for (const p of peers) expect(p.unchokes).toBeGreaterThan(0);
});

test('leeching: a snubbing peer keeps no regular slot, new ones get thrice the odds', () => {
  let fresh = 0;
  let old = 0;
  for (let seed = 0; seed < 300; seed++) {
    const peers = Array.from({ length: 13 }, (_, i) => peer(i, { downRate: i < 3 ? 9000 : 0, isNew: i === 12 }));
    peers[0]!.snubbed = true;
    peers[0]!.choked = false;
    peers[0]!.unchokedAt = -60_000;
    const choker = new Choker<Mutable>(3, rng(seed));
    play(choker, peers, false, 0, 1, () => 0);
    expect(peers[0]!.choked).toBe(true);
    expect(unchoked(peers)).toEqual(expect.arrayContaining([1, 2]));
    if (!peers[12]!.choked) fresh++;
    if (!peers[11]!.choked) old++;
  }
  expect(fresh).toBeGreaterThan(old * 2);
  expect(old).toBeGreaterThan(5);
});

test('seeding: everybody gets a like share, the fast ones no more turns than the slow', () => {
  const peers = Array.from({ length: 40 }, (_, i) => peer(i));
  const choker = new Choker<Mutable>(8, rng(2));
  play(choker, peers, true, 0, 600, (p) => (p.id % 2 === 0 ? 50e6 : 100_000));
  const turns = peers.map((p) => p.unchokes);
  expect(Math.max(...turns)).toBeLessThanOrEqual(Math.min(...turns) * 1.5 + 1);
  expect(Math.min(...turns)).toBeGreaterThan(10);
});

test('seeding: a turn ends after 20 pieces or a minute, not before, and only if somebody waits', () => {
  const peers = [peer(1), peer(2)];
  const choker = new Choker<Mutable>(2, rng(5));
  let now = play(choker, peers, true, 0, 12, () => 1e9);
  expect(peers.map((p) => p.unchokes)).toEqual([1, 1]);
  // 1 has been idle for a minute since its last turn began, 2 is in the middle of its own
  peers.push(peer(3, { unchokedAt: now, waitingSince: now }));
  Object.assign(peers[0]!, { unchokedAt: now - 60_000, uploadedSinceUnchoke: 0 });
  Object.assign(peers[1]!, { unchokedAt: now - 50_000, uploadedSinceUnchoke: PIECE * 19 });
  now = play(choker, peers, true, now, 1, () => 0);
  expect(unchoked(peers)).toEqual([2, 3]);
  Object.assign(peers[1]!, { unchokedAt: now - 20_000, uploadedSinceUnchoke: PIECE * 20 });
  play(choker, peers, true, now, 1, () => 0);
  expect(unchoked(peers)).toEqual([1, 3]);
});

test('seeding: who joined in the middle of a turn comes before those whose turn that was', () => {
  const peers = [peer(1), peer(2), peer(3)];
  const choker = new Choker<Mutable>(1, rng(6));
  let now = play(choker, peers, true, 0, 1, () => 0);
  expect(unchoked(peers)).toEqual([1]);
  peers.push(peer(4, { unchokedAt: now - 1, waitingSince: now - 1 }));
  // 1, then 2, then 3 are given up on; nobody is served twice before 4
  for (const next of [2, 3, 4, 1]) {
    const served = peers.find((p) => !p.choked)!;
    served.interested = false;
    now = play(choker, peers, true, now, 1, () => 0);
    served.interested = true;
    expect(unchoked(peers)).toEqual([next]);
  }
});

test('seeding: thieves that take all they can and come back as new do not halve the others (W20)', () => {
  const honestShare = (thieves: number): number => {
    const peers = Array.from({ length: 35 }, (_, i) => peer(i));
    const choker = new Choker<Mutable>(8, rng(3));
    let now = 0;
    for (let round = 0; round < 400; round++) {
      // those who were served leave and come back under another name
      for (let i = 0; i < thieves; i++) {
        if (peers[i]!.choked && peers[i]!.unchokes > 0 && now - peers[i]!.unchokedAt > 10_000) {
          const { served } = peers[i]!;
          peers[i] = peer(1000 + round * 10 + i, { unchokedAt: now, waitingSince: now, isNew: true, served });
        }
      }
      const active = () => peers.filter((p) => !p.choked).length;
      now = play(
        choker,
        peers,
        true,
        now,
        1,
        (p) => (p.id < thieves || p.id >= 1000 ? 4e6 : 1e6) / Math.max(1, active() / 8),
      );
    }
    return peers.slice(3).reduce((sum, p) => sum + p.served, 0);
  };
  expect(honestShare(3)).toBeGreaterThan(honestShare(0) * 0.8);
});

test('a free slot is given at once, a full house waits for the round', () => {
  const choker = new Choker<Mutable>(2, rng(4));
  const peers = [peer(1, { choked: false }), peer(2), peer(3, { uploadOnly: true }), peer(4, { interested: false })];
  expect(choker.onInterested(5, peers[2]!, peers)).toBe(false);
  expect(choker.onInterested(5, peers[3]!, peers)).toBe(false);
  expect(choker.onInterested(5, peers[1]!, peers)).toBe(true);
  turnOver(peers[1]!, 5);
  peers[3]!.interested = true;
  expect(choker.onInterested(6, peers[3]!, peers)).toBe(false);
  peers.shift();
  expect([...choker.fill(peers, false)].map((p) => p.id)).toEqual([4]);
});

test('whatever comes: within the slots, 10 s of dwell, none for the uninterested, full use, equal decisions', () => {
  const op = fc.tuple(fc.nat(4), fc.nat(100), fc.nat(20));
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 9 }),
      fc.boolean(),
      fc.array(op, { maxLength: 80, size: 'max' }),
      (seed, slots, seeding, ops) => {
        const choker = new Choker<Mutable>(slots, rng(seed));
        const twin = new Choker<Mutable>(slots, rng(seed));
        const peers: Mutable[] = [];
        let now = 0;
        let nextId = 0;
        for (const [kind, a, b] of ops) {
          const one = peers[a % Math.max(1, peers.length)];
          if (kind === 0 || one === undefined)
            peers.push(peer(nextId++, { unchokedAt: now, waitingSince: now, interested: b % 4 > 0 }));
          else if (kind === 1) {
            one.interested = !one.interested;
            if (choker.onInterested(now, one, peers)) turnOver(one, now);
          } else if (kind === 2) Object.assign(one, { downRate: b * 1000, snubbed: b === 0, uploadOnly: b === 1 });
          else if (kind === 3) peers.splice(peers.indexOf(one), 1);
          else {
            now += ROUND_MS - (b % 3) * 4000;
            const changes = [...choker.decide(now, peers, seeding, PIECE)];
            expect([...twin.decide(now, peers, seeding, PIECE)]).toEqual(changes);
            for (const change of changes) {
              if (!change.choked) expect(now - change.unchokedAt).toBeGreaterThanOrEqual(10_000);
              turnOver(change, now);
            }
            const candidates = peers.filter((p) => p.interested && !p.uploadOnly);
            const served = candidates.filter((p) => !p.choked).length;
            expect(served).toBeGreaterThanOrEqual(Math.min(slots, candidates.length));
            const old = candidates.filter((p) => !p.choked && now - p.unchokedAt >= 10_000).length;
            if (served > slots) expect(old).toBeLessThanOrEqual(slots);
            for (const change of changes)
              if (!change.choked) expect(change.interested && !change.uploadOnly).toBe(true);
          }
        }
      },
    ),
    { numRuns: 100 },
  );
});
