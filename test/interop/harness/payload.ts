/**
 * What is transferred: 40 files with the sizes and names that clients get wrong, the same bytes in every run, and the
 * comparison of a folder with them. The digests are taken when the bytes are made, not from the files.
 */

import { createCipheriv, createHash } from 'node:crypto';
import { closeSync, createReadStream, lstatSync, mkdirSync, openSync, readdirSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';

export interface PayloadFile {
  /** Below the payload's own folder. */
  readonly path: readonly string[];
  readonly length: number;
  readonly sha256: string;
}

export interface Payload {
  /** The torrent's name: `folder`/`name` holds the files. */
  readonly name: string;
  /** What holds the torrent's own folder. */
  readonly folder: string;
  readonly files: readonly PayloadFile[];
  readonly bytes: number;
}

const BLOCK = 16_384;
const CHUNK = 1 << 20;

/** Small ones of every awkward kind; the rest of the bytes goes into the last seven by these shares. */
const FIXED: readonly (readonly [path: string, length: number])[] = [
  ['0-empty-first', 0],
  ['one byte', 1],
  ['a.bin', BLOCK - 1],
  ['b.bin', BLOCK],
  ['c.bin', BLOCK + 1],
  ['deep/er/and/deeper/still/x', 3],
  ['deep/er/and/deeper/y.txt', 65_537],
  ['deep/er/empty', 0],
  ['deep/zero/zero', 0],
  ['ünïcödé/naïve café.txt', 12_345],
  ['ünïcödé/e\u0301 decomposed.txt', 54_321],
  ['日本語/ファイル名.bin', 99_999],
  ['日本語/空', 0],
  ['кириллица.dat', 131_071],
  ['emoji 🐟🐟🐟/🐚.bin', 131_073],
  ['العربية/ملف', 777],
  ["it's 100% fine & $HOME (really); yes!.bin", 4097],
  ['[brackets] {braces} #hash ~tilde^', 1],
  ['UPPER/one', 100],
  ['lower/two', 101],
  ['.hidden/.dotfile', 8191],
  ['trailing.dots...bin', 2],
  [`long/${'n'.repeat(200)}.bin`, 65_535],
  ['many/1', 1],
  ['many/2', 2],
  ['many/3', 0],
  ['many/4', 4],
  ['many/5', 5],
  ['many/6', 65_536],
  ['many/7', 7],
  ['many/8', 131_072],
  ['tiny.after', 1],
  ['prime.bin', 104_729],
];
const SHARED: readonly (readonly [path: string, share: number])[] = [
  ['large/first.bin', 0.31],
  ['large/second.iso', 0.23],
  ['large/third', 0.17],
  ['large/fourth.mkv', 0.11],
  ['large/fifth.tar.gz', 0.09],
  ['large/sixth.flac', 0.06],
  ['~last', 0.03],
];

export const PAYLOAD_NAME = 'Shoal — Übertragung 魚群 🐟';

/** Writes the payload into `folder`. `bytes` is about how much it has. */
export function makePayload(folder: string, bytes: number, seed = 1): Payload {
  const rest = Math.max(bytes - FIXED.reduce((sum, [, length]) => sum + length, 0), 1000);
  // odd lengths that are no multiple of anything
  const shared = SHARED.map(([path, share]) => [path, Math.floor(rest * share) | 1] as const);
  // large ones between the small ones, so that pieces span many files
  const all = [...FIXED];
  for (const [i, entry] of shared.entries()) all.splice(i * 6 + 2, 0, entry);
  const stream = byteStream(seed);
  const files = all.map(([path, length]) => {
    const parts = path.split('/');
    return { path: parts, length, sha256: writeFile(join(folder, PAYLOAD_NAME, ...parts), length, stream) };
  });
  return { name: PAYLOAD_NAME, folder, files, bytes: files.reduce((sum, file) => sum + file.length, 0) };
}

/** One file of `bytes` bytes. */
export function makeFile(folder: string, name: string, bytes: number, seed = 1): Payload {
  const sha256 = writeFile(join(folder, name), bytes, byteStream(seed));
  return { name, folder, files: [{ path: [], length: bytes, sha256 }], bytes };
}

/** The next n bytes of an endless stream that the seed alone decides. */
function byteStream(seed: number): (length: number) => Buffer {
  const key = createHash('sha256').update(`payload ${seed}`).digest().subarray(0, 16);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  return (length) => cipher.update(Buffer.alloc(length));
}

function writeFile(path: string, length: number, stream: (length: number) => Buffer): string {
  mkdirSync(dirname(path), { recursive: true });
  const hash = createHash('sha256');
  const fd = openSync(path, 'wx');
  for (let at = 0; at < length; at += CHUNK) {
    const bytes = stream(Math.min(CHUNK, length - at));
    hash.update(bytes);
    writeSync(fd, bytes);
  }
  closeSync(fd);
  return hash.digest('hex');
}

export interface CompareOptions {
  /** Clients that make no file for zero bytes. */
  readonly emptyMayMiss?: boolean;
  /** Files of the client's own beside the payload (control files, pads). */
  readonly mayHold?: RegExp;
}

/** All differences between what lies in `folder` and the payload; empty if every byte is the same. */
export async function differences(payload: Payload, folder: string, options: CompareOptions = {}): Promise<string[]> {
  const found: string[] = [];
  const expected = new Set<string>();
  for (const file of payload.files) {
    const path = join(payload.name, ...file.path);
    expected.add(path);
    const stat = lstatSync(join(folder, path), { throwIfNoEntry: false });
    if (stat === undefined) {
      if (file.length > 0 || options.emptyMayMiss !== true) found.push(`missing: ${path}`);
    } else if (!stat.isFile()) found.push(`not a regular file: ${path}`);
    else if (stat.size !== file.length) found.push(`${stat.size} bytes, not ${file.length}: ${path}`);
    else if ((await digest(join(folder, path))) !== file.sha256) found.push(`other bytes: ${path}`);
  }
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name).slice(folder.length + 1);
    if (!entry.isDirectory() && !expected.has(path) && options.mayHold?.test(path) !== true) {
      found.push(`not of the torrent: ${path}`);
    }
  }
  return found;
}

async function digest(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: CHUNK }), hash);
  return hash.digest('hex');
}
