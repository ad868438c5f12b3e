/** Folders of one run: all below the one that the wrapper made (and removes), or one of our own. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Short, because rtorrent's control socket lies in it, and a socket's path has 107 bytes at most. */
export function makeTemp(prefix: string): string {
  return mkdtempSync(join(process.env['SHOAL_INTEROP_TEMP'] ?? tmpdir(), `${prefix}-`));
}

export function removeTemp(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 3, retryDelay: 50 });
}
