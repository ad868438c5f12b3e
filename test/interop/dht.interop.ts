/** Peers found through a closed DHT of libtorrent nodes, and through nothing else. */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { addressOf, type Client } from './harness/clients/client.ts';
import type { ClientKind } from './harness/clients/index.ts';
import type { Shoal } from './harness/clients/shoal.ts';
import type { ClosedDht } from './harness/closed-dht.ts';
import { magnetOf, makeTorrent } from './harness/torrent.ts';
import { until } from './harness/wait.ts';

/** From the start of the process until it is connected to the seed, which nothing but the DHT can have named. */
const FOUND_LIMIT_MS = 5000;
/** Whoever looks there gets no answer. */
const NOBODY = '10.99.99.99:9';
/** transmission enters the DHT in some 40 s. */
const ANNOUNCE_LIMIT_MS = 100_000;

describe('a closed DHT, without shoal', () => {
  const kinds: readonly ClientKind[] = ['qbittorrent', 'aria2', 'rtorrent', 'libtorrent', 'webtorrent'];
  for (const kind of kinds) {
    interop(`${kind} is found in it`, ['libtorrent', kind], async (arena) => {
      const dht = await arena.closedDht();
      const torrent = arena.torrent();
      const seed = await arena.client(kind, { dht: dht.entry });
      await arena.seed(seed, torrent);
      await announced(dht, torrent.infoHash, seed);
    });
  }
});

describe('shoal looks in a closed DHT', () => {
  interop('finds a transmission seed from a bare magnet link', ['libtorrent', 'transmission'], async (arena) => {
    const dht = await arena.closedDht();
    const torrent = arena.torrent();
    const seed = await arena.client('transmission', { dht: dht.entry });
    await dht.meet(addressOf(seed));
    await arena.seed(seed, torrent);
    await announced(dht, torrent.infoHash, seed);
    const shoal = await arena.shoal({ command: 'get', finding: { dht: dht.entry } });
    const folder = await arena.leech(shoal, torrent, { magnet: magnetOf(torrent) });
    await arena.completed(shoal, torrent);
    await arena.same(torrent, folder);
    const { connectedMs: ms, foundMs } = shoal.run!;
    console.log(`a transmission seed is found in ${Math.round(ms!)} ms, its metadata in ${Math.round(foundMs!)} ms`);
    assert.ok(ms! <= FOUND_LIMIT_MS, `the seed is found within 5 s (${ms})`);
  });

  for (const kind of ['qbittorrent', 'aria2', 'rtorrent', 'libtorrent'] as const) {
    interop(`finds a ${kind} seed`, ['libtorrent', kind], async (arena) => {
      const dht = await arena.closedDht();
      const torrent = arena.torrent();
      const seed = await arena.client(kind, { dht: dht.entry });
      await arena.seed(seed, torrent);
      await announced(dht, torrent.infoHash, seed);
      const { shoal } = await getByDht(arena, torrent, dht.entry);
      const ms = shoal.run!.connectedMs!;
      console.log(
        `a ${kind} seed is found in ${Math.round(ms)} ms, its metadata in ${Math.round(shoal.run!.foundMs!)} ms`,
      );
      assert.ok(ms <= FOUND_LIMIT_MS, `found within 5 s (${ms})`);
    });
  }

  interop('enters by the `nodes` of a torrent', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const plain = arena.torrent();
    const seed = await arena.client('libtorrent', { dht: dht.entry });
    await arena.seed(seed, plain);
    await announced(dht, plain.infoHash, seed);
    const torrent = makeTorrent(plain.payload, `${arena.makeFolder('nodes')}/it.torrent`, {
      pieceLength: plain.pieceLength,
      pieces: plain.pieces,
      nodes: dht.entry,
    });
    assert.equal(torrent.infoHash, plain.infoHash);
    const shoal = await arena.shoal({ command: 'get', finding: { dht: [NOBODY] } });
    const folder = await arena.leech(shoal, torrent);
    await arena.completed(shoal, torrent);
    await arena.same(torrent, folder);
  });

  interop('enters by what a peer says of itself (PORT)', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const torrent = arena.torrent();
    const seed = await arena.client('libtorrent', { dht: dht.entry });
    await arena.seed(seed, torrent);
    await announced(dht, torrent.infoHash, seed);
    // it knows a peer that has nothing, and is in the DHT
    const other = await arena.client('libtorrent', { dht: dht.entry });
    await arena.leech(other, arena.torrent({ pieceLength: 32_768 }));
    const idle = arena.torrent({ pieceLength: 131_072 });
    await arena.leech(other, idle);
    const shoal = await arena.shoal({ finding: { dht: [NOBODY] } });
    await shoal.add({ source: idle.path, torrent: idle, folder: arena.makeFolder('idle'), peers: [addressOf(other)] });
    await until('shoal answers as a node', async () => (await nodesKnownTo(arena, shoal)) > 0, { timeoutMs: 20_000 });
  });

  interop('is back in it by what it remembers', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const torrent = arena.torrent();
    const seed = await arena.client('libtorrent', { dht: dht.entry });
    await arena.seed(seed, torrent);
    await announced(dht, torrent.infoHash, seed);
    const place = await arena.place('shoal');
    const state = arena.makeFolder('state');
    const args = (folder: string, entry: string): string[] => [
      ...['get', magnetOf(torrent), '-o', folder, '--state', state, '--bind', place.ip, '--port', `${place.port}`],
      ...['--dht-bootstrap', entry, '--no-pex', '--no-lsd', '--no-port-map', '--timeout', '30'],
    ];
    for (const entry of [dht.entry[0]!, NOBODY]) {
      const folder = arena.makeFolder('copy');
      const run = await arena.run(args(folder, entry));
      assert.equal(run.program.exitCode, 0, run.tail());
      await arena.same(torrent, folder);
    }
  });
});

describe('shoal is found in a closed DHT', () => {
  // rtorrent 0.9.8 dials nobody whom the DHT names, whoever it is; it is found by others there
  const kinds: readonly ClientKind[] = ['qbittorrent', 'libtorrent', 'aria2', 'webtorrent'];
  for (const kind of kinds) {
    interop(`by a fresh ${kind}`, ['libtorrent', kind], async (arena) => {
      const dht = await arena.closedDht();
      const torrent = arena.torrent();
      const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
      await arena.seed(shoal, torrent);
      await announced(dht, torrent.infoHash, shoal);
      const leech = await arena.client(kind, { dht: dht.entry });
      const started = performance.now();
      const folder = await arena.leech(leech, torrent, { magnet: magnetOf(torrent) });
      await arena.completed(leech, torrent);
      console.log(`a fresh ${kind} has all after ${Math.round(performance.now() - started)} ms`);
      await arena.same(torrent, folder, leech);
    });
  }

  interop('by one who knows no node but shoal', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const torrent = arena.torrent();
    const seed = await arena.client('libtorrent', { dht: dht.entry });
    await arena.seed(seed, torrent);
    await announced(dht, torrent.infoHash, seed);
    // a node that has another torrent
    const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
    await arena.seed(shoal, arena.torrent({ pieceLength: 32_768 }));
    await until('shoal knows the DHT', async () => (await nodesKnownTo(arena, shoal)) >= 4, { timeoutMs: 20_000 });
    const leech = await arena.client('libtorrent', { dht: [addressOf(shoal)] });
    const folder = await arena.leech(leech, torrent, { magnet: magnetOf(torrent) });
    await arena.completed(leech, torrent);
    await arena.same(torrent, folder, leech);
  });
});

async function getByDht(
  arena: Arena,
  torrent: ReturnType<Arena['torrent']>,
  entry: readonly string[],
): Promise<{ shoal: Shoal }> {
  const shoal = await arena.shoal({ command: 'get', finding: { dht: entry } });
  const folder = await arena.leech(shoal, torrent, { magnet: magnetOf(torrent) });
  await arena.completed(shoal, torrent);
  await arena.same(torrent, folder);
  return { shoal };
}

/** A node that has nothing to do with it finds the client. */
async function announced(dht: ClosedDht, infoHash: string, client: Client): Promise<void> {
  await until(
    `${client.kind} is in the DHT`,
    async () => (await dht.peers(7, infoHash, 0.4)).includes(addressOf(client)),
    { timeoutMs: ANNOUNCE_LIMIT_MS },
  );
}

/** Nodes that shoal names when it is asked for some. */
async function nodesKnownTo(arena: Arena, shoal: Shoal): Promise<number> {
  const probe = await arena.probe();
  const reply = await probe.ask(addressOf(shoal), 'find_node', { target: probe.id });
  const nodes = reply?.r?.['nodes'];
  return Buffer.isBuffer(nodes) ? nodes.length / 26 : 0;
}
