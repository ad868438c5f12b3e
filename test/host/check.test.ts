/** What a session does about data that is there already, when it is stopped before it has looked at all of it. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createTorrent, Session } from '../../packages/engine/dist/src/index.js';
import { tempFolder } from './support.ts';

test.each([false, true])('a first check that was cut short is made anew (stopped in it twice: %s)', async (twice) => {
  const folder = tempFolder();
  const state = tempFolder();
  fs.writeFileSync(join(folder, 'data'), randomBytes(64 << 20));
  const { bytes, meta } = await createTorrent(join(folder, 'data'), { pieceLength: 65536 });
  const options = { bind: ['127.0.0.1'], dht: false, lsd: false, pex: false, hashThreads: 1, state };
  for (let i = 0; i < (twice ? 2 : 1); i++) {
    const short = new Session(options);
    const torrent = await short.add(bytes, { folder });
    expect(torrent.state).toBe('checking');
    await short.close();
    expect(torrent.pieces().filter((piece) => piece === 3).length).toBeLessThan(meta.pieceCount);
  }
  const session = new Session(options);
  const torrent = await session.add(bytes, { folder });
  await torrent.checked();
  expect(torrent.stats()).toMatchObject({ state: 'seeding', bytesDone: 64 << 20 });
  await session.close();
});
