/** Writing small files so that they are never seen half done. */

import { randomBytes } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';

/** Replaces `path`: a reader of it sees the old file or the new one, never a part. */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    await writeFile(temporary, bytes, { flag: 'wx' });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    // people know the file they named
    if (error instanceof Error && 'path' in error && error.path === temporary) error.path = path;
    throw error;
  }
}
