import { describe, expect, it } from 'vitest';
import { parseIp } from '../base/ip.ts';
import { Rng } from '../base/random.ts';
import { type Candidate, CandidateState, Lookup, type LookupOwner, Source } from './dht-lookup.ts';
import { makeNodeId, randomIdNear } from './node-id.ts';

const rng = new Rng(Uint32Array.of(9, 8, 7, 6));
const TARGET = makeNodeId(rng, null);
const OWN = makeNodeId(rng, null);
const TOKEN = Uint8Array.of(1, 2, 3, 4);

class Owner implements LookupOwner {
  asked: Candidate[] = [];
  done = 0;
  refuse = false;

  onAsk(_now: number, _lookup: Lookup, candidate: Candidate): boolean {
    if (!this.refuse) this.asked.push(candidate);
    return !this.refuse;
  }

  knows(): boolean {
    return false;
  }

  onLookupDone(): void {
    this.done++;
  }

  /** Those asked since the last call. */
  take(): Candidate[] {
    const { asked } = this;
    this.asked = [];
    return asked;
  }
}

function compact(ip: string, bits: number, port = 6881): Uint8Array {
  return Uint8Array.of(...randomIdNear(rng, TARGET, bits), ...parseIp(ip)!, port >> 8, port & 255);
}

function start(thorough = false): { owner: Owner; lookup: Lookup } {
  const owner = new Owner();
  return { owner, lookup: new Lookup(4, TARGET, OWN, owner, thorough) };
}

/** Local addresses of as many networks: their ids are free. */
function know(lookup: Lookup, count: number, bits = 10): void {
  for (let i = 0; i < count; i++) lookup.addKnown(compact(`10.${bits}.${i}.1`, bits), `10.${bits}.${i}.1`, 6881);
}

function answer(
  lookup: Lookup,
  candidate: Candidate,
  named: Uint8Array[] = [],
  token: Uint8Array | null = TOKEN,
): void {
  const bytes = Uint8Array.from(named.flatMap((node) => [...node]));
  lookup.addNamed(bytes, 0, bytes.length, new Source(candidate.hop, candidate.router));
  lookup.answered(0, candidate, candidate.compact.slice(0, 20), 0, token);
}

describe('a lookup', () => {
  it('asks the five closest at once, and ends as soon as the eight closest have answered', () => {
    const { owner, lookup } = start();
    for (let bits = 1; bits <= 12; bits++) know(lookup, 1, bits);
    lookup.advance(0);
    const first = owner.take();
    expect(first.map((candidate) => candidate.ip)).toEqual([12, 11, 10, 9, 8].map((bits) => `10.${bits}.0.1`));
    for (const candidate of first) answer(lookup, candidate);
    const rest = owner.take();
    expect(rest.map((candidate) => candidate.ip)).toEqual([7, 6, 5, 4, 3].map((bits) => `10.${bits}.0.1`));
    // one of the closest eight is still missing
    answer(lookup, rest[3]!);
    answer(lookup, rest[2]!);
    answer(lookup, rest[1]!);
    expect(owner.done).toBe(0);
    answer(lookup, rest[0]!);
    expect([owner.done, lookup.answeredCount, lookup.hops]).toEqual([1, 9, 1]);
    expect(lookup.closest().map((candidate) => candidate.ip)).toEqual(
      [12, 11, 10, 9, 8, 7, 6, 5].map((bits) => `10.${bits}.0.1`),
    );
  });

  it('goes where replies point, and counts the hops', () => {
    const { owner, lookup } = start();
    know(lookup, 1, 1);
    lookup.advance(0);
    for (let hop = 1; hop < 5; hop++) {
      const [candidate] = owner.take();
      expect(candidate!.hop).toBe(hop);
      answer(lookup, candidate!, [compact(`10.200.${hop}.1`, 10 * hop)]);
    }
    answer(lookup, owner.take()[0]!);
    expect([owner.done, lookup.hops]).toEqual([1, 5]);
  });

  it('is held up by nobody who is slow, and still takes the late answer', () => {
    const { owner, lookup } = start();
    for (let bits = 1; bits <= 20; bits++) know(lookup, 1, bits);
    lookup.advance(0);
    const [silent, late, ...others] = owner.take();
    lookup.slow(1000, silent!);
    lookup.slow(1000, late!);
    expect(owner.asked.length).toBe(2);
    for (const candidate of others) answer(lookup, candidate);
    answer(lookup, late!);
    while (owner.done === 0) for (const candidate of owner.take()) answer(lookup, candidate);
    expect(lookup.closest().map((candidate) => candidate.ip)).toContain(late!.ip);
    expect(lookup.closest()).toHaveLength(8);
    expect(silent!.state).toBe(CandidateState.Slow);
  });

  it('waits for the slow when there is nobody else, for the late only when nobody answered at all', () => {
    for (const answers of [true, false]) {
      const { owner, lookup } = start();
      know(lookup, 2);
      lookup.advance(0);
      const [a, b] = owner.take();
      if (answers) answer(lookup, a!);
      else lookup.slow(1000, a!);
      lookup.slow(1000, b!);
      if (!answers) lookup.late(3000, a!);
      expect(owner.done).toBe(0);
      lookup.late(3000, b!);
      expect(owner.done).toBe(answers ? 1 : 0);
      if (answers) continue;
      lookup.failed(15_000, a!);
      lookup.failed(15_000, b!);
      expect(owner.done).toBe(1);
    }
  });

  it('asks one of a network, and the others only where too few answered', () => {
    const { owner, lookup } = start();
    for (let i = 1; i < 30; i++) lookup.addKnown(compact(`10.66.66.${i}`, 40), `10.66.66.${i}`, 6881);
    know(lookup, 8);
    lookup.advance(0);
    const asked: Candidate[] = [];
    while (owner.done === 0) {
      const batch = owner.take();
      asked.push(...batch);
      for (const candidate of batch) answer(lookup, candidate);
    }
    expect(asked.filter((candidate) => candidate.ip.startsWith('10.66.66.'))).toHaveLength(1);
    expect(lookup.closest().filter((candidate) => candidate.ip.startsWith('10.66.66.'))).toHaveLength(1);

    const alone = start();
    for (let i = 1; i < 12; i++) alone.lookup.addKnown(compact(`127.0.0.${i}`, 4 + i), `127.0.0.${i}`, 6881);
    alone.lookup.advance(0);
    while (alone.owner.done === 0) for (const candidate of alone.owner.take()) answer(alone.lookup, candidate);
    expect(alone.lookup.closest().map((candidate) => candidate.ip)).toEqual(
      [11, 10, 9, 8, 7, 6, 5, 4].map((i) => `127.0.0.${i}`),
    );
  });

  it('neither ends for nor stores with ids that do not match their address, while others answer', () => {
    const { owner, lookup } = start();
    for (let i = 0; i < 30; i++) lookup.addKnown(compact(`66.${i}.0.1`, 40), `66.${i}.0.1`, 6881);
    know(lookup, 9);
    lookup.advance(0);
    const asked: Candidate[] = [];
    while (owner.done === 0) {
      const batch = owner.take();
      asked.push(...batch);
      for (const candidate of batch) answer(lookup, candidate);
    }
    expect(asked.filter((candidate) => !candidate.secure).length).toBeLessThanOrEqual(8);
    expect(lookup.closest().every((candidate) => candidate.secure)).toBe(true);
    expect(lookup.closest()).toHaveLength(8);
    // but where there is nobody else, they do
    const alone = start();
    for (let i = 0; i < 30; i++) alone.lookup.addKnown(compact(`66.${i}.0.1`, 4 + i), `66.${i}.0.1`, 6881);
    alone.lookup.advance(0);
    while (alone.owner.done === 0) for (const candidate of alone.owner.take()) answer(alone.lookup, candidate);
    expect(alone.lookup.closest()).toHaveLength(8);
  });

  it('stores only with those who gave a token', () => {
    const { owner, lookup } = start();
    know(lookup, 9);
    lookup.advance(0);
    let n = 0;
    while (owner.done === 0)
      for (const candidate of owner.take()) answer(lookup, candidate, [], n++ < 5 ? null : TOKEN);
    expect(lookup.closest().length).toBe(lookup.answeredCount - 5);
    expect(lookup.closest(8, false)).toHaveLength(8);
  });

  it('contacts five of what one reply names, unless others name them too', () => {
    const { owner, lookup } = start();
    know(lookup, 1, 1);
    know(lookup, 1, 2);
    lookup.advance(0);
    const [a, b] = owner.take();
    const named = Array.from({ length: 20 }, (_, i) => compact(`10.99.${i}.1`, 30 + i));
    answer(lookup, a!, named);
    lookup.failed(0, b!);
    const asked: Candidate[] = [];
    for (let batch = owner.take(); batch.length > 0; batch = owner.take()) {
      asked.push(...batch);
      for (const candidate of batch) lookup.failed(0, candidate);
    }
    expect([asked.length, owner.done]).toEqual([5, 1]);

    const second = start();
    know(second.lookup, 2, 1);
    second.lookup.advance(0);
    const [c, d] = second.owner.take();
    answer(second.lookup, c!, named);
    answer(second.lookup, d!, named);
    let count = 0;
    for (let batch = second.owner.take(); batch.length > 0; batch = second.owner.take()) {
      count += batch.length;
      for (const candidate of batch) second.lookup.failed(0, candidate);
    }
    expect(count).toBeGreaterThan(5);
    expect(count).toBeLessThanOrEqual(10);
  });

  it('asks all bootstrap nodes at once, and follows each of them when it is thorough', () => {
    const { owner, lookup } = start(true);
    for (let i = 0; i < 7; i++) lookup.addRouter(parseIp(`10.1.${i}.1`)!, `10.1.${i}.1`, 6881);
    lookup.advance(0);
    const routers = owner.take();
    expect(routers).toHaveLength(7);
    // six keep us among their own, one names somebody far away
    for (const router of routers.slice(1)) {
      answer(
        lookup,
        router,
        Array.from({ length: 8 }, () => compact(`10.2.${rng.below(256)}.1`, 60)),
      );
    }
    answer(lookup, routers[0]!, [compact('10.3.3.3', 1)]);
    const asked: string[] = [];
    while (owner.done === 0) {
      for (const candidate of owner.take()) {
        asked.push(candidate.ip);
        answer(lookup, candidate);
      }
    }
    asked.push(...owner.take().map((candidate) => candidate.ip));
    expect(asked).toContain('10.3.3.3');
  });

  it('puts who answers with another id where that belongs', () => {
    const { owner, lookup } = start();
    know(lookup, 9);
    lookup.addKnown(compact('10.77.0.1', 100), '10.77.0.1', 6881);
    lookup.advance(0);
    const liar = owner.asked.find((candidate) => candidate.ip === '10.77.0.1')!;
    const id = randomIdNear(rng, TARGET, 0);
    for (const candidate of owner.take()) {
      if (candidate === liar) lookup.answered(0, candidate, id, 0, TOKEN);
      else answer(lookup, candidate);
    }
    while (owner.done === 0) for (const candidate of owner.take()) answer(lookup, candidate);
    expect(lookup.closest()).not.toContain(liar);
    expect(lookup.closest()).toHaveLength(8);
  });

  it('ends when nobody may be asked, and after so many queries, whatever it is told', () => {
    const { owner, lookup } = start();
    know(lookup, 9);
    owner.refuse = true;
    lookup.advance(0);
    expect([owner.done, lookup.queried]).toEqual([1, 0]);

    const endless = start();
    know(endless.lookup, 5, 1);
    endless.lookup.advance(0);
    let bits = 1;
    while (endless.owner.done === 0) {
      for (const candidate of endless.owner.take()) {
        bits = Math.min(150, bits + 1);
        // each failing one made room by naming closer ones before
        endless.lookup.addNamed(compact(`10.${bits}.${rng.below(256)}.1`, bits), 0, 26, new Source(1, false));
        endless.lookup.failed(0, candidate);
      }
    }
    expect(endless.lookup.queried).toBeLessThanOrEqual(200);
  });

  it('forgets crowds first when it has too many to remember', () => {
    const { owner, lookup } = start();
    know(lookup, 20, 2);
    for (let i = 0; i < 400; i++) {
      const node = compact(`10.66.66.${1 + (i % 250)}`, 50, 1000 + i);
      lookup.addKnown(node, `10.66.66.${1 + (i % 250)}`, 1000 + i);
    }
    lookup.advance(0);
    while (owner.done === 0) for (const candidate of owner.take()) answer(lookup, candidate);
    expect(lookup.closest().filter((candidate) => candidate.ip.startsWith('10.2.'))).toHaveLength(7);
  });
});
