import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Bench, bench, odd, ROOT } from '../../sim/disk-bench.ts';
import { World } from '../../sim/world.ts';
import { Bitfield } from '../base/bitfield.ts';
import { concat, utf8Encode } from '../base/bytes.ts';
import { sha1 } from '../base/hash.ts';
import { decode, encode } from '../codec/bencode.ts';
import { decodeRecord, encodeRecord, magnetRecord, type ResumeRecord } from './resume.ts';

function bits(length: number, set: readonly number[]): Bitfield {
  const made = new Bitfield(length);
  for (const i of set) made.set(i);
  return made;
}

const SAMPLE: ResumeRecord = {
  infoHash: new Uint8Array(20).fill(7),
  name: 'naïve',
  folder: '/data/a b',
  movingTo: '/elsewhere',
  options: encode({ sequential: 1, trackers: ['http://t/'] }),
  torrent: utf8Encode('d4:infod4:name1:xee'),
  bootId: 'boot-1',
  clean: false,
  flushed: bits(21, [0, 3, 20]),
  synced: bits(21, [3]),
  inDoubt: [4, 5],
  stamps: Float64Array.of(100, 1.7e12, -1, 0, 2 ** 50, 1.5),
  made: bits(3, [1]).bytes,
  parted: [2],
};

test('a record reads back as it was written', () => {
  expect(decodeRecord(encodeRecord(SAMPLE))).toEqual(SAMPLE);
  const same = { ...SAMPLE, synced: SAMPLE.flushed, movingTo: null, torrent: null };
  expect(decodeRecord(encodeRecord(same))).toEqual(same);
  const magnet = magnetRecord(SAMPLE.infoHash, 'm', '/d', SAMPLE.options);
  expect(decodeRecord(encodeRecord(magnet))).toEqual(magnet);
});

test('every byte flipped and every length cut is no record', () => {
  const bytes = encodeRecord(SAMPLE);
  for (let i = 0; i < bytes.length; i++) {
    expect(decodeRecord(bytes.subarray(0, i))).toBe(null);
    for (const flip of [1, 0x80, 0xff]) {
      const bad = bytes.slice();
      bad[i]! ^= flip;
      expect(decodeRecord(bad)).toBe(null);
    }
  }
});

/** As a tamperer would who knows the checksum. */
function sign(body: Uint8Array): Uint8Array {
  return concat([body, sha1(body)]);
}

test('tampered and signed anew: never a crash, never out of bounds, no way up', () => {
  const body = encodeRecord(SAMPLE).slice(0, -20);
  let read = 0;
  const look = (bad: Uint8Array): void => {
    const record = decodeRecord(sign(bad));
    if (record === null) return;
    read++;
    for (const folder of [record.folder, record.movingTo ?? '/']) {
      expect(folder).toMatch(/^(\/|[A-Za-z]:[\\/]|\\\\)/);
      expect(folder.split(/[\\/]/)).not.toContain('..');
      expect(folder).not.toContain('\0');
    }
    expect(record.inDoubt.every((piece) => piece >= 0 && piece < record.flushed.length)).toBe(true);
    expect(record.inDoubt.length).toBeLessThanOrEqual(32);
    for (const each of record.stamps) expect(Number.isFinite(each)).toBe(true);
    expect(record.synced.length).toBe(record.flushed.length);
  };
  for (let i = 0; i < body.length; i++) {
    look(body.subarray(0, i));
    for (let flip = 1; flip < 256; flip += 7) {
      const bad = body.slice();
      bad[i]! ^= flip;
      look(bad);
    }
  }
  expect(read).toBeGreaterThan(1000);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      decodeRecord(bytes);
      decodeRecord(sign(bytes));
    }),
  );
});

test('fields past their bounds are no record', () => {
  const fields = (change: Record<string, unknown>): Uint8Array => {
    const dict = decode(encodeRecord(SAMPLE).slice(0, -20)) as unknown as Iterable<never> & {
      entries(): Iterable<[Uint8Array, never]>;
    };
    const made = new Map<string, never>();
    for (const [key, value] of dict.entries()) made.set(Buffer.from(key).toString(), value);
    for (const [key, value] of Object.entries(change)) made.set(key, value as never);
    return sign(encode(Object.fromEntries([...made].filter(([, value]) => value !== undefined))));
  };
  expect(decodeRecord(fields({}))).toEqual(SAMPLE);
  const bad: Record<string, unknown>[] = [
    { v: 2 },
    { hash: new Uint8Array(19) },
    { folder: 'relative/path' },
    { folder: '/a/../../etc' },
    { folder: '/a\0b' },
    { folder: `/${'x'.repeat(5000)}` },
    { moving: 'C:\\a\\..\\b' },
    { pieces: 22 + 8 },
    { pieces: -1 },
    { pieces: 2 ** 40 },
    { flushed: Uint8Array.of(0xff, 0xff, 0xff) },
    { synced: Uint8Array.of(0x80, 0, 1) },
    { synced: 1 },
    { doubt: [21] },
    { doubt: [3, 3] },
    { doubt: Array.from({ length: 33 }, (_, i) => i) },
    { doubt: [-1] },
    { parted: [2 ** 30] },
    { stamps: new Uint8Array(15) },
    { stamps: new Uint8Array(16).fill(0xff) },
    { clean: 2 },
    { torrent: 1 },
    { made: [] },
    { name: Uint8Array.of(0xff) },
    { options: undefined },
  ];
  for (const each of bad) expect(decodeRecord(fields(each)), JSON.stringify(each)).toBe(null);
});

// ----------------------------------------------------------------------------------------------------------- restore

/** A machine on which all pieces are on disk, and the record of it. */
function whole(seed = 5): { b: Bench; stop: (clean: boolean) => ResumeRecord } {
  const world = new World({ seed });
  const b = new Bench(world, world.addNode({ slots: 64 }), odd(world));
  b.downloadAll();
  return {
    b,
    stop: (clean) => {
      if (clean) expect(b.stop()).toBe(null);
      return b.record({ clean });
    },
  };
}

const ALL = Array.from({ length: 12 }, (_, i) => i);
const without = (...gone: number[]): number[] => ALL.filter((piece) => !gone.includes(piece));

test('after a clean stop and after a kill everything flushed is claimed, and nothing is hashed', () => {
  for (const clean of [true, false]) {
    const { b, stop } = whole();
    const record = stop(clean);
    const next = b.again();
    expect(next.restore(record)).toEqual(ALL);
    expect(next.toHash).toBe(0);
    expect(next.disk.synced.count).toBe(clean ? ALL.length : 0);
    next.read(3, 0, 4);
    next.settle();
    expect(next.readFaults).toEqual([]);
  }
});

test('after a power cut what was synced is claimed, the rest is hashed first', () => {
  let lost = 0;
  for (let seed = 0; seed < 20; seed++) {
    const world = new World({ seed });
    const b = new Bench(world, world.addNode({ slots: 64 }), odd(world));
    b.downloadAll([0, 1, 2, 3]);
    b.disk.sync(() => {});
    b.downloadAll([7, 8, 9, 10]);
    expect(b.disk.synced.count).toBe(4);
    const next = b.again(true);
    expect(next.restore(b.record())).toEqual([0, 1, 2, 3]);
    for (const piece of [7, 8, 9, 10]) {
      expect(next.disk.flushed.get(piece)).toBe(next.isOnDisk(piece));
      if (!next.disk.flushed.get(piece)) lost++;
    }
  }
  expect(lost).toBeGreaterThan(5);
});

test('a file changed after a clean stop is hashed; after a kill its time says nothing', () => {
  for (const clean of [true, false]) {
    const { b, stop } = whole();
    const record = stop(clean);
    const file = b.node.disk.files.get(b.path(6))!;
    file.rot(70_000);
    file.mtimeMs += 1000;
    const next = b.again();
    next.restore(record);
    expect(next.toHash).toBe(clean ? 5 : 0);
    expect(next.disk.flushed.get(8)).toBe(!clean);
    if (clean) expect(next.disk.flushed.count).toBe(11);
  }
});

test('files missing, cut or replaced are not claimed', () => {
  for (const clean of [true, false]) {
    const { b, stop } = whole();
    const record = stop(clean);
    const { files, others } = b.node.disk;
    files.delete(b.path(2));
    files.get(b.path(6))!.resize(150_000);
    files.delete(b.path(3));
    others.set(b.path(3), 'fifo');
    const next = b.again();
    next.restore(record);
    const left = next.all().filter((piece) => next.disk.flushed.get(piece));
    expect(left).toEqual(without(1, 2, 9, 10, 11));
  }
});

test('pieces in doubt are hashed, at most 32, and claimed when they are good', () => {
  const b = bench((world) => world.makeTorrent({ pieces: 50, pieceLength: 16384 }), 64);
  b.downloadAll([0, 1]);
  for (let piece = 10; piece < 49; piece++) b.download(piece);
  const record = b.record({ inDoubt: [2, 3] });
  expect(record.inDoubt.length).toBe(32);
  expect(record.flushed.count).toBe(2);
  b.settle();
  const next = b.again();
  expect(next.restore(record)).toEqual([0, 1]);
  expect(next.toHash).toBe(32);
  expect(next.disk.flushed.count).toBe(34);
});

test('without a record: nothing, everything hashed, or trusted by size, as asked', () => {
  const world = new World({ seed: 6 });
  const torrent = odd(world);
  const empty = new Bench(world, world.addNode({ slots: 64 }), torrent);
  expect(empty.restore(null)).toEqual([]);
  expect(empty.toHash).toBe(0);

  empty.node.disk.install(torrent, ROOT);
  empty.node.disk.files.get(empty.path(4))!.rot(1000);
  const checked = empty.again();
  expect(checked.restore(null)).toEqual([]);
  expect(checked.disk.flushed.count).toBe(11);
  expect(checked.disk.flushed.get(2)).toBe(false);

  checked.node.disk.files.get(checked.path(6))!.resize(250_000);
  const trusted = checked.again();
  expect(trusted.restore(null, 'trust')).toEqual(without(10, 11));
  expect(trusted.checked.size).toBe(0);
});

test('a record of another torrent or shape is as good as none', () => {
  const { b, stop } = whole();
  const record = stop(true);
  const wrong: ResumeRecord[] = [
    { ...record, infoHash: new Uint8Array(20) },
    { ...record, flushed: bits(13, [12]), synced: bits(13, []) },
    { ...record, stamps: new Float64Array(4) },
    { ...record, made: new Uint8Array(9) },
    { ...record, parted: [99] },
    { ...record, parted: [5] },
  ];
  let last = b;
  for (const each of wrong) {
    last = last.again();
    last.node.disk.files.get(last.path(0))!.rot(5);
    expect(last.restore(each)).toEqual([]);
    expect(last.disk.flushed.get(0)).toBe(false);
    last.node.disk.files.get(last.path(0))!.rot(5);
  }
});

test('a move cut short is finished by the next run', () => {
  const { b, stop } = whole();
  const before = stop(false);
  const record = { ...before, movingTo: '/new' };
  // one file was moved already when the process was killed
  const { files } = b.node.disk;
  files.set(b.path(6).replace('/d/', '/new/'), files.get(b.path(6))!);
  files.delete(b.path(6));
  const next = b.again();
  expect(next.restore(record)).toEqual(ALL);
  expect(next.disk.folder).toBe('/new');
  for (const piece of ALL) expect(next.isOnDisk(piece)).toBe(true);
});
