import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quickestMs } from '../../test/quickest.ts';
import { concat, latin1, toHex, utf8Encode } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import { sha1, sha256 } from '../base/hash.ts';
import { type BInput, encode } from './bencode.ts';
import { Layout } from './layout.ts';
import { merkleRoot } from './merkle.ts';
import { type Metainfo, parseInfo, parseTorrent } from './metainfo.ts';

type Fields = { [key: string]: BInput | undefined };

const K16 = 16384;
const HASH = new Uint8Array(20).fill(7);
const ROOT = new Uint8Array(32).fill(9);
const SINGLE: Fields = { name: 'file', length: 100, 'piece length': K16, pieces: HASH };

const torrent = (info: Fields, outer: Fields = {}): Metainfo => parseTorrent(encode({ ...outer, info }));
const many = (files: BInput[], change: Fields = {}): Metainfo =>
  torrent({ name: 'dir', files, 'piece length': K16, pieces: HASH, ...change });
const tree = (fileTree: BInput, change: Fields = {}): Metainfo =>
  torrent({ name: 'dir', 'meta version': 2, 'piece length': K16, 'file tree': fileTree, ...change });
const leaf = (length: number, more: Fields = {}): BInput => ({
  '': { length, 'pieces root': length > 0 ? ROOT : undefined, ...more },
});
const paths = (meta: Metainfo): string[] => meta.files.map((file) => file.path.join('/'));
const failure = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ShoalError);
    expect((error as ShoalError).code).toBe('bad-torrent');
    return (error as ShoalError).message;
  }
  return 'accepted';
};

describe('v1', () => {
  it('hashes the raw span of info, however it is spelt', () => {
    // keys out of order, and one nobody knows
    const info = `d6:lengthi5e5:extra1:x4:name1:a12:piece lengthi16384e6:pieces20:${'p'.repeat(20)}e`;
    const meta = parseTorrent(utf8Encode(`d8:announce12:http://h/ann4:info${info}e`));
    expect(toHex(meta.infoHash!)).toBe(toHex(sha1(utf8Encode(info))));
    expect(latin1(meta.infoBytes)).toBe(info);
    expect([meta.infoHashV2, meta.swarmHash]).toEqual([null, meta.infoHash]);
    expect(meta.trackers).toEqual([['http://h/ann']]);
    expect(latin1(meta.digestOf(0))).toBe('p'.repeat(20));
    expect([paths(meta), meta.pieceCount, meta.bytes, meta.private]).toEqual([['a'], 1, 5, false]);
  });

  it('lays files one after the other, empty ones too', () => {
    const meta = many(
      [
        { length: 10, path: ['a'] },
        { length: 0, path: ['sub', 'empty'] },
        { length: K16, path: ['sub', 'b'] },
        { length: 6, path: ['c'] },
      ],
      { pieces: concat([HASH, HASH]) },
    );
    expect(paths(meta)).toEqual(['dir/a', 'dir/sub/empty', 'dir/sub/b', 'dir/c']);
    const layout = new Layout(meta);
    expect(layout.spans(0, 0, K16)).toEqual([
      { file: 0, offset: 0, length: 10 },
      { file: 2, offset: 0, length: K16 - 10 },
    ]);
    expect(layout.spans(1, 4, 12)).toEqual([
      { file: 2, offset: K16 - 6, length: 6 },
      { file: 3, offset: 0, length: 6 },
    ]);
    expect([layout.firstPiece(1), layout.lastPiece(1), layout.firstPiece(2), layout.lastPiece(2)]).toEqual([
      -1, -1, 0, 1,
    ]);
    expect([layout.pieceSize(1), layout.blockCount(1), layout.blockSize(1, 0)]).toEqual([16, 1, 16]);
    expect(() => layout.spans(1, 0, 17)).toThrow('shoal bug');
    expect(() => layout.pieceSize(2)).toThrow('shoal bug');
  });

  it('takes pieces of any length', () => {
    const meta = torrent({ ...SINGLE, length: 1000, 'piece length': 333, pieces: new Uint8Array(80) });
    expect([meta.pieceCount, new Layout(meta).pieceSize(3)]).toEqual([4, 1]);
  });

  it('reads pads, with and without path or attribute', () => {
    const meta = many([
      { length: 4, path: ['a'], attr: 'hx' },
      { length: 6, attr: 'p' },
      { length: 1, path: ['_____padding_file_0_if you see this file'] },
      { length: 2, path: ['.pad', '2'], attr: 'zp' },
      { length: 2, path: ['.pad', '2'], attr: 'xp' },
    ]);
    expect(meta.files.map((file) => file.pad)).toEqual([false, true, true, true, true]);
    expect([meta.length, meta.bytes, meta.files[0]!.executable, meta.files[0]!.hidden]).toEqual([15, 4, true, true]);
    expect(paths(meta)[1]).toBe('dir/.pad/6');
  });

  it('keeps links inside', () => {
    const meta = many([
      { length: 4, path: ['a', 'b'] },
      { length: 0, path: ['l1'], attr: 'l', 'symlink path': ['a', 'b'] },
      { length: 9, path: ['l2'], attr: 'l', 'symlink path': ['..', '..', 'etc', '/passwd'] },
      { length: 0, path: ['l3'], attr: 'l', 'symlink path': ['..'] },
      { length: 0, path: ['x', 'l4'], attr: 'l', 'symlink path': ['x'] },
      { length: 0, path: ['l5'], attr: 'l', 'symlink path': ['l5'] },
      { length: 0, path: ['l6'], attr: 'l' },
    ]);
    expect(meta.files.map((file) => file.symlink?.join('/') ?? null)).toEqual([
      null,
      'dir/a/b',
      'dir/etc/passwd',
      null,
      null,
      null,
      null,
    ]);
    expect(meta.files[2]!.length).toBe(0);
  });

  it('makes hostile paths safe and distinct', () => {
    const hostile = ['../../../etc/passwd', '..', '', '/abs', 'C:', 'con.txt', 'a\0b', '\u202egpj.exe', 'A', 'a', 'a '];
    const meta = many(hostile.map((name) => ({ length: 1, path: [name] })));
    expect(paths(meta)).toEqual([
      'dir/......etcpasswd',
      'dir/_',
      'dir/_.1',
      'dir/abs',
      'dir/C_',
      'dir/_con.txt',
      'dir/a_b',
      'dir/gpj.exe',
      'dir/A',
      'dir/a.1',
      'dir/a.2',
    ]);
    const deeper = many([{ length: 1, path: ['..', '..', '..', 'root', '.ssh', 'authorized_keys'] }], {
      name: '../..',
    });
    expect(paths(deeper)[0]).toMatch(/^[0-9a-f]{40}\/_\/_\/_\/root\/\.ssh\/authorized_keys$/);
    expect(many([{ length: 1, path: ['x'] }], { name: '..' }).name).toMatch(/^[0-9a-f]{40}$/);
    expect(failure(() => torrent({ ...SINGLE, name: '..' }))).toContain('info.name');
  });

  it('prefers the utf-8 names', () => {
    const meta = many([{ length: 1, path: [Uint8Array.of(255)], 'path.utf-8': ['ü'] }], { 'name.utf-8': 'ö' });
    expect(paths(meta)).toEqual(['ö/ü']);
  });

  it.each<[string, Fields]>([
    ['info.name', { name: undefined }],
    ['info.name', { name: 5 }],
    ['info.name', { name: '' }],
    ['info.piece length', { 'piece length': undefined }],
    ['info.piece length', { 'piece length': 0 }],
    ['info.piece length', { 'piece length': -K16 }],
    ['info.piece length', { 'piece length': 2 ** 30 }],
    ['info.piece length', { 'piece length': 2n ** 63n }],
    ['info.pieces', { pieces: undefined }],
    ['info.pieces', { pieces: 1 }],
    ['info.pieces', { pieces: new Uint8Array(21) }],
    ['info.pieces', { pieces: new Uint8Array(40) }],
    ['info.length', { length: undefined }],
    ['info.length', { length: -1 }],
    ['info.length', { length: 2n ** 60n }],
    ['holds no byte', { length: 0, pieces: '' }],
    ['pieces are more than', { length: 2097153 * K16 }],
    ['info.files: no files', { length: undefined, files: [] }],
    ['info.files[0]', { files: [5] }],
    ['info.files[1].length', { files: [{ length: 1, path: ['a'] }, { path: ['b'] }] }],
    ['info.files[0].path', { files: [{ length: 1 }] }],
    ['info.files[0].path', { files: [{ length: 1, path: [] }] }],
    ['info.files[0].path', { files: [{ length: 1, path: 'a' }] }],
    ['info.files[0].path[1]', { files: [{ length: 1, path: ['a', 1] }] }],
    ['folders deep', { files: [{ length: 1, path: new Array<string>(101).fill('d') }] }],
    ['too many files have the path', { files: new Array<BInput>(100).fill({ length: 1, path: ['same'] }) }],
    ['info.meta version', { 'meta version': 3 }],
    ["without 'meta version'", { 'file tree': { a: leaf(1) } }],
  ])('refuses with %s', (message, change) => {
    expect(failure(() => torrent({ ...SINGLE, ...change }))).toContain(message);
  });

  it('refuses what is no torrent', () => {
    expect(failure(() => parseTorrent(new Uint8Array(0)))).toContain('not bencoding');
    expect(failure(() => parseTorrent(utf8Encode('<html>')))).toContain('not bencoding');
    expect(failure(() => parseTorrent(encode([1])))).toContain('not a dictionary');
    expect(failure(() => parseTorrent(encode({ a: 1 })))).toContain("no 'info'");
    expect(failure(() => parseTorrent(encode({ info: 'x' })))).toContain('info: not a dictionary');
    const good = encode({ info: SINGLE });
    expect(failure(() => parseTorrent(concat([good, utf8Encode('d')])))).toContain('bytes after the end');
    expect(parseTorrent(concat([good, utf8Encode('\r\n')])).name).toBe('file');
    const info = encode(SINGLE);
    expect(failure(() => parseInfo(concat([info, utf8Encode('\n')])))).toContain('bytes after the end');
    expect(failure(() => parseTorrent(utf8Encode('l'.repeat(150_000))))).toContain('nested more than 100');
  });
});

describe('what stands around info', () => {
  it('reads tiers without blanks, doubles and strange schemes; announce only without them (BEP 12)', () => {
    const list = [
      ['', ' http://a.example/x '],
      [],
      ['ftp://b.example/', 'udp://c.example:1'],
      'x',
      ['http://a.example/x'],
      [5],
    ];
    const meta = torrent(SINGLE, { announce: 'http://z.example/', 'announce-list': list });
    expect(meta.trackers).toEqual([['http://a.example/x'], ['udp://c.example:1']]);
    expect(torrent(SINGLE, { announce: 'http://z.example/', 'announce-list': [['']] }).trackers).toEqual([
      ['http://z.example/'],
    ]);
    expect(torrent(SINGLE, { announce: 5 }).trackers).toEqual([]);
  });

  it('reads url-list as text or list (BEP 19), encoded, ending in / for many files', () => {
    expect(torrent(SINGLE, { 'url-list': 'http://w.example/a b' }).webSeeds).toEqual(['http://w.example/a%20b']);
    expect(torrent(SINGLE, { 'url-list': '' }).webSeeds).toEqual([]);
    const files = ['a', 'b'].map((name) => ({ length: 1, path: [name] }));
    const info = { name: 'dir', files, 'piece length': K16, pieces: HASH };
    const urls = ['http://w.example/x', 'http://w.example/x/', 'gopher://x/', 7, 'https://w.example/ü'];
    expect(torrent(info, { 'url-list': urls }).webSeeds).toEqual(['http://w.example/x/', 'https://w.example/%C3%BC/']);
  });

  it('reads nodes, private, dates and comments, and skips what is not right', () => {
    const meta = torrent(
      { ...SINGLE, private: 1 },
      {
        nodes: [['127.0.0.1', 6881], ['::1', 1], ['h.example', 65536], ['x'], [], 5, ['a b', 1], ['dht.example', 2]],
        'creation date': 1_234_567,
        comment: 'plain',
        'comment.utf-8': 'better',
        'created by': Uint8Array.of(97, 255),
      },
    );
    expect(meta.private).toBe(true);
    expect(meta.nodes).toEqual([
      { host: '127.0.0.1', port: 6881 },
      { host: '::1', port: 1 },
      { host: 'dht.example', port: 2 },
    ]);
    expect([meta.createdAt, meta.comment, meta.createdBy]).toEqual([1_234_567, 'better', 'a\ufffd']);
    expect(torrent(SINGLE, { 'creation date': -5, comment: [] }).createdAt).toBeNull();
    expect(torrent({ ...SINGLE, private: 0 }).private).toBe(false);
  });

  it('takes what a magnet knew', () => {
    const meta = parseInfo(encode(SINGLE), {
      trackers: [['http://t.example/a', '']],
      webSeeds: ['http://w.example/f'],
    });
    expect([meta.trackers, meta.webSeeds]).toEqual([[['http://t.example/a']], ['http://w.example/f']]);
    const again = parseTorrent(meta.torrentBytes());
    expect([again.trackers, again.webSeeds, again.infoHash]).toEqual([meta.trackers, meta.webSeeds, meta.infoHash]);
  });
});

describe('v2 (BEP 52)', () => {
  const LAYER = concat([1, 2, 3].map((n) => new Uint8Array(32).fill(n)));
  const LAYER_ROOT = merkleRoot(LAYER, 4);
  const big: BInput = { '': { length: 3 * K16 - 5, 'pieces root': LAYER_ROOT } };

  it('begins each file on a piece, with short pieces at the ends', () => {
    const meta = tree({ a: leaf(5), b: { c: big, d: leaf(0) }, e: leaf(K16) });
    expect(paths(meta)).toEqual(['dir/a', 'dir/b/c', 'dir/b/d', 'dir/e']);
    expect([meta.infoHash, meta.swarmHash]).toEqual([null, sha256(meta.infoBytes).subarray(0, 20)]);
    expect([meta.pieceCount, meta.length, meta.bytes]).toEqual([5, 5 * K16, 4 * K16]);
    const layout = new Layout(meta);
    expect([0, 1, 2, 3, 4].map((piece) => layout.pieceSize(piece))).toEqual([5, K16, K16, K16 - 5, K16]);
    expect(layout.spans(3, 10, 20)).toEqual([{ file: 1, offset: 2 * K16 + 10, length: 20 }]);
    expect([layout.firstPiece(1), layout.lastPiece(1), layout.lastPiece(2), layout.firstPiece(3)]).toEqual([
      1, 3, -1, 4,
    ]);
    expect(() => layout.spans(0, 0, 6)).toThrow('shoal bug');
    expect([meta.leafCount(0), meta.leafCount(1)]).toEqual([1, 1]);
  });

  it('takes piece layers that lead to the root, and knows which are missing', () => {
    const info: Fields = { name: 'dir', 'meta version': 2, 'piece length': K16, 'file tree': { a: leaf(5), b: big } };
    const layers = new Map([[LAYER_ROOT, LAYER]]);
    const meta = torrent(info, { 'piece layers': layers });
    expect([meta.hasLayers, meta.hasDigests]).toEqual([true, true]);
    expect([meta.digestOf(0), meta.digestOf(3)]).toEqual([ROOT, LAYER.subarray(64)]);
    const bare = parseInfo(meta.infoBytes);
    expect([bare.hasLayers, bare.needsLayer(0), bare.needsLayer(1)]).toEqual([false, false, true]);
    expect(bare.setLayer(1, LAYER.subarray(32))).toBe(false);
    expect(bare.setLayer(1, concat([LAYER.subarray(32), LAYER.subarray(0, 32)]))).toBe(false);
    expect(bare.setLayer(0, LAYER)).toBe(false);
    expect(bare.setLayer(1, LAYER)).toBe(true);
    expect([bare.hasLayers, bare.digestOf(2)]).toEqual([true, LAYER.subarray(32, 64)]);
    for (const wrong of [[[LAYER_ROOT, LAYER.subarray(32)]], [[ROOT, LAYER]], [[LAYER_ROOT, 5]], [['short', LAYER]]]) {
      const given = new Map(wrong as [Uint8Array, BInput][]);
      expect(failure(() => torrent(info, { 'piece layers': given }))).toContain('piece layers[');
    }
  });

  it('gives equal files one layer', () => {
    const info: Fields = { name: 'dir', 'meta version': 2, 'piece length': K16, 'file tree': { a: big, b: big } };
    const meta = torrent(info, { 'piece layers': new Map([[LAYER_ROOT, LAYER]]) });
    expect(meta.hasLayers).toBe(true);
    expect(parseTorrent(meta.torrentBytes()).hasLayers).toBe(true);
  });

  it('names one file by the tree, many by the folder', () => {
    expect(paths(tree({ dir: leaf(5) }))).toEqual(['dir']);
    expect(paths(tree({ 'only.bin': leaf(5) }))).toEqual(['dir/only.bin']);
    expect(paths(tree({ sub: { 'only.bin': leaf(5) } }))).toEqual(['dir/sub/only.bin']);
    expect(paths(tree({ '..': leaf(5), '/': { '.': leaf(6) } }))).toEqual(['dir/_.1', 'dir/_/_']);
  });

  it.each<[string, BInput, Fields]>([
    ['no files', {}, {}],
    ['an empty name', leaf(5), {}],
    ['an empty name', { a: { '': { length: 1, 'pieces root': ROOT }, b: leaf(1) } }, {}],
    ['not a dictionary', { a: 5 }, {}],
    ['not a dictionary', { a: { '': 5 } }, {}],
    ['file tree', 5, {}],
    ['pieces root', { a: { '': { length: 5 } } }, {}],
    ['pieces root', leafOf(new Uint8Array(31)), {}],
    ['all zeros', leafOf(new Uint8Array(32)), {}],
    ['.length', { a: leaf(-1) }, {}],
    ['a pad file', { a: leaf(5, { attr: 'p' }) }, {}],
    ['holds no byte', { a: leaf(0) }, {}],
    ['power of two', { a: leaf(5) }, { 'piece length': 3 * K16 }],
    ['power of two', { a: leaf(5) }, { 'piece length': 8192 }],
    ['pieces are more than', { a: leaf(2 ** 43) }, {}],
  ])('refuses with %s', (message, fileTree, change) => {
    expect(failure(() => tree(fileTree, change))).toContain(message);
  });

  it('refuses keys out of order, which v1 lets pass', () => {
    const text = latin1(
      encode({ name: 'd', 'meta version': 2, 'piece length': K16, 'file tree': { a: leaf(5), b: leaf(5) } }),
    );
    const swapped = text.replace('1:ad', '1:cd');
    expect(failure(() => parseInfo(Uint8Array.from(swapped, (c) => c.charCodeAt(0))))).toContain('not in order');
  });

  function leafOf(root: Uint8Array): BInput {
    return { a: { '': { length: 5, 'pieces root': root } } };
  }
});

describe('hybrid', () => {
  const list: BInput[] = [
    { length: 5, path: ['a'] },
    { attr: 'p', length: K16 - 5, path: ['.pad', '1'] },
    { length: 6, path: ['b'] },
  ];
  const v2: Fields = { 'meta version': 2, 'file tree': { a: leaf(5), b: leaf(6) } };
  const two: Fields = { pieces: concat([HASH, HASH]) };

  it('is one torrent with two hashes; pieces verify by SHA-1', () => {
    const meta = many(list, { ...v2, ...two });
    expect([meta.infoHash, meta.infoHashV2]).toEqual([sha1(meta.infoBytes), sha256(meta.infoBytes)]);
    expect(meta.files.map((file) => file.piecesRoot)).toEqual([ROOT, null, ROOT]);
    expect([meta.pieceCount, meta.hashKind, meta.leafCount(0), meta.digestOf(1)]).toEqual([2, 1, 0, HASH]);
    const single = torrent({ ...SINGLE, 'meta version': 2, 'file tree': { file: leaf(100) } });
    expect([paths(single), single.files[0]!.piecesRoot]).toEqual([['file'], ROOT]);
  });

  it.each<[string, BInput[], Fields]>([
    ['has 5 bytes', list, { 'file tree': { a: leaf(4), b: leaf(6) } }],
    ["'file tree'", list, { 'file tree': { a: leaf(5), c: leaf(6) } }],
    ["not in 'file tree'", list, { 'file tree': { a: leaf(5) } }],
    ["not in 'files'", list, { 'file tree': { a: leaf(5), b: leaf(6), c: leaf(1) } }],
    ["not in 'files'", list, { 'file tree': { a: leaf(5), b: leaf(6), c: leaf(0) } }],
    ["a piece's border", [list[0]!, list[2]!], { pieces: HASH }],
    ['info.pieces', list, { pieces: undefined }],
  ])('refuses when the parts differ: %s', (message, files, change) => {
    expect(failure(() => many(files, { ...v2, ...two, ...change }))).toContain(message);
  });
});

describe('load', () => {
  const elapsed = (run: () => void): number => quickestMs(2000, run);

  it('reads 100,000 files, 2^21 pieces and 3 million tokens in two seconds each', () => {
    const files = Array.from({ length: 100_000 }, (_, i) => ({ length: 1, path: [`d${i % 97}`, `file ${i}`] }));
    const wide = encode({ info: { name: 'n', files, 'piece length': K16, pieces: new Uint8Array(7 * 20) } });
    expect(elapsed(() => expect(parseTorrent(wide).files.length).toBe(100_000))).toBeLessThan(2000);
    const long = encode({ info: { ...SINGLE, length: 2097152 * K16, pieces: new Uint8Array(2097152 * 20) } });
    expect(elapsed(() => expect(parseTorrent(long).pieceCount).toBe(2097152))).toBeLessThan(2000);
    const head = utf8Encode('d1:al');
    const tail = concat([utf8Encode('e4:info'), encode(SINGLE), utf8Encode('e')]);
    const tokens = concat([head, new Uint8Array(2_999_900 * 2).map((_, i) => (i % 2 === 0 ? 48 : 58)), tail]);
    expect(elapsed(() => expect(parseTorrent(tokens).name).toBe('file'))).toBeLessThan(2000);
    expect(
      failure(() => parseTorrent(concat([head, new Uint8Array(7_000_000).map((_, i) => (i % 2 ? 58 : 48)), tail]))),
    ).toContain('tokens');
  });
});

it('mutated torrents throw nothing but ShoalError, and what is read stays in bounds', () => {
  const v2: Fields = { 'meta version': 2, 'file tree': { a: leaf(5), b: { c: leaf(40_000) } } };
  const seeds = [
    encode({
      announce: 'http://h/',
      'announce-list': [['http://h/']],
      info: SINGLE,
      nodes: [['h', 1]],
      'url-list': 'http://w/',
    }),
    encode({
      info: {
        name: 'd',
        files: [
          { length: 5, path: ['x', 'y'], attr: 'x' },
          { length: 3, attr: 'p' },
          { length: 0, path: ['l'], attr: 'l', 'symlink path': ['x'] },
        ],
        'piece length': K16,
        pieces: HASH,
      },
    }),
    encode({ info: { name: 'd', 'piece length': K16, ...v2 }, 'piece layers': new Map([[ROOT, new Uint8Array(96)]]) }),
  ];
  const edit = fc.tuple(fc.constantFrom('set', 'cut', 'copy'), fc.nat(400), fc.nat(255));
  fc.assert(
    fc.property(fc.constantFrom(...seeds), fc.array(edit, { minLength: 1, maxLength: 5 }), (seed, edits) => {
      let bytes = seed.slice();
      for (const [what, at, value] of edits) {
        const place = at % bytes.length;
        if (what === 'set') bytes[place] = value;
        else if (what === 'cut') bytes = concat([bytes.subarray(0, place), bytes.subarray(place + (value % 8))]);
        else bytes = concat([bytes.subarray(0, place), bytes.subarray(Math.max(0, place - (value % 16)))]);
        if (bytes.length === 0) return;
      }
      try {
        const meta = parseTorrent(bytes);
        const layout = new Layout(meta);
        for (const piece of [0, meta.pieceCount - 1]) {
          const spans = layout.spans(piece, 0, layout.pieceSize(piece));
          for (const span of spans) {
            expect(span.offset + span.length).toBeLessThanOrEqual(meta.files[span.file]!.length);
          }
          if (meta.hasDigests) expect([20, 32]).toContain(meta.digestOf(piece).length);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(ShoalError);
      }
    }),
    { numRuns: 4000 },
  );
});
