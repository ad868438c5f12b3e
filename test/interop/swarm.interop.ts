/** All clients and three Shoals get a torrent from one slow seed: they have to give each other what they got. */

import assert from 'node:assert/strict';
import { expect } from 'vitest';
import { interop, transferMs } from './harness/arena.ts';
import { whyNot } from './harness/available.ts';
import { addressOf, type Client } from './harness/clients/client.ts';
import type { Libtorrent } from './harness/clients/driven.ts';
import { CLIENTS } from './harness/clients/index.ts';
import type { Shoal } from './harness/clients/shoal.ts';
import { until } from './harness/wait.ts';

interop('a swarm of all clients and three shoals from one seed', ['libtorrent'], async (arena) => {
  const kinds = CLIENTS.filter((kind) => {
    const reason = whyNot(kind);
    if (reason !== null) console.log(`the swarm goes without ${kind}: ${reason}`);
    return reason === null;
  });
  const tracker = await arena.tracker();
  const torrent = arena.torrent({ tracker: tracker.url });
  const seed = (await arena.client('libtorrent')) as Libtorrent;
  // the whole payload in some 8 s
  await arena.seed(seed, torrent, { uploadLimit: Math.ceil(torrent.payload.bytes / 8) });

  const leeches: Client[] = await Promise.all(kinds.map((kind) => arena.client(kind)));
  const shoals: Shoal[] = await Promise.all([arena.shoal(), arena.shoal(), arena.shoal()]);
  const all = [...leeches, ...shoals];
  const folders = await Promise.all(all.map((client) => arena.leech(client, torrent)));
  const missing = new Set(all);
  await until(
    'all have all',
    async () => {
      for (const client of missing) if (await client.complete()) missing.delete(client);
      return missing.size === 0;
    },
    {
      timeoutMs: transferMs(torrent.payload.bytes * 2),
      everyMs: 200,
      detail: () => `missing: ${[...missing].map((client) => `${client.kind} ${addressOf(client)}`).join(', ')}`,
    },
  );
  for (const [i, client] of all.entries()) await arena.same(torrent, folders[i]!, client);

  // the seed gave far less than each of them got
  assert.ok(seed.last.uploaded! < (torrent.payload.bytes * all.length) / 2, `the seed gave ${seed.last.uploaded}`);
  const given = await Promise.all(
    shoals.map(async (shoal) => {
      expect(await shoal.run!.program.stop('SIGINT')).toBe(0);
      return shoal.run!.lines.filter((line) => line.type === 'progress').some((line) => (line['upRate'] as number) > 0);
    }),
  );
  assert.ok(given.some(Boolean), 'some shoal gave something');
});
