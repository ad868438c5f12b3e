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
async function received(down: number, up: number, perTorrent: boolean): Promise<number> {
  const target = mkdtempSync(join(folder, 'leech-'));
  const limits = { downloadLimit: down, uploadLimit: up };
  const inSession = perTorrent ? {} : limits;
  const inTorrent = perTorrent ? limits : {};
  const seed = new Session({ port: 0, ...LOCAL, ...(up > 0 ? inSession : {}) });
  const leech = new Session({ port: null, ...LOCAL, ...(down > 0 ? inSession : {}) });
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
    ['download, session', RATE, 0, false],
    ['download, torrent', RATE, 0, true],
    ['upload, session', 0, RATE, false],
    ['upload, torrent', 0, RATE, true],
  ] as const)('%s', async (_name, down, up, perTorrent) => {
    const rate = await received(down, up, perTorrent);
    expect(rate / RATE).toBeGreaterThan(0.95);
    expect(rate / RATE).toBeLessThan(1.05);
  });
});
