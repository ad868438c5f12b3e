import { describe, expect, it } from 'vitest';
import { latin1, toHex } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import { Rng } from '../base/random.ts';
import { BloomFilter } from './dht-bloom.ts';
import { DhtPeers } from './dht-peers.ts';

const MINUTE = 60_000;
const rng = (seed = 1): Rng => new Rng(Uint32Array.of(seed, 2, 3, 4));
const hash = (n: number): Uint8Array => {
  const bytes = new Uint8Array(20);
  for (let i = 0; i < 4; i++) bytes[i] = bytes[16 + i] = n >>> (8 * i);
  return bytes;
};
/** A public address of its own /24 for each n. */
const ip = (n: number): Uint8Array => Uint8Array.of(20 + (n >>> 16), n >>> 8, n, 1);
const ports = (found: Uint8Array[]): number[] =>
  found.map((e) => (e[e.length - 2]! << 8) | e[e.length - 1]!).sort((a, b) => a - b);

describe('announced peers', () => {
  it('come back as they were announced, by family', () => {
    const peers = new DhtPeers(rng(), 10, 10);
    peers.add(0, hash(1), ip(1), 6881, false);
    peers.add(0, hash(1), parseIp('2001:db8::7')!, 6882, true);
    peers.add(0, hash(2), ip(2), 6883, false);
    expect(peers.peers(0, hash(1), 4, 50, false).map(toHex)).toEqual(['140001011ae1']);
    expect(peers.peers(0, hash(1), 6, 50, false).map(toHex)).toEqual(['20010db80000000000000000000000071ae2']);
    expect(peers.peers(0, hash(1), 6, 50, true)).toEqual([]);
    expect([peers.has(hash(1)), peers.has(hash(3)), peers.hashCount, peers.peerCount]).toEqual([true, false, 2, 3]);
    expect(peers.peers(0, hash(3), 4, 50, false)).toEqual([]);
    expect(peers.blooms(0, hash(3))).toBeNull();
  });

  it('count an address once, with its last port and role; a local one once per port', () => {
    const peers = new DhtPeers(rng(), 10, 10);
    peers.add(0, hash(1), ip(1), 1000, true);
    peers.add(0, hash(1), ip(1), 2000, false);
    expect(ports(peers.peers(0, hash(1), 4, 50, true))).toEqual([2000]);
    peers.add(0, hash(1), ip(1), 2000, true);
    expect(peers.peers(0, hash(1), 4, 50, true)).toEqual([]);
    for (const port of [1, 2, 3, 2]) peers.add(0, hash(2), Uint8Array.of(127, 0, 0, 1), port, false);
    expect(ports(peers.peers(0, hash(2), 4, 50, false))).toEqual([1, 2, 3]);
    for (const port of [0, -1, 65536]) peers.add(0, hash(3), ip(3), port, false);
    expect([peers.has(hash(3)), peers.peerCount]).toEqual([false, 4]);
  });

  it('expire 30 minutes after their last announce, asked for or not', () => {
    const peers = new DhtPeers(rng(), 100, 100);
    for (let i = 0; i < 90; i++) peers.add(0, hash(1 + (i % 3)), ip(i), 1 + i, false);
    for (let i = 0; i < 90; i += 2) peers.add(10 * MINUTE, hash(1 + (i % 3)), ip(i), 1 + i, false);
    expect(peers.peers(29 * MINUTE, hash(1), 4, 100, false).length).toBe(30);
    expect(ports(peers.peers(30 * MINUTE, hash(1), 4, 100, false)).every((port) => port % 2 === 1)).toBe(true);
    expect([peers.has(hash(1)), peers.peerCount]).toEqual([true, 75]);
    for (let now = 30 * MINUTE; now < 32 * MINUTE; now += 1000) peers.tick(now);
    expect(peers.peerCount).toBe(45);
    for (let now = 40 * MINUTE; now < 42 * MINUTE; now += 1000) peers.tick(now);
    expect([peers.hashCount, peers.peerCount]).toEqual([0, 0]);
    peers.add(42 * MINUTE, hash(1), ip(5), 99, false);
    expect(ports(peers.peers(42 * MINUTE, hash(1), 4, 9, false))).toEqual([99]);
  });

  it('are drawn at random, each as likely, none twice', () => {
    const peers = new DhtPeers(rng(), 10, 500);
    for (let i = 0; i < 200; i++) peers.add(0, hash(1), ip(i), 1 + i, false);
    const times = new Map<number, number>();
    const first = new Map<number, number>();
    for (let round = 0; round < 2000; round++) {
      const found = peers.peers(0, hash(1), 4, 20, false).map((e) => (e[4]! << 8) | e[5]!);
      expect(new Set(found).size).toBe(20);
      for (const port of found) times.set(port, (times.get(port) ?? 0) + 1);
      first.set(found[0]!, (first.get(found[0]!) ?? 0) + 1);
    }
    // each 200 times on the average, with a deviation of 13; first 10 times, with 3
    expect(Math.min(...times.values())).toBeGreaterThan(130);
    expect(Math.max(...times.values())).toBeLessThan(270);
    expect(Math.max(...first.values())).toBeLessThan(40);
  });

  it('fill Bloom filters as BEP 33 asks', () => {
    const peers = new DhtPeers(rng(), 10, 500);
    const seeds = new BloomFilter();
    const leeches = new BloomFilter();
    for (let i = 0; i < 300; i++) {
      const address = i % 2 === 0 ? ip(i) : parseIp(`2001:db8:${i.toString(16)}::1`)!;
      (i % 3 === 0 ? seeds : leeches).add(address);
      peers.add(0, hash(1), address, 6881, i % 3 === 0);
    }
    const found = peers.blooms(0, hash(1))!;
    expect(toHex(found.seeds)).toBe(toHex(seeds.bytes));
    expect(toHex(found.peers)).toBe(toHex(leeches.bytes));
  });

  it('sample hashes: different ones, each as likely', () => {
    const peers = new DhtPeers(rng(), 2000, 500);
    for (let i = 0; i < 100; i++) peers.add(0, hash(i), ip(i), 6881, false);
    const times = new Map<string, number>();
    for (let round = 0; round < 1000; round++) {
      const joined = peers.sample(20);
      const found = new Set(Array.from({ length: 20 }, (_, i) => toHex(joined.subarray(20 * i, 20 * i + 20))));
      expect(found.size).toBe(20);
      for (const hex of found) times.set(hex, (times.get(hex) ?? 0) + 1);
    }
    expect(times.size).toBe(100);
    expect(Math.min(...times.values())).toBeGreaterThan(130);
    expect(peers.sample(1000).length).toBe(2000);
    expect(new DhtPeers(rng(), 5, 5).sample(10).length).toBe(0);
  });
});

describe('a full store', () => {
  it('keeps its caps, and its counts right, whatever comes', () => {
    const draw = rng(7);
    const peers = new DhtPeers(rng(), 50, 40);
    let now = 0;
    for (let i = 0; i < 30_000; i++) {
      now += draw.below(2000);
      const n = draw.below(5000);
      const address = draw.below(3) === 0 ? parseIp(`2001:db8:${n.toString(16)}::1`)! : ip(n);
      peers.add(now, hash(draw.below(draw.below(20) === 0 ? 500 : 60)), address, 1 + n, draw.below(2) === 0);
      if (i % 7 === 0) peers.tick(now);
      if (i % 501 !== 0) continue;
      let all = 0;
      const joined = peers.sample(100);
      for (let h = 0; h < joined.length; h += 20) {
        const of = joined.subarray(h, h + 20);
        const found = [4, 6].flatMap((family) => peers.peers(now, of, family as 4 | 6, 1000, false));
        expect(new Set(found.map(latin1)).size).toBe(found.length);
        expect(found.length).toBeLessThanOrEqual(40);
        expect(found.length).toBe(peers.peersOf(of));
        all += found.length;
      }
      expect(peers.peerCount).toBe(all);
      expect(peers.hashCount).toBeLessThanOrEqual(50);
    }
  });

  it('is not emptied of honest hashes and peers by a flood from one network', () => {
    const peers = new DhtPeers(rng(), 2000, 500);
    for (let i = 0; i < 1000; i++) peers.add(0, hash(i), ip(i), 6881, false);
    for (let i = 0; i < 400; i++) peers.add(0, hash(5000), ip(i), 6881, false);
    for (let i = 0; i < 100_000; i++) peers.add(0, hash(10_000 + i), Uint8Array.of(9, 9, 9, i), 6881, false);
    for (let i = 0; i < 100_000; i++) peers.add(0, hash(5000), Uint8Array.of(9, 9, 9, i), 1 + (i % 60_000), false);
    let left = 0;
    for (let i = 0; i < 1000; i++) if (peers.has(hash(i))) left++;
    expect(left).toBeGreaterThan(990);
    const found = peers.peers(0, hash(5000), 4, 500, false);
    expect(found.filter((e) => e[0] !== 9).length).toBeGreaterThanOrEqual(399);
    expect([peers.hashCount, peers.peersOf(hash(5000))]).toEqual([2000, 500]);
  });

  it('takes a million announces in little memory and time', () => {
    const peers = new DhtPeers(rng(), 2000, 500);
    const address = new Uint8Array(4);
    const bytesBefore = process.memoryUsage().arrayBuffers;
    const started = performance.now();
    for (let i = 0; i < 1_000_000; i++) {
      address[0] = 20 + (i >>> 18);
      address[1] = i >>> 10;
      address[2] = i >>> 2;
      address[3] = i;
      peers.add(0, hash(i % 2000), address, 6881, false);
    }
    const tookMs = performance.now() - started;
    expect(peers.peerCount).toBe(1_000_000);
    expect(process.memoryUsage().arrayBuffers - bytesBefore).toBeLessThan(24 << 20);
    expect(tookMs).toBeLessThan(20_000);
  });
});
