/** What strangers may try on a `Dht`: malformed messages, amplification, stale tokens, forged items, tampered state. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compactNode,
  compactPeer,
  crypto,
  DhtBench,
  errorCode,
  hash20,
  idOf,
  publicIp,
  readMessage,
} from '../../test/dht-kit.ts';
import { concat, equal, latin1, toHex, utf8Encode } from '../base/bytes.ts';
import { Rng } from '../base/random.ts';
import { type BInput, encode } from '../codec/bencode.ts';
import type { Dht, DhtPeersResult } from './dht.ts';
import { makeImmutable, makeMutable } from './dht-items.ts';
import { idMatches, makeNodeId } from './node-id.ts';

const text = utf8Encode;
const TARGET = hash20(77);
const SECOND = 1000;
const MINUTE = 60_000;
const nobody = { onDhtPeers: (): void => {}, onDhtPeersDone: (): void => {} };

/** A node with something of everything: nodes, peers, items. */
function stocked(options = {}): DhtBench {
  const bench = new DhtBench(options).start();
  bench.populate(60);
  for (let i = 0; i < 120; i++) {
    const ip = publicIp(1000 + i);
    bench.now += 500;
    const token = bench.query('get_peers', { info_hash: TARGET }, ip)!.dict('r')!.bytes('token')!;
    bench.query('announce_peer', { info_hash: TARGET, port: 1000 + i, token, seed: i & 1 }, ip);
    bench.query('announce_peer', { info_hash: hash20(i), port: 1000 + i, token }, ip);
  }
  const item = makeImmutable(text(`996:${'x'.repeat(996)}`));
  const token = bench.query('get', { target: item.target })!.dict('r')!.bytes('token')!;
  const big: BInput = text('x'.repeat(996));
  expect(errorCode(bench.query('put', { v: big, token }))).toBe(0);
  bench.sent = [];
  bench.pass(MINUTE);
  bench.sent = [];
  bench.sentBytes = 0;
  return bench;
}

describe('malformed messages', () => {
  const good = (): Uint8Array[] => [
    encode({ t: 'aa', y: 'q', q: 'ping', a: { id: idOf('9.9.9.9') } }),
    encode({ t: 'aa', y: 'q', q: 'find_node', a: { id: idOf('9.9.9.9'), target: TARGET, want: ['n4', 'n6'] } }),
    encode({ t: 'aa', y: 'q', q: 'get_peers', a: { id: idOf('9.9.9.9'), info_hash: TARGET, scrape: 1, noseed: 1 } }),
    encode({
      t: 'aa',
      y: 'q',
      q: 'announce_peer',
      a: { id: idOf('9.9.9.9'), info_hash: TARGET, port: 1, token: 'aoeu', implied_port: 1, seed: 1 },
    }),
    encode({ t: 'aa', y: 'q', q: 'get', a: { id: idOf('9.9.9.9'), target: TARGET, seq: 1 } }),
    encode({
      t: 'aa',
      y: 'q',
      q: 'put',
      a: {
        id: idOf('9.9.9.9'),
        k: new Uint8Array(32),
        sig: new Uint8Array(64),
        seq: 1,
        salt: 's',
        token: 't',
        v: ['a'],
      },
    }),
    encode({ t: 'aa', y: 'q', q: 'sample_infohashes', a: { id: idOf('9.9.9.9'), target: TARGET } }),
    encode({
      t: 'aaaa',
      y: 'r',
      r: { id: idOf('9.9.9.9'), nodes: compactNode('1.2.3.4'), values: [compactPeer('1.2.3.4')], token: 'x' },
      ip: compactPeer('1.2.3.4'),
    }),
    encode({ t: 'aaaa', y: 'e', e: [201, 'A Generic Error Ocurred'] }),
  ];

  it('of any bytes neither throw nor stay unanswered for good', () => {
    const bench = stocked();
    const any = fc.uint8Array({ maxLength: 200 });
    const almost = fc.string({ unit: fc.constantFrom(...'0123459:ilde-aqrtyv'), maxLength: 80 });
    const edits = fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { minLength: 1, maxLength: 6 });
    const mutated = fc.tuple(fc.nat(8), edits, fc.nat(500)).map(([which, list, cut]) => {
      const bytes = good()[which]!;
      for (const [at, byte] of list) bytes[at % bytes.length] = byte;
      return bytes.subarray(0, cut < 250 ? cut : bytes.length);
    });
    const framed = fc.oneof(any, almost.map(text)).map((inner) => concat([text('d'), inner, text('e')]));
    fc.assert(
      fc.property(fc.oneof(any, framed, mutated), (bytes) => {
        bench.now += 300;
        bench.raw(bytes);
        bench.sent = [];
      }),
      { numRuns: 20_000 },
    );
    bench.pass(MINUTE);
    expect(bench.query('ping', {}, '8.8.8.8')!.text('y')).toBe('r');
  });

  it('with parts of every wrong kind are answered with 203 or 204 at most', () => {
    const bench = stocked();
    const wrong: BInput[] = ['', 'x', new Uint8Array(19), new Uint8Array(21), 5, -1, [], {}, [[]], 2n ** 63n];
    const asks: [string, string][] = [
      ['find_node', 'target'],
      ['get_peers', 'info_hash'],
      ['get', 'target'],
      ['sample_infohashes', 'target'],
      ['ping', 'id'],
      ['find_node', 'id'],
      ['announce_peer', 'info_hash'],
      ['announce_peer', 'port'],
      ['announce_peer', 'token'],
      ['put', 'v'],
      ['put', 'token'],
    ];
    let n = 0;
    for (const [method, key] of asks) {
      for (const value of wrong) {
        bench.now += 11 * SECOND;
        const ip = publicIp(5000 + n++);
        const token = bench.query('get_peers', { info_hash: TARGET }, ip)!.dict('r')!.bytes('token')!;
        const whole = { target: TARGET, info_hash: TARGET, port: 1, token, v: 'x' };
        const reply = bench.query(method, { ...whole, [key]: value }, ip);
        if (reply === null) continue;
        if (key === 'v' || (key === 'port' && value === 5)) continue;
        expect([method, key, toHex(encode(value)), errorCode(reply)]).toEqual([method, key, toHex(encode(value)), 203]);
      }
    }
    bench.now += 11 * SECOND;
    expect(errorCode(bench.query('no_such_method', {}))).toBe(204);
    expect(errorCode(bench.query('no_such_method', { target: TARGET }))).toBe(0);
  });

  it('that are answers or errors of nobody asked are never answered', () => {
    const bench = stocked();
    for (const bytes of good().slice(-2)) bench.raw(bytes);
    bench.raw(encode({ t: 'aaaa', y: 'r' }));
    bench.raw(encode({ t: 'aaaa', y: 'r', r: {} }));
    bench.raw(encode({ t: '', y: 'r', r: { id: idOf('9.9.9.9') } }));
    bench.raw(encode({ t: 'aaaa', y: 'e' }));
    bench.raw(encode({ t: 'aaaa', y: 'x' }));
    expect(bench.sent).toEqual([]);
  });

  it('keep echoing a transaction id of any bytes, and refuse one that is a payload', () => {
    const bench = stocked();
    for (const t of [new Uint8Array(0), Uint8Array.of(0, 255, 13), new Uint8Array(20).fill(200)]) {
      bench.raw(encode({ t, y: 'q', q: 'ping', a: { id: idOf('9.9.9.9') } }));
      expect(equal(readMessage(bench.sent.pop()!.bytes).bytes('t')!, t)).toBe(true);
    }
    bench.raw(encode({ t: new Uint8Array(1000), y: 'q', q: 'ping', a: { id: idOf('9.9.9.9') } }));
    for (const { bytes } of bench.sent) expect(bytes.length).toBeLessThan(300);
  });
});

describe('amplification', () => {
  it('of any query is at most 7 in bytes, and no packet is longer than 1,400', () => {
    const bench = stocked();
    const item = makeImmutable(text(`996:${'x'.repeat(996)}`));
    const asks: [string, Record<string, BInput>][] = [
      ['ping', {}],
      ['find_node', { target: TARGET }],
      ['find_node', { target: TARGET, want: ['n4', 'n6'] }],
      ['get_peers', { info_hash: TARGET }],
      ['get_peers', { info_hash: TARGET, scrape: 1 }],
      ['get_peers', { info_hash: TARGET, noseed: 1, want: ['n4', 'n6'] }],
      ['get_peers', { info_hash: hash20(5) }],
      ['get', { target: item.target }],
      ['get', { target: TARGET }],
      ['sample_infohashes', { target: TARGET }],
      ['announce_peer', { info_hash: TARGET, port: 5, token: '' }],
      ['announce_peer', {}],
      ['put', { v: 1, token: '' }],
      ['nonsense', {}],
      ['nonsense', { target: TARGET }],
      ['', {}],
    ];
    for (const [method, args] of asks) {
      for (const pad of [0, 100, 400]) {
        bench.now += 3 * SECOND;
        bench.sent = [];
        const extra: Record<string, BInput> = pad === 0 ? {} : { zz: new Uint8Array(pad) };
        const bytes = encode({ t: '', y: 'q', q: method, a: { ...args, ...extra, id: idOf('9.9.9.9') } });
        bench.raw(bytes);
        const out = bench.sent.reduce((sum, { bytes: sent }) => sum + sent.length, 0);
        const longest = Math.max(0, ...bench.sent.map(({ bytes: sent }) => sent.length));
        expect([method, pad, out <= 7 * bytes.length, longest <= 1400]).toEqual([method, pad, true, true]);
      }
    }
  });

  it('is no greater for a node of the table, whose address may be forged too, but for the items it asks for', () => {
    const bench = stocked();
    for (const [method, args] of [
      ['get_peers', { info_hash: TARGET }],
      ['find_node', { target: TARGET, want: ['n4', 'n6'] }],
      ['get', { target: TARGET }],
      ['sample_infohashes', { target: TARGET }],
    ] as [string, Record<string, BInput>][]) {
      bench.now += 3 * SECOND;
      bench.sent = [];
      const known = publicIp(3);
      expect(bench.dht.nodes(4).some((node) => node.ip === known)).toBe(true);
      const bytes = encode({ t: '', y: 'q', q: method, a: { ...args, id: idOf(known) } });
      bench.raw(bytes, known);
      expect([method, bench.sent[0]!.bytes.length <= 7 * bytes.length]).toEqual([method, true]);
    }
  });

  it('by many small queries is capped in all, whoever is said to have asked', () => {
    const bench = stocked({ uploadRateBps: 8000 });
    bench.pass(10 * SECOND);
    bench.sentBytes = 0;
    for (let i = 0; i < 60_000; i++) {
      bench.now += 1;
      const ip = publicIp(i % 40_000);
      bench.raw(encode({ t: 'a', y: 'q', q: 'get_peers', a: { id: idOf('9.9.9.9'), info_hash: TARGET } }), ip);
      if (i % 100 === 0) bench.dht.tick(bench.now);
      bench.sent.length = 0;
    }
    // a minute of replies, and as much again for queries of its own
    expect(bench.sentBytes).toBeLessThan(2 * 60 * 8000);
  });

  it('by one address is silenced', () => {
    const bench = stocked();
    let replies = 0;
    for (let i = 0; i < 10_000; i++) {
      bench.now += 5;
      if (bench.query('ping', {}, '9.9.9.9', 1000 + (i % 500)) !== null) replies++;
      bench.sent.length = 0;
    }
    expect(replies).toBeLessThan(600);
    expect(bench.query('ping', {}, '8.8.8.8')).not.toBeNull();
    bench.pass(11 * MINUTE);
    expect(bench.query('ping', {}, '9.9.9.9')).not.toBeNull();
  });

  it('does not silence a good node in whose name somebody floods: what it answers still counts', () => {
    const bench = stocked();
    const good = bench.dht.nodes(4)[0]!;
    for (let i = 0; i < 500; i++) {
      bench.now += 10;
      bench.raw(encode({ t: 'a', y: 'q', q: 'ping', a: { id: good.id } }), good.ip, good.port);
    }
    bench.sent = [];
    expect(bench.query('ping', {}, good.ip, good.port)).toBeNull();
    const before = bench.dht.stats.repliesIn;
    let asked = 0;
    bench.dht.getPeers(bench.now, good.id, nobody, null);
    for (const query of bench.takeQueries()) {
      if (query.ip !== good.ip) continue;
      asked++;
      bench.answer(query, { id: good.id, token: 't' });
    }
    expect([asked, bench.dht.stats.repliesIn - before]).toEqual([1, 1]);
  });

  it('does not make it ask whoever is named as the sender again and again', () => {
    const bench = stocked();
    // somebody forges the address of a victim that never answers
    for (let i = 0; i < 2000; i++) {
      bench.now += 200;
      bench.dht.tick(bench.now);
      bench.raw(
        encode({ t: 'a', y: 'q', q: 'ping', a: { id: makeNodeId(bench.rng, null) } }),
        '7.7.7.7',
        1 + (i % 900),
      );
    }
    const asked = bench.takeQueries().filter((query) => query.ip === '7.7.7.7');
    expect(asked.length).toBeLessThan(40);
  });
});

describe('tokens', () => {
  it('work for the address they were given to, once asked for, and not past ten minutes', () => {
    const bench = stocked();
    const token = bench
      .query('get_peers', { info_hash: hash20(500) }, '9.9.9.9')!
      .dict('r')!
      .bytes('token')!;
    const announce = (ip: string, bytes: Uint8Array): number =>
      errorCode(bench.query('announce_peer', { info_hash: hash20(500), port: 5, token: bytes }, ip));
    expect(announce('9.9.8.9', token)).toBe(203);
    expect(announce('9.9.9.9', token.subarray(1))).toBe(203);
    expect(announce('9.9.9.9', new Uint8Array(0))).toBe(203);
    expect(announce('9.9.9.9', token)).toBe(0);
    bench.pass(4 * MINUTE);
    expect(announce('9.9.9.9', token)).toBe(0);
    bench.pass(7 * MINUTE);
    expect(announce('9.9.9.9', token)).toBe(203);
    expect(errorCode(bench.query('put', { v: 'x', token }, '9.9.9.9'))).toBe(203);
  });

  it('and transaction ids are drawn where nobody can foretell them', () => {
    const tids = [11, 12].map((seed) => {
      const random = new Rng(Uint32Array.of(seed, 1, 1, 1));
      const bench = new DhtBench({ random }).start();
      for (let i = 0; i < 8; i++) bench.dht.addNode(bench.now, publicIp(i), 6881);
      return bench.takeQueries().map((query) => toHex(query.message.bytes('t')!));
    });
    expect(tids[0]!.length).toBe(8);
    for (let i = 0; i < 8; i++) expect(tids[0]![i]).not.toBe(tids[1]![i]);
  });

  it('are not the same for another node, nor when it starts anew', () => {
    const tokens = [1, 2, 3].map((seed) => {
      const bench = new DhtBench({}, seed).start();
      return toHex(bench.query('get_peers', { info_hash: TARGET })!.dict('r')!.bytes('token')!);
    });
    expect(new Set(tokens).size).toBe(3);
  });
});

describe('BEP 44 over the wire', () => {
  const seed = new Uint8Array(32).fill(9);
  const put = (bench: DhtBench, args: Record<string, BInput>, ip = '9.9.9.9'): number => {
    bench.now += 2 * SECOND;
    const token = bench.query('get', { target: TARGET }, ip)!.dict('r')!.bytes('token')!;
    return errorCode(bench.query('put', { token, ...args }, ip));
  };
  const mutable = (seq: number, value: BInput, salt = ''): Record<string, BInput> => {
    const item = makeMutable(crypto, seed, text(salt), seq, encode(value));
    return {
      k: item.publicKey!,
      sig: item.signature!,
      seq,
      v: value,
      ...(salt === '' ? {} : { salt }),
    };
  };

  it('answers puts with each of the error codes', () => {
    const bench = new DhtBench().start();
    expect(put(bench, { v: 'x'.repeat(996) })).toBe(0);
    expect(put(bench, { v: 'x'.repeat(997) })).toBe(205);
    expect(put(bench, { ...mutable(5, 'one') })).toBe(0);
    expect(put(bench, { ...mutable(6, 'two'), sig: new Uint8Array(64) })).toBe(206);
    expect(put(bench, { ...mutable(6, 'two'), salt: 'not signed' })).toBe(206);
    expect(put(bench, { ...mutable(6, 'two'), salt: 's'.repeat(65) })).toBe(207);
    expect(put(bench, { ...mutable(6, 'two'), cas: 4 })).toBe(301);
    expect(put(bench, mutable(4, 'two'))).toBe(302);
    expect(put(bench, { ...mutable(6, 'two'), cas: 5 })).toBe(0);
    expect(put(bench, { ...mutable(1, 'x', 'salt'), cas: 99 })).toBe(0);
    expect(put(bench, { ...mutable(7, 'x'), k: new Uint8Array(31) })).toBe(203);
    expect(put(bench, { ...mutable(7, 'x'), sig: new Uint8Array(63) })).toBe(206);
    expect(put(bench, { ...mutable(7, 'x'), seq: -1 })).toBe(203);
    expect(put(bench, {})).toBe(203);
  });

  it('refuses values that are not canonical, with 203', () => {
    const bench = new DhtBench().start();
    const token = bench.query('get', { target: TARGET })!.dict('r')!.bytes('token')!;
    for (const v of ['d1:bi1e1:ai2ee', 'i01e', 'd1:ai1e1:ai1ee']) {
      const head = text('d1:ad2:id20:');
      const tail = concat([text('5:token'), text(`${token.length}:`), token, text(`1:v${v}e1:q3:put1:t1:a1:y1:qe`)]);
      bench.sent = [];
      bench.raw(concat([head, idOf('9.9.9.9'), tail]));
      const stored = bench.sent.some(({ bytes }) => readMessage(bytes).text('y') === 'r');
      expect([v, stored]).toEqual([v, false]);
    }
    expect(bench.dht.stats.itemsStored).toBe(0);
  });

  it('gives items back whole, and leaves out what the asker has', () => {
    const bench = new DhtBench().start();
    expect(put(bench, mutable(5, { b: [1, 'two'], a: -3 }, 'salt'))).toBe(0);
    const item = makeMutable(crypto, seed, text('salt'), 5, encode({ b: [1, 'two'], a: -3 }));
    const got = bench.query('get', { target: item.target }, '8.8.8.8')!.dict('r')!;
    expect(latin1(got.raw('v')!)).toBe('d1:ai-3e1:bli1e3:twoee');
    expect([toHex(got.bytes('k')!), toHex(got.bytes('sig')!), got.int('seq')]).toEqual([
      toHex(item.publicKey!),
      toHex(item.signature!),
      5,
    ]);
    const known = bench.query('get', { target: item.target, seq: 5 }, '8.8.8.8')!.dict('r')!;
    expect([known.has('v'), known.has('k'), known.has('sig'), known.int('seq')]).toEqual([false, false, false, 5]);
    expect(bench.query('get', { target: item.target, seq: 4 }, '8.8.8.8')!.dict('r')!.has('v')).toBe(true);
  });

  it('believes no forged item in a lookup', () => {
    const bench = new DhtBench().start();
    bench.populate(12);
    const item = makeMutable(crypto, seed, new Uint8Array(0), 5, text('4:good'));
    const forged = { k: item.publicKey!, sig: item.signature!, seq: 99, v: 'evil', token: 't' };
    const found: number[] = [];
    let best: { seq: number } | null = null;
    let done = 0;
    const sink = {
      onDhtItem: (got: { seq: number }): void => void found.push(got.seq),
      onDhtItemDone: (got: { seq: number } | null): void => {
        best = got;
        done++;
      },
    };
    bench.dht.getItem(bench.now, item.target, { publicKey: item.publicKey!, salt: new Uint8Array(0) }, sink);
    let n = 0;
    bench.play(({ method }) => {
      if (method !== 'get') return {};
      n++;
      if (n % 3 === 0) return { ...forged, seq: 5, v: 'good' };
      return n % 3 === 1 ? forged : { ...forged, k: new Uint8Array(32) };
    });
    expect(done).toBe(1);
    expect(new Set(found)).toEqual(new Set([5]));
    expect(best!.seq).toBe(5);
    const immutable = makeImmutable(text('4:real'));
    best = null;
    bench.dht.getItem(bench.now, immutable.target, null, sink);
    bench.play(({ method }) => (method === 'get' ? { token: 't', v: 'evil' } : {}));
    expect([done, best]).toEqual([2, null]);
  });
});

it('nodes that others name by the thousand do not keep lookups from asking', () => {
  const bench = stocked();
  for (let port = 2000; port < 6000; port++) bench.dht.addNode(bench.now, '7.7.7.7', port);
  let result: DhtPeersResult | null = null;
  const sink = {
    ...nobody,
    onDhtPeersDone: (done: DhtPeersResult): void => {
      result = done;
    },
  };
  bench.dht.getPeers(bench.now, TARGET, sink, null);
  bench.play(({ ip }) => (ip === '7.7.7.7' ? null : {}));
  expect(result!).toMatchObject({ answered: 8 });
});

it('an outage in which nothing leaves empties no table; who is blocked leaves it in the end', () => {
  const bench = stocked();
  const { nodes4 } = bench.dht.stats;
  bench.reaches = () => false;
  let ended = 0;
  const sink = { ...nobody, onDhtPeersDone: (): void => void ended++ };
  for (let i = 0; i < 100; i++) {
    bench.dht.getPeers(bench.now, hash20(i), sink, null);
    bench.pass(SECOND);
  }
  expect([ended, bench.dht.stats.lookups, bench.dht.stats.nodes4]).toEqual([100, 0, nodes4]);
  const blocked = bench.dht.nodes(4)[0]!.ip;
  bench.reaches = (ip) => ip !== blocked;
  const from = bench.now;
  while (bench.now < from + 120 * MINUTE && bench.dht.nodes(4).some(({ ip }) => ip === blocked)) {
    bench.pass(SECOND);
    for (const query of bench.takeQueries()) bench.answer(query, {});
  }
  expect(bench.dht.nodes(4).map(({ ip }) => ip)).not.toContain(blocked);
  expect(bench.dht.stats.nodes4).toBe(nodes4 - 1);
});

describe('saved state', () => {
  const fresh = (seed = 3): Dht => new DhtBench({}, seed).dht;

  it('comes back with its ids and nodes, at most 300 a family', () => {
    const bench = new DhtBench().start();
    bench.populate(2000);
    const saved = bench.dht.save();
    const other = fresh();
    expect(other.restore(0, saved)).toBe(true);
    const again = new DhtBench({}, 4);
    expect(again.dht.restore(0, saved)).toBe(true);
    again.start();
    again.pass(SECOND);
    const known = new Set(bench.dht.nodes(4).map((node) => node.ip));
    const asked = again.takeQueries().map((query) => query.ip);
    expect(asked.length).toBeGreaterThan(0);
    for (const ip of asked) expect(known).toContain(ip);
    for (const family of [4, 6] as const) expect(again.dht.nodeId(family)).toEqual(bench.dht.nodeId(family));
    expect(saved.length).toBeLessThan(300 * 26 + 300 * 38 + 500);
  });

  it('has no id for the address of today: one that matches takes its place', () => {
    const saved = new DhtBench().start().dht.save();
    const bench = new DhtBench({}, 5);
    const own = Uint8Array.of(80, 1, 2, 3);
    for (let n = 1; n <= 3; n++) bench.external.vote(bench.now, own, `90.${n}.0.1`, 'peer');
    bench.start();
    expect(bench.dht.restore(bench.now, saved)).toBe(true);
    expect(idMatches(bench.dht.nodeId(4), own)).toBe(true);
  });

  it('is ignored when it was tampered with: any byte, any length, anything else', () => {
    const bench = new DhtBench().start();
    bench.populate(50);
    const saved = bench.dht.save();
    for (let i = 0; i < saved.length; i++) {
      const bad = saved.slice();
      bad[i]! ^= 1 << (i & 7);
      expect([i, fresh().restore(0, bad)]).toEqual([i, false]);
    }
    for (let i = 0; i < saved.length; i += 7) expect(fresh().restore(0, saved.subarray(0, i))).toBe(false);
    expect(fresh().restore(0, concat([saved, saved]))).toBe(false);
    const rng = new Rng(Uint32Array.of(1, 1, 1, 1));
    for (let i = 0; i < 2000; i++) {
      const noise = new Uint8Array(rng.below(300));
      rng.fill(noise);
      expect(fresh().restore(0, noise)).toBe(false);
    }
  });
});
