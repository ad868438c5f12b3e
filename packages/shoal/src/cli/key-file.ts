/** Keys to sign with: a file of 64 hex digits, the secret seed of an ed25519 key (RFC 8032), readable by its owner alone. */

import { randomBytes } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { UsageError } from './exit-code.ts';
import { sanitize } from './format.ts';

const SEED_BYTES = 32;
/** Any more than a seed and some blanks is another kind of file. */
const MAX_FILE_BYTES = 1024;

/** The seed in `path`; with `make` it is made there, and what exists is never replaced. */
export async function readKey(path: string, make: boolean): Promise<Uint8Array> {
  return make ? await makeKey(path) : await loadKey(path);
}

async function makeKey(path: string): Promise<Uint8Array> {
  const seed = randomBytes(SEED_BYTES);
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(`${seed.toString('hex')}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
    throw new UsageError(`${sanitize(path)} exists already; leave out --new-key to use it`);
  }
  return seed;
}

async function loadKey(path: string): Promise<Uint8Array> {
  try {
    const { mode, size } = await stat(path);
    const text = size > MAX_FILE_BYTES ? '' : await readFile(path, 'latin1');
    if (!/^\s*[0-9a-f]{64}\s*$/i.test(text)) {
      throw new UsageError(`${sanitize(path)} is not a key file; it holds 64 hex digits, and --new-key makes one`);
    }
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      process.stderr.write(`shoal: note: others can read ${sanitize(path)}; \`chmod 600\` keeps the key to yourself\n`);
    }
    return Buffer.from(text.trim(), 'hex');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    throw new UsageError(`${sanitize(path)}: no such key file; --new-key makes one`);
  }
}

function codeOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error ? String(error.code) : null;
}
