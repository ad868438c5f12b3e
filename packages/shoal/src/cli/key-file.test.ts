import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { UsageError } from './exit-code.ts';
import { readKey } from './key-file.ts';

let folder = '';
let err = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'shoal-key-'));
  err = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

it('makes a key for its owner alone, reads it again, and never replaces it', async () => {
  const path = join(folder, 'tide.key');
  const seed = await readKey(path, true);
  expect(seed).toHaveLength(32);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readFileSync(path, 'utf8')).toMatch(/^[0-9a-f]{64}\n$/);
  expect(Buffer.from(await readKey(path, false)).equals(seed)).toBe(true);
  await expect(readKey(path, true)).rejects.toThrow('exists already');
  expect(Buffer.from(await readKey(path, false)).equals(seed)).toBe(true);
  expect(err).toBe('');
});

it('says so when others can read it, and works', async () => {
  const path = join(folder, 'open.key');
  writeFileSync(path, ` ${'AB'.repeat(32)}\r\n`);
  chmodSync(path, 0o644);
  expect(await readKey(path, false)).toEqual(Buffer.alloc(32, 0xab));
  expect(err).toContain('others can read');
});

it.each(['', 'ab', 'ab'.repeat(33), `${'ab'.repeat(31)}zz`, 'x'.repeat(5000)])(
  'refuses a file that holds %j',
  async (text) => {
    const path = join(folder, 'bad.key');
    writeFileSync(path, text, { mode: 0o600 });
    await expect(readKey(path, false)).rejects.toThrow(UsageError);
    await expect(readKey(path, false)).rejects.toThrow('bad.key is not a key file');
  },
);
