import { expect, test } from 'vitest';
import { sha1 } from '../base/hash.ts';
import { Rng } from '../base/random.ts';
import { OUR_SENDER, SmartBan, UNKNOWN_SENDER } from './smart-ban.ts';

function digests(blocks: readonly number[]): Uint8Array {
  const all = new Uint8Array(blocks.length * 20);
  blocks.forEach((block, i) => {
    all.set(sha1(Uint8Array.of(block, block >> 8, i)), i * 20);
  });
  return all;
}

const GOOD = digests([0, 0, 0, 0]);

test('who sent all of a failed piece did it, pad or no pad', () => {
  const ban = new SmartBan();
  expect(ban.failed(1, Int32Array.of(7, 7, 7, OUR_SENDER), null)).toEqual([7]);
  expect(ban.onParole(7)).toBe(false);
  expect(new SmartBan().failed(1, Int32Array.of(7, 7, UNKNOWN_SENDER, 7), null)).toEqual([]);
});

test('among several the good copy names the culprit and clears the others', () => {
  const ban = new SmartBan();
  expect(ban.failed(3, Int32Array.of(1, 2, 3, 1), digests([0, 9, 0, 0]))).toEqual([]);
  expect([1, 2, 3].map((s) => ban.onParole(s))).toEqual([true, true, true]);
  expect(ban.wantsDigests(3)).toBe(true);
  expect(ban.wantsDigests(4)).toBe(false);
  expect(ban.passed(4, Int32Array.of(1, 1, 1, 1), null)).toEqual([]);
  expect(ban.onParole(1)).toBe(false);
  expect(ban.passed(3, Int32Array.of(3, 3, 3, 3), GOOD)).toEqual([2]);
  expect([1, 2, 3].map((s) => ban.onParole(s))).toEqual([false, false, false]);
  expect(ban.remembers(2)).toBe(false);
});

test('a known culprit explains its other failed pieces; without proof nobody is named', () => {
  const ban = new SmartBan();
  ban.failed(1, Int32Array.of(1, 2, 2, 2), digests([9, 0, 0, 0]));
  ban.failed(2, Int32Array.of(3, 3, 1, 3), digests([0, 0, 9, 0]));
  ban.failed(5, Int32Array.of(4, 5, 4, 5), null);
  expect(ban.passed(1, Int32Array.of(2, 2, 2, 2), GOOD)).toEqual([1]);
  expect([2, 3, 4, 5].map((s) => ban.onParole(s))).toEqual([false, false, true, true]);
  // it fell to something else than a peer: our memory, a spill
  expect(ban.passed(5, Int32Array.of(9, 9, 8, 9), GOOD)).toEqual([]);
  expect([4, 5].map((s) => ban.onParole(s))).toEqual([false, false]);
});

test('the torrent itself may be wrong: the same bytes from others convict nobody more', () => {
  const ban = new SmartBan();
  const copy = digests([1, 2, 3, 4]);
  expect(ban.failed(0, Int32Array.of(1, 1, 1, 1), copy)).toEqual([1]);
  expect(ban.failed(0, Int32Array.of(2, 2, 2, 2), copy)).toEqual([]);
  expect(ban.failed(0, Int32Array.of(3, 3, 3, 3), copy)).toEqual([]);
  // unless a good copy turns up after all
  expect([...ban.passed(0, Int32Array.of(4, 4, 4, 4), GOOD)].sort()).toEqual([1, 2, 3]);
});

test('what is remembered is bounded, and who is forgotten is free', () => {
  const ban = new SmartBan();
  const many = 2048;
  const same = new Uint8Array(many * 20);
  const senders = new Int32Array(many).fill(1);
  for (let piece = 0; piece < 120; piece++) {
    senders[5] = 100 + piece;
    ban.failed(piece, senders, same);
  }
  let remembered = 0;
  for (let piece = 0; piece < 120; piece++) {
    if (ban.wantsDigests(piece)) remembered++;
    expect(ban.onParole(100 + piece)).toBe(ban.wantsDigests(piece));
  }
  expect(remembered).toBeLessThanOrEqual(64);
  expect(remembered).toBeGreaterThan(0);
});

interface Outcome {
  readonly banned: Set<number>;
  readonly failedTogether: number[];
  readonly wasted: number;
}

/**
 * A torrent of `pieces` from some peers of which `bad` corrupt a block per piece with the given odds. Pieces are shared
 * by up to three peers, but for those on parole, who work alone; three pieces are under way at a time. What a banned
 * peer sent of the others is thrown away, as the engine does.
 */
function game(seed: number, peers: number, bad: Set<number>, odds: number, pieces: number): Outcome {
  const rng = new Rng(Uint32Array.of(seed, 9, 9, 9));
  const ban = new SmartBan();
  const banned = new Set<number>();
  const failedTogether = new Array<number>(peers).fill(0);
  const blocks = 16;
  let wasted = 0;
  const todo = Array.from({ length: pieces }, (_, i) => i);
  for (let step = 0; todo.length > 0; step++) {
    expect(step, `seed ${seed} does not end`).toBeLessThan(pieces * 20);
    const alive = Array.from({ length: peers }, (_, i) => i).filter((p) => !banned.has(p));
    const under = todo.splice(0, 3);
    // who works on what is settled before any of these pieces is judged
    const crews = under.map(() => {
      const first = alive[rng.below(alive.length)]!;
      if (ban.onParole(first)) return [first];
      const others = alive.filter((p) => !ban.onParole(p));
      return [first, others[rng.below(others.length)]!, others[rng.below(others.length)]!];
    });
    under.forEach((piece, i) => {
      const senders = new Int32Array(blocks);
      const content = new Array<number>(blocks).fill(0);
      for (let b = 0; b < blocks; b++) senders[b] = crews[i]![rng.below(crews[i]!.length)]!;
      for (const sender of new Set(senders)) {
        if (!bad.has(sender) || rng.below(100) >= odds) continue;
        content[senders.lastIndexOf(sender)] = 1 + rng.below(60_000);
      }
      if (senders.some((sender) => banned.has(sender))) {
        wasted += senders.filter((sender) => banned.has(sender)).length;
        todo.unshift(piece);
        return;
      }
      const failed = content.some((block) => block !== 0);
      let culprits: readonly number[];
      if (failed) {
        wasted += blocks;
        for (const sender of new Set(senders)) failedTogether[sender]!++;
        culprits = ban.failed(piece, senders, rng.below(20) === 0 ? null : digests(content));
        todo.unshift(piece);
      } else culprits = ban.passed(piece, senders, ban.wantsDigests(piece) ? digests(content) : null);
      for (const culprit of culprits) banned.add(culprit);
    });
  }
  return { banned, failedTogether, wasted: wasted / (pieces * blocks) };
}

test('1 of 5 corrupts a block of every piece: banned soon, no good peer is, little waste (W9)', () => {
  let sum = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const { banned, failedTogether, wasted } = game(seed, 5, new Set([2]), 100, 100);
    expect([...banned], `seed ${seed}`).toEqual([2]);
    // the three that it spoils before the first verdict, and at most one alone
    expect(failedTogether[2], `seed ${seed}`).toBeLessThanOrEqual(4);
    expect(wasted, `seed ${seed}`).toBeLessThanOrEqual(0.1);
    sum += failedTogether[2]!;
  }
  expect(sum / 200).toBeLessThan(3);
});

test('any number of poisoners, sly ones too: every download ends and no good peer is ever named', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const rng = new Rng(Uint32Array.of(seed, 1, 2, 3));
    const peers = 3 + rng.below(10);
    const bad = new Set<number>();
    for (let p = 1; p < peers; p++) if (rng.below(3) === 0) bad.add(p);
    const { banned } = game(seed, peers, bad, 5 + rng.below(96), 150);
    for (const p of banned) expect(bad.has(p), `seed ${seed}: good peer ${p} banned`).toBe(true);
  }
});

test('proof of a bad copy is looked for with others than its senders', () => {
  const ban = new SmartBan();
  ban.failed(7, Int32Array.of(1, 2), new Uint8Array(40).fill(9));
  expect(ban.evidenceFor(1)).toEqual([]);
  expect(ban.evidenceFor(2)).toEqual([]);
  expect(ban.evidenceFor(3)).toEqual([7]);
});
