/** UDP trackers as the only meeting place: opentracker, and a small one that takes the packets apart. */

import assert from 'node:assert/strict';
import { type Arena, interop } from './harness/arena.ts';
import type { ClientKind } from './harness/clients/index.ts';
import { Shoal } from './harness/clients/shoal.ts';
import { UdpTracker } from './harness/udp-tracker.ts';
import { until } from './harness/wait.ts';

const OTHERS: readonly ClientKind[] = ['libtorrent', 'transmission', 'qbittorrent'];

for (const kind of OTHERS) {
  interop(`shoal and ${kind} meet at an opentracker over UDP`, ['opentracker', kind], async (arena) => {
    const place = await arena.place('opentracker');
    const torrent = arena.torrent({ tracker: `udp://${place.ip}:${place.port}/announce`, private: true });
    const tracker = await arena.opentracker([torrent.infoHash], place);
    const count = async (complete: number, what: string): Promise<void> => {
      const check = async () => (await tracker.scrape(torrent.infoHash))?.complete === complete;
      await until(what, check, { timeoutMs: 30_000 });
    };
    const seed = await arena.client(kind);
    await arena.seed(seed, torrent);
    await count(1, 'the tracker knows the seed');
    const shoal = await arena.shoal();
    const folder = await arena.leech(shoal, torrent);
    await arena.completed(shoal, torrent);
    await arena.same(torrent, folder);
    await count(2, 'the tracker counts two');
    await seed.stop();
    assert.equal(await shoal.run!.program.stop('SIGINT'), 0);
    // of the other client's good-bye nothing is asked
    const left = (await tracker.scrape(torrent.infoHash))?.complete ?? 0;
    assert.ok(left <= 1, `it said stopped, and ${left} are left`);
  });
}

interop('shoal seeds to libtorrent by an opentracker over UDP', ['opentracker', 'libtorrent'], async (arena) => {
  const place = await arena.place('opentracker');
  const torrent = arena.torrent({ tracker: `udp://${place.ip}:${place.port}/announce`, private: true });
  const tracker = await arena.opentracker([torrent.infoHash], place);
  const shoal = await arena.shoal({ command: 'seed' });
  await arena.seed(shoal, torrent);
  const known = async () => (await tracker.scrape(torrent.infoHash))?.complete === 1;
  await until('the tracker knows the seed', known, { timeoutMs: 10_000 });
  const leech = await arena.client('libtorrent');
  const folder = await arena.leech(leech, torrent);
  await arena.completed(leech, torrent);
  await arena.same(torrent, folder, leech);
  const stopping = performance.now();
  assert.equal(await shoal.run!.program.stop('SIGINT'), 0);
  assert.ok(performance.now() - stopping < 2500, 'it says good-bye and ends within two seconds');
  const gone = async () => ((await tracker.scrape(torrent.infoHash))?.complete ?? 0) <= 1;
  await until('the tracker counts it no more', gone, { timeoutMs: 5_000 });
});

interop('a passkey reaches the tracker as libtorrent sends it (BEP 41)', ['libtorrent'], async (arena) => {
  const { tracker, ip } = await smallTracker(arena);
  const path = '/announce?passkey=0123456789abcdef&x=%20';
  const torrent = arena.torrent({ tracker: `udp://${ip}:${tracker.port}${path}`, private: true });
  const seed = await arena.client('libtorrent');
  await arena.seed(seed, torrent);
  await tracker.heard((all) => all.length > 0, 30_000);
  const theirs = tracker.announces[0]!;
  const shoal = await arena.shoal();
  const folder = await arena.leech(shoal, torrent);
  await arena.completed(shoal, torrent);
  await arena.same(torrent, folder);
  const ours = tracker.announces.find(({ peerId }) => peerId !== theirs.peerId)!;
  assert.deepEqual(ours.options, [{ type: 2, text: path }]);
  assert.deepEqual(ours.options, theirs.options);
  assert.equal(ours.infoHash, torrent.infoHash);
  assert.equal(ours.port, shoal.place.port);
  assert.equal(ours.left, BigInt(torrent.payload.bytes));
  assert.equal(await shoal.run!.program.stop('SIGINT'), 0);
  const mine = tracker.announces.filter(({ peerId }) => peerId === ours.peerId);
  assert.deepEqual(
    mine.map(({ event }) => event),
    [2, 1, 3],
  );
  assert.equal(new Set(mine.map(({ key }) => key)).size, 1);
  assert.deepEqual(tracker.rubbish, []);
});

interop('two meet over IPv6, at a tracker that has only that', [], async (arena) => {
  const { tracker } = await smallTracker(arena, '::1');
  const torrent = arena.torrent({ tracker: `udp://[::1]:${tracker.port}/announce`, private: true });
  const seed = await six(arena, 'seed');
  await arena.seed(seed, torrent);
  await tracker.heard((all) => all.length > 0);
  const leech = await six(arena, 'get --seed');
  const folder = await arena.leech(leech, torrent);
  await arena.completed(leech, torrent);
  await arena.same(torrent, folder);
  assert.deepEqual([...new Set(tracker.announces.map(({ family }) => family))], [6]);
  for (const shoal of [seed, leech]) assert.equal(await shoal.run!.program.stop('SIGINT'), 0);
  assert.deepEqual(
    tracker.announces.map(({ event }) => event),
    [2, 2, 1, 3, 3],
  );
});

interop('one that ends when it has all is counted as a completion', [], async (arena) => {
  const { tracker, ip } = await smallTracker(arena);
  const torrent = arena.torrent({ tracker: `udp://${ip}:${tracker.port}`, private: true });
  const seed = await arena.shoal({ command: 'seed' });
  await arena.seed(seed, torrent);
  await tracker.heard((all) => all.length > 0);
  const leech = await arena.shoal({ command: 'get' });
  await arena.leech(leech, torrent);
  await arena.completed(leech, torrent);
  assert.deepEqual(
    tracker.announces.map(({ event }) => event),
    [2, 2, 1, 3],
  );
  assert.equal(tracker.announces[2]!.left, 0n);
});

async function smallTracker(arena: Arena, at?: string): Promise<{ tracker: UdpTracker; ip: string }> {
  const ip = at ?? (await arena.place('tracker')).ip;
  const tracker = new UdpTracker();
  await tracker.start([ip]);
  arena.keep({ name: 'udp tracker', stop: () => tracker.stop(), tail: () => tracker.tail() });
  return { tracker, ip };
}

/** A Shoal on ::1. */
async function six(arena: Arena, command: 'seed' | 'get --seed'): Promise<Shoal> {
  const place = await arena.place('six');
  const shoal = new Shoal({ ...place, ip: '::1', port: place.port }, { command });
  arena.keep({ name: 'shoal on ::1', stop: () => shoal.stop(), tail: () => shoal.tail() });
  await shoal.start();
  return shoal;
}
