/**
 * Where pieces and blocks lie in files. Two shapes of piece space, told apart by the torrent alone:
 *
 *     v1, hybrid   files touch:        | a a a|a b b|b p p|     a piece may span files, pads are files
 *     v2 only      pieces belong to one file:  | a a a|a| b b b|    the last piece of each file may be short; the space
 *                                                              between is in no piece and never on the wire (BEP 52)
 *
 * Holds nothing of its own: it searches the files of the Metainfo. Everything is checked by assertion; callers have
 * judged what peers say with `pieceCount` and `pieceSize` before.
 */

import { assert } from '../base/assert.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import type { Metainfo } from './metainfo-model.ts';

/** A stretch of a file. */
export interface Span {
  /** Index into `Metainfo.files`. */
  readonly file: number;
  /** Bytes from the file's start. */
  readonly offset: number;
  readonly length: number;
}

export class Layout {
  readonly pieceCount: number;
  readonly pieceLength: number;
  readonly #meta: Metainfo;
  /** Each piece belongs to one file. */
  readonly #aligned: boolean;

  constructor(meta: Metainfo) {
    this.#meta = meta;
    this.pieceCount = meta.pieceCount;
    this.pieceLength = meta.pieceLength;
    this.#aligned = meta.infoHash === null;
  }

  /** Bytes of a piece. */
  pieceSize(piece: number): number {
    assert(piece >= 0 && piece < this.pieceCount, 'piece outside the torrent');
    const begin = piece * this.pieceLength;
    if (!this.#aligned) return Math.min(this.pieceLength, this.#meta.length - begin);
    const file = this.#meta.files[this.fileAt(begin)]!;
    return Math.min(this.pieceLength, file.offset + file.length - begin);
  }

  blockCount(piece: number): number {
    return Math.ceil(this.pieceSize(piece) / BLOCK_BYTES);
  }

  /** Bytes of block number `block` (of 16 KiB) of a piece. */
  blockSize(piece: number, block: number): number {
    const size = Math.min(BLOCK_BYTES, this.pieceSize(piece) - block * BLOCK_BYTES);
    assert(block >= 0 && size > 0, 'block outside the piece');
    return size;
  }

  /** The files under `length` bytes of a piece from `begin` on, in order; pads included, empty files not. */
  spans(piece: number, begin: number, length: number): Span[] {
    assert(begin >= 0 && length >= 0 && begin + length <= this.pieceSize(piece), 'span outside the piece');
    const found: Span[] = [];
    let at = piece * this.pieceLength + begin;
    let left = length;
    if (left === 0) return found;
    for (let i = this.fileAt(at); left > 0; i++) {
      const file = this.#meta.files[i]!;
      const offset = at - file.offset;
      const part = Math.min(left, file.length - offset);
      if (part <= 0) continue;
      found.push({ file: i, offset, length: part });
      at += part;
      left -= part;
    }
    return found;
  }

  /** First piece with bytes of a file; -1 for an empty file. */
  firstPiece(file: number): number {
    const f = this.#meta.files[file]!;
    return f.length === 0 ? -1 : Math.floor(f.offset / this.pieceLength);
  }

  /** Last piece with bytes of a file; -1 for an empty file. */
  lastPiece(file: number): number {
    const f = this.#meta.files[file]!;
    return f.length === 0 ? -1 : Math.floor((f.offset + f.length - 1) / this.pieceLength);
  }

  /** The file that holds byte `at` of the piece space (v2: or the one before the gap it lies in). */
  fileAt(at: number): number {
    const files = this.#meta.files;
    let low = 0;
    let high = files.length - 1;
    // the last file that begins at or before `at`; where several begin, all but the last are empty
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (files[middle]!.offset <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
