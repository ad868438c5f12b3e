/** `--save-torrent FILE`: where a .torrent goes as soon as it is known. */

import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Metainfo, ShoalError } from '@shoal/engine';
import { UsageError } from './exit-code.ts';
import { sanitize } from './format.ts';
import { writeWhole } from './write-whole.ts';

/** Null: not asked for. A folder that is not there is told of before anything is fetched. */
export async function torrentTarget(file: string | undefined, sourceCount: number): Promise<string | null> {
  if (file === undefined) return null;
  if (sourceCount > 1) throw new UsageError('--save-torrent is about one torrent; give one with it');
  const target = resolve(file);
  const folder = await stat(dirname(target)).catch(() => null);
  if (folder === null || !folder.isDirectory()) {
    throw new ShoalError('disk', `--save-torrent: ${sanitize(dirname(target))} is not a folder`);
  }
  if (await isFolder(target)) throw new ShoalError('disk', `--save-torrent: ${sanitize(target)} is a folder`);
  return target;
}

/** Replaces what was there. */
export async function saveTorrent(meta: Metainfo, target: string): Promise<void> {
  await writeWhole(target, meta.torrentBytes());
}

async function isFolder(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
