/**
 * Rate limits with qbittorrent as the other side: the mean within 5 %, no second more than 25 % over, by what Shoal counts
 * and, for the mean, by what qbittorrent counts. Ten seconds at one rate; with SHOAL_LIMITS_LONG=1 (scripts/limits-long.mjs)
 * a minute at each of three.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import type { DriverStatus, ShoalSession } from './harness/clients/driven.ts';
import type { Qbittorrent } from './harness/clients/qbittorrent.ts';
import { type MadeTorrent, makeTorrent } from './harness/torrent.ts';
import { pause, until } from './harness/wait.ts';

const MiB = 1 << 20;
const LONG = process.env['SHOAL_LIMITS_LONG'] === '1';
const SECONDS = LONG ? 60 : 10;
const RATES = LONG ? [1, 5, 20] : [5];
/** To get going. */
const BEFORE_MS = LONG ? 5000 : 3000;
const PIECE = MiB;
/** Of a run without limits: as much, or as long. */
const FREE_BYTES = 2048 * MiB;
const FREE_MS = 15_000;

describe(`within 5 % over ${SECONDS} s, with qbittorrent`, () => {
  for (const utp of [false, true]) {
    for (const rate of RATES) {
      for (const up of [false, true]) {
        const name = `${up ? 'up' : 'down'}, ${rate} MiB/s, ${utp ? 'uTP' : 'TCP'}`;
        interop(name, ['qbittorrent'], (arena) => holds(arena, name, rate * MiB, up, utp), { timeout: 300_000 });
      }
    }
  }
});

if (LONG) {
  // what the two move when nothing holds them back, now, on this machine: a limit above that cannot be reached
  describe('without a limit, for comparison', () => {
    for (const utp of [false, true]) {
      for (const up of [false, true]) {
        const name = `${up ? 'up' : 'down'}, no limit, ${utp ? 'uTP' : 'TCP'}`;
        interop(name, ['qbittorrent'], (arena) => runsFree(arena, name, up, utp), { timeout: 120_000 });
      }
    }
  });
}

async function runsFree(arena: Arena, name: string, up: boolean, utp: boolean): Promise<void> {
  const torrent = zeros(arena, FREE_BYTES);
  const shoal = (await arena.client('shoal', { utp })) as ShoalSession;
  const other = await arena.client('qbittorrent', { utp });
  await arena.seed(up ? shoal : other, torrent);
  await arena.leech(up ? other : shoal, torrent, { from: [up ? shoal : other] });
  const counted = (status: DriverStatus): number => (up ? status.uploaded : status.downloaded) ?? 0;
  await until('it begins', () => counted(shoal.last) > 0, { timeoutMs: 60_000 });
  const [from, bytes] = [performance.now(), counted(shoal.last)];
  while (counted(shoal.last) < FREE_BYTES && performance.now() - from < FREE_MS) await pause(50);
  const seconds = (performance.now() - from) / 1000;
  console.log(`${name}: ${((counted(shoal.last) - bytes) / seconds / MiB).toFixed(1)} MiB/s`);
}

async function holds(arena: Arena, name: string, rate: number, up: boolean, utp: boolean): Promise<void> {
  const torrent = zeros(arena, Math.ceil(rate * (SECONDS + BEFORE_MS / 1000 + 10)));
  const limits = up ? { uploadLimit: rate } : { downloadLimit: rate };
  const shoal = (await arena.client('shoal', { utp, limits })) as ShoalSession;
  const other = (await arena.client('qbittorrent', { utp })) as Qbittorrent;
  await arena.seed(up ? shoal : other, torrent);
  await arena.leech(up ? other : shoal, torrent, { from: [up ? shoal : other] });
  const counted = (status: DriverStatus): number => (up ? status.uploaded : status.downloaded) ?? 0;
  await until('it begins', () => counted(shoal.last) > rate / 2, { timeoutMs: 60_000 });
  await pause(BEFORE_MS);
  const first = shoal.history.length;
  const [theirsBefore, theirMs] = [await other.transferred(!up), performance.now()];
  await pause(SECONDS * 1060 + 1000);
  const theirs = ((await other.transferred(!up)) - theirsBefore) / ((performance.now() - theirMs) / 1000);
  const seconds = perSecond(shoal.history.slice(first - 1), counted).slice(0, SECONDS);
  const mean = seconds.reduce((sum, each) => sum + each, 0) / seconds.length;
  const most = Math.max(...seconds);
  const share = (value: number): string => `${((value / rate) * 100).toFixed(1)} %`;
  console.log(`${name}: mean ${share(mean)}, most in a second ${share(most)}, by qbittorrent ${share(theirs)}`);
  if (process.env['SHOAL_LIMITS_SHOW'] === '1')
    console.log(seconds.map((each) => Math.round((each / rate) * 100)).join(' '));
  assert.equal(seconds.length, SECONDS);
  assert.ok(Math.abs(mean / rate - 1) <= 0.05, `mean ${share(mean)}`);
  assert.ok(most / rate <= 1.25, `most in a second ${share(most)}`);
  // it counts in steps of its own
  assert.ok(Math.abs(theirs / rate - 1) <= (LONG ? 0.05 : 0.12), `by qbittorrent ${share(theirs)}`);
}

/** Bytes per second of each second. */
function perSecond(history: readonly DriverStatus[], counted: (status: DriverStatus) => number): number[] {
  const rates: number[] = [];
  let from = history[0]!;
  for (const status of history) {
    const ms = status.atMs! - from.atMs!;
    if (ms < 1000) continue;
    rates.push(((counted(status) - counted(from)) / ms) * 1000);
    from = status;
  }
  return rates;
}

/** A torrent of so many zeros, which takes no time to make and no room. */
function zeros(arena: Arena, length: number): MadeTorrent {
  const count = Math.ceil(length / PIECE);
  const folder = arena.makeFolder('zeros');
  mkdirSync(join(folder, 'zeros'));
  const files = [{ path: ['zeros.bin'], length: count * PIECE, sha256: '' }];
  const fd = openSync(join(folder, 'zeros', 'zeros.bin'), 'wx');
  ftruncateSync(fd, count * PIECE);
  closeSync(fd);
  const digest = createHash('sha1').update(new Uint8Array(PIECE)).digest();
  const payload = { name: 'zeros', folder, files, bytes: count * PIECE };
  const pieces = Buffer.concat(new Array<Buffer>(count).fill(digest));
  return makeTorrent(payload, join(folder, 'it.torrent'), { pieceLength: PIECE, pieces });
}
