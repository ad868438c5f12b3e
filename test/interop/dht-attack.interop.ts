/**
 * A running `shoal seed` attacked through the DHT from outside: malformed messages, amplification, floods, false tokens,
 * sybils, poisoned lists of nodes. It stays up, small and useful.
 */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { addressOf } from './harness/clients/client.ts';
import type { Shoal } from './harness/clients/shoal.ts';
import { compactOf, compactPeer, KrpcProbe } from './harness/krpc-probe.ts';
import { type Bencodable, encode, magnetOf } from './harness/torrent.ts';
import { pause, until } from './harness/wait.ts';

const MiB = 1 << 20;

describe('a running shoal', () => {
  interop('survives malformed messages', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const torrent = arena.torrent();
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
    await arena.seed(shoal, torrent);
    const at = addressOf(shoal);
    const probe = await arena.probe();
    assert.ok(await probe.ask(at, 'ping'));
    const before = rssOf(shoal);
    // from many addresses, so that it looks at them rather than shut one sender out
    const senders = await Promise.all(Array.from({ length: 40 }, () => arena.probe()));
    let sent = 0;
    for (let round = 0; round < 60; round++) {
      for (const [i, sender] of senders.entries()) {
        for (const bytes of malformed(round * senders.length + i)) {
          await sender.sent(at, bytes);
          sent++;
        }
      }
    }
    for (const sender of senders) assert.ok(sender.longest <= 1400);
    assert.ok(shoal.run!.program.running);
    assert.ok((await arena.probe().then((fresh) => fresh.ask(at, 'ping')))?.r, `it answers after ${sent}`);
    const grown = rssOf(shoal) - before;
    assert.ok(grown <= 16 * MiB, `grown by ${Math.round(grown / MiB)} MiB`);
    // and still does its work
    const leech = await arena.client('libtorrent', { dht: dht.entry });
    const folder = await arena.leech(leech, torrent, { magnet: magnetOf(torrent) });
    await arena.completed(leech, torrent);
    await arena.same(torrent, folder, leech);
    console.log(`${sent} malformed datagrams: RSS ${(grown / MiB).toFixed(1)} MiB more`);
  });

  interop('amplifies 7 times at most', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const torrent = arena.torrent();
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
    await arena.seed(shoal, torrent);
    const at = addressOf(shoal);
    // the most that it can have to say: a full table, and a torrent of many peers
    await until('it has a table', async () => await hasNodes(arena, at), { timeoutMs: 20_000 });
    const crowded = randomBytes(20);
    for (let i = 0; i < 60; i++) {
      const peer = await arena.probe();
      const token = (await peer.ask(at, 'get_peers', { info_hash: crowded }))?.r?.['token'];
      assert.ok(Buffer.isBuffer(token));
      for (const port of [1000 + i, 2000 + i]) {
        await peer.ask(at, 'announce_peer', { info_hash: crowded, port, token });
      }
      peer.close();
      if (i % 10 === 9) await pause(1000);
    }
    const v = 'x'.repeat(990);
    const keeper = await arena.probe();
    const token = (await keeper.ask(at, 'get', { target: randomBytes(20) }))!.r!['token'] as Buffer;
    await keeper.ask(at, 'put', { v, token });
    const item = createHash('sha1').update(encode(v)).digest();

    const asks: readonly (readonly [string, Record<string, Bencodable>])[] = [
      ['ping', {}],
      ['find_node', { target: randomBytes(20) }],
      ['find_node', { target: randomBytes(20), want: ['n4', 'n6'] }],
      ['get_peers', { info_hash: randomBytes(20), want: ['n4', 'n6'] }],
      ['get_peers', { info_hash: crowded }],
      ['get_peers', { info_hash: crowded, want: ['n4', 'n6'] }],
      ['get_peers', { info_hash: crowded, scrape: 1 }],
      ['get', { target: item }],
      ['get', { target: item, want: ['n4', 'n6'] }],
      ['sample_infohashes', { target: randomBytes(20) }],
      ['vote', {}],
    ];
    const figures: string[] = [];
    let most = 0;
    for (const [query, args] of asks) {
      await pause(300);
      const probe = await arena.probe();
      const reply = await probe.ask(at, query, args);
      const ratio = reply === null ? 0 : reply.receivedBytes / reply.sentBytes;
      figures.push(`${query} ${Object.keys(args).slice(1)} ${reply?.sentBytes} -> ${reply?.receivedBytes}`);
      most = Math.max(most, ratio);
      assert.ok(probe.longest <= 1400, figures.at(-1));
      assert.ok(ratio <= 7, figures.at(-1));
    }
    console.log(`amplification: ${most.toFixed(2)} at most (${figures.join('; ')})`);
  });

  interop('gives a flood 8,000 bytes a second', ['namespace', 'libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
    await arena.seed(shoal, arena.torrent());
    const at = addressOf(shoal);
    await until('it has a table', async () => await hasNodes(arena, at), { timeoutMs: 20_000 });
    const capture = await arena.capture(shoal.place.ip, []);
    const senders = await Promise.all(Array.from({ length: 100 }, () => arena.probe()));
    const before = (await capture.read()).counts.udpBytes;
    const started = performance.now();
    let sent = 0;
    while (performance.now() - started < 8000) {
      for (const sender of senders) {
        const args = { id: sender.id, info_hash: randomBytes(20) };
        await sender.sent(at, encode({ a: args, q: 'get_peers', t: 'aa', y: 'q' }));
        sent++;
      }
    }
    const seconds = (performance.now() - started) / 1000;
    const rate = ((await capture.read()).counts.udpBytes - before) / seconds;
    console.log(`a flood of ${Math.round(sent / seconds)} queries/s gets ${Math.round(rate)} B/s`);
    // what it asks itself is little beside that
    assert.ok(rate <= 12_000, `${rate} B/s`);
    // one sender's flood shuts out nobody else
    await pause(2000);
    assert.ok((await arena.probe().then((fresh) => fresh.ask(at, 'ping')))?.r);
  });

  interop('keeps what a million announces leave within bounds', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
    await arena.seed(shoal, arena.torrent());
    const at = addressOf(shoal);
    const probes = await Promise.all(Array.from({ length: 50 }, () => arena.probe()));
    const tokens: Buffer[] = [];
    for (const probe of probes) {
      const reply = await probe.ask(at, 'get_peers', { info_hash: randomBytes(20) });
      tokens.push(reply!.r!['token'] as Buffer);
    }
    const before = rssOf(shoal);
    const count = Number(process.env['SHOAL_ANNOUNCES'] ?? 100_000);
    for (let i = 0; i < count; i++) {
      const probe = probes[i % probes.length]!;
      const args = { id: probe.id, info_hash: randomBytes(20), port: 1 + (i % 65_535), token: tokens[i % 50]! };
      await probe.sent(at, encode({ a: args, q: 'announce_peer', t: 'aa', y: 'q' }));
    }
    await pause(500);
    const grown = rssOf(shoal) - before;
    console.log(`${count} announces: RSS ${(grown / MiB).toFixed(1)} MiB more`);
    assert.ok(grown <= 32 * MiB, `grown by ${Math.round(grown / MiB)} MiB`);
    assert.ok((await arena.probe().then((fresh) => fresh.ask(at, 'ping')))?.r);
  });

  interop('takes no announce without its token', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
    await arena.seed(shoal, arena.torrent());
    const at = addressOf(shoal);
    const [one, two] = [await arena.probe(), await arena.probe()];
    const hash = randomBytes(20);
    const tokenOf = async (probe: KrpcProbe): Promise<Buffer> =>
      (await probe.ask(at, 'get_peers', { info_hash: hash }))!.r!['token'] as Buffer;
    const peers = async (): Promise<string[]> => {
      const values = (await one.ask(at, 'get_peers', { info_hash: hash }))!.r!['values'];
      return Array.isArray(values) ? values.map((value) => compactPeer(value as Buffer)) : [];
    };
    const announce = (token: Uint8Array | string) =>
      two.ask(at, 'announce_peer', { info_hash: hash, port: 4242, token });
    assert.equal((await announce('forged'))?.error?.[0], 203);
    assert.equal((await announce(await tokenOf(one)))?.error?.[0], 203);
    assert.deepEqual(await peers(), []);
    assert.ok((await announce(await tokenOf(two)))?.r);
    assert.deepEqual(await peers(), [`${two.host}:4242`]);
  });
});

describe('an honest announce', () => {
  interop('reaches honest nodes past 50 sybils', ['namespace', 'libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const torrent = arena.torrent();
    const hash = Buffer.from(torrent.infoHash, 'hex');
    const sybils: KrpcProbe[] = [];
    const announced = new Set<KrpcProbe>();
    for (let i = 0; i < 50; i++) {
      // nearer than any honest node will be, one /24
      const id = Buffer.concat([hash.subarray(0, 8), randomBytes(12)]);
      const sybil = new KrpcProbe(`10.66.66.${i + 1}`, id);
      arena.keep({ name: 'sybil', stop: async () => sybil.close(), tail: () => '' });
      await sybil.open();
      sybils.push(sybil);
    }
    const liars = Buffer.concat(sybils.slice(0, 8).map((sybil) => Buffer.concat([sybil.id, compactOf(sybil.address)])));
    for (const sybil of sybils) {
      sybil.respond = (query) => {
        if (query === 'announce_peer') announced.add(sybil);
        return query === 'ping' ? {} : { nodes: liars, token: 'sybil' };
      };
      for (const node of dht.nodes.slice(0, 6)) await sybil.ask(node, 'find_node', { target: hash });
    }
    for (const sybil of sybils) await dht.meet(sybil.address);
    await pause(1000);
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
    await arena.seed(shoal, torrent);
    const holders = async (): Promise<number> => {
      const probe = await arena.probe();
      const replies = await Promise.all(dht.nodes.map((node) => probe.ask(node, 'get_peers', { info_hash: hash })));
      probe.close();
      const own = compactOf(addressOf(shoal));
      return replies.filter((reply) => {
        const values = reply?.r?.['values'];
        return Array.isArray(values) && values.some((value) => own.equals(value as Buffer));
      }).length;
    };
    await until('an honest node has it', async () => (await holders()) >= 1, { timeoutMs: 30_000, everyMs: 250 });
    await pause(2000);
    const honest = await holders();
    console.log(`past 50 sybils: announced to ${honest} honest nodes, ${announced.size} sybils`);
    assert.ok(announced.size <= 1, `${announced.size} sybils of one /24 were announced to`);
    assert.ok(honest >= 4);
  });

  interop('is not turned into an attack by poisoned nodes', ['namespace', 'libtorrent'], async (arena) => {
    const victim = await new KrpcProbe((await arena.place('victim')).ip).open(53);
    arena.keep({ name: 'victim', stop: async () => victim.close(), tail: () => '' });
    const crowd = await new KrpcProbe((await arena.place('crowd')).ip).open();
    arena.keep({ name: 'crowd', stop: async () => crowd.close(), tail: () => '' });
    const attacker = await arena.probe();
    // every list names the victim's port 53 under new ids, and many new addresses
    let lists = 0;
    attacker.respond = (query, args) => {
      if (query === 'ping') return {};
      lists++;
      const near = (args['target'] ?? args['info_hash']) as Buffer | undefined;
      const nodes: Buffer[] = [];
      for (let i = 0; i < 40; i++) {
        const id = Buffer.concat([(near ?? randomBytes(20)).subarray(0, 10), randomBytes(10)]);
        nodes.push(id, i % 2 === 0 ? compactOf(victim.address) : compactOf(`10.55.${lists % 250}.${i}:7777`));
      }
      return { nodes: Buffer.concat(nodes), token: 'x' };
    };
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: [attacker.address] } });
    const capture = await arena.capture(shoal.place.ip, []);
    await arena.seed(shoal, arena.torrent());
    await until('shoal asked the attacker', () => lists > 0, { timeoutMs: 20_000 });
    await pause(20_000);
    const { krpc } = (await capture.read()).counts;
    const out = Object.values(krpc).reduce((sum, count) => sum + count, 0);
    console.log(
      `poisoned: ${lists} lists, ${victim.receivedCount} packets to the victim's port 53, ${out} queries in all`,
    );
    assert.ok(victim.receivedCount <= 3, `${victim.receivedCount} packets to the victim`);
    assert.ok(out <= 10 + lists * 8, `${out} queries for ${lists} lists`);
  });
});

/** Malformed in every way there is, the same for the same seed. */
function malformed(seed: number): Buffer[] {
  const id = randomBytes(20);
  const good = encode({ a: { id, info_hash: randomBytes(20) }, q: 'get_peers', t: 'aa', y: 'q' });
  const cut = good.subarray(0, seed % good.length);
  const flipped = Buffer.from(good);
  for (let i = 0; i < 3; i++) flipped[(seed * 31 + i * 17) % flipped.length] = (seed * 7 + i * 91) & 255;
  const kinds: (() => Buffer)[] = [
    () => encode({ a: { id: 'short' }, q: 'ping', t: 'aa', y: 'q' }),
    () => encode({ a: 'no dictionary', q: 'ping', t: 'aa', y: 'q' }),
    () => encode({ a: { id }, q: 7, t: 'aa', y: 'q' }),
    () => encode({ a: { id }, q: 'find_node', t: 'aa', y: 'q' }),
    () => encode({ a: { id, target: randomBytes(19) }, q: 'find_node', t: 'aa', y: 'q' }),
    () => encode({ a: { id, info_hash: randomBytes(21) }, q: 'get_peers', t: 'aa', y: 'q' }),
    () => encode({ a: { id, info_hash: id, port: -1, token: '' }, q: 'announce_peer', t: 'aa', y: 'q' }),
    () =>
      encode({ a: { id, info_hash: id, port: 70_000, token: 'x'.repeat(900) }, q: 'announce_peer', t: 'aa', y: 'q' }),
    () => encode({ a: { id }, q: 'ping', t: randomBytes(800), y: 'q' }),
    () => encode({ r: { id, nodes: randomBytes(25), values: ['x', 7, []] }, t: 'aa', y: 'r' }),
    () => encode({ e: [], t: 'aa', y: 'e' }),
    () => encode({ e: 'text', t: 'aa', y: 'e' }),
    () => encode({ e: [{}, {}], t: 'aa', y: 'e' }),
    () => encode({ y: 'z' }),
    () => Buffer.from('d'.repeat(1400)),
    () => Buffer.from(`d1:a${'l'.repeat(1000)}${'e'.repeat(1000)}e`),
    () => Buffer.from('d1:ad2:id20:'),
    () => Buffer.from('d1:ai999999999999999999999999999999999e1:q4:ping1:t2:aa1:y1:qe'),
    () => Buffer.from('d1:t99999999999:aae'),
    () => Buffer.from('de'),
    () => Buffer.from('d'),
    () => Buffer.alloc(0),
    () => Buffer.from('d1:y1:q1:y1:q1:q4:ping1:t2:aa1:ad2:id20:01234567890123456789ee'),
    () => encode({ a: { id, k: id, seq: -1, sig: id, v: {} }, q: 'put', t: 'aa', y: 'q' }),
    () => encode({ a: { id, token: 'x', v: 'y'.repeat(1200) }, q: 'put', t: 'aa', y: 'q' }),
  ];
  return [cut, flipped, randomBytes(1 + (seed % 1400)), kinds[seed % kinds.length]!()];
}

async function hasNodes(arena: Arena, at: string): Promise<boolean> {
  const probe = await arena.probe();
  const reply = await probe.ask(at, 'find_node', { target: probe.id });
  const nodes = reply?.r?.['nodes'];
  return Buffer.isBuffer(nodes) && nodes.length >= 8 * 26;
}

/** Bytes that the process has in memory. */
function rssOf(shoal: Shoal): number {
  const status = readFileSync(`/proc/${shoal.run!.program.child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * 1024;
}
