/** What the demo shares: random files of the shapes that go wrong elsewhere (empty, one byte, odd sizes, any script). */

import { randomFill } from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const fill: (buffer: Buffer) => Promise<unknown> = promisify(randomFill);

/** Shares of the whole; what rounding leaves goes to the first. */
const FILES: readonly (readonly [path: string, share: number])[] = [
  ['tides/high water.bin', 0.5],
  ['tides/low water.bin', 0.2],
  ['Fische/Größe und Überfluss.bin', 0.1],
  ['魚/群れ.bin', 0.1],
  ['рыба/косяк.bin', 0.05],
  ['🐟 🐠 🐡/shoal.bin', 0.05],
];
const SMALL_FILES: readonly (readonly [path: string, bytes: number])[] = [
  ['empty', 0],
  ['one byte', 1],
  ['readme.txt', 1337],
];

const CHUNK_BYTES = 4 * 1024 * 1024;

/** Makes `folder` with files of `bytes` bytes in all; gives their count. */
export async function makePayload(folder: string, bytes: number, signal: AbortSignal): Promise<number> {
  const files: [path: string, bytes: number][] = SMALL_FILES.map(([path, size]) => [path, Math.min(size, bytes)]);
  let left = Math.max(0, bytes - files.reduce((sum, [, size]) => sum + size, 0));
  const spread = left;
  for (const [path, share] of FILES.slice(1)) {
    const size = Math.floor(spread * share);
    left -= size;
    files.push([path, size]);
  }
  files.push([FILES[0]![0], left]);
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (const [path, size] of files) {
    signal.throwIfAborted();
    await writeRandom(join(folder, path), size, chunk, signal);
  }
  return files.length;
}

async function writeRandom(path: string, size: number, chunk: Buffer, signal: AbortSignal): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, 'w');
  try {
    for (let offset = 0; offset < size; offset += chunk.length) {
      signal.throwIfAborted();
      const part = chunk.subarray(0, Math.min(chunk.length, size - offset));
      await fill(part);
      await file.writeFile(part);
    }
  } finally {
    await file.close();
  }
}
