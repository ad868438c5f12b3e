/** Makes the payload that all tests share, and checks afterwards that no client has changed it. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { SHOAL } from './harness/clients/shoal.ts';
import { differences, makePayload } from './harness/payload.ts';
import { makeTemp, removeTemp } from './harness/temp.ts';
import { makeTorrent } from './harness/torrent.ts';

const MiB = 1 << 20;
const SMALL = { bytes: 24 * MiB, pieceLength: 65_536 };
const LARGE = { bytes: 1024 * MiB, pieceLength: MiB };

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const built = fileURLToPath(new URL('../../packages/shoal/dist/cli/main.js', import.meta.url));
  if (!existsSync(SHOAL) || !existsSync(built)) throw new Error('shoal is not built: npx tsc -b');
  const { bytes, pieceLength } = process.env['SHOAL_INTEROP_LARGE'] === '1' ? LARGE : SMALL;
  const folder = makeTemp('p');
  const payload = makePayload(folder, bytes);
  if (payload.files.length !== 40) throw new Error(`the payload has ${payload.files.length} files`);
  const torrentFolder = makeTemp('h');
  const { pieces } = makeTorrent(payload, `${torrentFolder}/it.torrent`, { pieceLength });
  project.provide('shared', { payload, pieceLength, pieces: pieces.toString('hex') });
  return async () => {
    const found = await differences(payload, folder, { mayHold: /\.aria2$/ });
    removeTemp(folder);
    removeTemp(torrentFolder);
    if (found.length > 0) throw new Error(`a client changed what it seeded:\n${found.join('\n')}`);
  };
}
