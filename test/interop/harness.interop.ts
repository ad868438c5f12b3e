/** The harness itself: real clients among themselves, without Shoal. What fails here is no fault of Shoal's. */

import { describe } from 'vitest';
import { interop } from './harness/arena.ts';
import { CLIENTS, type ClientKind } from './harness/clients/index.ts';

describe('the clients among themselves', () => {
  for (const kind of CLIENTS) {
    const other: ClientKind = kind === 'libtorrent' ? 'aria2' : 'libtorrent';
    interop(`${other} seeds to ${kind}, ${kind} to ${other}`, [kind, other], async (arena) => {
      const tracker = await arena.tracker();
      const torrent = arena.torrent({ tracker: tracker.url });
      for (const [from, to] of [
        [other, kind],
        [kind, other],
      ] as const) {
        const seed = await arena.client(from);
        await arena.seed(seed, torrent);
        const leech = await arena.client(to);
        const folder = await arena.leech(leech, torrent, { from: [seed] });
        await arena.completed(leech, torrent);
        await arena.same(torrent, folder, leech);
        await seed.stop();
        await leech.stop();
      }
    });
  }
});
