import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toHex } from '../src/base/bytes.ts';
import type { IoFault } from '../src/base/errors.ts';
import { type FileRef, HashKind } from '../src/base/ports.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { SimFile } from './file.ts';
import type { SimNode } from './node.ts';
import type { SimTorrent } from './torrent.ts';
import { World } from './world.ts';

const FILE: FileRef = { root: '/d', path: ['t', 'f'], executable: false };
const TORRENT = new World({ seed: 1 }).makeTorrent({ pieces: 8, pieceLength: 65536 });

/** What an operation answered. */
class Answers {
  readonly got: [number, string | null, number][] = [];
  onFile(job: number, fault: IoFault | null, bytes: number): void {
    this.got.push([job, fault?.code ?? null, bytes]);
  }
}

const content = fc.oneof(
  fc.record({ block: fc.nat(31), mark: fc.nat(2), length: fc.integer({ min: 1, max: 3 * BLOCK_BYTES }) }),
  fc.record({ byte: fc.nat(255), length: fc.integer({ min: 1, max: 40_000 }) }),
);
const action = fc.record({
  offset: fc.oneof(
    fc.nat(6).map((n) => n * BLOCK_BYTES),
    fc.nat(6 * BLOCK_BYTES),
  ),
  content,
});

function bytesOf(c: { length: number; block?: number; mark?: number; byte?: number }): Uint8Array {
  if (c.byte !== undefined) return new Uint8Array(c.length).fill(c.byte);
  const made = new Uint8Array(c.length);
  const block = new Uint8Array(BLOCK_BYTES);
  for (let at = 0; at < c.length; at += BLOCK_BYTES) {
    TORRENT.fillBlock(block, 0, c.block! >> 2, (c.block! + at / BLOCK_BYTES) & 3, c.mark);
    made.set(block.subarray(0, Math.min(BLOCK_BYTES, c.length - at)), at);
  }
  return made;
}

test('a file reads back what was written, whichever way its chunks are kept', () => {
  fc.assert(
    fc.property(
      fc.array(action, { maxLength: 12 }),
      fc.nat(7 * BLOCK_BYTES),
      fc.nat(40_000),
      (actions, from, length) => {
        const file = new SimFile(1);
        const model = new Uint8Array(20 * BLOCK_BYTES);
        let size = 0;
        for (const each of actions) {
          const bytes = bytesOf(each.content);
          file.write(each.offset, bytes);
          model.set(bytes, each.offset);
          size = Math.max(size, each.offset + bytes.length);
        }
        expect(file.size).toBe(size);
        const read = new Uint8Array(length).fill(7);
        file.read(from, read);
        expect(toHex(read)).toBe(toHex(model.subarray(from, from + length)));
      },
    ),
    { numRuns: 200 },
  );
});

test('a power cut keeps what was synced, and each later chunk wholly or not', () => {
  const world = new World({ seed: 5 });
  let kept = 0;
  let lost = 0;
  for (let round = 0; round < 40; round++) {
    const file = new SimFile(1);
    const old = bytesOf({ length: 4 * BLOCK_BYTES, block: 0, mark: 0 });
    file.write(0, old);
    const covered = file.syncBegins();
    // written while the sync is under way: not covered
    file.write(2 * BLOCK_BYTES, bytesOf({ length: BLOCK_BYTES, block: 9, mark: 1 }));
    file.synced(covered, file.size);
    file.write(3 * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES).fill(3));
    expect(file.powerCut(world.rng)).toBe(true);
    expect(file.size).toBe(4 * BLOCK_BYTES);
    const read = new Uint8Array(4 * BLOCK_BYTES);
    file.read(0, read);
    expect(toHex(read.subarray(0, 2 * BLOCK_BYTES))).toBe(toHex(old.subarray(0, 2 * BLOCK_BYTES)));
    const last = toHex(read.subarray(3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 64));
    if (last === '03'.repeat(64)) kept++;
    else {
      expect(last).toBe(toHex(old.subarray(3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 64)));
      lost++;
    }
  }
  expect(Math.min(kept, lost)).toBeGreaterThan(5);
});

test('faults: missing, short, full, failing, every Nth, obstacles', () => {
  const world = new World({ seed: 6 });
  const node = world.addNode();
  const files = node.boot().files;
  const answers = new Answers();
  const outcome = (): string | null => {
    world.run(1000);
    return answers.got.pop()![1];
  };
  const block = [new Uint8Array(BLOCK_BYTES).fill(1)];
  files.read(1, FILE, 0, block, answers);
  expect(outcome()).toBe('ENOENT');
  files.write(2, FILE, 0, block, answers);
  expect(outcome()).toBe(null);
  files.read(3, FILE, 1, block, answers);
  expect(outcome()).toBe('EIO_SHORT');
  node.disk.knobs.capacityBytes = 2 * BLOCK_BYTES;
  files.write(4, FILE, BLOCK_BYTES, [block[0]!, block[0]!], answers);
  expect(outcome()).toBe('ENOSPC');
  expect(node.disk.usedBytes()).toBeLessThanOrEqual(2 * BLOCK_BYTES);
  node.disk.knobs.capacityBytes = Infinity;
  node.disk.knobs.failing = 'EROFS';
  files.sync(5, [FILE], answers);
  expect(outcome()).toBe('EROFS');
  node.disk.knobs.failing = null;
  node.disk.knobs.writeFaultEvery = 4;
  for (let i = 0; i < 400; i++) files.write(10 + i, FILE, 0, block, answers);
  world.run(10_000);
  const failed = answers.got.filter((each) => each[1] === 'EIO').length;
  expect(answers.got.length).toBe(400);
  expect(failed).toBeGreaterThan(50);
  expect(failed).toBeLessThan(150);
  node.disk.knobs.writeFaultEvery = 0;
  node.disk.others.set('/d/t/g', 'fifo');
  files.write(6, { ...FILE, path: ['t', 'g'] }, 0, block, answers);
  expect(outcome()).toBe('ENOTFILE');
  files.write(7, { ...FILE, path: ['t', 'f', 'below'] }, 0, block, answers);
  expect(outcome()).toBe('ENOTDIR');
});

test('a crash tears writes under way and tells nobody', () => {
  const world = new World({ seed: 7 });
  let torn = 0;
  for (let round = 0; round < 20; round++) {
    const node = world.addNode();
    const files = node.boot().files;
    const answers = new Answers();
    files.write(1, FILE, 0, [new Uint8Array(5 * BLOCK_BYTES).fill(9)], answers);
    node.crash(false);
    world.run(100);
    expect(answers.got).toEqual([]);
    const size = node.disk.files.get('/d/t/f')?.size ?? 0;
    if (size > 0 && size < 5 * BLOCK_BYTES) torn++;
  }
  expect(torn).toBeGreaterThan(10);
});

function odd(world: World): SimTorrent {
  return world.makeTorrent({
    pieceLength: 32768,
    files: [
      { path: ['a'], length: 10_001 },
      { path: ['empty'], length: 0 },
      { path: ['sub', 'b'], length: 70_000 },
      { path: ['.pad', '1'], length: 18_303, pad: true },
      { path: ['c'], length: 40_007 },
    ],
  });
}

test('installed content is right piece by piece, and one rotten byte shows', () => {
  const world = new World({ seed: 8 });
  for (const torrent of [odd(world), world.makeTorrent({ pieces: 3, pieceLength: 65536, length: 150_001 })]) {
    const disk = world.addNode().disk;
    disk.install(torrent, '/d');
    for (let piece = 0; piece < torrent.pieceCount; piece++) {
      expect(disk.isRight(torrent, '/d', piece)).toBe(true);
      expect(torrent.pieceOf(toHex(disk.digest(torrent, '/d', piece)!))).toBe(piece);
    }
    disk.files.get(`/d/${torrent.files[0]!.path.join('/')}`)!.rot(5000);
    expect(disk.isRight(torrent, '/d', 0)).toBe(false);
    expect(torrent.pieceOf(toHex(disk.digest(torrent, '/d', 0)!))).toBe(-1);
    expect(disk.isRight(torrent, '/d', 1)).toBe(true);
  }
});

/** Hashes pieces from slots and from files, and notes the digests. */
class Digests {
  readonly got: Map<number, string> = new Map();
  fault: string | null = null;
  onHashed(job: number, fault: IoFault | null, digest: Uint8Array): void {
    this.got.set(job, toHex(digest));
    this.fault = fault?.code ?? null;
  }
}

function fillSlots(node: SimNode, torrent: SimTorrent, piece: number): Int32Array {
  const slots = new Int32Array(torrent.blockCount(piece));
  for (let b = 0; b < slots.length; b++) {
    slots[b] = node.ports!.slots.take();
    torrent.fillBlock(node.ports!.slots.payload(slots[b]!), 0, piece, b);
  }
  return slots;
}

test('the hasher agrees with the torrent from slots, in streams and from files', () => {
  const world = new World({ seed: 9 });
  const torrent = odd(world);
  const node = world.addNode();
  const { hasher } = node.boot();
  const sink = new Digests();
  for (let piece = 0; piece < torrent.pieceCount; piece++) {
    const slots = fillSlots(node, torrent, piece);
    const size = torrent.pieceSize(piece);
    hasher.hash(piece, HashKind.Sha1, slots, slots.length, size, 0, 0, true, sink);
    // the same in a stream, slot by slot, among others
    for (let b = 0; b < slots.length; b++) {
      const last = b === slots.length - 1;
      hasher.hash(
        100 + piece,
        HashKind.Sha1,
        slots.subarray(b),
        1,
        torrent.blockSize(piece, b),
        0,
        1 + piece,
        last,
        sink,
      );
    }
  }
  // a block's digest is that of a piece of one block, in memory and on disk
  const first = fillSlots(node, torrent, 0);
  hasher.hash(90, HashKind.EachSha1, first, 2, 32768, 0, 0, true, sink);
  node.disk.install(torrent, '/d');
  const spans = torrent.files.map((file) => ({
    file: file.pad ? null : { root: '/d', path: file.path, executable: false },
    offset: 0,
    length: file.length,
  }));
  hasher.hashFiles(200, HashKind.Sha1, spans, torrent.pieceLength, 0, sink);
  world.run(1000);
  hasher.hashFiles(202, HashKind.Sha1, spans, 16384, 0, sink);
  world.run(1000);
  expect(sink.got.get(202)!.slice(0, 80)).toBe(sink.got.get(90));
  const joined: string[] = [];
  for (let piece = 0; piece < torrent.pieceCount; piece++) {
    expect(torrent.pieceOf(sink.got.get(piece)!)).toBe(piece);
    expect(sink.got.get(100 + piece)).toBe(sink.got.get(piece));
    joined.push(sink.got.get(piece)!);
  }
  expect(sink.got.get(200)).toBe(joined.join(''));
  expect(node.verified.get(torrent.id)!.isFull).toBe(true);

  node.disk.files.delete(`/d/${torrent.files[4]!.path.join('/')}`);
  hasher.hashFiles(201, HashKind.Sha1, spans, torrent.pieceLength, 0, sink);
  world.run(1000);
  expect(sink.fault).toBe('ENOENT');
});

test('a slot freed while it is hashed is caught, and one byte changes the digest', () => {
  const world = new World({ seed: 10 });
  const torrent = world.makeTorrent({ pieces: 1, pieceLength: 32768 });
  const node = world.addNode();
  const { hasher, slots: pool } = node.boot();
  const sink = new Digests();
  const slots = fillSlots(node, torrent, 0);
  pool.payload(slots[1]!)[9000]! ^= 1;
  hasher.hash(1, HashKind.Sha1, slots, 2, 32768, 0, 0, true, sink);
  world.run(10);
  expect(torrent.pieceOf(sink.got.get(1)!)).toBe(-1);
  hasher.hash(2, HashKind.Sha1, slots, 2, 32768, 0, 0, true, sink);
  pool.release(slots[0]!);
  expect(() => world.run(10)).toThrow('freed while it was hashed');
});

test('state: whole or absent through crashes, held by one process', () => {
  const world = new World({ seed: 11 });
  const node = world.addNode();
  let first = node.boot().state;
  first.open((fault) => expect(fault).toBe(null));
  world.run(10);
  let olds = 0;
  for (let n = 1; n <= 40; n++) {
    first.save('k', new Uint8Array(100).fill(n), () => {});
    if (n % 2 === 0) world.run(10);
    else {
      node.crash(true);
      const boot = first.bootId;
      first = node.boot().state;
      expect(first.bootId).not.toBe(boot);
      first.open((fault) => expect(fault).toBe(null));
      world.run(10);
    }
    let seen: Uint8Array | null = null;
    first.load('k', (_fault, bytes) => {
      seen = bytes;
    });
    world.run(10);
    const record: Uint8Array | null = seen;
    if (record === null) olds++;
    else {
      expect((record as Uint8Array).length).toBe(100);
      if ((record as Uint8Array)[0] !== n) olds++;
      expect([n, n - 1]).toContain((record as Uint8Array)[0]);
    }
    if (olds > 0 && record !== null && (record as Uint8Array)[0] !== n) {
      first.save('k', new Uint8Array(100).fill(n), () => {});
      world.run(10);
    }
  }
  expect(olds).toBeGreaterThan(3);
});
