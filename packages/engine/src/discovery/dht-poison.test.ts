/** Ids, tables and lookups as liars would have them: chosen ids, poisoned lists, forged answers. */

import { describe, expect, it } from 'vitest';
import { compactNode, compactPeer, DhtBench, hash20, idOf, publicIp } from '../../test/dht-kit.ts';
import { concat, equal, toHex } from '../base/bytes.ts';
import { type BInput, encode } from '../codec/bencode.ts';
import { ExternalIp } from './external-ip.ts';
import { makeNodeId, randomIdNear } from './node-id.ts';

const TARGET = hash20(77);
const SECOND = 1000;
const MINUTE = 60_000;
const nobody = { onDhtPeers: (): void => {}, onDhtPeersDone: (): void => {} };

describe('ids chosen to be close', () => {
  /** 30 honest nodes that know each other, and liars with ids right beside the target. Who was announced to? */
  function announced(liarIps: readonly string[], honestCount = 30): { liars: string[]; honest: number } {
    const bench = new DhtBench().start();
    const honest = Array.from({ length: honestCount }, (_, i) => publicIp(i));
    const liars = new Map(liarIps.map((ip, i) => [ip, randomIdNear(bench.rng, TARGET, 60 + (i % 60))]));
    for (const ip of honest.slice(0, 8)) bench.befriend(ip);
    for (const [ip, id] of [...liars].slice(0, 8)) bench.befriend(ip, 6881, id);
    const all = [...honest.map((ip) => compactNode(ip)), ...[...liars].map(([ip, id]) => compactNode(ip, 6881, id))];
    const took = { liars: [] as string[], honest: 0 };
    bench.dht.getPeers(bench.now, TARGET, nobody, { port: 5000, seed: false });
    bench.play(({ method, ip }) => {
      const id = liars.get(ip) ?? idOf(ip);
      if (method === 'announce_peer') {
        if (liars.has(ip)) took.liars.push(ip);
        else took.honest++;
        return { id };
      }
      const friends = liars.has(ip) ? all.slice(honest.length) : all;
      const picked = Array.from({ length: 8 }, () => friends[bench.rng.below(friends.length)]!);
      return { id, token: 'tttt', nodes: concat(picked) };
    });
    return took;
  }

  it('do not store what is announced, while enough nodes are true to their address', () => {
    const took = announced(Array.from({ length: 40 }, (_, i) => publicIp(3000 + i)));
    expect(took.liars).toEqual([]);
    expect(took.honest).toBeGreaterThanOrEqual(8);
  });

  it('of one /24 are at most one of those that store', () => {
    const took = announced(Array.from({ length: 50 }, (_, i) => `66.66.66.${1 + i}`));
    expect(took.liars.length).toBeLessThanOrEqual(1);
    expect(took.honest).toBeGreaterThanOrEqual(7);
  });
});

describe('the table and what poisons it', () => {
  it('holds one id per address, and one address per id', () => {
    const bench = new DhtBench().start();
    for (let i = 0; i < 50; i++) bench.befriend('50.1.1.1', 1000 + i, makeNodeId(bench.rng, null));
    expect(bench.dht.nodes(4).filter((node) => node.ip === '50.1.1.1').length).toBe(1);
    const id = idOf('50.2.2.2');
    for (let i = 0; i < 50; i++) bench.befriend(publicIp(i), 6881, id);
    expect(bench.dht.nodes(4).filter((node) => equal(node.id, id)).length).toBe(1);
  });

  it('does not take on who merely asked, nor who says that it is read-only', () => {
    const bench = new DhtBench().start();
    for (let i = 0; i < 100; i++) bench.query('find_node', { target: TARGET }, publicIp(i));
    expect(bench.dht.nodes(4).length).toBe(0);
    const readOnly = encode({ t: 'a', y: 'q', q: 'ping', ro: 1, a: { id: idOf('50.1.1.1') } });
    bench.sent = [];
    bench.raw(readOnly, '50.1.1.1');
    expect(bench.takeQueries().filter((query) => query.ip === '50.1.1.1')).toEqual([]);
  });

  it('is not filled, and no lookup fed, by answers from another port, address or with another id of the question', () => {
    const bench = new DhtBench().start();
    bench.dht.addNode(bench.now, '50.1.1.1', 6881);
    const [query] = bench.takeQueries();
    const t = query!.message.bytes('t')!;
    const reply = (tid: Uint8Array): Uint8Array => encode({ t: tid, y: 'r', r: { id: idOf('50.1.1.1') } });
    bench.raw(reply(t), '50.1.1.1', 6882);
    bench.raw(reply(t), '50.1.1.2', 6881);
    bench.raw(reply(concat([t, t])), '50.1.1.1', 6881);
    bench.raw(reply(t.subarray(1)), '50.1.1.1', 6881);
    expect(bench.dht.nodes(4).length).toBe(0);
    bench.raw(reply(t), '50.1.1.1', 6881);
    expect(bench.dht.nodes(4).length).toBe(1);
    bench.raw(reply(t), '50.1.1.1', 6881);
    expect(bench.dht.nodes(4).length).toBe(1);
  });

  it('follows at most five new addresses of a reply, however many it names', () => {
    const bench = new DhtBench().start();
    bench.befriend(publicIp(0));
    bench.dht.getPeers(bench.now, TARGET, nobody, null);
    let named = 0;
    const asked = new Set<string>();
    let replies = 0;
    bench.play(({ method, ip }) => {
      if (method !== 'get_peers') return null;
      asked.add(ip);
      if (ip !== publicIp(0)) return null;
      replies++;
      const many = Array.from({ length: 50 }, () => {
        const victim = publicIp(10_000 + named++);
        return compactNode(victim, 6881, randomIdNear(bench.rng, TARGET, 100));
      });
      return { token: 't', nodes: concat(many) };
    });
    asked.delete(publicIp(0));
    expect(replies).toBeGreaterThan(0);
    expect(asked.size).toBeLessThanOrEqual(5 * replies);
  });

  it('never asks low ports of one victim more than three times a minute, whoever names them', () => {
    const bench = new DhtBench().start();
    bench.populate(30);
    const times: number[] = [];
    for (let round = 0; round < 10; round++) {
      bench.dht.getPeers(bench.now, hash20(round), nobody, null);
      bench.play(({ ip, port, message }) => {
        if (ip === '99.9.9.9') {
          expect(port).toBeLessThan(1024);
          times.push(bench.now);
          return null;
        }
        const target = message.dict('a')!.bytes('info_hash') ?? TARGET;
        const ports = Array.from({ length: 8 }, () =>
          compactNode('99.9.9.9', 1 + bench.rng.below(1023), randomIdNear(bench.rng, target, 100)),
        );
        return { token: 't', nodes: concat(ports) };
      });
    }
    for (let i = 3; i < times.length; i++) expect(times[i]! - times[i - 3]!).toBeGreaterThanOrEqual(MINUTE);
  });

  it('keeps to that across the minute, too', () => {
    const bench = new DhtBench().start();
    const times: number[] = [];
    for (let i = 0; i < 400; i++) {
      bench.dht.addNode(bench.now, '99.9.9.9', 1 + (i % 1000));
      times.push(...bench.takeQueries().map(() => bench.now));
      // at the end of one minute and the beginning of the next
      bench.pass(i % 4 === 0 ? 50 * SECOND : 100);
    }
    expect(times.length).toBeGreaterThan(6);
    for (let i = 3; i < times.length; i++) expect(times[i]! - times[i - 3]!).toBeGreaterThanOrEqual(MINUTE);
  });

  it('never sends to impossible addresses, port 0 or itself', () => {
    const bench = new DhtBench().start();
    bench.populate(10);
    const bad = ['0.0.0.0', '224.0.0.1', '255.255.255.255', '239.1.2.3'];
    bench.dht.getPeers(bench.now, TARGET, nobody, null);
    bench.play(({ ip, port }) => {
      expect(bad).not.toContain(ip);
      expect(port).toBeGreaterThan(0);
      const nodes = bad.map((address, i) => compactNode(address, 6881, randomIdNear(bench.rng, TARGET, 90 + i)));
      return { nodes: concat([...nodes, compactNode('50.5.5.5', 0)]), values: [compactPeer('0.0.0.0')] };
    });
    bench.raw(encode({ t: 'a', y: 'q', q: 'ping', a: { id: idOf('9.9.9.9') } }), '9.9.9.9', 0);
    expect(bench.sent.filter(({ port }) => port === 0)).toEqual([]);
  });

  it('gives the torrents no impossible peers', () => {
    const bench = new DhtBench().start();
    bench.populate(8);
    const found: string[] = [];
    const sink = {
      onDhtPeers: (peers4: Uint8Array, peers6: Uint8Array): void => {
        expect([peers4.length % 6, peers6.length % 18]).toEqual([0, 0]);
        for (let i = 0; i < peers4.length; i += 6) found.push(toHex(peers4.subarray(i, i + 6)));
      },
      onDhtPeersDone: (): void => {},
    };
    bench.dht.getPeers(bench.now, TARGET, sink, null);
    const bad = ['0.0.0.0', '224.0.0.1', '255.255.255.255'].map((ip) => compactPeer(ip));
    const values: BInput[] = [...bad, compactPeer('5.5.5.5', 0), compactPeer('5.5.5.5', 9), 'abc', 7, [], {}];
    bench.play(({ method }) => (method === 'get_peers' ? { token: 't', values } : {}));
    expect(new Set(found)).toEqual(new Set([toHex(compactPeer('5.5.5.5', 9))]));
  });

  it('has an end to every lookup, even when each answer names a closer node that answers too', () => {
    const bench = new DhtBench().start();
    bench.populate(8);
    let done = 0;
    let asked = 0;
    bench.dht.getPeers(bench.now, TARGET, { ...nobody, onDhtPeersDone: () => done++ }, { port: 5, seed: false });
    bench.play(({ method }) => {
      asked++;
      const next = publicIp(20_000 + asked);
      return {
        token: 't',
        nodes:
          method === 'get_peers' ? compactNode(next, 6881, randomIdNear(bench.rng, TARGET, 20 + (asked % 100))) : '',
      };
    });
    expect(done).toBe(1);
    expect(asked).toBeLessThan(1000);
  });

  it('has an end to every lookup when nobody answers, or all with errors', () => {
    for (const how of ['silence', 'error', 'garbage'] as const) {
      const bench = new DhtBench().start();
      bench.populate(20);
      let done = 0;
      bench.dht.getPeers(bench.now, TARGET, { ...nobody, onDhtPeersDone: () => done++ }, { port: 5, seed: false });
      for (let i = 0; i < 300 && done === 0; i++) {
        for (const query of bench.takeQueries()) {
          const t = query.message.bytes('t')!;
          if (how === 'error') bench.raw(encode({ t, y: 'e', e: [202, 'no'] }), query.ip, query.port);
          if (how === 'garbage') bench.raw(encode({ t, y: 'r', r: { id: 'short', nodes: 'x' } }), query.ip, query.port);
        }
        bench.pass(SECOND);
      }
      expect([how, done]).toEqual([how, 1]);
    }
  });
});

describe('the vote on the external address', () => {
  it('does not move the id for a minority, nor for one network, and moves it to match for a majority', () => {
    const bench = new DhtBench().start();
    const before = toHex(bench.dht.nodeId(4));
    for (let i = 0; i < 60; i++) {
      bench.dht.addNode(bench.now, `60.60.60.${1 + i}`, 6881);
      for (const query of bench.takeQueries()) bench.answer(query, {}, { ip: compactPeer('66.6.6.6') });
    }
    expect(toHex(bench.dht.nodeId(4))).toBe(before);
    expect(bench.external).toBeInstanceOf(ExternalIp);
    for (let i = 0; i < 10; i++) {
      bench.dht.addNode(bench.now, publicIp(i), 6881);
      for (const query of bench.takeQueries()) bench.answer(query, {}, { ip: compactPeer('124.31.75.21') });
    }
    expect(bench.external.ip4).toBe('124.31.75.21');
    expect(toHex(bench.dht.nodeId(4))).not.toBe(before);
  });
});
