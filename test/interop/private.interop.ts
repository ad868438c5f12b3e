/** A private torrent whose only meeting place is a real opentracker that knows it alone. */

import assert from 'node:assert/strict';
import { interop } from './harness/arena.ts';
import type { ClientKind } from './harness/clients/index.ts';
import { findingArgs } from './harness/clients/shoal.ts';
import { until } from './harness/wait.ts';

const OTHERS: readonly ClientKind[] = ['libtorrent', 'transmission'];

for (const kind of OTHERS) {
  interop(`shoal seeds to ${kind} in a private swarm`, ['opentracker', kind], async (arena) => {
    const place = await arena.place('opentracker');
    const torrent = arena.torrent({ tracker: `http://${place.ip}:${place.port}/announce`, private: true });
    const tracker = await arena.opentracker([torrent.infoHash], place);
    const shoal = await arena.shoal({ command: 'seed' });
    await arena.seed(shoal, torrent);
    await until('the tracker knows the seed', async () => (await tracker.scrape(torrent.infoHash))?.complete === 1, {
      timeoutMs: 10_000,
    });
    const leech = await arena.client(kind);
    const folder = await arena.leech(leech, torrent);
    await arena.completed(leech, torrent);
    await arena.same(torrent, folder, leech);
    await until('the tracker counts two', async () => (await tracker.scrape(torrent.infoHash))?.complete === 2, {
      timeoutMs: 10_000,
    });
    const stopping = performance.now();
    assert.equal(await shoal.run!.program.stop('SIGINT'), 0);
    assert.ok(performance.now() - stopping < 2500, 'it says good-bye and ends within two seconds');
    assert.equal((await tracker.scrape(torrent.infoHash))?.complete, 1, 'it said stopped');
  });

  interop(`shoal leeches from ${kind} in a private swarm`, ['opentracker', kind], async (arena) => {
    const place = await arena.place('opentracker');
    const torrent = arena.torrent({ tracker: `http://${place.ip}:${place.port}/announce`, private: true });
    const tracker = await arena.opentracker([torrent.infoHash], place);
    const seed = await arena.client(kind);
    await arena.seed(seed, torrent);
    await until('the tracker knows the seed', async () => (await tracker.scrape(torrent.infoHash))?.complete === 1, {
      timeoutMs: 30_000,
    });
    const shoal = await arena.shoal();
    const folder = await arena.leech(shoal, torrent);
    await arena.completed(shoal, torrent);
    await arena.same(torrent, folder);
    await until('the tracker counts two', async () => (await tracker.scrape(torrent.infoHash))?.complete === 2, {
      timeoutMs: 10_000,
    });
    assert.equal(await shoal.run!.program.stop('SIGINT'), 0);
    assert.equal((await tracker.scrape(torrent.infoHash))?.complete, 1, 'it said stopped');
  });
}

interop('a tracker that does not know the torrent is told apart', ['opentracker'], async (arena) => {
  const place = await arena.place('opentracker');
  const torrent = arena.torrent({ tracker: `http://${place.ip}:${place.port}/announce`, private: true });
  await arena.opentracker(['00'.repeat(20)], place);
  const run = await arena.run([
    'get',
    torrent.path,
    '-o',
    arena.makeFolder('none'),
    '--state',
    arena.makeFolder('state'),
    '--timeout',
    '3',
    '--bind',
    place.ip,
    '--no-port-map',
    ...findingArgs(),
  ]);
  assert.equal(run.program.exitCode, 5);
  assert.equal(run.last('error')?.code, 'no-peers');
});
