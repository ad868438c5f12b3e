/**
 * Message Stream Encryption required on both sides, in both directions, with every client that can be told so. What either
 * sends is captured, and neither the protocol's name nor the info-hash is in it.
 */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { type Captured, packetsWith } from './harness/capture.ts';
import type { Client } from './harness/clients/client.ts';
import type { ShoalSession } from './harness/clients/driven.ts';
import type { MadeTorrent } from './harness/torrent.ts';

const CLIENTS = ['transmission', 'qbittorrent', 'rtorrent', 'aria2', 'libtorrent'] as const;
const NAME = Buffer.from('BitTorrent protocol');
const NONE = { udp: 0, tcp: 0, multicast: 0 };

describe('encrypted alone', () => {
  for (const kind of CLIENTS) {
    for (const utp of kind === 'libtorrent' || kind === 'qbittorrent' ? [false, true] : [false]) {
      const reach = { encrypted: true, utp };
      const over = utp ? ' over uTP' : '';

      interop(`shoal leeches from ${kind}${over}`, [kind, 'namespace'], async (arena) => {
        const torrent = arena.torrent();
        const seed = await arena.client(kind, reach);
        await arena.seed(seed, torrent);
        const shoal = (await arena.client('shoal', reach)) as ShoalSession;
        const captured = await captures(arena, torrent, [seed, shoal]);
        const folder = await arena.leech(shoal, torrent, { from: [seed] });
        await arena.completed(shoal, torrent);
        await arena.same(torrent, folder);
        hidden(await captured(), torrent, utp);
        assert.deepEqual(shoal.last.wires, [`${utp ? 'utp' : 'tcp'} rc4`]);
      });

      interop(`shoal seeds to ${kind}${over}`, [kind, 'namespace'], async (arena) => {
        const leech = await arena.client(kind, reach);
        const torrent = arena.torrent(leech.takesPeers ? {} : { tracker: (await arena.tracker()).url });
        const shoal = (await arena.client('shoal', reach)) as ShoalSession;
        const captured = await captures(arena, torrent, [leech, shoal]);
        await arena.seed(shoal, torrent);
        const folder = await arena.leech(leech, torrent, { from: [shoal] });
        await arena.completed(leech, torrent);
        await arena.same(torrent, folder, leech);
        hidden(await captured(), torrent, utp);
        assert.deepEqual(shoal.last.wires, [`${utp ? 'utp' : 'tcp'} rc4`]);
      });
    }
  }

  interop('a capture sees what is not', ['libtorrent', 'namespace'], async (arena) => {
    const torrent = arena.torrent();
    const seed = await arena.client('libtorrent');
    await arena.seed(seed, torrent);
    const shoal = await arena.client('shoal');
    const captured = await captures(arena, torrent, [seed, shoal]);
    await arena.leech(shoal, torrent, { from: [seed] });
    await arena.completed(shoal, torrent);
    for (const one of await captured()) {
      assert.ok(packetsWith(one, NAME).tcp >= 1);
      assert.ok(packetsWith(one, Buffer.from(torrent.infoHash, 'hex')).tcp >= 1);
    }
  });
});

/** Begins to capture what each of them sends; ends and tells it when called. */
async function captures(
  arena: Arena,
  torrent: MadeTorrent,
  clients: readonly Client[],
): Promise<() => Promise<Captured[]>> {
  const words = [NAME, Buffer.from(torrent.infoHash, 'hex')];
  const all = await Promise.all(clients.map(({ place }) => arena.capture(place.ip, words)));
  return () => Promise.all(all.map((one) => one.read()));
}

function hidden(captured: readonly Captured[], torrent: MadeTorrent, utp: boolean): void {
  for (const one of captured) {
    assert.ok(one.counts[utp ? 'udp' : 'tcp'] > 5, 'what was sent was captured');
    assert.deepEqual(packetsWith(one, NAME), NONE);
    assert.deepEqual(packetsWith(one, Buffer.from(torrent.infoHash, 'hex')), NONE);
  }
}
