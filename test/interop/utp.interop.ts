/** uTP alone, in both directions, with every client that speaks it; and on a bad line. Every byte compared. */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { addressOf, type Client, type Place } from './harness/clients/client.ts';
import type { ShoalSession } from './harness/clients/driven.ts';
import { makePayload } from './harness/payload.ts';
import type { MadeTorrent } from './harness/torrent.ts';
import { UdpRelay } from './harness/udp-relay.ts';

const CLIENTS = ['transmission', 'qbittorrent', 'libtorrent', 'webtorrent'] as const;
const UTP = { utp: true };
/** Round trips of 40 to 60 ms. */
const BAD = { loss: 0.03, delayMs: 20, jitterMs: 10 };

describe('over uTP alone', () => {
  for (const kind of CLIENTS) {
    interop(`shoal leeches from ${kind}`, [kind], async (arena) => {
      const torrent = arena.torrent();
      const seed = await arena.client(kind, UTP);
      await arena.seed(seed, torrent);
      await leeches(arena, torrent, [addressOf(seed)]);
    });

    interop(`shoal seeds to ${kind}`, [kind], async (arena) => {
      const leech = await arena.client(kind, UTP);
      // those that cannot be told of a peer find it through a tracker
      const torrent = arena.torrent(leech.takesPeers ? {} : { tracker: (await arena.tracker()).url });
      await seeds(arena, torrent, leech, null);
    });
  }
});

describe('over uTP, 3 % lost, 40 ms, out of order', () => {
  for (const kind of ['libtorrent', 'qbittorrent', 'webtorrent'] as const) {
    interop(`shoal leeches from ${kind}`, [kind], async (arena) => {
      const torrent = small(arena);
      const seed = await arena.client(kind, UTP);
      await arena.seed(seed, torrent);
      await leeches(arena, torrent, [await relay(arena, seed.place)]);
    });

    interop(`shoal seeds to ${kind}`, [kind], async (arena) => {
      await seeds(arena, small(arena), await arena.client(kind, UTP), BAD);
    });
  }
});

async function leeches(arena: Arena, torrent: MadeTorrent, peers: readonly string[]): Promise<void> {
  const shoal = (await arena.client('shoal', UTP)) as ShoalSession;
  const folder = arena.makeFolder('leech');
  await shoal.add({ source: torrent.path, torrent, folder, peers });
  await arena.completed(shoal, torrent);
  await arena.same(torrent, folder);
  assert.deepEqual(shoal.last.wires, ['utp none']);
}

async function seeds(arena: Arena, torrent: MadeTorrent, leech: Client, line: typeof BAD | null): Promise<void> {
  const shoal = (await arena.client('shoal', UTP)) as ShoalSession;
  await arena.seed(shoal, torrent);
  const folder = arena.makeFolder('leech');
  const from = line === null ? addressOf(shoal) : await relay(arena, shoal.place);
  await leech.add({ source: torrent.path, torrent, folder, peers: leech.takesPeers ? [from] : [] });
  await arena.completed(leech, torrent);
  await arena.same(torrent, folder, leech);
  assert.ok(shoal.last.uploaded! >= torrent.payload.bytes);
  assert.deepEqual(shoal.last.wires, ['utp none']);
}

/** What a bad line carries in some seconds. */
function small(arena: Arena): MadeTorrent {
  return arena.torrent({ pieceLength: 65_536 }, makePayload(arena.makeFolder('payload'), 2 << 20, 7));
}

async function relay(arena: Arena, server: Place): Promise<string> {
  const line = new UdpRelay(server, BAD);
  arena.keep({ name: 'relay', stop: async () => line.close(), tail: () => `${line.passed} passed, ${line.lost} lost` });
  return `${server.ip}:${await line.open(server.ip)}`;
}
