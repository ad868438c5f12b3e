/** Every client against Shoal in both directions, every byte compared. */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { interop } from './harness/arena.ts';
import { CLIENTS } from './harness/clients/index.ts';

describe('shoal leeches', () => {
  for (const kind of CLIENTS) {
    interop(`from ${kind}`, [kind], async (arena) => {
      const torrent = arena.torrent();
      const seed = await arena.client(kind);
      await arena.seed(seed, torrent);
      const shoal = await arena.shoal({ command: 'get' });
      const folder = await arena.leech(shoal, torrent, { from: [seed] });
      await arena.completed(shoal, torrent);
      await arena.same(torrent, folder);
      const done = shoal.run!.last('done')!;
      assert.equal(done['bytes'], torrent.payload.bytes);
      assert.equal(done.hashFails, 0);
      assert.equal(done.resumed, 0);
    });
  }
});

describe('shoal seeds', () => {
  for (const kind of CLIENTS) {
    interop(`to ${kind}`, [kind], async (arena) => {
      const leech = await arena.client(kind);
      // those that cannot be told of a peer find it through a tracker
      const torrent = arena.torrent(leech.takesPeers ? {} : { tracker: (await arena.tracker()).url });
      const shoal = await arena.shoal({ command: 'seed' });
      await arena.seed(shoal, torrent);
      const folder = await arena.leech(leech, torrent, { from: [shoal] });
      await arena.completed(leech, torrent);
      await arena.same(torrent, folder, leech);
      assert.equal(await shoal.run!.program.stop('SIGINT'), 0);
      assert.ok(shoal.run!.last('done')!.uploaded! >= torrent.payload.bytes);
    });
  }
});
