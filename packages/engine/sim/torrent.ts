/**
 * A torrent of the simulation: real .torrent bytes over made content (content.ts). It knows its own layout, apart from
 * the engine's, so that each checks the other. Limits: v1 only; lengths below 2^53.
 */

import { assert } from '../src/base/assert.ts';
import { concat, toHex, utf8Encode } from '../src/base/bytes.ts';
import { sha1 } from '../src/base/hash.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { bencode, type Plain } from './bencode.ts';
import { PieceDigest, putWords, TAG_BYTES, TAG_WORDS, tagWords } from './content.ts';

export interface SimTorrentSpec {
  readonly name?: string;
  /** Bytes; a multiple of 16 KiB. Default 256 KiB. */
  readonly pieceLength?: number;
  /** A single file of so many whole pieces, or of `length` bytes, or the listed files. */
  readonly pieces?: number;
  readonly length?: number;
  readonly files?: readonly { readonly path: readonly string[]; readonly length: number; readonly pad?: boolean }[];
  readonly private?: boolean;
  readonly trackers?: readonly string[];
}

export interface SimTorrentFile {
  /** As on disk below the download folder. */
  readonly path: readonly string[];
  readonly length: number;
  /** In piece space. */
  readonly offset: number;
  readonly pad: boolean;
}

const NO_PIECES: readonly number[] = [];

export class SimTorrent {
  readonly id: number;
  readonly name: string;
  readonly pieceLength: number;
  readonly pieceCount: number;
  readonly length: number;
  readonly files: readonly SimTorrentFile[];
  readonly private: boolean;
  readonly trackers: readonly string[];
  readonly infoBytes: Uint8Array;
  readonly infoHash: Uint8Array;
  readonly infoHashHex: string;
  /** The .torrent file. */
  readonly bytes: Uint8Array;
  readonly #piecesOfDigest: Map<string, number[]> = new Map();
  readonly #words: Int32Array = new Int32Array(TAG_WORDS);
  readonly #hasPads: boolean;

  constructor(id: number, spec: SimTorrentSpec) {
    this.id = id;
    this.name = spec.name ?? `torrent-${id}`;
    this.pieceLength = spec.pieceLength ?? 262144;
    assert(this.pieceLength % BLOCK_BYTES === 0, 'pieces of the simulation are whole blocks');
    this.private = spec.private ?? false;
    this.trackers = spec.trackers ?? [];
    const files: SimTorrentFile[] = [];
    let offset = 0;
    if (spec.files === undefined) {
      offset = spec.length ?? (spec.pieces ?? 16) * this.pieceLength;
      files.push({ path: [this.name], length: offset, offset: 0, pad: false });
    } else {
      for (const file of spec.files) {
        files.push({ path: [this.name, ...file.path], length: file.length, offset, pad: file.pad ?? false });
        offset += file.length;
      }
    }
    this.files = files;
    this.#hasPads = files.some((file) => file.pad);
    this.length = offset;
    this.pieceCount = Math.ceil(offset / this.pieceLength);
    this.infoBytes = bencode(this.#info(spec.files === undefined));
    this.infoHash = sha1(this.infoBytes);
    this.infoHashHex = toHex(this.infoHash);
    this.bytes = this.#torrentBytes();
  }

  pieceSize(piece: number): number {
    return Math.min(this.pieceLength, this.length - piece * this.pieceLength);
  }

  blockCount(piece: number): number {
    return Math.ceil(this.pieceSize(piece) / BLOCK_BYTES);
  }

  blockSize(piece: number, block: number): number {
    return Math.min(BLOCK_BYTES, this.pieceSize(piece) - block * BLOCK_BYTES);
  }

  /** The first piece that has this digest, or -1. */
  pieceOf(digestHex: string): number {
    return this.piecesOf(digestHex)[0] ?? -1;
  }

  /** Nearly always one; pieces of one byte and a pad may be alike. */
  piecesOf(digestHex: string): readonly number[] {
    return this.#piecesOfDigest.get(digestHex) ?? NO_PIECES;
  }

  /** Content of one block into `target` at `at`; a mark other than 0 makes it corrupt. */
  fillBlock(target: Uint8Array, at: number, piece: number, block: number, mark = 0): void {
    const size = this.blockSize(piece, block);
    target.fill(0, at, at + size);
    tagWords(this.#words, 0, this.id, piece, block, mark);
    putWords(target, at, this.#words, 0, Math.min(TAG_BYTES, size));
    if (this.#hasPads) this.#zeroPads(target, at, piece * this.pieceLength + block * BLOCK_BYTES, size);
  }

  /** Content of any stretch of piece space. */
  read(offset: number, length: number): Uint8Array {
    const made = new Uint8Array(length);
    const block = new Uint8Array(BLOCK_BYTES);
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const piece = Math.floor(at / this.pieceLength);
      const number = Math.floor((at % this.pieceLength) / BLOCK_BYTES);
      const skip = (at % this.pieceLength) % BLOCK_BYTES;
      const take = Math.min(this.blockSize(piece, number) - skip, length - done);
      this.fillBlock(block, 0, piece, number);
      made.set(block.subarray(skip, skip + take), done);
      done += take;
    }
    return made;
  }

  #zeroPads(target: Uint8Array, at: number, offset: number, size: number): void {
    for (const file of this.files) {
      if (!file.pad) continue;
      const from = Math.max(file.offset, offset);
      const to = Math.min(file.offset + file.length, offset + size);
      if (from < to) target.fill(0, at + from - offset, at + to - offset);
    }
  }

  #info(single: boolean): Plain {
    const digests: Uint8Array[] = [];
    const running = new PieceDigest();
    const block = new Uint8Array(BLOCK_BYTES);
    for (let piece = 0; piece < this.pieceCount; piece++) {
      const count = this.blockCount(piece);
      for (let b = 0; b < count; b++) {
        this.fillBlock(block, 0, piece, b);
        running.add(block, 0, this.blockSize(piece, b));
      }
      const digest = running.take();
      digests.push(digest);
      const hex = toHex(digest);
      const alike = this.#piecesOfDigest.get(hex);
      if (alike === undefined) this.#piecesOfDigest.set(hex, [piece]);
      else alike.push(piece);
    }
    const info: Record<string, Plain> = {
      name: this.name,
      'piece length': this.pieceLength,
      pieces: concat(digests),
    };
    if (this.private) info['private'] = 1;
    if (single) info['length'] = this.length;
    else {
      info['files'] = this.files.map((file): Plain => {
        const listed = { length: file.length, path: file.path.slice(1) };
        return file.pad ? { ...listed, attr: 'p' } : listed;
      });
    }
    return info;
  }

  #torrentBytes(): Uint8Array {
    const head: Uint8Array[] = [utf8Encode('d')];
    if (this.trackers.length > 0) {
      head.push(bencode('announce'), bencode(this.trackers[0]!));
      head.push(bencode('announce-list'), bencode(this.trackers.map((url) => [url])));
    }
    return concat([...head, bencode('info'), this.infoBytes, utf8Encode('e')]);
  }
}
