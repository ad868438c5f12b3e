import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type SwarmEvent, type SwarmLimits, SwarmTable } from './swarm-table.ts';

const LIMITS: SwarmLimits = { maxSwarms: 10, maxPeersPerSwarm: 1000, maxPeers: 5000, peerTtlS: 100 };
const ID = new Uint8Array(20).fill(66);
const H = 'h'.repeat(20);
const v4 = (n: number): Uint8Array => Uint8Array.of(10, n >>> 16, n >>> 8, n);
const v6 = (n: number): Uint8Array => Uint8Array.of(32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, n >>> 16, n >>> 8, n);

function random(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 0x100000000;
  };
}

function names(
  table: SwarmTable,
  hash: string,
  ipBytes: 4 | 16,
  wanted: number,
  ip = v4(0xffffff),
  port = 9,
): string[] {
  const found: string[] = [];
  table.sample(hash, ipBytes, wanted, ip, port, (entry) => found.push(entry.subarray(0, ipBytes + 2).join('.')));
  return found;
}

describe('SwarmTable', () => {
  it('keeps to a model under any sequence of announces and sweeps', () => {
    const step = fc.record({
      hash: fc.nat(3),
      peer: fc.nat(40),
      six: fc.boolean(),
      seed: fc.boolean(),
      event: fc.constantFrom<SwarmEvent>('none', 'started', 'completed', 'stopped', 'paused'),
      wait: fc.nat(30),
      sweep: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const table = new SwarmTable(LIMITS, random());
        const model = new Map<string, { hash: string; six: boolean; seed: boolean; paused: boolean; seen: number }>();
        let now = 1000;
        for (const s of steps) {
          now += s.wait;
          const hash = String(s.hash).repeat(20);
          const ip = s.six ? v6(s.peer) : v4(s.peer);
          const key = `${hash} ${ip.join('.')}`;
          table.announce(hash, ip, 1000, ID, s.seed, s.event, now);
          if (s.event === 'stopped') model.delete(key);
          else model.set(key, { hash, six: s.six, seed: s.seed, paused: !s.seed && s.event === 'paused', seen: now });
          if (s.sweep) {
            table.sweep(now);
            for (const [k, peer] of model) if (peer.seen < now - LIMITS.peerTtlS) model.delete(k);
          }
          expect(table.peerCount).toBe(model.size);
          expect(table.seederCount).toBe([...model.values()].filter((peer) => peer.seed).length);
          const here = [...model.values()].filter((peer) => peer.hash === hash);
          const counts = table.counts(hash) ?? { seeders: 0, leechers: 0, downloaders: 0, completed: 0 };
          expect([counts.seeders, counts.leechers, counts.downloaders]).toEqual([
            here.filter((peer) => peer.seed).length,
            here.filter((peer) => !peer.seed).length,
            here.filter((peer) => !peer.seed && !peer.paused).length,
          ]);
          const all = [...names(table, hash, 4, 1e6), ...names(table, hash, 16, 1e6)];
          expect(new Set(all).size).toBe(here.length);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('gives distinct others, never the asker, all alike often', () => {
    const table = new SwarmTable(LIMITS, random(7));
    for (let i = 0; i < 100; i++) table.announce(H, v4(i), 1, ID, false, 'started', 0);
    const times = new Map<string, number>();
    for (let round = 0; round < 2000; round++) {
      const found = names(table, H, 4, 10, v4(50), 1);
      expect(new Set(found).size).toBe(10);
      for (const name of found) times.set(name, (times.get(name) ?? 0) + 1);
    }
    expect(times.size).toBe(99);
    expect(times.has(`${v4(50).join('.')}.0.1`)).toBe(false);
    expect(Math.min(...times.values())).toBeGreaterThan(120);
    expect(Math.max(...times.values())).toBeLessThan(300);
    expect(names(table, H, 4, 1000, v4(50), 1).length).toBe(99);
    expect(names(table, 'unknown', 4, 10)).toEqual([]);
  });

  it('counts a completion once, and none of who came complete', () => {
    const table = new SwarmTable(LIMITS, random());
    table.announce(H, v4(1), 1, ID, false, 'started', 0);
    table.announce(H, v4(1), 1, ID, true, 'completed', 1);
    table.announce(H, v4(1), 1, ID, true, 'completed', 2);
    table.announce(H, v4(2), 1, ID, true, 'started', 0);
    table.announce(H, v4(2), 1, ID, true, 'completed', 0);
    expect(table.counts(H)).toEqual({ seeders: 2, leechers: 0, downloaders: 0, completed: 1 });
  });

  it('stays within its limits', () => {
    const table = new SwarmTable({ ...LIMITS, maxSwarms: 2, maxPeersPerSwarm: 3, maxPeers: 5 }, random());
    for (let i = 0; i < 10; i++) table.announce('a', v4(i), 1, ID, false, 'none', 0);
    expect(table.counts('a')!.leechers).toBe(3);
    for (let i = 0; i < 10; i++) table.announce('b', v6(i), 1, ID, false, 'none', 0);
    expect(table.peerCount).toBe(5);
    expect(table.announce('c', v4(1), 1, ID, false, 'none', 0)).toBe(false);
    expect(table.swarmCount).toBe(2);
    // a known peer is refreshed even so, and one that leaves makes room
    expect(table.announce('a', v4(0), 1, ID, true, 'none', 0)).toBe(true);
    table.announce('a', v4(0), 1, ID, true, 'stopped', 0);
    expect(table.announce('b', v6(99), 1, ID, false, 'none', 0)).toBe(true);
  });

  it('does not remember a peer without a port', () => {
    const table = new SwarmTable(LIMITS, random());
    expect(table.announce(H, v4(1), 0, ID, false, 'started', 0)).toBe(true);
    expect(table.peerCount).toBe(0);
  });
});
