import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { SimNode, SimPorts } from '../../sim/node.ts';
import type { SimTorrent } from '../../sim/torrent.ts';
import { World } from '../../sim/world.ts';
import type { Bitfield } from '../base/bitfield.ts';
import type { IoFault } from '../base/errors.ts';
import { type FileRef, type Files, HashKind } from '../base/ports.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { Layout } from '../codec/layout.ts';
import { parseTorrent } from '../codec/metainfo.ts';
import { Disk, type DiskSink } from './disk.ts';
import { ReadCache } from './read-cache.ts';
import { decodeRecord, encodeRecord, makeRecord, type RecordExtras, type ResumeRecord } from './resume.ts';

const ROOT = '/d';
const EXTRAS: RecordExtras = { options: new Uint8Array(0), torrent: null, bootId: 'b', clean: false };

/** One torrent's Disk on a simulated machine; checks every answer against what the torrent holds. */
class Bench implements DiskSink {
  readonly world: World;
  readonly node: SimNode;
  readonly ports: SimPorts;
  readonly torrent: SimTorrent;
  readonly disk: Disk;
  readonly cache: ReadCache;
  readonly writes: { path: string; views: number; bytes: number }[] = [];
  readonly reads: { path: string; views: number; bytes: number }[] = [];
  readonly flushed: number[] = [];
  readonly faults: string[] = [];
  readonly readFaults: string[] = [];
  readonly checked = new Map<number, boolean>();
  readonly moved: (string | null)[] = [];
  readonly digests = new Map<number, string | null>();
  /** Pieces told to the disk as verified. */
  readonly verified = new Set<number>();
  restored: Bitfield | null = null;
  toHash = -1;
  checkDone = 0;
  answered = 0;
  rooms = 0;
  onDigest: ((job: number, good: boolean) => void) | null = null;
  readonly #asked = new Map<number, { piece: number; first: number; count: number }>();
  #nextJob = 1;

  constructor(world: World, node: SimNode, torrent: SimTorrent, quota = 16, root = ROOT) {
    this.world = world;
    this.node = node;
    this.ports = node.boot();
    this.torrent = torrent;
    const { files, hasher, slots, loop, clock } = this.ports;
    const meta = parseTorrent(torrent.bytes);
    this.cache = new ReadCache(slots, quota);
    this.disk = new Disk({
      meta,
      layout: new Layout(meta),
      folder: root,
      files: this.#spy(files),
      hasher,
      slots,
      sink: this,
      readCache: this.cache,
      partFileName: '.parts',
    });
    loop.run = () => {
      this.disk.tick(clock.now());
      loop.wakeAt(this.disk.nextAt());
    };
  }

  onWork(): void {
    this.ports.loop.soon();
  }

  onFlushed(piece: number): void {
    expect(this.verified.has(piece)).toBe(true);
    expect(this.isOnDisk(piece)).toBe(true);
    this.flushed.push(piece);
  }

  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void {
    const { piece, first, count: wanted } = this.#asked.get(job)!;
    expect(this.#asked.delete(job)).toBe(true);
    this.answered++;
    if (fault !== null) {
      this.readFaults.push(fault.code);
      return;
    }
    expect(count).toBe(wanted);
    for (let i = 0; i < count; i++) {
      this.expectBlock(slots[i]!, piece, first + i);
      this.ports.slots.release(slots[i]!);
    }
  }

  onStoreHash(job: number, fault: IoFault | null, digest: Uint8Array): void {
    const piece = this.torrent.pieceOf(Buffer.from(digest).toString('hex'));
    this.digests.set(job, fault?.code ?? null);
    this.onDigest?.(job, piece >= 0);
  }

  onStoreFault(fault: IoFault): void {
    this.faults.push(fault.code);
  }

  onRoom(): void {
    this.rooms++;
  }

  onRestored(claimed: Bitfield, toHash: number): void {
    this.restored = claimed.clone();
    this.toHash = toHash;
  }

  onChecked(piece: number, good: boolean): void {
    this.checked.set(piece, good);
    expect(good).toBe(this.isOnDisk(piece));
  }

  onCheckDone(): void {
    this.checkDone++;
  }

  onPartsMoved(_file: number, fault: IoFault | null): void {
    this.moved.push(fault?.code ?? null);
  }

  expectBlock(slot: number, piece: number, block: number): void {
    const { torrent } = this;
    const size = torrent.blockSize(piece, block);
    const right = torrent.read(piece * torrent.pieceLength + block * BLOCK_BYTES, size);
    const stands = this.ports.slots.payload(slot).subarray(0, size);
    expect(Buffer.compare(stands, right), `block ${block} of piece ${piece}`).toBe(0);
  }

  /** Whether the bytes of a piece are where the disk says they are, and right. */
  isOnDisk(piece: number): boolean {
    const size = this.torrent.pieceSize(piece);
    const stands = new Uint8Array(size);
    let at = 0;
    for (const place of this.disk.places.find(piece, 0, size)) {
      if (place.file >= -1) {
        const ref = this.disk.places.ref(place.file);
        const file = this.node.disk.files.get(this.node.disk.keyOf(ref));
        if (file === undefined || file.size < place.offset + place.length) return false;
        file.read(place.offset, stands.subarray(at, at + place.length));
      }
      at += place.length;
    }
    return Buffer.compare(stands, this.torrent.read(piece * this.torrent.pieceLength, size)) === 0;
  }

  /** Slots with blocks [from, to) of a piece; `mark` other than 0: corrupt ones. */
  fill(piece: number, from: number, to: number, mark = 0): Int32Array {
    const filled = new Int32Array(to - from);
    for (let b = from; b < to; b++) {
      const slot = this.ports.slots.take();
      expect(slot).toBeGreaterThanOrEqual(0);
      this.torrent.fillBlock(this.ports.slots.payload(slot), 0, piece, b, mark);
      filled[b - from] = slot;
    }
    return filled;
  }

  put(piece: number, from: number, to: number, mark = 0): void {
    this.disk.put(piece, from, this.fill(piece, from, to, mark), 0, to - from);
  }

  /** As a piece comes from the swarm. */
  download(piece: number): void {
    this.put(piece, 0, this.torrent.blockCount(piece));
    this.verified.add(piece);
    this.disk.verified(piece);
  }

  read(piece: number, first: number, count: number): void {
    const job = this.#nextJob++;
    this.#asked.set(job, { piece, first, count });
    this.disk.read(job, piece, first, count);
  }

  hash(piece: number): number {
    const job = this.#nextJob++;
    this.disk.hash(job, HashKind.Sha1, piece);
    return job;
  }

  get unanswered(): number {
    return this.#asked.size;
  }

  settle(): void {
    this.world.run(10_000);
  }

  downloadAll(pieces: readonly number[] = this.all()): void {
    for (const piece of pieces) {
      this.download(piece);
      this.world.run(20);
    }
    this.settle();
  }

  all(): number[] {
    return Array.from({ length: this.torrent.pieceCount }, (_, i) => i);
  }

  /** All slots are free but for those the read cache knows of. */
  expectNoLeak(): void {
    expect(this.disk.pendingSlots).toBe(0);
    this.cache.trim(0);
    expect(this.cache.usedCount).toBe(0);
    expect(this.ports.slots.freeCount).toBe(this.ports.slots.count);
  }

  stop(): IoFault | null {
    let ended: IoFault | null | undefined;
    this.disk.stop((fault) => {
      ended = fault;
    });
    this.settle();
    expect(ended).not.toBe(undefined);
    return ended!;
  }

  /** The record as the next run reads it. */
  record(extras: Partial<RecordExtras> = {}): ResumeRecord {
    const bytes = encodeRecord(makeRecord(this.disk, { ...EXTRAS, bootId: this.ports.state.bootId, ...extras }));
    const read = decodeRecord(bytes);
    expect(read).not.toBe(null);
    return read!;
  }

  /** The next process on this machine. */
  again(power = false, quota = 16, root = this.disk.folder): Bench {
    this.node.crash(power);
    return new Bench(this.world, this.node, this.torrent, quota, root);
  }

  restore(record: ResumeRecord | null, mode: 'check' | 'trust' = 'check'): number[] {
    this.disk.restore(record, mode, this.ports.state.bootId);
    this.settle();
    expect(this.checkDone).toBe(1);
    return this.all().filter((piece) => this.restored!.get(piece));
  }

  path(file: number): string {
    return this.node.disk.keyOf(this.disk.places.ref(file));
  }

  #spy(files: Files): Files {
    const note = (list: Bench['writes'], file: FileRef, views: readonly Uint8Array[]): void => {
      let bytes = 0;
      for (const view of views) bytes += view.length;
      list.push({ path: file.path.join('/'), views: views.length, bytes });
    };
    return new Proxy(files, {
      get: (target, key: keyof Files) => {
        const method = target[key].bind(target) as (...args: unknown[]) => void;
        return (...args: unknown[]): void => {
          if (key === 'write') note(this.writes, args[1] as FileRef, args[3] as Uint8Array[]);
          if (key === 'read') note(this.reads, args[1] as FileRef, args[3] as Uint8Array[]);
          method(...args);
        };
      },
    });
  }
}

/** The piece of `odd` that is pad from end to end. */
const ALL_PAD = 6;

/** Files of every awkward kind: unaligned, empty, tiny, with a pad, one in the middle of a piece. */
function odd(world: World): SimTorrent {
  return world.makeTorrent({
    pieceLength: 65536,
    files: [
      { path: ['a'], length: 100_001 },
      { path: ['empty'], length: 0 },
      { path: ['tiny'], length: 1 },
      { path: ['sub', 'b'], length: 70_000 },
      { path: ['c'], length: 200_000 },
      { path: ['.pad', '1'], length: 88_750, pad: true },
      { path: ['e'], length: 300_007 },
    ],
  });
}

function bench(torrent: (world: World) => SimTorrent, slots = 64, quota = 16, seed = 1): Bench {
  const world = new World({ seed });
  return new Bench(world, world.addNode({ slots }), torrent(world), quota);
}

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
  const b = bench(odd);
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
});

test('a corrupt spilled piece is dropped, and its good copy is not overtaken by writes of the bad one', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 1, pieceLength: 65536 }));
  b.node.disk.knobs.jitterMs = 50;
  for (let round = 0; round < 10; round++) {
    b.put(0, 0, 2, 7);
    b.world.run(round % 3);
    b.disk.discard(0);
  }
  b.download(0);
  b.settle();
  expect(b.flushed).toEqual([0]);
  expect(b.isOnDisk(0)).toBe(true);
  b.expectNoLeak();
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

// -------------------------------------------------------------------------------------------------- everything at once

interface Act {
  readonly kind: string;
  readonly piece: number;
  readonly a: number;
  readonly b: number;
}

const KINDS = ['get', 'get', 'get', 'spill', 'bad', 'discard', 'read', 'read', 'take', 'want', 'move', 'sync'];
const act: fc.Arbitrary<Act> = fc.record({
  kind: fc.constantFrom(...KINDS, 'fault', 'retry', 'wait', 'wait', 'wait', 'check', 'forget'),
  piece: fc.nat(12),
  a: fc.nat(15),
  b: fc.nat(15),
});

/** What a piece is to the driver: none, open (some of it put), or had. */
class Driver {
  readonly b: Bench;
  readonly open = new Map<number, { next: number; mark: number; hashing: number }>();
  readonly had = new Set<number>();
  checking = false;

  constructor(b: Bench) {
    this.b = b;
    b.onDigest = (job, good) => {
      for (const [piece, each] of this.open) {
        if (each.hashing !== job) continue;
        this.open.delete(piece);
        if (good) {
          expect(each.mark === 0 || piece === ALL_PAD).toBe(true);
          b.verified.add(piece);
          this.had.add(piece);
          b.disk.verified(piece);
        } else b.disk.discard(piece);
      }
    };
    b.onChecked = (piece, good) => {
      expect(good && !b.isOnDisk(piece)).toBe(false);
      if (good) this.had.add(piece);
      else this.had.delete(piece);
    };
    b.onCheckDone = () => {
      this.checking = false;
    };
  }

  act({ kind, piece: drawn, a, b: second }: Act): void {
    const { b } = this;
    const piece = drawn % b.torrent.pieceCount;
    const blocks = b.torrent.blockCount(piece);
    const room = b.ports.slots.freeCount >= blocks + 1;
    switch (kind) {
      case 'get':
        if (this.had.has(piece) || this.open.has(piece) || !room || this.checking) return;
        this.had.add(piece);
        b.download(piece);
        return;
      case 'spill':
      case 'bad': {
        if (this.had.has(piece) || !room || this.checking) return;
        const open = this.open.get(piece) ?? { next: 0, mark: kind === 'bad' ? 9 : 0, hashing: 0 };
        this.open.set(piece, open);
        if (open.hashing > 0) return;
        const to = Math.min(blocks, open.next + 1 + (a % 3));
        b.put(piece, open.next, to, open.mark);
        open.next = to;
        if (to === blocks) open.hashing = b.hash(piece);
        return;
      }
      case 'discard':
        if (!this.open.delete(piece)) return;
        b.disk.discard(piece);
        return;
      case 'read': {
        const first = a % blocks;
        if (this.had.has(piece)) b.read(piece, first, 1 + (second % (blocks - first)));
        return;
      }
      case 'take': {
        const slot = this.had.has(piece) ? b.disk.take(piece, a % blocks) : -1;
        if (slot < 0) return;
        b.expectBlock(slot, piece, a % blocks);
        b.ports.slots.release(slot);
        return;
      }
      case 'want':
        b.disk.setWanted([0, 2, 3, 4, 6][a % 5]!, second % 2 === 0);
        return;
      case 'move':
        if (a < 4) b.disk.move(second % 2 === 0 ? '/d' : '/other', () => {});
        return;
      case 'sync':
        b.disk.sync(() => {});
        return;
      case 'check':
        if (a > 2 || this.open.size > 0) return;
        this.checking = true;
        b.disk.check(null);
        return;
      case 'forget':
        if (a < 2 && b.disk.flushed.get(piece)) {
          b.disk.forget(piece);
          this.had.delete(piece);
        }
        return;
      case 'fault':
        b.node.disk.knobs.writeFaultEvery = a % 3 === 0 ? 2 : 0;
        b.node.disk.knobs.readFaultEvery = a % 5 === 0 ? 3 : 0;
        return;
      case 'retry':
        b.disk.retry();
        return;
      case 'wait':
        b.world.run(a < 12 ? a / 4 : 600);
    }
  }

  heal(): void {
    const { knobs } = this.b.node.disk;
    knobs.writeFaultEvery = 0;
    knobs.readFaultEvery = 0;
    for (let i = 0; i < 3; i++) {
      this.b.disk.retry();
      this.b.settle();
    }
  }
}

test('random work, faults, moves and changes of mind: nothing false is claimed, no slot is lost, all bytes are right', () => {
  let moves = 0;
  let faults = 0;
  fc.assert(
    fc.property(fc.array(act, { minLength: 20, maxLength: 120 }), fc.nat(1000), (acts, seed) => {
      const b = bench(odd, 40, 12, seed);
      const driver = new Driver(b);
      for (const each of acts) driver.act(each);
      driver.heal();
      for (const [piece, open] of driver.open) if (open.hashing === 0) b.disk.discard(piece);
      b.settle();
      expect(b.unanswered).toBe(0);
      expect(b.disk.pendingSlots).toBe(0);
      faults += b.faults.length;
      moves += b.moved.length;
      const claimed = b.all().filter((piece) => b.disk.flushed.get(piece));
      expect(claimed).toEqual([...driver.had].sort((x, y) => x - y));
      for (const piece of claimed) expect(b.isOnDisk(piece)).toBe(true);
      b.readFaults.length = 0;
      for (const piece of claimed) {
        b.read(piece, 0, b.torrent.blockCount(piece));
        b.settle();
      }
      expect(b.readFaults).toEqual([]);
      b.expectNoLeak();
      expect(b.stop()).toBe(null);
      const next = b.again();
      expect(next.restore(b.record({ clean: true }))).toEqual(claimed);
      for (const piece of claimed) expect(next.isOnDisk(piece)).toBe(true);
    }),
    { numRuns: 300 },
  );
  expect(moves).toBeGreaterThan(10);
  expect(faults).toBeGreaterThan(50);
});

test('killed or cut off at any instant: what the last record claims is there and right', () => {
  let claims = 0;
  let hashed = 0;
  fc.assert(
    fc.property(
      fc.array(act, { minLength: 10, maxLength: 60 }),
      fc.nat(1000),
      fc.boolean(),
      fc.nat(1),
      (acts, seed, power, lag) => {
        const b = bench(odd, 40, 12, seed);
        const driver = new Driver(b);
        const records: ResumeRecord[] = [b.record()];
        for (const each of acts) {
          // a record is saved after parts were moved and pieces were lost
          if (each.kind === 'move' || each.kind === 'want' || each.kind === 'forget' || each.kind === 'check') continue;
          driver.act(each);
          records.push(b.record({ inDoubt: [...driver.open.keys()] }));
        }
        const record = records[Math.max(0, records.length - 1 - lag)]!;
        const next = b.again(power);
        const claimed = next.restore(record);
        for (const piece of claimed) expect(next.isOnDisk(piece)).toBe(true);
        claims += claimed.length;
        hashed += next.toHash;
        if (!power) {
          expect(claimed).toEqual(next.all().filter((piece) => record.flushed.get(piece)));
          expect(next.toHash).toBeLessThanOrEqual(32);
        }
        for (let p = 0; p < next.torrent.pieceCount; p++) {
          if (next.disk.flushed.get(p)) expect(next.isOnDisk(p)).toBe(true);
        }
      },
    ),
    { numRuns: 300 },
  );
  expect(claims).toBeGreaterThan(150);
  expect(hashed).toBeGreaterThan(100);
});
