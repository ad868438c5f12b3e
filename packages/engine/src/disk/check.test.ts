import { expect, test } from 'vitest';
import { World } from '../../sim/world.ts';
import { concat } from '../base/bytes.ts';
import { sha256 } from '../base/hash.ts';
import { type Hasher, HashKind, type HashSink, type HashSpan } from '../base/ports.ts';
import { Layout } from '../codec/layout.ts';
import { merkleRoot } from '../codec/merkle.ts';
import { Metainfo, type TorrentFile } from '../codec/metainfo.ts';
import { Check } from './check.ts';
import { FileTable } from './file-table.ts';
import { Io } from './io.ts';
import { Places } from './part-file.ts';

const PIECE = 65536;
const LEAF = 16384;

function leavesOf(bytes: Uint8Array): Uint8Array {
  const leaves: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += LEAF) leaves.push(sha256(bytes.subarray(at, at + LEAF)));
  return concat(leaves);
}

test('v2: pieces end with their file, and files below one piece have trees of their own size', () => {
  const world = new World({ seed: 2 });
  const node = world.addNode();
  const ports = node.boot();
  const contents = [40_000, 200_000, 10, 65_536, 131_072].map((length, i) => {
    const bytes = new Uint8Array(length);
    for (let k = 0; k < length; k++) bytes[k] = (k * 31 + i * 7 + (k >> 9)) & 255;
    return bytes;
  });
  const files: TorrentFile[] = [];
  const layers: Uint8Array[] = [];
  let offset = 0;
  contents.forEach((bytes, i) => {
    const digests: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += PIECE)
      digests.push(merkleRoot(leavesOf(bytes.subarray(at, at + PIECE)), 4));
    const pow = (n: number): number => 2 ** Math.ceil(Math.log2(n));
    const piecesRoot = merkleRoot(leavesOf(bytes), pow(Math.ceil(bytes.length / LEAF)));
    const path = ['t', `f${i}`];
    files.push({
      path,
      length: bytes.length,
      offset,
      pad: false,
      executable: false,
      hidden: false,
      symlink: null,
      piecesRoot,
    });
    layers.push(concat(digests));
    offset += Math.ceil(bytes.length / PIECE) * PIECE;
    node.disk.make(`/d/t/f${i}`).write(0, bytes);
  });
  const meta = new Metainfo({
    name: 't',
    infoHash: null,
    infoHashV2: new Uint8Array(32),
    infoBytes: new Uint8Array(0),
    pieceLength: PIECE,
    files,
    piecesAt: -1,
    isPrivate: false,
    trackers: [],
    webSeeds: [],
    nodes: [],
    comment: null,
    createdBy: null,
    createdAt: null,
  });
  for (let i = 0; i < layers.length; i++) meta.setLayer(i, layers[i]!);
  expect(meta.hasDigests).toBe(true);

  let jobs = 0;
  const hasher: Hasher = {
    threads: 2,
    hash: () => {},
    abandon: () => {},
    hashFiles(job: number, kind: HashKind, spans: readonly HashSpan[], length: number, leaves: number, sink: HashSink) {
      jobs++;
      expect(kind).toBe(HashKind.Merkle);
      const parts = spans.map((span) => {
        const part = new Uint8Array(span.length);
        node.disk.files.get(node.disk.keyOf(span.file!))!.read(span.offset, part);
        return part;
      });
      const all = concat(parts);
      const digests: Uint8Array[] = [];
      for (let at = 0; at < all.length; at += length)
        digests.push(merkleRoot(leavesOf(all.subarray(at, at + length)), leaves));
      world.call(1, () => sink.onHashed(job, null, concat(digests)));
    },
  };
  const layout = new Layout(meta);
  const places = new Places(meta, layout, '/d', '.parts');
  const check = (): boolean[] => {
    const seen: boolean[] = [];
    let done = 0;
    const io = new Io(ports.files, hasher, { onIdle() {} });
    const run: Check = new Check(io, places, new FileTable(meta, layout), {
      onChecked: (piece, good) => {
        seen[piece] = good;
      },
      onCheckDone: () => {
        done++;
      },
      onWork: () => world.call(0, () => run.pump()),
    });
    run.start(null);
    world.run(1000);
    expect(done).toBe(1);
    return seen;
  };
  expect(check()).toEqual(new Array(9).fill(true));
  expect(jobs).toBe(4);
  node.disk.files.get('/d/t/f1')!.rot(199_000);
  node.disk.files.get('/d/t/f2')!.rot(3);
  expect(check()).toEqual([true, true, true, true, false, false, true, true, true]);
});
