/** D5, D6, L2: few descriptors, many files, many pieces, many torrents. */

import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { bencode, it, type Made, makeTorrent, pause, sameBytes } from './kit.ts';

const MIB = 1 << 20;

describe('few descriptors', () => {
  for (const limit of [64, 256]) {
    it(`(ulimit -n ${limit}) are enough for 2,000 files and 200 peers`, async ({ world }) => {
      const files = Array.from({ length: 2000 }, (_, i) => ({
        path: [`d${i % 20}`, `f${i}`],
        bytes: randomBytes(3000 + i),
      }));
      const made = makeTorrent('many', files, { pieceLength: 65536 });
      const { peer } = await world.seed([made]);
      const prefix = ['sh', '-c', `ulimit -n ${limit}; exec "$@"`, 'sh'];
      const getter = world.agent({ prefix });
      const address = await getter.open({ state: world.path('state'), maxConnections: 500 });
      const folder = world.make('down');
      await getter.add(made, { folder, peers: [peer] });
      // 200 peers want in
      const crowd = world.agent();
      await crowd.open({ memory: 8 * MIB });
      const sockets = await crowd.call<number>('crowd', address, made.infoHash, 200);
      expect(sockets).toBe(200);
      const asked = performance.now();
      await getter.call('sessionStats');
      expect(performance.now() - asked).toBeLessThan(200);
      await getter.call('done', 0);
      expect(sameBytes(made, folder)).toBe(true);
      expect((await getter.stats()).error).toBeNull();
      await pause(1200);
      await getter.end();
    });
  }
});

/** A torrent whose data nobody has: digests are random. */
function empty(name: string, files: readonly { length: number; path: string[] }[], pieceLength: number): Made {
  const bytes = files.reduce((sum, file) => sum + file.length, 0);
  const pieces = randomBytes(20 * Math.ceil(bytes / pieceLength));
  const info = bencode({ name, 'piece length': pieceLength, pieces, files });
  const torrent = Buffer.concat([Buffer.from('d4:info'), info, Buffer.from('e')]);
  return { name, torrent, info, infoHash: createHash('sha1').update(info).digest('hex'), files: [], pieceLength };
}

describe('a torrent', () => {
  const shapes: [string, () => Made][] = [
    [
      '1,000 files of 0 bytes',
      () =>
        empty(
          'zeros',
          Array.from({ length: 1000 }, (_, i) => ({ length: i === 0 ? 1 : 0, path: [`z${i}`] })),
          16384,
        ),
    ],
    [
      '100,000 files',
      () =>
        empty(
          'files',
          Array.from({ length: 100_000 }, (_, i) => ({ length: 20_000 + (i % 100), path: [`d${i % 100}`, `f${i}`] })),
          1 << 20,
        ),
    ],
    ['2^21 pieces', () => empty('pieces', [{ length: 2 ** 21 * 16384, path: ['huge'] }], 16384)],
  ];
  for (const [what, make] of shapes) {
    it(`of ${what} is added within 10 s, with at most 400 MiB and 100 ms of delay (p99)`, async ({ world }) => {
      const made = make();
      const agent = world.agent();
      await agent.open({ state: world.path('state') });
      await pause(200);
      const before = await agent.usage();
      const from = performance.now();
      const folder = world.make('down');
      await agent.add(made, { folder });
      await agent.call('checked', 0);
      const took = performance.now() - from;
      await pause(3000);
      const during = await agent.usage();
      console.log(
        `${what}: added in ${Math.round(took)} ms, RSS +${Math.round((during.maxRss - before.maxRss) / MIB)} MiB, delay p99 ${Math.round(during.delayP99Ms)} max ${Math.round(during.delayMaxMs)} ms`,
      );
      expect(took).toBeLessThan(10_000);
      expect(during.maxRss - before.maxRss).toBeLessThan(400 * MIB);
      expect(during.delayP99Ms).toBeLessThan(100);
      if (what.startsWith('1,000')) expect(readdirSync(`${folder}/zeros`).length).toBe(999);
      const closing = performance.now();
      await agent.end();
      expect(performance.now() - closing).toBeLessThan(5000);
      // and again, from the record
      const second = world.agent();
      await second.open({ state: world.path('state') });
      const again = performance.now();
      await second.call('restore');
      await second.call('checked', 0);
      expect(performance.now() - again).toBeLessThan(10_000);
      await pause(3000);
      const after = await second.usage();
      console.log(
        `${what}: restored in ${Math.round(performance.now() - again - 3000)} ms, delay p99 ${Math.round(after.delayP99Ms)} max ${Math.round(after.delayMaxMs)} ms`,
      );
      expect(after.delayP99Ms).toBeLessThan(100);
      await second.end();
      expect(existsSync(folder)).toBe(true);
    });
  }
});
