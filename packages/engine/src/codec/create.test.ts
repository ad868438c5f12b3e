import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, equal, utf8Encode } from '../base/bytes.ts';
import { sha1, sha256 } from '../base/hash.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { type BDict, decode } from './bencode.ts';
import {
  buildTorrent,
  choosePieceLength,
  leafCountOf,
  planTorrent,
  type TorrentPlan,
  type TorrentSpec,
} from './create.ts';
import { Layout } from './layout.ts';
import { LEAF_BYTES, merkleRoot } from './merkle.ts';
import { type Metainfo, parseInfo, parseTorrent } from './metainfo.ts';

/** Content by source index and offset, so that any stretch can be made. */
function content(source: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) * 7 + source * 13) & 255;
  return bytes;
}

function leavesOf(bytes: Uint8Array): Uint8Array {
  const leaves: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += LEAF_BYTES) leaves.push(sha256(bytes.subarray(at, at + LEAF_BYTES)));
  return concat(leaves);
}

/** Hashes as session/create has it done. */
function make(spec: TorrentSpec): { plan: TorrentPlan; bytes: Uint8Array } {
  const plan = planTorrent(spec);
  const stream = concat(plan.files.map((f) => (f.pad ? new Uint8Array(f.length) : content(f.source, f.length))));
  const pieces: Uint8Array[] = [];
  for (let i = 0; i < plan.pieceCountV1; i++) {
    pieces.push(sha1(stream.subarray(i * plan.pieceLength, (i + 1) * plan.pieceLength)));
  }
  const v2 = plan.v2Files.map((place) => {
    const file = plan.files[place]!;
    const bytes = content(file.source, file.length);
    const roots: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += plan.pieceLength) {
      roots.push(merkleRoot(leavesOf(bytes.subarray(at, at + plan.pieceLength)), leafCountOf(plan, place)));
    }
    return concat(roots);
  });
  return { plan, bytes: buildTorrent(plan, { v1: concat(pieces), v2 }) };
}

/** Rebuilds every piece through Layout and checks it against its digest. */
function verifyAll(meta: Metainfo, spec: TorrentSpec): void {
  const layout = new Layout(meta);
  const sources = new Map(spec.files.map((f, i) => [spec.single ? spec.name : [spec.name, ...f.path].join('/'), i]));
  let covered = 0;
  for (let piece = 0; piece < layout.pieceCount; piece++) {
    const size = layout.pieceSize(piece);
    const parts = layout.spans(piece, 0, size).map((span) => {
      const file = meta.files[span.file]!;
      if (file.pad) return new Uint8Array(span.length);
      covered += span.length;
      return content(sources.get(file.path.join('/'))!, file.length).subarray(span.offset, span.offset + span.length);
    });
    const bytes = concat(parts);
    expect(bytes.length).toBe(size);
    const digest = meta.infoHash !== null ? sha1(bytes) : merkleRoot(leavesOf(bytes), meta.leafCount(piece));
    expect(equal(digest, meta.digestOf(piece))).toBe(true);
    let blocks = 0;
    for (let b = 0; b < layout.blockCount(piece); b++) blocks += layout.blockSize(piece, b);
    expect(blocks).toBe(size);
  }
  expect(covered).toBe(meta.bytes);
}

const sizes = fc.constantFrom(0, 1, 100, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES, 70_000);
const specs = fc
  .record({
    format: fc.constantFrom('v1' as const, 'v2' as const, 'hybrid' as const),
    pieceLength: fc.constantFrom(LEAF_BYTES, 2 * LEAF_BYTES, 4 * LEAF_BYTES),
    lengths: fc.array(sizes, { minLength: 1, maxLength: 6 }),
    single: fc.boolean(),
    isPrivate: fc.boolean(),
  })
  .filter(({ lengths, single }) => (single ? lengths[0]! : lengths.reduce((a, b) => a + b)) > 0)
  .map(({ format, pieceLength, lengths, single, isPrivate }): TorrentSpec => {
    const files = lengths.map((length, i) => ({
      path: i % 3 === 0 ? [`z${i}`] : i % 3 === 1 ? ['dir', `ü${i}.x`] : ['dir', 'sub', `${i}`],
      length,
    }));
    const list = single ? [{ path: ['one.bin'], length: lengths[0]! }] : files;
    return { name: single ? 'one.bin' : 'folder', format, single, files: list, pieceLength, private: isPrivate };
  });

describe('creating torrents', () => {
  it('gives torrents that read back and verify, in all three formats', () => {
    fc.assert(
      fc.property(specs, (spec) => {
        const { plan, bytes } = make(spec);
        expect((decode(bytes, { canonical: true }) as BDict).canonical).toBe(true);
        const meta = parseTorrent(bytes);
        expect([meta.infoHash !== null, meta.infoHashV2 !== null]).toEqual([
          spec.format !== 'v2',
          spec.format !== 'v1',
        ]);
        expect([meta.name, meta.private, meta.pieceLength]).toEqual([spec.name, spec.private, plan.pieceLength]);
        expect(meta.bytes).toBe(spec.files.reduce((sum, f) => sum + f.length, 0));
        expect(meta.files.map((f) => [f.length, f.pad])).toEqual(plan.files.map((f) => [f.length, f.pad]));
        expect(meta.hasDigests && meta.hasLayers).toBe(true);
        verifyAll(meta, spec);
        // what it writes is the same torrent
        const again = parseTorrent(meta.torrentBytes());
        expect(again.swarmHash).toEqual(meta.swarmHash);
        verifyAll(again, spec);
        expect(parseInfo(meta.infoBytes).swarmHash).toEqual(meta.swarmHash);
      }),
      { numRuns: 150 },
    );
  });

  it('writes what was asked for around the info', () => {
    const { bytes } = make({
      name: 'n',
      format: 'hybrid',
      single: false,
      files: [
        { path: ['run.sh'], length: 5, executable: true },
        { path: ['link'], length: 0, symlink: ['run.sh'] },
        { path: ['.h'], length: 7, hidden: true },
      ],
      pieceLength: LEAF_BYTES,
      trackers: [['http://a.example/announce'], [], ['udp://b.example:1/announce']],
      webSeeds: ['http://w.example/'],
      nodes: [{ host: '127.0.0.1', port: 6881 }],
      comment: 'c',
      createdBy: 'Shoal',
      createdAt: 1_700_000_000,
      source: 'S',
    });
    const meta = parseTorrent(bytes);
    expect(meta.trackers).toEqual([['http://a.example/announce'], ['udp://b.example:1/announce']]);
    expect([meta.webSeeds, meta.nodes]).toEqual([['http://w.example/'], [{ host: '127.0.0.1', port: 6881 }]]);
    expect([meta.comment, meta.createdBy, meta.createdAt]).toEqual(['c', 'Shoal', 1_700_000_000]);
    const files = meta.files.map((f) => [f.path.join('/'), f.length, f.pad, f.executable, f.hidden, f.symlink]);
    expect(files).toEqual([
      ['n/.h', 7, false, false, true, null],
      ['n/link', 0, false, false, false, ['n', 'run.sh']],
      [`n/.pad/${LEAF_BYTES - 7}`, LEAF_BYTES - 7, true, false, false, null],
      ['n/run.sh', 5, false, true, false, null],
    ]);
    expect(((decode(bytes) as BDict).dict('info') as BDict).text('source')).toBe('S');
  });

  it('keeps the order given for v1', () => {
    const files = ['b', 'a', 'c'].map((name) => ({ path: [name], length: 1 }));
    const meta = parseTorrent(make({ name: 'n', format: 'v1', single: false, files }).bytes);
    expect(meta.files.map((f) => f.path[1])).toEqual(['b', 'a', 'c']);
  });

  it('refuses what no torrent can be made of', () => {
    const one = { path: ['a'], length: 1 };
    const base: TorrentSpec = { name: 'n', format: 'v2', single: false, files: [one] };
    for (const change of [
      { files: [] },
      { files: [{ path: ['a'], length: 0 }] },
      { files: [one, one] },
      { files: [one, { path: ['a', 'b'], length: 1 }] },
      { files: [{ path: ['..'], length: 1 }] },
      { files: [{ path: [], length: 1 }] },
      { single: true, files: [one, { path: ['b'], length: 1 }] },
      { pieceLength: 20_000 },
      { pieceLength: 8192 },
      { name: '' },
    ]) {
      expect(() => planTorrent({ ...base, ...change }), JSON.stringify(change)).toThrow(
        expect.objectContaining({ code: 'bad-option' }),
      );
    }
    expect(() => buildTorrent(planTorrent(base), { v1: null, v2: [] })).toThrow('digests are missing');
  });

  it('chooses piece lengths for one to two thousand pieces', () => {
    expect([choosePieceLength(1), choosePieceLength(1e12)]).toEqual([16 * 1024, 16 * 1024 * 1024]);
    for (let bytes = 3e7; bytes < 2e10; bytes *= 1.7) {
      const count = bytes / choosePieceLength(bytes);
      expect(count > 700 && count <= 1500, `${bytes}`).toBe(true);
    }
    expect(BLOCK_BYTES).toBe(LEAF_BYTES);
    expect(utf8Encode('ü').length).toBe(2);
  });
});
