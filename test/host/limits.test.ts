/** Rate limits over real sockets: what arrives in 10 s is within 5 % of what is allowed, whoever holds back. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTorrent, Session } from '../../packages/engine/dist/src/index.js';

const MiB = 1 << 20;
const RATE = 6 * MiB;
const folder = mkdtempSync(join(tmpdir(), 'shoal-limits-'));
let torrent: Uint8Array;

beforeAll(async () => {
  writeFileSync(join(folder, 'data.bin'), randomBytes(96 * MiB));
  torrent = (await createTorrent(join(folder, 'data.bin'), { pieceLength: 256 * 1024 })).bytes;
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Nobody but these two is spoken to. */
const LOCAL = { bind: ['127.0.0.1'], dht: false, lsd: false } as const;

/** Bytes per second that come over 10 s, after 2 s to get going. */
async function received(
  down: number,
  up: number,
  where: 'session' | 'torrent' | 'group' | 'alternative',
): Promise<number> {
  const target = mkdtempSync(join(folder, 'leech-'));
  const limits = { downloadLimit: down, uploadLimit: up };
  const inSession = where === 'session' ? limits : {};
  const inTorrent = where === 'torrent' ? limits : where === 'group' ? { group: 'slow' } : {};
  const seed = new Session({ port: 0, ...LOCAL, ...(up > 0 ? inSession : {}) });
  const leech = new Session({ port: null, ...LOCAL, ...(down > 0 ? inSession : {}) });
  for (const [session, rates] of [
    [seed, { up }],
    [leech, { down }],
  ] as const) {
    session.setGroupLimits('slow', rates);
    session.setAlternativeLimits(rates);
    if (where === 'alternative') session.useAlternativeLimits(true);
  }
  try {
    const source = await seed.add(torrent, { folder, ...(up > 0 ? inTorrent : {}) });
    await source.done();
    const peers = seed.addresses.map(({ ip, port }) => `${ip}:${port}`);
    const download = await leech.add(torrent, { folder: target, peers, ...(down > 0 ? inTorrent : {}) });
    const at: { readonly ms: number; readonly bytes: number }[] = [];
    for await (const { downloaded } of download.progress({ intervalMs: 1000 })) {
      at.push({ ms: performance.now(), bytes: downloaded });
      if (at.length === 13) break;
    }
    return ((at[12]!.bytes - at[2]!.bytes) / (at[12]!.ms - at[2]!.ms)) * 1000;
  } finally {
    await Promise.all([seed.close(), leech.close()]);
  }
}

describe('within 5 % over 10 s', () => {
  test.concurrent.each([
    ['download', 'session', RATE, 0],
    ['download', 'torrent', RATE, 0],
    ['download', 'group', RATE, 0],
    ['upload', 'session', 0, RATE],
    ['upload', 'torrent', 0, RATE],
    ['upload', 'alternative', 0, RATE],
  ] as const)('%s, %s', async (_name, where, down, up) => {
    const rate = await received(down, up, where);
    expect(rate / RATE).toBeGreaterThan(0.95);
    expect(rate / RATE).toBeLessThan(1.05);
  });
});

test('peers in the local network may be let off', async () => {
  const target = mkdtempSync(join(folder, 'leech-'));
  const seed = new Session({ port: 0, ...LOCAL, uploadLimit: MiB, limitLan: false });
  const leech = new Session({ port: null, ...LOCAL, downloadLimit: MiB, limitLan: false });
  const started = performance.now();
  const source = await seed.add(torrent, { folder });
  await source.done();
  await (await leech.add(torrent, { folder: target, peers: [`127.0.0.1:${seed.addresses[0]!.port}`] })).done();
  await Promise.all([seed.close(), leech.close()]);
  // 96 MiB would take a minute and a half
  expect(performance.now() - started).toBeLessThan(30_000);
});
