import { expect, test } from 'vitest';
import { type Bench, bench, ROOT } from '../../sim/disk-bench.ts';
import { SimTorrent, type SimTorrentSpec } from '../../sim/torrent.ts';
import type { World } from '../../sim/world.ts';
import { type Metainfo, parseTorrent } from '../codec/metainfo.ts';

const KIB = 1024;
const FILES = [
  { path: ['a'], length: 64 * KIB },
  { path: ['sub', 'b'], length: 100 * KIB },
  { path: ['sub', 'c'], length: 20 * KIB },
  { path: ['empty'], length: 0 },
];
const SPEC: SimTorrentSpec = { name: 'new', pieceLength: 16 * KIB, files: FILES };

const makes = (world: World): SimTorrent => world.makeTorrent(SPEC);

/** The content of the bench's torrent under other names; where a length is another one, cut or followed by zeros. */
function other(b: Bench, spec: SimTorrentSpec): Metainfo {
  return parseTorrent(new SimTorrent(b.torrent.id, { ...SPEC, ...spec }).bytes);
}

/** Puts the bytes of a file of the bench's torrent at a path. */
function put(b: Bench, path: string, from: number, length: number): void {
  const file = b.torrent.files[from]!;
  const made = b.node.disk.make(path);
  const bytes = new Uint8Array(length);
  bytes.set(b.torrent.read(file.offset, Math.min(length, file.length)));
  made.write(0, bytes);
}

function reuse(b: Bench, meta: Metainfo, folder: string): void {
  b.disk.reuse({ meta, folder }, () => b.disk.restore(null, 'check', 'b'));
  b.settle();
  expect(b.checkDone).toBe(1);
}

const sizeOf = (b: Bench, path: string): number | undefined => b.node.disk.files.get(path)?.size;

test('what is alike by place or by name and length is copied, checked and claimed; the old files stay', () => {
  const b = bench(makes);
  const old = other(b, {
    name: 'old',
    files: [{ path: ['a'], length: 64 * KIB }, { path: ['elsewhere', 'b'], length: 100 * KIB }, FILES[2]!],
  });
  put(b, '/old/old/a', 0, 64 * KIB);
  put(b, '/old/old/elsewhere/b', 1, 100 * KIB);
  reuse(b, old, '/old');
  // sub/c was not there; a piece that reaches into it cannot be had
  expect(b.disk.flushed.count).toBe(Math.floor((164 * KIB) / (16 * KIB)));
  expect(sizeOf(b, `${ROOT}/new/sub/b`)).toBe(100 * KIB);
  expect(sizeOf(b, '/old/old/elsewhere/b')).toBe(100 * KIB);
  expect(sizeOf(b, `${ROOT}/new/sub/c`)).toBeUndefined();
});

test('a file that grew gives its beginning, one that shrank is cut to its length', () => {
  const b = bench(makes);
  const old = other(b, {
    name: 'old',
    files: [{ path: ['a'], length: 40 * KIB }, { path: ['sub', 'b'], length: 130 * KIB }, FILES[2]!],
  });
  put(b, '/old/old/a', 0, 40 * KIB);
  put(b, '/old/old/sub/b', 1, 130 * KIB);
  put(b, '/old/old/sub/c', 2, 20 * KIB);
  reuse(b, old, '/old');
  expect(sizeOf(b, `${ROOT}/new/sub/b`)).toBe(100 * KIB);
  expect([...Array(12).keys()].filter((piece) => !b.disk.flushed.get(piece))).toEqual([2, 3]);
});

test('files that keep their place are not touched, but for the end of one that was longer', () => {
  const b = bench(makes);
  const old = other(b, {
    name: 'new',
    files: [{ path: ['a'], length: 90 * KIB }, FILES[1]!, { path: ['sub', 'd'], length: 20 * KIB }],
  });
  put(b, `${ROOT}/new/a`, 0, 90 * KIB);
  put(b, `${ROOT}/new/sub/b`, 1, 100 * KIB);
  // of another's making, and longer than this torrent's file: not to be cut
  put(b, `${ROOT}/new/sub/c`, 2, 30 * KIB);
  const inode = b.node.disk.files.get(`${ROOT}/new/sub/b`)!.inode;
  reuse(b, old, ROOT);
  expect(b.disk.flushed.isFull).toBe(true);
  expect(sizeOf(b, `${ROOT}/new/a`)).toBe(64 * KIB);
  expect(sizeOf(b, `${ROOT}/new/sub/c`)).toBe(30 * KIB);
  expect(b.node.disk.files.get(`${ROOT}/new/sub/b`)!.inode).toBe(inode);
});

test('nothing is copied over what stands there, nor for a file that is not wanted; faults cost no more than the data', () => {
  const b = bench(makes);
  const old = other(b, { name: 'old', files: FILES });
  for (let f = 0; f < 3; f++) put(b, `/old/old/${FILES[f]!.path.join('/')}`, f, FILES[f]!.length);
  b.node.disk.others.set(`${ROOT}/new/sub/c`, 'link');
  b.disk.setWanted(1, false);
  reuse(b, old, '/old');
  expect(sizeOf(b, `${ROOT}/new/sub/b`)).toBeUndefined();
  expect(b.node.disk.others.get(`${ROOT}/new/sub/c`)).toBe('link');
  expect(b.disk.flushed.count).toBe(4);

  const faulty = bench(makes);
  put(faulty, '/old/old/a', 0, 64 * KIB);
  faulty.node.disk.knobs.readFaultEvery = 1;
  faulty.disk.reuse({ meta: other(faulty, { name: 'old', files: FILES }), folder: '/old' }, () => {
    faulty.node.disk.knobs.readFaultEvery = 0;
    faulty.disk.restore(null, 'check', 'b');
  });
  faulty.settle();
  expect([faulty.checkDone, faulty.disk.flushed.count]).toEqual([1, 0]);
});

test('a stop in the middle ends it', () => {
  const b = bench((world) =>
    world.makeTorrent({ ...SPEC, files: Array.from({ length: 300 }, (_, i) => ({ path: [`f${i}`], length: 1000 })) }),
  );
  const old = parseTorrent(
    new SimTorrent(b.torrent.id, {
      ...SPEC,
      name: 'old',
      files: Array.from({ length: 300 }, (_, i) => ({ path: [`f${i}`], length: 1000 })),
    }).bytes,
  );
  for (let f = 0; f < 300; f++) put(b, `/old/old/f${f}`, f, 1000);
  b.disk.reuse({ meta: old, folder: '/old' }, () => expect.fail('went on after the stop'));
  let stopped = 0;
  b.disk.stop(() => stopped++);
  b.settle();
  expect(stopped).toBe(1);
  expect([...b.node.disk.files.keys()].filter((key) => key.startsWith(ROOT)).length).toBeLessThan(100);
});
