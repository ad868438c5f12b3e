/**
 * Puts torrents together from a list of files and their digests: v1 (BEP 3), v2 (BEP 52), hybrid, with pad files and
 * attributes (BEP 47). Pure: who creates reads and hashes the files as `planTorrent` says, then calls `buildTorrent`.
 *
 *     plan = planTorrent(spec)       order, pads, offsets, pieces
 *     v1:  SHA-1 per piece over plan.files in order (pads are zeros)
 *     v2:  per file in plan.v2Files: Merkle root of each piece, plan.leafCount(file) leaves each
 *     torrent = buildTorrent(plan, digests)
 *
 * Files come in the caller's order for v1; v2 and hybrid need the order of the file tree (names by their bytes), which
 * the plan makes.
 */

import { compare, concat, utf8Encode } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import type { HostPort } from '../base/ip.ts';
import { type BInput, encode } from './bencode.ts';
import { isPowerOfTwo, LEAF_BYTES, MERKLE_HASH_BYTES, merkleRoot, nextPowerOfTwo, padHash } from './merkle.ts';

export type TorrentFormat = 'v1' | 'v2' | 'hybrid';

export interface SourceFile {
  /** Below the torrent's folder, without its name; for a torrent of one bare file: [its name]. */
  readonly path: readonly string[];
  readonly length: number;
  readonly executable?: boolean;
  readonly hidden?: boolean;
  /** Target below the torrent's folder, for a link (whose length is 0). */
  readonly symlink?: readonly string[] | null;
}

export interface TorrentSpec {
  readonly name: string;
  readonly format: TorrentFormat;
  /** One bare file, not a folder with one file in it. */
  readonly single: boolean;
  readonly files: readonly SourceFile[];
  /** Bytes; 0 lets `choosePieceLength` choose. */
  readonly pieceLength?: number;
  readonly private?: boolean;
  readonly trackers?: readonly (readonly string[])[];
  readonly webSeeds?: readonly string[];
  readonly nodes?: readonly HostPort[];
  readonly comment?: string | null;
  readonly createdBy?: string | null;
  /** Unix seconds. */
  readonly createdAt?: number | null;
  /** Makes the info-hash differ from the same torrent elsewhere (a custom of private trackers). */
  readonly source?: string | null;
}

export interface PlannedFile {
  /** Index into `TorrentSpec.files`; -1 for a pad. */
  readonly source: number;
  readonly path: readonly string[];
  readonly length: number;
  /** First byte in v1 piece space (v2 only: as in Metainfo). */
  readonly offset: number;
  readonly pad: boolean;
}

export interface TorrentPlan {
  readonly spec: TorrentSpec;
  readonly pieceLength: number;
  /** Pieces of the v1 space; 0 for v2 only. */
  readonly pieceCountV1: number;
  /** In the torrent's order, pads included. */
  readonly files: readonly PlannedFile[];
  /** Places in `files` of those that v2 hashes: neither pad nor empty. Empty for v1. */
  readonly v2Files: readonly number[];
}

export interface TorrentDigests {
  /** v1: 20 bytes per piece, joined; null for v2 only. */
  readonly v1: Uint8Array | null;
  /** v2: for each of `plan.v2Files` the joined roots of its pieces, 32 bytes each; null for v1 only. */
  readonly v2: readonly Uint8Array[] | null;
}

const MIN_PIECE = 16 * 1024;
const MAX_PIECE = 32 * 1024 * 1024;
/** Pieces to aim for: enough to spread, few enough for a small .torrent. */
const TARGET_PIECES = 1500;

/** A power of two, 16 KiB .. 16 MiB, that gives about 1,000 to 2,000 pieces. */
export function choosePieceLength(bytes: number): number {
  let length = MIN_PIECE;
  while (length < MAX_PIECE / 2 && bytes / length > TARGET_PIECES) length *= 2;
  return length;
}

/** Orders the files and lays them out. Throws ShoalError 'bad-option' for what no torrent can be made of. */
export function planTorrent(spec: TorrentSpec): TorrentPlan {
  const total = spec.files.reduce((sum, file) => sum + file.length, 0);
  const pieceLength = spec.pieceLength || choosePieceLength(total);
  checkSpec(spec, pieceLength, total);
  const order = spec.files.map((_, i) => i);
  if (spec.format !== 'v1') order.sort((a, b) => comparePaths(spec.files[a]!.path, spec.files[b]!.path));
  const files: PlannedFile[] = [];
  const v2Files: number[] = [];
  let offset = 0;
  for (const source of order) {
    const { path, length } = spec.files[source]!;
    if (length > 0 && spec.format !== 'v1') {
      const gap = (pieceLength - (offset % pieceLength)) % pieceLength;
      // in a v2 torrent the gap is always 0 here
      if (gap > 0) files.push(pad(offset, gap));
      offset += gap;
      v2Files.push(files.length);
    }
    files.push({ source, path: spec.single ? [spec.name] : path, length, offset, pad: false });
    offset += spec.format === 'v2' ? Math.ceil(length / pieceLength) * pieceLength : length;
  }
  return {
    spec,
    pieceLength,
    pieceCountV1: spec.format === 'v2' ? 0 : Math.ceil(offset / pieceLength),
    files,
    v2Files,
  };
}

/** Leaves of the tree that each digest of a v2 file covers: a piece's, or a small file's own. */
export function leafCountOf(plan: TorrentPlan, file: number): number {
  const { length } = plan.files[file]!;
  return length > plan.pieceLength ? plan.pieceLength / LEAF_BYTES : nextPowerOfTwo(Math.ceil(length / LEAF_BYTES));
}

/** The bytes of the .torrent file, canonical. */
export function buildTorrent(plan: TorrentPlan, digests: TorrentDigests): Uint8Array {
  const { spec } = plan;
  const v1 = spec.format === 'v2' ? null : digests.v1;
  const v2 = spec.format === 'v1' ? null : digests.v2;
  if (spec.format !== 'v2' && v1?.length !== plan.pieceCountV1 * 20) throw refused('v1 digests are missing');
  if (spec.format !== 'v1' && v2?.length !== plan.v2Files.length) throw refused('v2 digests are missing');
  const info: { [key: string]: BInput | undefined } = {
    name: spec.name,
    'piece length': plan.pieceLength,
    private: spec.private === true ? 1 : undefined,
    source: spec.source ?? undefined,
  };
  if (v1 !== null) {
    info['pieces'] = v1;
    if (spec.single) info['length'] = plan.files[0]!.length;
    else info['files'] = plan.files.map((file) => entryV1(spec, file));
    if (spec.single) info['attr'] = attributes(spec.files[0]!) || undefined;
  }
  const layers = new Map<string, [Uint8Array, Uint8Array]>();
  if (v2 !== null) {
    info['meta version'] = 2;
    info['file tree'] = tree(plan, v2 as readonly Uint8Array[], layers);
  }
  const trackers = (spec.trackers ?? []).filter((tier) => tier.length > 0);
  const nodes = spec.nodes ?? [];
  return encode({
    announce: trackers[0]?.[0],
    'announce-list': trackers.flat().length > 1 ? trackers : undefined,
    comment: spec.comment ?? undefined,
    'created by': spec.createdBy ?? undefined,
    'creation date': spec.createdAt ?? undefined,
    info,
    nodes: nodes.length > 0 ? nodes.map((node): BInput => [node.host, node.port]) : undefined,
    'piece layers': v2 === null ? undefined : new Map<Uint8Array, BInput>(layers.values()),
    'url-list': spec.webSeeds !== undefined && spec.webSeeds.length > 0 ? spec.webSeeds : undefined,
  });
}

function refused(what: string): ShoalError {
  return new ShoalError('bad-option', `cannot make a torrent: ${what}`);
}

function checkSpec(spec: TorrentSpec, pieceLength: number, total: number): void {
  if (total === 0) throw refused('there is not a single byte to share');
  if (!Number.isSafeInteger(total)) throw refused('the files are too long together');
  if (!Number.isInteger(pieceLength) || pieceLength < MIN_PIECE || pieceLength > 32767 * LEAF_BYTES) {
    throw refused(`a piece length of ${pieceLength} is not in 16384..${32767 * LEAF_BYTES}`);
  }
  if (!isPowerOfTwo(pieceLength)) throw refused(`a piece length of ${pieceLength} is no power of two`);
  if (spec.name === '') throw refused('the name is empty');
  if (spec.single && (spec.files.length !== 1 || spec.files[0]!.path.length !== 1)) {
    throw refused('a bare file must be the only one');
  }
  const folders = new Set<string>();
  const paths = new Set<string>();
  for (const { path } of spec.files) {
    const text = path.join('/');
    if (path.length === 0 || path.some((part) => part === '' || part === '.' || part === '..' || part.includes('/'))) {
      throw refused(`'${text}' is no path`);
    }
    if (paths.has(text)) throw refused(`'${text}' stands there twice`);
    paths.add(text);
    for (let i = 1; i < path.length; i++) folders.add(path.slice(0, i).join('/'));
  }
  for (const text of paths) if (folders.has(text)) throw refused(`'${text}' is a file and a folder`);
}

/** The order of a walk through a tree whose folders are sorted by the bytes of names. */
function comparePaths(a: readonly string[], b: readonly string[]): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    if (a[i] === b[i]) continue;
    const order = compare(utf8Encode(a[i]!), utf8Encode(b[i]!));
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

function pad(offset: number, length: number): PlannedFile {
  return { source: -1, path: ['.pad', String(length)], length, offset, pad: true };
}

function attributes(file: SourceFile): string {
  const link = file.symlink != null ? 'l' : '';
  return `${file.hidden === true ? 'h' : ''}${link}${file.executable === true ? 'x' : ''}`;
}

function entryV1(spec: TorrentSpec, file: PlannedFile): BInput {
  if (file.pad) return { attr: 'p', length: file.length, path: file.path };
  const source = spec.files[file.source]!;
  return {
    attr: attributes(source) || undefined,
    length: file.length,
    path: file.path,
    'symlink path': source.symlink ?? undefined,
  };
}

type Tree = Map<string, BInput>;

/** Builds `file tree`, and collects the piece layers of files above one piece. */
function tree(
  plan: TorrentPlan,
  digests: readonly Uint8Array[],
  layers: Map<string, [Uint8Array, Uint8Array]>,
): BInput {
  const roots = new Map<number, Uint8Array>();
  plan.v2Files.forEach((place, i) => {
    const { length, path } = plan.files[place]!;
    const hashes = digests[i]!;
    const count = Math.ceil(length / plan.pieceLength);
    if (hashes.length !== count * MERKLE_HASH_BYTES) throw refused(`v2 digests of '${path.join('/')}' are missing`);
    if (count === 1) {
      roots.set(place, hashes);
      return;
    }
    const levels = Math.log2(plan.pieceLength / LEAF_BYTES);
    const root = merkleRoot(hashes, nextPowerOfTwo(count), padHash(levels));
    roots.set(place, root);
    layers.set(root.join(), [root, concat([hashes])]);
  });
  const top: Tree = new Map();
  plan.files.forEach((file, place) => {
    if (file.pad) return;
    const source = plan.spec.files[file.source]!;
    let folder = top;
    for (const name of file.path.slice(0, -1)) {
      let below = folder.get(name) as Tree | undefined;
      if (below === undefined) {
        below = new Map();
        folder.set(name, below);
      }
      folder = below;
    }
    const leaf: BInput = {
      attr: attributes(source) || undefined,
      length: file.length,
      'pieces root': roots.get(place),
      'symlink path': source.symlink ?? undefined,
    };
    folder.set(file.path[file.path.length - 1]!, new Map<string, BInput>([['', leaf]]));
  });
  return top;
}
