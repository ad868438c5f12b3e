/** Peers learned from peers (BEP 11): who knows one of a swarm comes to know the rest, and nobody else tells them. */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { addressOf, type Client } from './harness/clients/client.ts';
import type { Libtorrent } from './harness/clients/driven.ts';
import type { MadeTorrent } from './harness/torrent.ts';
import { until } from './harness/wait.ts';

/** BEP 11: at most one message a minute. */
const LIMIT_MS = 90_000;
const OTHERS = 4;
/** So slow that nobody has all before the end of the test. */
const TRICKLE = 20_000;
const PEX = { pex: true } as const;

describe('shoal learns from one peer of four others', () => {
  for (const kind of ['libtorrent', 'qbittorrent', 'transmission'] as const) {
    const body = async (arena: Arena): Promise<void> => {
      const torrent = arena.torrent();
      const hub = await arena.client(kind, PEX);
      await arena.seed(hub, torrent, { uploadLimit: TRICKLE });
      const others = await crowd(arena, torrent, hub);
      const shoal = await arena.shoal({ command: 'get', finding: PEX });
      const started = performance.now();
      await arena.leech(shoal, torrent, { from: [hub] });
      await until(
        `shoal is connected to ${OTHERS + 1}`,
        () => {
          const progress = shoal.run!.last('progress');
          const known = progress?.['sources'] as { pex: number } | undefined;
          return known !== undefined && known.pex >= OTHERS && Number(progress!['peers']) >= OTHERS + 1;
        },
        { timeoutMs: LIMIT_MS, detail: () => JSON.stringify(shoal.run!.last('progress')) },
      );
      console.log(`${kind} told shoal of ${OTHERS} in ${Math.round(performance.now() - started)} ms`);
      for (const other of others) assert.ok(await connected(other, 2), `${addressOf(other)} has shoal`);
    };
    interop(`from ${kind}`, [kind, 'libtorrent'], body, { timeout: 150_000 });
  }
});

describe('others learn from shoal', () => {
  for (const kind of ['libtorrent', 'qbittorrent', 'transmission'] as const) {
    const body = async (arena: Arena): Promise<void> => {
      // one torrent with a tracker, which the others know nothing of, for who can be told of peers by nothing else
      const known = arena.torrent(kind === 'transmission' ? { tracker: (await arena.tracker()).url } : {});
      const shoal = await arena.shoal({ command: 'seed', finding: PEX });
      await arena.seed(shoal, known, { uploadLimit: TRICKLE });
      const others = await crowd(arena, arena.torrent(), shoal);
      await until('shoal has four', () => Number(shoal.run!.last('progress')?.['peers']) >= OTHERS, {
        timeoutMs: 20_000,
      });
      const late = await arena.client(kind, PEX);
      const started = performance.now();
      await arena.leech(late, known, { from: [shoal] });
      await until(
        `${kind} is found by the others or finds them`,
        async () => {
          for (const other of others) if (!(await connected(other, 2))) return false;
          return true;
        },
        { timeoutMs: LIMIT_MS },
      );
      console.log(`shoal told ${kind} of ${OTHERS} in ${Math.round(performance.now() - started)} ms`);
    };
    interop(`as ${kind}`, [kind, 'libtorrent'], body, { timeout: 150_000 });
  }
});

/** Leeches that know the hub alone, and do not exchange peers among themselves but with the hub. */
async function crowd(arena: Arena, torrent: MadeTorrent, hub: Client): Promise<Libtorrent[]> {
  const others: Libtorrent[] = [];
  for (let i = 0; i < OTHERS; i++) {
    const other = (await arena.client('libtorrent', { pex: false })) as Libtorrent;
    await arena.leech(other, torrent, { from: [hub] });
    others.push(other);
  }
  // who is served has told its port; before, transmission hands on the one that it came from
  for (const other of others)
    await until('the hub serves it', () => (other.last.downloaded ?? 0) > 0, { timeoutMs: 40_000 });
  return others;
}

async function connected(client: Libtorrent, count: number): Promise<boolean> {
  return (client.last.peers ?? 0) >= count;
}
