/**
 * Knows where each byte of a torrent lives: in its own file, in the part file, or nowhere (pads are zeros, BEP 47).
 *
 * A piece at the edge of a wanted file also holds bytes of its neighbours. Those of a *parted* file (one that is not
 * wanted and has no data yet) go to the part file, so that no unwanted file is made. Its layout follows from the
 * metainfo alone, so nothing in it is parsed or can be tampered with; unused extents are holes:
 *
 *     | file 0: head, tail | file 1: head, tail | ...       head: bytes of the file in its first piece, if another file
 *                                                           shares that piece; tail: likewise in its last piece
 *
 * Invariant: whether a file is parted changes only under a fence, or before any of its bytes is written.
 * Limits: the part file is at most 2 pieces per file long; FileRefs and the table of extents are made when needed.
 */

import { assert } from '../base/assert.ts';
import type { FileRef } from '../base/ports.ts';
import type { Layout } from '../codec/layout.ts';
import type { Metainfo } from '../codec/metainfo.ts';

/** File number of the part file. */
export const PART_FILE = -1;
/** File number of bytes that exist nowhere. */
export const NO_FILE = -2;

/** A stretch of a piece in one file. */
export interface Place {
  /** Index in the torrent, PART_FILE, or NO_FILE for zeros. */
  readonly file: number;
  readonly offset: number;
  readonly length: number;
}

/** An edge of a parted file: where it is in the part file and where it belongs. */
export interface Extent {
  readonly piece: number;
  readonly partOffset: number;
  readonly fileOffset: number;
  readonly length: number;
}

export class Places {
  readonly meta: Metainfo;
  readonly layout: Layout;
  readonly partFileName: string;
  #folder: string;
  #partRef: FileRef | null = null;
  #refs: Map<number, FileRef> | null = null;
  /** 1: the edges of that file live in the part file. Null: none does. */
  #parted: Uint8Array | null = null;
  #partedCount = 0;
  #extents: Extents | null = null;

  constructor(meta: Metainfo, layout: Layout, folder: string, partFileName: string) {
    this.meta = meta;
    this.layout = layout;
    this.partFileName = partFileName;
    this.#folder = folder;
  }

  get folder(): string {
    return this.#folder;
  }

  get partedCount(): number {
    return this.#partedCount;
  }

  /** The file under its number (PART_FILE included); the same object each time. */
  ref(file: number): FileRef {
    if (file === PART_FILE) {
      this.#partRef ??= { root: this.#folder, path: [this.partFileName], executable: false };
      return this.#partRef;
    }
    this.#refs ??= new Map();
    let ref = this.#refs.get(file);
    if (ref === undefined) {
      const { path, executable } = this.meta.files[file]!;
      ref = { root: this.#folder, path, executable };
      this.#refs.set(file, ref);
    }
    return ref;
  }

  /** All files live under another folder from now on. */
  rebase(folder: string): void {
    this.#folder = folder;
    if (this.#partRef !== null) this.#partRef.root = folder;
    if (this.#refs !== null) for (const ref of this.#refs.values()) ref.root = folder;
  }

  /** Every FileRef handed out so far. */
  madeRefs(): FileRef[] {
    const made = this.#refs === null ? [] : [...this.#refs.values()];
    if (this.#partRef !== null) made.push(this.#partRef);
    return made;
  }

  /** Where `length` bytes of a piece from `begin` on are, in order. */
  find(piece: number, begin: number, length: number): Place[] {
    const spans = this.layout.spans(piece, begin, length);
    const { files } = this.meta;
    const places: Place[] = [];
    for (let i = 0; i < spans.length; i++) {
      const span = spans[i]!;
      if (files[span.file]!.pad) places.push({ file: NO_FILE, offset: 0, length: span.length });
      else if (this.#parted !== null && this.#parted[span.file] === 1) this.#findParted(places, piece, span);
      else places.push(span);
    }
    return places;
  }

  isParted(file: number): boolean {
    return this.#parted !== null && this.#parted[file] === 1;
  }

  setParted(file: number, parted: boolean): void {
    if (this.isParted(file) === parted) return;
    this.#parted ??= new Uint8Array(this.meta.files.length);
    this.#extents ??= new Extents(this.meta, this.layout);
    this.#parted[file] = parted ? 1 : 0;
    this.#partedCount += parted ? 1 : -1;
    if (this.#partedCount === 0) this.#parted = null;
  }

  /** The files whose edges live in the part file, ascending. */
  partedFiles(): number[] {
    const found: number[] = [];
    if (this.#parted !== null) for (let f = 0; f < this.#parted.length; f++) if (this.#parted[f] === 1) found.push(f);
    return found;
  }

  /** The extents of a file in the part file: none, one or two. */
  extents(file: number): Extent[] {
    this.#extents ??= new Extents(this.meta, this.layout);
    return this.#extents.of(file);
  }

  #findParted(places: Place[], piece: number, span: Place): void {
    for (const extent of this.#extents!.of(span.file)) {
      if (extent.piece !== piece) continue;
      const offset = extent.partOffset + span.offset - extent.fileOffset;
      places.push({ file: PART_FILE, offset, length: span.length });
      return;
    }
    places.push(span);
  }
}

/** The layout of the part file. */
class Extents {
  readonly #meta: Metainfo;
  readonly #layout: Layout;
  /** Where each file's extents begin. */
  readonly #base: Float64Array;
  readonly #head: Float64Array;
  readonly #tail: Float64Array;

  constructor(meta: Metainfo, layout: Layout) {
    const count = meta.files.length;
    this.#meta = meta;
    this.#layout = layout;
    this.#base = new Float64Array(count);
    this.#head = new Float64Array(count);
    this.#tail = new Float64Array(count);
    const real: number[] = [];
    for (let f = 0; f < count; f++) if (!meta.files[f]!.pad && meta.files[f]!.length > 0) real.push(f);
    let at = 0;
    for (let i = 0; i < real.length; i++) {
      const f = real[i]!;
      const { offset, length } = meta.files[f]!;
      const first = layout.firstPiece(f);
      const last = layout.lastPiece(f);
      const before = i > 0 && layout.lastPiece(real[i - 1]!) === first;
      const after = i + 1 < real.length && layout.firstPiece(real[i + 1]!) === last;
      if (before || (after && first === last)) {
        this.#head[f] = first === last ? length : (first + 1) * meta.pieceLength - offset;
      }
      if (after && first !== last) this.#tail[f] = offset + length - last * meta.pieceLength;
      this.#base[f] = at;
      at += this.#head[f]! + this.#tail[f]!;
    }
    assert(Number.isSafeInteger(at), 'a part file too long');
  }

  of(file: number): Extent[] {
    const head = this.#head[file]!;
    const tail = this.#tail[file]!;
    const partOffset = this.#base[file]!;
    const found: Extent[] = [];
    if (head > 0) found.push({ piece: this.#layout.firstPiece(file), partOffset, fileOffset: 0, length: head });
    if (tail > 0) {
      const fileOffset = this.#meta.files[file]!.length - tail;
      found.push({ piece: this.#layout.lastPiece(file), partOffset: partOffset + head, fileOffset, length: tail });
    }
    return found;
  }
}
