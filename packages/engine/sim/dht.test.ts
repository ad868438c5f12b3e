import { describe, expect, it } from 'vitest';
import { equal } from '../src/base/bytes.ts';
import { PlatformCrypto } from '../src/base/platform-crypto.ts';
import { encode } from '../src/codec/bencode.ts';
import { type DhtItem, makeImmutable, makeMutable } from '../src/discovery/dht-items.ts';
import { Gang } from './dht-liar.ts';
import { DhtMachine } from './dht-machine.ts';
import { DhtNet } from './dht-net.ts';
import { DhtPopulation, runDhtStorm } from './dht-storm.ts';

const MINUTE = 60_000;

function randomHash(net: DhtNet): Uint8Array {
  const hash = new Uint8Array(20);
  net.rng.fill(hash);
  return hash;
}

/** Announces; how many nodes took it. */
function announce(who: DhtMachine, infoHash: Uint8Array, port: number): number {
  let taken = -1;
  const sink = {
    onDhtPeers: (): void => {},
    onDhtPeersDone: (result: { announced: number }): void => {
      taken = result.announced;
    },
  };
  who.dht.getPeers(who.net.now, infoHash, sink, { port, seed: false });
  who.arm();
  who.net.runUntil(() => taken >= 0, 2 * MINUTE);
  return taken;
}

/** Whether a search finds this peer. */
function finds(who: DhtMachine, infoHash: Uint8Array, peer: DhtMachine, port: number): boolean {
  const endpoint = Uint8Array.of(...peer.ipBytes, port >> 8, port & 255);
  let found = false;
  let done = false;
  const sink = {
    onDhtPeers: (peers4: Uint8Array): void => {
      for (let i = 0; i < peers4.length; i += 6) if (equal(peers4.subarray(i, i + 6), endpoint)) found = true;
    },
    onDhtPeersDone: (): void => {
      done = true;
    },
  };
  who.dht.getPeers(who.net.now, infoHash, sink, null);
  who.arm();
  who.net.runUntil(() => done, 2 * MINUTE);
  return found;
}

function settled(seed: number, nodes: number, options: { nat?: number; loss?: number } = {}): DhtPopulation {
  const net = new DhtNet({ seed, loss: options.loss ?? 0 });
  const people = new DhtPopulation(net, options.nat ?? 0, 0);
  people.grow(nodes, 3 * MINUTE);
  net.run(3 * MINUTE);
  return people;
}

describe('a DHT of many real nodes', { timeout: 120_000 }, () => {
  it('finds what was announced minutes before, with nodes that leave, NAT and loss', () => {
    const report = runDhtStorm({ seed: 1, nodes: 150, announces: 40, churnPerHour: 1, measureMs: 5 * MINUTE });
    expect([report.searches, report.found]).toEqual([40, 40]);
    expect(report.hopsMedian).toBeLessThanOrEqual(4);
    expect(report.queriesMean).toBeLessThan(40);
    expect(report.storedMean).toBeGreaterThan(6);
    expect(report.closestShare).toBeGreaterThan(0.7);
    expect(report.left).toBeGreaterThan(20);
  });

  it('does the same again from the same seed', () => {
    const storm = (seed: number): string => runDhtStorm({ seed, nodes: 60, announces: 5, joinMs: MINUTE }).digest;
    expect(storm(5)).toBe(storm(5));
    expect(storm(6)).not.toBe(storm(5));
  });

  it('works on one loopback address', () => {
    const net = new DhtNet({ seed: 2 });
    const machines = Array.from(
      { length: 40 },
      (_, i) => new DhtMachine(net, { ip: '127.0.0.1', port: 7000 + i, latencyMs: 1 }),
    );
    for (const machine of machines) machine.start([machines[0]!]);
    net.run(MINUTE);
    for (let i = 0; i < 20; i++) {
      const infoHash = randomHash(net);
      const port = 9000 + i;
      expect(announce(machines[1 + i]!, infoHash, port)).toBeGreaterThan(0);
      expect(finds(machines[39 - i]!, infoHash, machines[1 + i]!, port)).toBe(true);
    }
  });
});

describe('what a DHT keeps', { timeout: 120_000 }, () => {
  const crypto = new PlatformCrypto();

  /** Puts; how many nodes took it. */
  function put(who: DhtMachine, item: DhtItem, cas = -1): number {
    let stored = -1;
    const sink = {
      onDhtPut: (result: { stored: number }): void => {
        stored = result.stored;
      },
    };
    who.dht.putItem(who.net.now, item, cas, sink);
    who.arm();
    who.net.runUntil(() => stored >= 0, 2 * MINUTE);
    return stored;
  }

  function get(who: DhtMachine, item: DhtItem): DhtItem | null {
    let best: DhtItem | null | undefined;
    const sink = {
      onDhtItem: (): void => {},
      onDhtItemDone: (found: DhtItem | null): void => {
        best = found;
      },
    };
    const { publicKey, salt } = item;
    who.dht.getItem(who.net.now, item.target, publicKey === null ? null : { publicKey, salt }, sink);
    who.arm();
    who.net.runUntil(() => best !== undefined, 2 * MINUTE);
    return best ?? null;
  }

  it('are items, in their newest version, whoever asks, with loss and NAT', () => {
    const people = settled(8, 120, { nat: 0.3, loss: 0.05 });
    for (let i = 0; i < 12; i++) {
      const value = encode(`value ${i} ${'x'.repeat(80 * i)}`);
      const fixed = makeImmutable(value);
      expect(put(people.pick(), fixed)).toBeGreaterThan(4);
      expect(get(people.pick(), fixed)?.value).toEqual(value);
      const seed = new Uint8Array(32).fill(i);
      const salt = new Uint8Array(i);
      for (let seq = 1; seq <= 3; seq++) {
        const item = makeMutable(crypto, seed, salt, seq, encode([i, seq]));
        expect(put(people.pick(), item, seq - 1)).toBeGreaterThan(3);
        expect(get(people.pick(), item)).toEqual(item);
      }
    }
  });

  it('are peers in numbers that a scrape finds out', () => {
    const people = settled(9, 120);
    const infoHash = randomHash(people.net);
    let open = 100;
    const sink = { onDhtPeers: (): void => {}, onDhtPeersDone: (): void => void open-- };
    people.machines.slice(0, 100).forEach((who, i) => {
      who.dht.getPeers(people.net.now, infoHash, sink, { port: 6881, seed: i < 30 });
      who.arm();
    });
    people.net.runUntil(() => open === 0, 2 * MINUTE);
    let found = { seeds: 0, peers: 0, nodes: 0 };
    const who = people.machines[110]!;
    who.dht.scrape(people.net.now, infoHash, {
      onDhtScrape: (result) => {
        found = result;
      },
    });
    who.arm();
    people.net.runUntil(() => found.nodes > 0, 2 * MINUTE);
    expect(found.nodes).toBeGreaterThanOrEqual(8);
    expect(Math.abs(found.seeds - 30)).toBeLessThanOrEqual(4);
    expect(Math.abs(found.peers - 70)).toBeLessThanOrEqual(7);
  });
});

describe('a DHT under attack', { timeout: 120_000 }, () => {
  it('announces past 50 sybils of one /24 beside the target, and finds, 100 times of 100', () => {
    const people = settled(3, 150);
    const { net } = people;
    const gang = new Gang(net);
    gang.settle(50, '66.66.66');
    let found = 0;
    let honest = 0;
    let most = 0;
    for (let i = 0; i < 100; i++) {
      const infoHash = randomHash(net);
      gang.surround(infoHash);
      for (const liar of gang.liars) liar.asked.clear();
      // a tenth of the network hears of them before anybody asks
      gang.canvass(
        people.machines.filter((_, k) => k % 10 === i % 10),
        infoHash,
      );
      net.run(2000);
      const announcer = people.pick();
      if (announce(announcer, infoHash, 5000 + i) > 0) honest++;
      most = Math.max(most, gang.liars.filter((liar) => liar.asked.has('announce_peer')).length);
      let searcher = people.pick();
      while (searcher === announcer) searcher = people.pick();
      if (finds(searcher, infoHash, announcer, 5000 + i)) found++;
    }
    expect([honest, found]).toEqual([100, 100]);
    expect(most).toBeLessThanOrEqual(1);
  });

  it('announces past 200 scattered sybils whose ids do not match their addresses', () => {
    const people = settled(4, 150);
    const { net } = people;
    const gang = new Gang(net);
    gang.scatter(200);
    let found = 0;
    for (let i = 0; i < 20; i++) {
      const infoHash = randomHash(net);
      gang.surround(infoHash);
      gang.canvass(
        people.machines.filter((_, k) => k % 10 === i % 10),
        infoHash,
      );
      net.run(2000);
      const announcer = people.pick();
      announce(announcer, infoHash, 5000 + i);
      let searcher = people.pick();
      while (searcher === announcer) searcher = people.pick();
      if (finds(searcher, infoHash, announcer, 5000 + i)) found++;
    }
    expect(found).toBe(20);
  });

  it('is joined through one good bootstrap node of five', () => {
    const people = settled(5, 150);
    const { net } = people;
    for (let i = 0; i < 20; i++) {
      const gang = new Gang(net);
      gang.scatter(40);
      gang.chases = true;
      gang.fakePeers = 20;
      const machine = new DhtMachine(net);
      machine.start([...gang.liars.slice(0, 4), people.routers[i % people.routers.length]!]);
      net.run(20_000);
      const infoHash = randomHash(net);
      const announcer = people.pick();
      announce(announcer, infoHash, 4000 + i);
      expect([i, finds(machine, infoHash, announcer, 4000 + i)]).toEqual([i, true]);
      announce(machine, infoHash, 5000 + i);
      expect([i, finds(people.pick(), infoHash, machine, 5000 + i)]).toEqual([i, true]);
      machine.die();
      for (const liar of gang.liars) net.remove(liar);
    }
  });
});
