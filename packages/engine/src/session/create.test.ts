import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { IoFault } from '../base/errors.ts';
import { type Hasher, HashKind, type HashSink, type HashSpan } from '../base/ports.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import { createFromContent } from './create.ts';
import { verifyContent } from './verify.ts';

type Disk = Map<string, Uint8Array>;

/** Files in memory; answers later and out of order, as threads do. */
class MemoryHasher implements Hasher {
  readonly threads = 2;
  most = 0;
  readonly #disk: Disk;
  #underWay = 0;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  hash(): void {}
  abandon(): void {}

  hashFiles(
    job: number,
    kind: HashKind,
    spans: readonly HashSpan[],
    pieceLength: number,
    leafCount: number,
    sink: HashSink,
  ): void {
    this.most = Math.max(this.most, ++this.#underWay);
    let fault: IoFault | null = null;
    const parts = spans.map(({ file, offset, length }) => {
      if (file === null) return { bytes: new Uint8Array(length), lost: false };
      const content = this.#disk.get([file.root, ...file.path].join('/'));
      const bytes = content?.subarray(offset, offset + length) ?? new Uint8Array(0);
      if (bytes.length === length) return { bytes, lost: false };
      fault = { code: content === undefined ? 'ENOENT' : 'EIO_SHORT', message: 'missing' };
      return { bytes: new Uint8Array(length), lost: true };
    });
    const lost = Buffer.concat(parts.map(({ bytes, lost }) => new Uint8Array(bytes.length).fill(lost ? 1 : 0)));
    const whole = Buffer.concat(parts.map(({ bytes }) => bytes));
    const digests: Uint8Array[] = [];
    for (let at = 0; at < whole.length; at += pieceLength) {
      const digest = digestOf(kind, whole.subarray(at, at + pieceLength), leafCount);
      digests.push(lost.subarray(at, at + pieceLength).includes(1) ? new Uint8Array(digest.length) : digest);
    }
    const done = (): void => {
      this.#underWay--;
      sink.onHashed(job, fault, Buffer.concat(digests));
    };
    if (job % 3 === 0) setImmediate(() => setImmediate(done));
    else setImmediate(done);
  }
}

function digestOf(kind: HashKind, bytes: Uint8Array, leafCount: number): Uint8Array {
  const sha1 = createHash('sha1').update(bytes).digest();
  if (kind === HashKind.Sha1) return sha1;
  let level: Buffer[] = [];
  for (let i = 0; i < leafCount; i++) {
    const leaf = bytes.subarray(i * 16384, (i + 1) * 16384);
    level.push(leaf.length === 0 ? Buffer.alloc(32) : createHash('sha256').update(leaf).digest());
  }
  while (level.length > 1) {
    const next: Buffer[] = [];
    for (let i = 0; i < level.length; i += 2) {
      next.push(
        createHash('sha256')
          .update(level[i]!)
          .update(level[i + 1]!)
          .digest(),
      );
    }
    level = next;
  }
  return kind === HashKind.Merkle ? level[0]! : Buffer.concat([sha1, level[0]!]);
}

interface Made {
  readonly disk: Disk;
  readonly hasher: MemoryHasher;
  readonly meta: Metainfo;
  readonly order: readonly string[];
}

async function make(sizes: readonly number[], version: 'v1' | 'v2' | 'hybrid', pieceLength: number): Promise<Made> {
  const disk: Disk = new Map();
  const files = sizes.map((length, i) => {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at++) bytes[at] = (at * 31 + i * 7 + (at >> 8)) & 255;
    const path = i % 2 === 0 ? [`f${i}`] : ['sub', `f${i}`];
    disk.set(['/d/top', ...path].join('/'), bytes);
    return { path, length, executable: i === 1, symlink: null };
  });
  const hasher = new MemoryHasher(disk);
  const content = { root: '/d/top', name: 'top', single: false, files };
  const { meta } = await createFromContent(hasher, content, { version, pieceLength, trackers: ['http://t/a'] }, 5000);
  return { disk, hasher, meta, order: files.map(({ path }) => ['/d/top', ...path].join('/')) };
}

const TOP = { folder: '/d', name: 'top' };

/** A v2 torrent of a folder with one file is a torrent of that file. */
function placeOf(meta: Metainfo): { folder: string; name: string } {
  return meta.files[0]!.path.length === 1 ? { folder: '/d/top', name: meta.files[0]!.path[0]! } : TOP;
}

const SIZES = fc.array(fc.oneof(fc.nat(100), fc.nat(120_000), fc.constantFrom(0, 16384, 32768, 65536)), {
  minLength: 1,
  maxLength: 8,
});

describe('createFromContent and verifyContent', () => {
  it('agree with plain SHA-1 over the joined files (v1)', async () => {
    const { disk, meta, order } = await make([70_000, 3, 0, 16384, 50_000], 'v1', 32768);
    const joined = Buffer.concat(order.map((path) => disk.get(path)!));
    expect(meta.pieceCount).toBe(Math.ceil(joined.length / 32768));
    for (let i = 0; i < meta.pieceCount; i++) {
      const digest = createHash('sha1')
        .update(joined.subarray(i * 32768, (i + 1) * 32768))
        .digest('hex');
      expect(Buffer.from(meta.digestOf(i)).toString('hex')).toBe(digest);
    }
    expect(meta.createdAt).toBe(5);
    expect(meta.trackers).toEqual([['http://t/a']]);
  });

  it('find every piece good, and after a change exactly the pieces it touches bad', async () => {
    await fc.assert(
      fc.asyncProperty(
        SIZES,
        fc.constantFrom('v1' as const, 'v2' as const, 'hybrid' as const),
        fc.constantFrom(16384, 32768, 65536),
        fc.nat(),
        async (sizes, version, pieceLength, where) => {
          const total = sizes.reduce((sum, size) => sum + size, 0);
          fc.pre(total > 0);
          const { disk, hasher, meta } = await make(sizes, version, pieceLength);
          const place = placeOf(meta);
          const whole = await verifyContent(hasher, meta, place);
          expect(whole).toEqual({ pieces: meta.pieceCount, good: meta.pieceCount, bad: [], bytesGood: total });

          const victims = meta.files.filter((file) => !file.pad && file.length > 0);
          const victim = victims[where % victims.length]!;
          const at = where % victim.length;
          disk.get([place.folder, ...victim.path].join('/'))![at]! ^= 1;
          const changed = await verifyContent(hasher, meta, place);
          expect(changed.bad).toEqual([Math.floor((victim.offset + at) / pieceLength)]);

          disk.delete([place.folder, ...victim.path].join('/'));
          const missing = await verifyContent(hasher, meta, place);
          const first = Math.floor(victim.offset / pieceLength);
          const last = Math.floor((victim.offset + victim.length - 1) / pieceLength);
          expect(missing.bad).toEqual(Array.from({ length: last - first + 1 }, (_, i) => first + i));
          expect(missing.bytesGood).toBeLessThanOrEqual(total - victim.length);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keep the threads busy and no more', async () => {
    const { hasher, meta } = await make(Array(40).fill(40_000) as number[], 'hybrid', 16384);
    await verifyContent(hasher, meta, TOP);
    expect(hasher.most).toBe(4);
  });

  it('stop when asked to, and report what cannot be read', async () => {
    const { hasher, meta } = await make([200_000, 5], 'v2', 16384);
    const stop = new AbortController();
    const run = verifyContent(hasher, meta, TOP, { signal: stop.signal, onProgress: () => stop.abort() });
    await expect(run).rejects.toMatchObject({ code: 'aborted' });
    const broken = new MemoryHasher(new Map());
    broken.hashFiles = (job, _kind, _spans, _length, _leaves, sink) => {
      setImmediate(() => sink.onHashed(job, { code: 'EACCES', message: 'denied' }, new Uint8Array(0)));
    };
    await expect(verifyContent(broken, meta, TOP)).rejects.toMatchObject({ code: 'disk', message: 'denied' });
  });

  it('refuse what no torrent can be made of', async () => {
    await expect(make([0], 'v1', 16384)).rejects.toMatchObject({ code: 'bad-option' });
    await expect(make([5], 'v1', 17000)).rejects.toMatchObject({ code: 'bad-option' });
    const content = {
      root: '/d',
      name: 'con',
      single: true,
      files: [{ path: ['con'], length: 1, executable: false, symlink: null }],
    };
    const hasher = new MemoryHasher(new Map([['/d/con', Uint8Array.of(1)]]));
    await expect(createFromContent(hasher, content, {}, 0)).rejects.toMatchObject({ code: 'bad-option' });
  });
});
