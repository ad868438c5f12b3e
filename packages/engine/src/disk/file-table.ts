/**
 * Owns what is known of a torrent's files: which are wanted, which this torrent made, which were written since the last
 * sync, and the size and time each had when last looked at.
 *
 * Invariant: a stamp is forgotten as soon as its file is written, so that a record never vouches for a file by an old one.
 * Limits: 1 byte a file and 16 more once they were looked at; nothing for a torrent whose files are all wanted and unseen.
 */

import type { Bitfield } from '../base/bitfield.ts';
import type { FileStat } from '../base/ports.ts';
import type { Layout } from '../codec/layout.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import type { Io } from './io.ts';
import { NO_FILE, PART_FILE, type Places } from './part-file.ts';
import { Sweep } from './sweep.ts';

/** As sizes: nothing (or no regular file) is there; nobody has looked since it was written. */
export const MISSING = -1;
export const UNKNOWN: number = -2;

const UNWANTED = 1;
const MADE = 2;

export class FileTable {
  readonly #meta: Metainfo;
  readonly #layout: Layout;
  #flags: Uint8Array | null = null;
  #unwantedCount = 0;
  #dirty: Set<number> = new Set();
  /** Size and mtime (unix ms) of each file, in pairs. */
  #stamps: Float64Array | null = null;
  /** Size of the part file, MISSING or UNKNOWN. */
  partSize: number = UNKNOWN;

  constructor(meta: Metainfo, layout: Layout) {
    this.#meta = meta;
    this.#layout = layout;
  }

  isWanted(file: number): boolean {
    return this.#flags === null || (this.#flags[file]! & UNWANTED) === 0;
  }

  get hasUnwanted(): boolean {
    return this.#unwantedCount > 0;
  }

  setWanted(file: number, wanted: boolean): void {
    if (this.isWanted(file) === wanted) return;
    this.#flags ??= new Uint8Array(this.#meta.files.length);
    this.#flags[file]! ^= UNWANTED;
    this.#unwantedCount += wanted ? -1 : 1;
  }

  /** Whether this torrent made the file, in this run or one before. */
  isMade(file: number): boolean {
    return this.#flags !== null && (this.#flags[file]! & MADE) !== 0;
  }

  setMade(file: number): void {
    this.#flags ??= new Uint8Array(this.#meta.files.length);
    this.#flags[file]! |= MADE;
  }

  written(file: number): void {
    this.#dirty.add(file);
    if (file === PART_FILE) {
      this.partSize = UNKNOWN;
      return;
    }
    this.setMade(file);
    if (this.#stamps !== null) this.#stamps[file * 2] = UNKNOWN;
  }

  // ------------------------------------------------------------------------------------------------------------- dirty

  setDirty(file: number): void {
    this.#dirty.add(file);
  }

  dirtyPiece(places: Places, piece: number): void {
    for (const place of places.find(piece, 0, this.#layout.pieceSize(piece))) {
      if (place.file !== NO_FILE) this.#dirty.add(place.file);
    }
  }

  /** Files written and not synced. */
  get dirtyCount(): number {
    return this.#dirty.size;
  }

  /** The files written since the last call. */
  takeDirty(): Set<number> {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    return dirty;
  }

  // ------------------------------------------------------------------------------------------------------------ stamps

  /** Bytes, MISSING or UNKNOWN. */
  size(file: number): number {
    if (file === PART_FILE) return this.partSize;
    return this.#stamps === null ? UNKNOWN : this.#stamps[file * 2]!;
  }

  mtimeMs(file: number): number {
    return this.#stamps === null ? 0 : this.#stamps[file * 2 + 1]!;
  }

  /** Whether it was there when last looked at. */
  exists(file: number): boolean {
    return this.size(file) >= 0;
  }

  setStamp(file: number, stat: FileStat | null): void {
    const size = stat === null || !stat.regular ? MISSING : stat.size;
    if (file === PART_FILE) {
      this.partSize = size;
      return;
    }
    this.#stamps ??= new Float64Array(this.#meta.files.length * 2).fill(UNKNOWN);
    this.#stamps[file * 2] = size;
    this.#stamps[file * 2 + 1] = size < 0 ? 0 : stat!.mtimeMs;
  }

  /** Looks at these files; what cannot be looked at counts as missing. */
  look(io: Io, places: Places, files: readonly number[], done: () => void): void {
    new Sweep(files, {
      start: (job, file) => io.stat(job, places.ref(file)),
      each: (file, fault, stat) => this.setStamp(file, fault === null ? stat : null),
      done,
    }).run();
  }

  /** Looks at the files this torrent wrote since they were last looked at. */
  refreshStamps(io: Io, places: Places, done: () => void): void {
    const files: number[] = [];
    for (let f = 0; this.#flags !== null && f < this.#flags.length; f++) {
      if (this.isMade(f) && this.size(f) === UNKNOWN) files.push(f);
    }
    this.look(io, places, files, done);
  }

  /** Files that hold bytes of pieces, the part file included if it is in use. */
  dataFiles(places: Places): number[] {
    const found: number[] = places.partedCount > 0 ? [PART_FILE] : [];
    const { files } = this.#meta;
    for (let f = 0; f < files.length; f++) if (!files[f]!.pad && files[f]!.length > 0) found.push(f);
    return found;
  }

  /** Clears the pieces that reach past the end of a file as it was when last looked at. */
  clearUnreadable(bits: Bitfield, places: Places): void {
    const { files, pieceLength } = this.#meta;
    for (let f = 0; f < files.length; f++) {
      const file = files[f]!;
      if (file.pad || file.length === 0) continue;
      const parted = places.isParted(f);
      const size = Math.max(0, this.size(f));
      const extents = parted ? places.extents(f) : [];
      if (size < file.length) {
        const last = this.#layout.lastPiece(f);
        for (let p = Math.floor((file.offset + size) / pieceLength); p <= last; p++) {
          if (!extents.some((extent) => extent.piece === p)) bits.clear(p);
        }
      }
      for (const extent of extents) {
        if (this.partSize < extent.partOffset + extent.length) bits.clear(extent.piece);
      }
    }
  }
}
