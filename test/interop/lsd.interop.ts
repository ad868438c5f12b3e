/**
 * Peers found by multicast in the local network (BEP 14). The others are in another namespace, at
 * the end of a cable. Each test has a torrent of its own: all of them hear each other.
 */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { interop } from './harness/arena.ts';
import { pause, until } from './harness/wait.ts';

const LSD = { lsd: true } as const;

describe('shoal and transmission by multicast', () => {
  interop('shoal hears of a transmission seed', ['lan', 'transmission'], async (arena) => {
    const torrent = arena.torrent({ pieceLength: 32_768 });
    const shoal = await arena.shoal({ finding: LSD });
    const folder = await arena.leech(shoal, torrent);
    // what shoal says of a new torrent, three times in 4 s, is gone when transmission comes
    await shoal.run!.line('listening', 20_000);
    await pause(7000);
    const started = performance.now();
    const seed = await arena.lanClient('transmission', LSD);
    await arena.seed(seed, torrent);
    await arena.completed(shoal, torrent);
    await arena.same(torrent, folder);
    console.log(`shoal has all from transmission after ${Math.round(performance.now() - started)} ms`);
    const sources = shoal.run!.last('progress')!['sources'] as { lsd: number };
    assert.equal(sources.lsd, 1);
  });

  interop('transmission hears of a shoal seed', ['lan', 'transmission'], async (arena) => {
    const torrent = arena.torrent({ pieceLength: 131_072 });
    const leech = await arena.lanClient('transmission', LSD);
    const folder = await arena.leech(leech, torrent);
    const started = performance.now();
    const shoal = await arena.shoal({ command: 'seed', finding: LSD });
    await arena.seed(shoal, torrent);
    await arena.completed(leech, torrent);
    await arena.same(torrent, folder, leech);
    console.log(`transmission has all from shoal after ${Math.round(performance.now() - started)} ms`);
  });
});

describe('by multicast', () => {
  for (const kind of ['aria2', 'libtorrent'] as const) {
    interop(`shoal and ${kind} meet`, ['lan', kind], async (arena) => {
      const torrent = arena.torrent({ pieceLength: kind === 'aria2' ? 262_144 : 524_288 });
      const seed = await arena.lanClient(kind, LSD);
      const shoal = await arena.shoal({ command: 'get', finding: LSD });
      const folder = await arena.leech(shoal, torrent);
      await shoal.run!.line('listening', 20_000);
      await arena.seed(seed, torrent);
      await arena.completed(shoal, torrent);
      await arena.same(torrent, folder);
    });
  }

  interop('two shoals meet', ['lan'], async (arena) => {
    const torrent = arena.torrent({ pieceLength: 1_048_576 });
    const leech = await arena.shoal({ command: 'get', finding: LSD });
    const folder = await arena.leech(leech, torrent);
    await leech.run!.line('listening', 20_000);
    const started = performance.now();
    const seed = await arena.shoal({ command: 'seed', finding: LSD });
    await arena.seed(seed, torrent);
    await until('the leech knows it', () => leech.run!.last('done'), { timeoutMs: 30_000 });
    await arena.same(torrent, folder);
    console.log(`two shoals: all there after ${Math.round(performance.now() - started)} ms`);
  });
});
