import { describe, expect, it } from 'vitest';
import { toHex } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import { Rng } from '../base/random.ts';
import { compareDistance, makeNodeId, randomIdNear, sharedBits } from './node-id.ts';
import { K, QUESTIONABLE_MS, type RouteNode, RoutingTable } from './routing-table.ts';

const rng = new Rng(Uint32Array.of(5, 6, 7, 8));
const OWN = makeNodeId(rng, null);
const PORT = 6881;

function compact(id: Uint8Array, ip: string, port: number = PORT): Uint8Array {
  const address = parseIp(ip)!;
  return Uint8Array.of(...id, ...address, port >> 8, port & 255);
}

/** Local addresses, each in a network of its own: their ids are free. */
const address = (i: number): string => `10.${i >> 8}.${i & 255}.1`;

function add(table: RoutingTable, id: Uint8Array, ip: string, now = 0, port = PORT): boolean {
  return table.answered(now, compact(id, ip, port), ip, port, 50);
}

function inBucket(bits: number): Uint8Array {
  return randomIdNear(rng, OWN, bits);
}

const ips = (table: RoutingTable): string[] => table.nodes().map((node) => node.ip);

describe('a routing table', () => {
  it('has room for 128, 64, 32, 16 and then 8 nodes of a bucket', () => {
    const table = new RoutingTable(OWN);
    let n = 0;
    for (let bits = 0; bits < 8; bits++) for (let i = 0; i < 200; i++) add(table, inBucket(bits), address(n++));
    const sizes = new Array<number>(8).fill(0);
    for (const node of table.nodes()) sizes[sharedBits(OWN, node.compact)]!++;
    expect(sizes).toEqual([128, 64, 32, 16, 8, 8, 8, 8]);
    expect(table.count).toBe(272);
    expect(table.spareCount).toBe(64);
    expect(add(table, OWN, '10.9.9.9')).toBe(false);
  });

  it('finds the closest as a search of all does', () => {
    const table = new RoutingTable(OWN);
    for (let i = 0; i < 400; i++) add(table, inBucket(i % 12), address(i));
    const out: RouteNode[] = [];
    for (let i = 0; i < 200; i++) {
      const target = inBucket(i % 20);
      const all = table.nodes().sort((a, b) => compareDistance(a.compact, b.compact, target));
      for (const max of [1, 8, 30]) {
        const count = table.closest(target, 0, max, out, true);
        expect(out.slice(0, count).map((node) => node.ip)).toEqual(all.slice(0, max).map((node) => node.ip));
      }
    }
    expect(table.closest(OWN, 0, 8, out, true)).toBe(8);
    expect(new RoutingTable(OWN).closest(OWN, 0, 8, out, true)).toBe(0);
  });

  it('holds one id per address and one address per id', () => {
    const table = new RoutingTable(OWN);
    const [a, b] = [inBucket(0), inBucket(0)];
    expect(add(table, a, '10.0.0.1')).toBe(true);
    expect(add(table, b, '10.0.0.1', 0, 7000)).toBe(false);
    expect(add(table, a, '10.0.1.1')).toBe(false);
    expect(table.nodes().map((node) => [toHex(node.id), node.port])).toEqual([[toHex(a), PORT]]);
    // the same program under a new id: the old one is nobody now
    expect(add(table, b, '10.0.0.1')).toBe(true);
    expect(table.nodes().map((node) => toHex(node.id))).toEqual([toHex(b)]);
    // it does not answer any more; another port does
    table.failed(1, '10.0.0.1', PORT);
    expect(add(table, a, '10.0.0.1', 1, 7000)).toBe(true);
    expect(table.at('10.0.0.1')!.port).toBe(7000);
  });

  it('gives way: those who fail, then a second one of a network, then ids that do not match their address', () => {
    const table = new RoutingTable(OWN);
    const bits = 6;
    // 5 honest ones, 2 of one /24, 1 whose id is not of its address
    for (let i = 0; i < 5; i++) add(table, inBucket(bits), address(i));
    add(table, inBucket(bits), '10.50.0.1');
    add(table, inBucket(bits), '10.50.0.2');
    add(table, inBucket(bits), '9.9.9.9');
    expect(add(table, inBucket(bits), '10.50.0.3')).toBe(false);
    expect(add(table, inBucket(bits), '10.60.0.1')).toBe(true);
    expect(ips(table)).not.toContain('10.50.0.2');
    expect(add(table, inBucket(bits), '8.8.8.8')).toBe(false);
    expect(add(table, inBucket(bits), '10.60.1.1')).toBe(true);
    expect(ips(table)).not.toContain('9.9.9.9');
    expect(add(table, inBucket(bits), '10.60.2.1')).toBe(false);
    table.failed(0, address(3), PORT);
    expect(add(table, inBucket(bits), '10.60.3.1')).toBe(true);
    expect(ips(table)).not.toContain(address(3));
    expect(table.count).toBe(K);
  });

  it('takes no spare one whose id another has by now', () => {
    const table = new RoutingTable(OWN);
    const id = inBucket(6);
    for (let i = 0; i < K; i++) add(table, inBucket(6), address(i));
    expect(add(table, id, address(20))).toBe(false);
    table.failed(0, address(0), PORT);
    expect(add(table, id, address(21))).toBe(true);
    for (let i = 0; i < 2; i++) table.failed(0, address(1), PORT);
    expect(ips(table)).not.toContain(address(20));
  });

  it('puts a spare one in the place of one that failed twice, and forgets the lost in the end', () => {
    const table = new RoutingTable(OWN);
    for (let i = 0; i < K; i++) add(table, inBucket(6), address(i));
    expect(add(table, inBucket(6), address(20))).toBe(false);
    table.failed(0, address(0), PORT);
    expect(ips(table)).toContain(address(0));
    table.failed(0, address(0), PORT + 1);
    expect(ips(table)).toContain(address(0));
    table.failed(0, address(0), PORT);
    expect(ips(table)).not.toContain(address(0));
    expect(ips(table)).toContain(address(20));
    // nobody else in waiting: it stays for a while, but is not named to others
    const out: RouteNode[] = [];
    for (let i = 0; i < 3; i++) table.failed(0, address(1), PORT);
    expect(ips(table)).toContain(address(1));
    expect(out.slice(0, table.closest(OWN, 0, 8, out, true)).map((node) => node.ip)).not.toContain(address(1));
    expect(table.closest(OWN, 0, 8, out, false)).toBe(K);
    for (let i = 0; i < 10; i++) table.failed(0, address(1), PORT);
    expect(ips(table)).not.toContain(address(1));
  });

  it('says who is silent, and which bucket saw no change', () => {
    const table = new RoutingTable(OWN);
    add(table, inBucket(0), address(0), 0);
    add(table, inBucket(3), address(1), 1000);
    expect(table.stale(QUESTIONABLE_MS - 1)).toBe(null);
    expect(table.stale(QUESTIONABLE_MS)!.ip).toBe(address(0));
    expect(table.asked(QUESTIONABLE_MS, address(0), PORT)).toBe(true);
    expect(table.asked(QUESTIONABLE_MS, address(0), PORT + 1)).toBe(false);
    expect(table.stale(QUESTIONABLE_MS + 1000)!.ip).toBe(address(1));
    const now = 20 * 60_000;
    expect(table.idleBucket(now, 15 * 60_000)).toBe(0);
    table.touch(now, 0);
    expect(table.idleBucket(now, 15 * 60_000)).toBe(3);
  });

  it('names one node of a crowd, and those true to their address, before others', () => {
    const table = new RoutingTable(OWN);
    const target = inBucket(0);
    // public addresses with ids beside the target, some of one /24; then honest ones far from it
    for (let i = 0; i < 40; i++) add(table, randomIdNear(rng, target, 40), `66.66.66.${i + 1}`);
    for (let i = 0; i < 40; i++) add(table, randomIdNear(rng, target, 40), `66.67.${i}.1`);
    for (let i = 0; i < 6; i++) add(table, inBucket(1), address(i));
    const out: RouteNode[] = [];
    const count = table.closestFair(target, 0, 8, out, true);
    const named = out.slice(0, count).map((node) => node.ip);
    expect(count).toBe(8);
    expect(named.slice(0, 6).every((ip) => ip.startsWith('10.'))).toBe(true);
    expect(named.filter((ip) => ip.startsWith('66.66.66.')).length).toBeLessThanOrEqual(1);
    expect(new Set(named).size).toBe(8);
  });

  it('names all of a crowd where there is nobody else', () => {
    const table = new RoutingTable(OWN);
    for (let i = 0; i < 12; i++) add(table, inBucket(i % 3), `127.0.0.${i + 1}`);
    const out: RouteNode[] = [];
    expect(table.closestFair(OWN, 0, 8, out, true)).toBe(8);
    add(table, inBucket(0), '127.0.1.1');
    expect(table.closestFair(OWN, 0, 8, out, true)).toBe(8);
    expect(new Set(out.slice(0, 8)).size).toBe(8);
    expect(out[0]!.network).not.toBe(out[1]!.network);
  });

  it('stays whole under a change of id and any run of answers and failures', () => {
    const table = new RoutingTable(OWN);
    for (let i = 0; i < 20_000; i++) {
      const ip = `10.0.${rng.below(40)}.${1 + rng.below(8)}`;
      const roll = rng.below(10);
      if (roll < 6) add(table, inBucket(rng.below(14)), ip, i, PORT + rng.below(2));
      else if (roll < 9) table.failed(i, ip, PORT + rng.below(2));
      else if (i % 1000 === 0) table.rebuild(i, makeNodeId(rng, null));
    }
    const nodes = table.nodes();
    expect(nodes.length).toBe(table.count);
    expect(new Set(nodes.map((node) => node.ip)).size).toBe(nodes.length);
    for (const node of nodes) expect(table.at(node.ip)).toBe(node);
    const out: RouteNode[] = [];
    expect(table.closest(OWN, 0, 64, out, false)).toBe(Math.min(64, nodes.length));
  });
});
