/** Metadata through peers (BEP 9), from every client and to every client, and then the torrent itself. */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { interop } from './harness/arena.ts';
import { addressOf } from './harness/clients/client.ts';
import { CLIENTS } from './harness/clients/index.ts';
import { magnetOf } from './harness/torrent.ts';
import { until } from './harness/wait.ts';

/**
 * From the start, or from being told, to the metadata. transmission asks and answers in steps of seconds by its own clock:
 * 3.3 to 5.3 s of it are its own, so that 5 s would test the machine.
 */
const LIMIT_MS = 5000;
const TRANSMISSION_MS = 10_000;

/**
 * Small, so that the info dictionary takes more than one 16 KiB piece of metadata; but rtorrent maps each piece by itself,
 * and a process has 65,530 maps.
 */
const pieceLength: number = process.env['SHOAL_INTEROP_LARGE'] === '1' ? 65_536 : 16_384;

describe('shoal takes a magnet link', () => {
  for (const [i, kind] of CLIENTS.entries()) {
    interop(`with ${kind} as its peer`, [kind], async (arena) => {
      const torrent = arena.torrent({ pieceLength });
      const seed = await arena.client(kind);
      await arena.seed(seed, torrent);
      const shoal = await arena.shoal({ command: 'get' });
      // the address by --peer and in the link by turns
      const magnet = i % 2 === 0 ? magnetOf(torrent) : magnetOf(torrent, { peers: [addressOf(seed)] });
      const folder = await arena.leech(shoal, torrent, { magnet, from: i % 2 === 0 ? [seed] : [] });
      await arena.completed(shoal, torrent);
      await arena.same(torrent, folder);
      assert.equal(shoal.run!.last('done')!['name'], torrent.payload.name);
      const ms = shoal.run!.foundMs!;
      console.log(`metadata from ${kind}: ${Math.round(ms)} ms`);
      assert.ok(ms <= (kind === 'transmission' ? TRANSMISSION_MS : LIMIT_MS), `it has the metadata after ${ms} ms`);
    });
  }
});

describe('shoal gives metadata', () => {
  for (const kind of CLIENTS) {
    interop(`to ${kind}`, [kind], async (arena) => {
      const tracker = await arena.tracker();
      const torrent = arena.torrent({ pieceLength, tracker: tracker.url });
      const shoal = await arena.shoal({ command: 'seed' });
      await arena.seed(shoal, torrent);
      const leech = await arena.client(kind);
      const magnet = magnetOf(torrent, { tracker: tracker.url });
      const told = performance.now();
      const folder = await arena.leech(leech, torrent, { magnet, from: [shoal] });
      await until(`${kind} has the metadata`, () => leech.hasMetadata(), { timeoutMs: 20_000, everyMs: 20 });
      const ms = performance.now() - told;
      console.log(`metadata to ${kind}: ${Math.round(ms)} ms`);
      assert.ok(ms <= (kind === 'transmission' ? TRANSMISSION_MS : LIMIT_MS), `it has the metadata after ${ms} ms`);
      await arena.completed(leech, torrent);
      await arena.same(torrent, folder, leech);
    });
  }
});
