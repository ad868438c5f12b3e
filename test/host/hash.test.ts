import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { IoFault } from '../../packages/engine/dist/src/base/errors.js';
import type { FileRef, HashKind, HashSpan } from '../../packages/engine/dist/src/base/ports.js';
import { BLOCK_BYTES, SlotPool } from '../../packages/engine/dist/src/base/slot-pool.js';
import { HashPool } from '../../packages/engine/dist/src/host/hash-pool.js';
import { makeSlotMemory } from '../../packages/engine/dist/src/host/slot-memory.js';
import { tempFolder } from './support.ts';

const SLOTS = 600;
const slots = new SlotPool(makeSlotMemory(SlotPool.bytesFor(1024, SLOTS)), 1024, SLOTS);
const pool = new HashPool(slots, 2);
const taken = Int32Array.from({ length: SLOTS }, () => slots.take());
for (const slot of taken) slots.payload(slot).set(randomBytes(BLOCK_BYTES));
afterAll(() => new Promise<void>((done) => pool.close(done)));

interface Outcome {
  job: number;
  fault: IoFault | null;
  digest: string;
}

function hash(
  kind: HashKind,
  list: Int32Array,
  bytes: number,
  leaves = 0,
  stream = 0,
  last = true,
  on = pool,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    let inside = true;
    on.hash(7, kind, list, list.length, bytes, leaves, stream, last, {
      onHashed(job, fault, digest) {
        if (inside) reject(new Error('sink called from inside the call'));
        resolve({ job, fault, digest: Buffer.from(digest).toString('hex') });
      },
    });
    inside = false;
  });
}

function hashFiles(kind: HashKind, spans: HashSpan[], pieceLength: number, leaves = 0): Promise<Outcome> {
  return new Promise((resolve) => {
    pool.hashFiles(3, kind, spans, pieceLength, leaves, {
      onHashed: (job, fault, digest) => resolve({ job, fault, digest: Buffer.from(digest).toString('hex') }),
    });
  });
}

const sha = (name: string, bytes: Uint8Array): Buffer => createHash(name).update(bytes).digest();

/** By the book: all leaves, padded with zeros, pair by pair. */
function tree(bytes: Uint8Array, width: number): Buffer {
  let row: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) row.push(sha('sha256', bytes.subarray(at, at + BLOCK_BYTES)));
  while (row.length < width) row.push(Buffer.alloc(32));
  while (row.length > 1) {
    const up: Buffer[] = [];
    for (let i = 0; i < row.length; i += 2) up.push(sha('sha256', Buffer.concat([row[i]!, row[i + 1]!])));
    row = up;
  }
  return row[0]!;
}

const bytesOf = (list: Int32Array, length: number): Buffer =>
  Buffer.concat([...list].map((slot) => slots.payload(slot))).subarray(0, length);

test('digests of slots are what the bytes have, for each kind and length', async () => {
  for (const length of [1, 100, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES - 7, 16 * BLOCK_BYTES]) {
    const count = Math.ceil(length / BLOCK_BYTES);
    const list = taken.slice(20, 20 + count).reverse();
    const bytes = bytesOf(list, length);
    const one = sha('sha1', bytes).toString('hex');
    expect(await hash(1, list, length)).toEqual({ job: 7, fault: null, digest: one });
    for (const width of [1, 2, 4, 8, 16, 32]) {
      if (width < count) continue;
      const root = tree(bytes, width).toString('hex');
      expect((await hash(2, list, length, width)).digest).toBe(root);
      expect((await hash(3, list, length, width)).digest).toBe(one + root);
    }
    const each = [...list].map((_, i) => sha('sha1', bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)));
    expect((await hash(4, list, length)).digest).toBe(Buffer.concat(each).toString('hex'));
  }
});

test('running hashes follow their calls in order, several at once, and can be given up', async () => {
  const streams = [11, 12, 13, 14, 15];
  const want = bytesOf(taken.slice(0, 8), 8 * BLOCK_BYTES - 5);
  const results = streams.map(async (stream) => {
    const parts: Promise<Outcome>[] = [];
    for (let i = 0; i < 8; i += 2) {
      const last = i === 6;
      parts.push(hash(3, taken.slice(i, i + 2), last ? 2 * BLOCK_BYTES - 5 : 2 * BLOCK_BYTES, 8, stream, last));
    }
    const outcomes = await Promise.all(parts);
    expect(outcomes.slice(0, 3).every((o) => o.digest === '')).toBe(true);
    return outcomes[3]!.digest;
  });
  const digest = sha('sha1', want).toString('hex') + tree(want, 8).toString('hex');
  expect(await Promise.all(results)).toEqual(streams.map(() => digest));
  await hash(1, taken.slice(0, 1), BLOCK_BYTES, 0, 21, false);
  pool.abandon(21);
  // the number is free again, and begins anew
  const again = await hash(1, taken.slice(1, 2), BLOCK_BYTES, 0, 21, true);
  expect(again.digest).toBe(sha('sha1', slots.payload(taken[1]!)).toString('hex'));
});

test('more jobs than the rings hold are all answered, once and right', async () => {
  const jobs: Promise<Outcome>[] = [];
  const want: string[] = [];
  for (let i = 0; i < 3000; i++) {
    const list = taken.slice(i % 500, (i % 500) + 1 + (i % 60));
    jobs.push(hash(1, list, 10, 0));
    want.push(sha('sha1', slots.payload(list[0]!).subarray(0, 10)).toString('hex'));
  }
  expect((await Promise.all(jobs)).map((o) => o.digest)).toEqual(want);
  expect(pool.jobCount).toBe(0);
});

test('files are hashed piece by piece, over spans, zeros and file ends', async () => {
  const root = tempFolder();
  const data = randomBytes(3_000_000);
  writeFileSync(join(root, 'a'), data.subarray(0, 1_000_001));
  mkdirSync(join(root, 'in', 'side'), { recursive: true });
  writeFileSync(join(root, 'in', 'side', 'b'), data.subarray(1_000_001));
  const ref = (...path: string[]): FileRef => ({ root, path, executable: false });
  const spans: HashSpan[] = [
    { file: ref('a'), offset: 0, length: 1_000_001 },
    { file: null, offset: 0, length: 500_000 },
    { file: ref('in', 'side', 'b'), offset: 0, length: 1_999_999 },
  ];
  const all = Buffer.concat([data.subarray(0, 1_000_001), Buffer.alloc(500_000), data.subarray(1_000_001)]);
  for (const pieceLength of [BLOCK_BYTES, 65536, 1 << 20]) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < all.length; at += pieceLength) pieces.push(all.subarray(at, at + pieceLength));
    const ones = Buffer.concat(pieces.map((p) => sha('sha1', p))).toString('hex');
    expect(await hashFiles(1, spans, pieceLength)).toEqual({ job: 3, fault: null, digest: ones });
    const width = pieceLength / BLOCK_BYTES;
    const roots = Buffer.concat(pieces.map((p) => tree(p, width))).toString('hex');
    expect((await hashFiles(2, spans, pieceLength, width)).digest).toBe(roots);
  }
});

test('what cannot be read spoils its pieces alone, and is named; links and pipes are not opened', async () => {
  const root = tempFolder();
  const data = randomBytes(65536 * 3);
  writeFileSync(join(root, 'whole'), data);
  writeFileSync(join(root, 'short'), data.subarray(0, 65536 + 10));
  symlinkSync(join(root, 'whole'), join(root, 'link'));
  symlinkSync(root, join(root, 'folder-link'));
  execFileSync('mkfifo', [join(root, 'pipe')]);
  const good = sha('sha1', data.subarray(0, 65536)).toString('hex');
  for (const [path, code, first] of [
    [['short'], 'EIO_SHORT', good],
    [['none'], 'ENOENT', '0'.repeat(40)],
    [['link'], 'ELOOP', '0'.repeat(40)],
    [['folder-link', 'whole'], /ELOOP|ENOTDIR/, '0'.repeat(40)],
    [['pipe'], /ENOTREG|ENXIO/, '0'.repeat(40)],
    [['.'], /./, '0'.repeat(40)],
  ] as const) {
    const span = { file: { root, path, executable: false }, offset: 0, length: 65536 * 2 };
    const after = { file: { root, path: ['whole'], executable: false }, offset: 0, length: 65536 };
    const outcome = await hashFiles(1, [span, after], 65536);
    expect(outcome.fault?.code).toMatch(code);
    expect(outcome.fault?.message).toContain(path.join('/'));
    expect(outcome.digest).toBe(first + '0'.repeat(40) + good);
  }
});

test('closing answers what is under way and what comes after', async () => {
  const own = new HashPool(slots, 2);
  const list = taken.slice(0, 500);
  const running = Array.from({ length: 20 }, () => hash(1, list, 500 * BLOCK_BYTES, 0, 0, true, own));
  await new Promise<void>((done) => own.close(done));
  const outcomes = await Promise.all(running);
  expect(outcomes.some((o) => o.fault?.code === 'ECANCELED')).toBe(true);
  expect((await hash(1, list, 1, 0, 0, true, own)).fault?.code).toBe('ECANCELED');
  expect(own.jobCount).toBe(0);
});
