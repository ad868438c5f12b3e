/**
 * A torrent's description, v1 (BEP 3), v2 (BEP 52) or hybrid, judged and made safe: what stands in a Metainfo may be used
 * without another look. Immutable but for piece layers that are missing at first (v2 from a magnet).
 *
 * The raw info dictionary is kept (peers ask for it, BEP 9); v1 digests are read from it in place. The rest is plain
 * arrays, some 1 KiB for a torrent of one file.
 */

import { assert } from '../base/assert.ts';
import { copyOf, equal } from '../base/bytes.ts';
import type { HostPort } from '../base/ip.ts';
import { HashKind } from '../base/ports.ts';
import { type BInput, encode, RawBencode } from './bencode.ts';
import { swarmHashOf } from './infohash.ts';
import { LEAF_BYTES, MERKLE_HASH_BYTES, merkleRoot, nextPowerOfTwo, padHash } from './merkle.ts';

export interface TorrentFile {
  /** Safe components, the torrent's folder included; [name] for a torrent of one file. */
  readonly path: readonly string[];
  readonly length: number;
  /** First byte in piece space. */
  readonly offset: number;
  /** Zeros that are in no file (BEP 47). */
  readonly pad: boolean;
  readonly executable: boolean;
  readonly hidden: boolean;
  /** Where a link points (safe, same base as `path`), or null. A link has length 0. */
  readonly symlink: readonly string[] | null;
  /** v2: root of the file's tree, 32 bytes; null for v1, pads and empty files. */
  readonly piecesRoot: Uint8Array | null;
}

/** What a parser or a maker puts together. */
export interface MetainfoParts {
  readonly name: string;
  readonly infoHash: Uint8Array | null;
  readonly infoHashV2: Uint8Array | null;
  readonly infoBytes: Uint8Array;
  readonly pieceLength: number;
  readonly files: readonly TorrentFile[];
  /** Where the v1 digests begin in `infoBytes`; -1 for v2 only. */
  readonly piecesAt: number;
  readonly isPrivate: boolean;
  readonly trackers: readonly (readonly string[])[];
  readonly webSeeds: readonly string[];
  readonly nodes: readonly HostPort[];
  readonly comment: string | null;
  readonly createdBy: string | null;
  readonly createdAt: number | null;
}

export class Metainfo {
  /** Safe as a file or folder name. */
  readonly name: string;
  /** v1, 20 bytes; null for v2 only. */
  readonly infoHash: Uint8Array | null;
  /** v2, 32 bytes; null for v1 only. */
  readonly infoHashV2: Uint8Array | null;
  /** 20 bytes: the v1 hash, else the first 20 of the v2 hash. */
  readonly swarmHash: Uint8Array;
  /** The info dictionary as it was hashed. */
  readonly infoBytes: Uint8Array;
  readonly pieceLength: number;
  readonly pieceCount: number;
  /** Pads included, in the torrent's order. */
  readonly files: readonly TorrentFile[];
  /** Bytes of piece space: to the end of the last file. */
  readonly length: number;
  /** Bytes of files, pads left out. */
  readonly bytes: number;
  readonly private: boolean;
  /** Tiers, as given; blanks and doubles removed. */
  readonly trackers: readonly (readonly string[])[];
  readonly webSeeds: readonly string[];
  /** DHT nodes to start from (BEP 5). */
  readonly nodes: readonly HostPort[];
  readonly comment: string | null;
  readonly createdBy: string | null;
  /** Unix seconds. */
  readonly createdAt: number | null;
  /** How a piece is verified: Sha1 for v1 and hybrid, Merkle for v2 only. */
  readonly hashKind: HashKind;
  readonly #piecesAt: number;
  /** v2: per file its piece layer (files above one piece), null where none is needed or it is missing. */
  #layers: (Uint8Array | null)[] | null = null;

  constructor(parts: MetainfoParts) {
    this.name = parts.name;
    this.infoHash = parts.infoHash;
    this.infoHashV2 = parts.infoHashV2;
    this.swarmHash = swarmHashOf(parts.infoHash, parts.infoHashV2);
    this.infoBytes = parts.infoBytes;
    this.pieceLength = parts.pieceLength;
    this.files = parts.files;
    this.private = parts.isPrivate;
    this.trackers = parts.trackers;
    this.webSeeds = parts.webSeeds;
    this.nodes = parts.nodes;
    this.comment = parts.comment;
    this.createdBy = parts.createdBy;
    this.createdAt = parts.createdAt;
    this.hashKind = parts.infoHash === null ? HashKind.Merkle : HashKind.Sha1;
    this.#piecesAt = parts.piecesAt;
    let bytes = 0;
    let end = 0;
    for (const file of parts.files) {
      if (file.length > 0) end = file.offset + file.length;
      if (!file.pad) bytes += file.length;
    }
    this.length = end;
    this.bytes = bytes;
    this.pieceCount = Math.ceil(end / parts.pieceLength);
  }

  /** Whether every piece's digest is known; false only for v2 without all of its piece layers. */
  get hasDigests(): boolean {
    return this.infoHash !== null || this.hasLayers;
  }

  /** Whether every v2 file that needs a piece layer has it. True for v1. */
  get hasLayers(): boolean {
    if (this.infoHashV2 === null) return true;
    for (let i = 0; i < this.files.length; i++) if (this.needsLayer(i) && this.layer(i) === null) return false;
    return true;
  }

  /** Whether a file's tree has a piece layer apart from its root: v2 files above one piece. */
  needsLayer(file: number): boolean {
    const f = this.files[file]!;
    return f.piecesRoot !== null && f.length > this.pieceLength;
  }

  /** A file's piece layer, joined hashes of 32 bytes, or null. */
  layer(file: number): Uint8Array | null {
    return this.#layers?.[file] ?? null;
  }

  /** Takes a file's piece layer if it leads to the file's root. False: it does not, or the file has none. */
  setLayer(file: number, layer: Uint8Array): boolean {
    if (!this.needsLayer(file)) return false;
    const f = this.files[file]!;
    const count = Math.ceil(f.length / this.pieceLength);
    if (layer.length !== count * MERKLE_HASH_BYTES) return false;
    const levels = Math.log2(this.pieceLength / LEAF_BYTES);
    if (!equal(merkleRoot(layer, nextPowerOfTwo(count), padHash(levels)), f.piecesRoot!)) return false;
    this.#layers ??= new Array<Uint8Array | null>(this.files.length).fill(null);
    this.#layers[file] = copyOf(layer);
    return true;
  }

  /** The digest a piece must have (20 bytes, or 32 for v2 only), as a view. Needs `hasDigests`. */
  digestOf(piece: number): Uint8Array {
    assert(piece >= 0 && piece < this.pieceCount, 'piece outside the torrent');
    if (this.infoHash !== null) {
      const at = this.#piecesAt + piece * 20;
      return this.infoBytes.subarray(at, at + 20);
    }
    const file = this.#fileOfPiece(piece);
    const f = this.files[file]!;
    if (f.length <= this.pieceLength) return f.piecesRoot!;
    const layer = this.layer(file);
    assert(layer !== null, 'digest of a piece whose layer is missing');
    const at = (piece - f.offset / this.pieceLength) * MERKLE_HASH_BYTES;
    return layer.subarray(at, at + MERKLE_HASH_BYTES);
  }

  /** Leaves of the tree over a piece (v2 only, 0 else): all of a piece's, but for a file below one piece its own. */
  leafCount(piece: number): number {
    if (this.infoHash !== null) return 0;
    const f = this.files[this.#fileOfPiece(piece)]!;
    if (f.length > this.pieceLength) return this.pieceLength / LEAF_BYTES;
    return nextPowerOfTwo(Math.ceil(f.length / LEAF_BYTES));
  }

  /** A .torrent file: this info dictionary with these trackers, web seeds, nodes, layers and comments. */
  torrentBytes(): Uint8Array {
    const layers = new Map<Uint8Array, BInput>();
    const seen = new Set<string>();
    for (let i = 0; i < this.files.length; i++) {
      const layer = this.layer(i);
      const root = this.files[i]!.piecesRoot;
      // equal files share one root, and so one entry
      if (layer === null || root === null || seen.has(root.join())) continue;
      seen.add(root.join());
      layers.set(root, layer);
    }
    const first = this.trackers[0]?.[0];
    return encode({
      announce: first,
      'announce-list': this.trackers.flat().length > 1 ? this.trackers : undefined,
      comment: this.comment ?? undefined,
      'created by': this.createdBy ?? undefined,
      'creation date': this.createdAt ?? undefined,
      info: new RawBencode(this.infoBytes),
      nodes: this.nodes.length > 0 ? this.nodes.map((node): BInput => [node.host, node.port]) : undefined,
      'piece layers': this.infoHashV2 !== null ? layers : undefined,
      'url-list': this.webSeeds.length > 0 ? this.webSeeds : undefined,
    });
  }

  /** v2 only: the file a piece belongs to, the last that begins at or before it. */
  #fileOfPiece(piece: number): number {
    const at = piece * this.pieceLength;
    let low = 0;
    let high = this.files.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.files[middle]!.offset <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
