import { expect, test } from 'vitest';
import { ALL_PAD, Bench, bench, odd, ROOT } from '../../sim/disk-bench.ts';
import { World } from '../../sim/world.ts';
import type { IoFault } from '../base/errors.ts';

// ------------------------------------------------------------------------------------------------------------- writes

test('a large piece is one gathered write, adjacent small ones are one too, and a lone small one waits a little', () => {
  const big = bench((world) => world.makeTorrent({ pieces: 2, pieceLength: 1_048_576 }), 128);
  big.download(1);
  expect(big.writes).toEqual([{ path: big.torrent.name, views: 64, bytes: 1_048_576 }]);
  big.settle();
  expect(big.flushed).toEqual([1]);

  const small = bench((world) => world.makeTorrent({ pieces: 64, pieceLength: 16384 }), 256);
  for (const piece of [7, 3, 5, 4, 6, 0, 1, 2, 12, 15, 13, 14, 8, 9, 10]) small.download(piece);
  expect(small.writes).toEqual([]);
  small.download(11);
  expect(small.writes).toEqual([{ path: small.torrent.name, views: 16, bytes: 262_144 }]);
  small.download(40);
  small.world.run(300);
  expect(small.writes.length).toBe(1);
  small.settle();
  expect(small.writes.length).toBe(2);
  expect(small.disk.flushed.count).toBe(17);
  small.expectNoLeak();
});

test('when memory is short nothing waits', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 64, pieceLength: 16384 }), 16);
  for (let piece = 0; piece < 26; piece += 2) b.download(piece);
  b.world.run(5);
  expect(b.disk.flushed.count).toBe(13);
  expect(b.rooms).toBeGreaterThan(0);
});

test('a write carries at most 512 buffers', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 1, pieceLength: 16_777_216 }), 1100);
  b.download(0);
  expect(b.writes.map((write) => write.views)).toEqual([512, 512]);
  b.settle();
  expect(b.flushed).toEqual([0]);
  b.expectNoLeak();
});

test('pieces over many files are written to each, pads to none, and read back', () => {
  const b = bench(odd);
  b.downloadAll();
  expect(b.disk.flushed.isFull).toBe(true);
  expect(b.writes.some((write) => write.path.includes('.pad'))).toBe(false);
  for (const piece of b.all()) b.read(piece, 0, b.torrent.blockCount(piece));
  b.settle();
  expect(b.answered).toBe(b.torrent.pieceCount);
  expect(b.readFaults).toEqual([]);
  b.expectNoLeak();
});

test('a spilled piece is written as it comes, hashed from disk, and claimed only when verified', () => {
  for (let seed = 0; seed < 20; seed++) {
    const b = bench(odd, 64, 16, seed);
    b.node.disk.knobs.jitterMs = 30;
    b.put(1, 0, 2);
    b.world.run(50);
    expect(b.disk.pendingSlots).toBe(0);
    b.put(1, 2, 4);
    let judged = 0;
    b.onDigest = (_job, good) => {
      judged++;
      expect(good).toBe(true);
      expect(b.flushed).toEqual([]);
      b.verified.add(1);
      b.disk.verified(1);
    };
    b.read(1, 0, 1);
    b.hash(1);
    b.settle();
    expect(judged).toBe(1);
    expect(b.readFaults).toEqual(['EUNCLAIMED']);
    expect(b.flushed).toEqual([1]);
    b.expectNoLeak();
  }
});

test('a corrupt spilled piece is dropped, and its good copy is not overtaken by writes of the bad one', () => {
  for (let seed = 0; seed < 20; seed++) {
    const b = bench((world) => world.makeTorrent({ pieces: 1, pieceLength: 65536 }), 64, 16, seed);
    b.node.disk.knobs.jitterMs = 50;
    for (let round = 0; round < 10; round++) {
      b.put(0, 0, 2, 7);
      b.world.run(round % 3);
      b.disk.discard(0);
    }
    b.download(0);
    b.disk.flush();
    b.settle();
    expect(b.flushed).toEqual([0]);
    expect(b.isOnDisk(0)).toBe(true);
    b.expectNoLeak();
  }
});

test('a failed write stops writing, keeps the pieces readable, is told once, and goes on at retry', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 8, pieceLength: 65536 }));
  b.node.disk.knobs.capacityBytes = 2 * 65536;
  for (let piece = 0; piece < 5; piece++) {
    b.download(piece);
    b.disk.flush();
  }
  b.settle();
  expect(b.faults).toEqual(['ENOSPC']);
  expect(b.disk.fault?.code).toBe('ENOSPC');
  const before = b.writes.length;
  b.download(5);
  b.settle();
  expect(b.writes.length).toBe(before);
  expect(b.disk.nextAt()).toBe(Infinity);
  b.read(5, 0, 4);
  b.settle();
  expect(b.readFaults).toEqual([]);
  b.disk.retry();
  b.settle();
  expect(b.faults).toEqual(['ENOSPC', 'ENOSPC']);
  b.node.disk.knobs.capacityBytes = Infinity;
  b.disk.retry();
  b.settle();
  expect(b.disk.flushed.count).toBe(6);
  b.expectNoLeak();
});

// -------------------------------------------------------------------------------------------------------------- reads

test('blocks asked for one by one, in order, are one read of a window; then they come from memory', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 2, pieceLength: 2_097_152 }), 400, 192);
  b.downloadAll();
  for (let block = 0; block < 70; block++) b.read(0, block, 1);
  b.settle();
  expect(b.answered).toBe(70);
  expect(b.reads.map((read) => read.views)).toEqual([64, 64]);
  const slot = b.disk.take(0, 100);
  b.expectBlock(slot, 0, 100);
  b.ports.slots.release(slot);
  expect(b.disk.take(1, 5)).toBe(-1);
  b.read(0, 60, 9);
  b.settle();
  expect(b.reads.length).toBe(2);
  // one out of order reads no more than it was asked for
  b.read(1, 17, 2);
  b.settle();
  expect(b.reads.map((read) => read.views)).toEqual([64, 64, 2]);
  expect(b.cache.usedCount).toBe(130);
  b.expectNoLeak();
});

test('the cache keeps to its quota, and reading ahead is given up when it does not pay', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 40, pieceLength: 1_048_576 }), 300, 128);
  b.downloadAll();
  // forty readers take turns, each a block at a time: a window is gone before its reader comes back
  for (let block = 0; block < 12; block++) {
    for (const piece of b.all()) {
      b.read(piece, block, 1);
      b.world.run(2);
      expect(b.cache.usedCount).toBeLessThanOrEqual(128);
    }
  }
  expect(b.answered).toBe(480);
  const read = b.reads.reduce((sum, each) => sum + each.views, 0);
  expect(read).toBeLessThan(480 * 3);
  b.expectNoLeak();
});

test('reads wait for memory, in order, and go on when some comes free', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 4, pieceLength: 65536 }), 16, 8);
  b.downloadAll();
  const held = Array.from({ length: 14 }, () => b.ports.slots.take());
  for (const piece of [0, 1, 2, 3]) b.read(piece, 0, 4);
  b.world.run(100);
  expect(b.answered).toBe(0);
  for (const slot of held) b.ports.slots.release(slot);
  b.settle();
  expect(b.answered).toBe(4);
  b.expectNoLeak();
});

test('a file that was removed or cut is a fault for the readers; the piece can be had again', () => {
  const b = bench(odd);
  b.downloadAll();
  const e = b.node.disk.files.get(b.path(6))!;
  e.resize(100_000);
  b.read(b.torrent.pieceCount - 1, 0, 1);
  b.read(b.torrent.pieceCount - 1, 0, 1);
  b.settle();
  expect(b.readFaults).toEqual(['EIO_SHORT', 'EIO_SHORT']);
  const last = b.torrent.pieceCount - 1;
  b.disk.forget(last);
  b.read(last, 0, 1);
  b.settle();
  expect(b.readFaults.length).toBe(3);
  b.download(last);
  b.settle();
  b.read(last, 0, 1);
  b.settle();
  expect(b.readFaults.length).toBe(3);
  b.expectNoLeak();
});

// ------------------------------------------------------------------------------------------------- files as a whole

test('edges of unwanted files live in the part file, through a restart, until the file is wanted', () => {
  const world = new World({ seed: 3 });
  const first = new Bench(world, world.addNode({ slots: 64 }), odd(world));
  for (const file of [0, 2, 4]) first.disk.setWanted(file, false);
  // b lies in pieces 1 and 2, e in those after the pad
  const pieces = [1, 2, 7, 8, 9, 10, 11].filter((piece) => piece < first.torrent.pieceCount);
  first.downloadAll(pieces);
  for (const file of [0, 2, 4]) expect(first.node.disk.files.has(first.path(file))).toBe(false);
  expect(first.node.disk.files.has(first.path(-1))).toBe(true);
  expect(first.stop()).toBe(null);
  const record = first.record({ clean: true });
  expect(record.parted).toEqual([0, 2, 4]);

  const second = first.again();
  for (const file of [0, 2, 4]) second.disk.setWanted(file, false);
  expect(second.restore(record)).toEqual(pieces);
  expect(second.toHash).toBe(0);
  second.read(1, 0, 4);
  second.disk.setWanted(4, true);
  second.read(2, 0, 4);
  second.settle();
  expect(second.moved).toEqual([null]);
  expect(second.node.disk.files.has(second.path(4))).toBe(true);
  expect(second.node.disk.files.has(second.path(-1))).toBe(true);
  second.disk.setWanted(0, true);
  second.disk.setWanted(2, true);
  second.downloadAll(second.all().filter((piece) => !pieces.includes(piece)));
  expect(second.moved).toEqual([null, null, null]);
  expect(second.node.disk.files.has(second.path(-1))).toBe(false);
  expect(second.readFaults).toEqual([]);
  for (const piece of second.all()) expect(second.node.disk.isRight(second.torrent, ROOT, piece)).toBe(true);
  second.expectNoLeak();

  // the old record again, as after a kill before it was replaced: nothing false, all of it found by hashing the edges
  const third = second.again();
  third.restore(record);
  expect(third.disk.flushed.count).toBe(pieces.length);
});

test('a tiny unwanted file at the front of a wanted one is not made either', () => {
  const files = [
    { path: ['x'], length: 10 },
    { path: ['y'], length: 100_000 },
  ];
  const b = bench((world) => world.makeTorrent({ pieceLength: 65536, files }));
  b.disk.setWanted(0, false);
  b.downloadAll();
  expect(b.node.disk.files.has(b.path(0))).toBe(false);
  expect(b.node.disk.files.get(b.path(-1))!.size).toBe(10);
  b.read(0, 0, 4);
  b.settle();
  expect(b.readFaults).toEqual([]);
});

test('without a record the part file is found and looked into', () => {
  const world = new World({ seed: 4 });
  const first = new Bench(world, world.addNode({ slots: 64 }), odd(world));
  first.disk.setWanted(4, false);
  first.downloadAll([0, 1, 2]);
  const second = first.again();
  second.disk.setWanted(4, false);
  second.restore(null);
  expect([...second.checked].filter(([, good]) => good).map(([piece]) => piece)).toEqual([0, 1, 2, ALL_PAD]);
});

test('a move and a removal wait for I/O, take what is theirs and leave the rest', () => {
  const b = bench(odd);
  const files = b.node.disk.files;
  files.set(`${ROOT}/${b.torrent.name}/foreign`, b.node.disk.make('/x'));
  b.node.disk.install(b.torrent, ROOT);
  files.delete(b.path(0));
  files.delete(b.path(3));
  const foreign = files.get(b.path(6))!;
  b.download(0);
  b.download(1);
  let moved: IoFault | null | undefined;
  b.disk.move('/new', (fault) => {
    moved = fault;
  });
  b.download(2);
  b.read(2, 0, 4);
  b.settle();
  expect(moved).toBe(null);
  expect([...b.flushed].sort()).toEqual([0, 1, 2]);
  expect(b.disk.folder).toBe('/new');
  expect(files.has(`/new/${b.torrent.name}/a`)).toBe(true);
  expect(files.has(`${ROOT}/${b.torrent.name}/a`)).toBe(false);
  for (const piece of [0, 1, 2]) expect(b.isOnDisk(piece)).toBe(true);
  b.read(0, 0, 4);
  b.settle();
  expect(b.readFaults).toEqual([]);
  // nothing of e was ever had: it is not ours
  expect(files.get(`${ROOT}/${b.torrent.name}/e`)).toBe(foreign);

  b.download(4);
  let removed: IoFault | null | undefined;
  b.disk.removeData((fault) => {
    removed = fault;
  });
  b.settle();
  expect(removed).toBe(null);
  expect([...files.keys()].filter((key) => key.startsWith('/new'))).toEqual([]);
  expect(files.has(`${ROOT}/${b.torrent.name}/e`)).toBe(true);
  expect(files.has(`${ROOT}/${b.torrent.name}/foreign`)).toBe(true);
  b.expectNoLeak();
});

test('empty files are made, sizes are set, and nothing that is there is emptied', () => {
  const b = bench(odd);
  const { files } = b.node.disk;
  b.node.disk.make(b.path(1)).write(0, new Uint8Array([1]));
  files.get(b.path(1))!.resize(1);
  let ended = 0;
  b.disk.makeEmptyFiles(() => ended++);
  b.disk.preallocate(false, () => ended++);
  b.settle();
  expect(ended).toBe(2);
  expect(files.get(b.path(1))!.size).toBe(1);
  expect(files.get(b.path(6))!.size).toBe(300_007);
  files.delete(b.path(1));
  b.disk.makeEmptyFiles(() => ended++);
  b.settle();
  expect(files.get(b.path(1))!.size).toBe(0);
});

test('a stop drains what is verified, drops the rest, gives every slot back, and answers nothing more', () => {
  const b = bench(odd);
  b.download(0);
  b.put(1, 0, 3);
  b.world.run(1);
  b.download(2);
  b.read(2, 0, 4);
  expect(b.stop()).toBe(null);
  expect(b.flushed).toEqual([0, 2]);
  expect(b.disk.synced.count).toBe(2);
  expect(b.answered).toBe(0);
  b.put(3, 0, 2);
  b.expectNoLeak();
});

test('a removal while reads and writes are under way returns their slots at their end, not before', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 4, pieceLength: 262144 }));
  b.downloadAll([0, 1]);
  b.read(0, 0, 16);
  b.download(2);
  b.disk.removeData(() => {});
  expect(b.ports.slots.freeCount).toBeLessThan(64);
  b.settle();
  expect(b.node.disk.files.size).toBe(0);
  expect(b.disk.flushed.isEmpty).toBe(true);
  b.expectNoLeak();
});

// ------------------------------------------------------------------------------------------------------------- check

test('a check finds what is there: right, wrong, short and missing', () => {
  const b = bench(odd);
  b.node.disk.install(b.torrent, ROOT);
  b.node.disk.files.get(b.path(0))!.rot(70_000);
  b.node.disk.files.get(b.path(6))!.resize(250_000);
  b.node.disk.files.delete(b.path(2));
  b.disk.check(null);
  b.settle();
  expect(b.checkDone).toBe(1);
  expect(b.checked.size).toBe(b.torrent.pieceCount);
  const bad = [...b.checked].filter(([, good]) => !good).map(([piece]) => piece);
  expect(bad.sort((x, y) => x - y)).toEqual([1, 10, 11].filter((piece) => piece < b.torrent.pieceCount));
  expect(b.disk.flushed.count).toBe(b.torrent.pieceCount - bad.length);
  b.disk.check([0, 1]);
  b.disk.stopCheck();
  b.settle();
  expect(b.checkDone).toBe(1);
});

test('a read error in the middle of a batch costs one piece', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 60, pieceLength: 65536 }));
  b.node.disk.install(b.torrent, ROOT);
  b.node.disk.knobs.readFaultEvery = 3;
  b.disk.check = b.disk.check.bind(b.disk);
  const seen = new Map<number, boolean>();
  b.onChecked = (piece, good) => seen.set(piece, good);
  b.disk.check(null);
  b.settle();
  expect(seen.size).toBe(60);
  const good = [...seen.values()].filter((each) => each).length;
  expect(good).toBeGreaterThan(5);
  expect(b.disk.flushed.count).toBe(good);
});
