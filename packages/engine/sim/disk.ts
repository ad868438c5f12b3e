/**
 * The virtual disk of one machine: what survives the process. Files by absolute path, room, faults to be had, and the
 * right content of torrents for seeds and for the checkers.
 */

import { equal } from '../src/base/bytes.ts';
import type { IoFault } from '../src/base/errors.ts';
import type { FileRef } from '../src/base/ports.ts';
import type { Rng } from '../src/base/random.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { PieceDigest, TAG_WORDS, tagWords } from './content.ts';
import { SimFile } from './file.ts';
import type { SimTorrent } from './torrent.ts';

/** Set at any time; each is its own fault. */
export interface DiskKnobs {
  /** Of each operation, beside its bytes. */
  latencyMs: number;
  /** Drawn on top, so that operations may end in another order. */
  jitterMs: number;
  bytesPerSecond: number;
  /** Room; writes past it are ENOSPC. */
  capacityBytes: number;
  /** One operation of N fails with EIO; 0: none. */
  readFaultEvery: number;
  writeFaultEvery: number;
  syncFaultEvery: number;
  /** One block write of N is stored wrong, unseen; 0: none. */
  rotEvery: number;
  /** All operations fail with this errno (EROFS, ENXIO for a mount that went away), or null. */
  failing: string | null;
}

export const HEALTHY: Readonly<DiskKnobs> = {
  latencyMs: 0.2,
  jitterMs: 0.5,
  bytesPerSecond: 500e6,
  capacityBytes: Infinity,
  readFaultEvery: 0,
  writeFaultEvery: 0,
  syncFaultEvery: 0,
  rotEvery: 0,
  failing: null,
};

/** Something in a file's place that is no regular file. */
export type OtherKind = 'folder' | 'link' | 'fifo';

export class SimDisk {
  readonly knobs: DiskKnobs;
  readonly rng: Rng;
  readonly files: Map<string, SimFile> = new Map();
  readonly others: Map<string, OtherKind> = new Map();
  /** Bytes moved. */
  readBytes = 0;
  writtenBytes = 0;
  /** Blocks that went bad unseen. */
  rotCount = 0;
  #nextInode = 1;
  readonly #words: Int32Array = new Int32Array(TAG_WORDS);

  constructor(rng: Rng, knobs: Partial<DiskKnobs>) {
    this.rng = rng;
    this.knobs = { ...HEALTHY, ...knobs };
  }

  keyOf(file: FileRef): string {
    return `${file.root}/${file.path.join('/')}`;
  }

  usedBytes(): number {
    let used = 0;
    for (const file of this.files.values()) {
      used += file.reserved ? Math.ceil(file.size / BLOCK_BYTES) * BLOCK_BYTES : file.chunkCount * BLOCK_BYTES;
    }
    return used;
  }

  /** The file, made when it is missing. */
  make(key: string): SimFile {
    const found = this.files.get(key);
    if (found !== undefined) return found;
    const made = new SimFile(this.#nextInode++);
    this.files.set(key, made);
    return made;
  }

  /** What stands in the way of using this path as a file, or null. */
  obstacle(key: string): IoFault | null {
    const other = this.others.get(key);
    if (other !== undefined) {
      const code = other === 'folder' ? 'EISDIR' : other === 'link' ? 'ELOOP' : 'ENOTFILE';
      return { code, message: `${key}: is a ${other}` };
    }
    for (let at = key.indexOf('/', 1); at > 0; at = key.indexOf('/', at + 1)) {
      const above = key.slice(0, at);
      if (this.files.has(above)) return { code: 'ENOTDIR', message: `${above}: is not a folder` };
      const kind = this.others.get(above);
      if (kind !== undefined && kind !== 'folder') return { code: 'ELOOP', message: `${above}: is a ${kind}` };
    }
    return null;
  }

  /** Room for so many chunks more, but for a fault. */
  hasRoom(chunks: number): boolean {
    if (this.knobs.capacityBytes === Infinity || chunks === 0) return true;
    return this.usedBytes() + chunks * BLOCK_BYTES <= this.knobs.capacityBytes;
  }

  /** What was not synced is kept or lost as drawn. */
  powerCut(): void {
    for (const [key, file] of this.files) if (!file.powerCut(this.rng)) this.files.delete(key);
  }

  // ---- torrents

  /** Puts the right content of a torrent there, synced. */
  install(torrent: SimTorrent, root: string): void {
    for (const file of torrent.files) {
      if (file.pad) continue;
      const made = this.make(`${root}/${file.path.join('/')}`);
      for (let at = 0; at < file.length; at += BLOCK_BYTES) {
        made.write(at, torrent.read(file.offset + at, Math.min(BLOCK_BYTES, file.length - at)));
      }
      made.settle();
    }
  }

  /** Whether a piece stands there right, byte for byte. */
  isRight(torrent: SimTorrent, root: string, piece: number): boolean {
    const count = torrent.blockCount(piece);
    for (let block = 0; block < count; block++) {
      const offset = piece * torrent.pieceLength + block * BLOCK_BYTES;
      const size = torrent.blockSize(piece, block);
      if (this.#isTagged(torrent, root, offset, size, piece, block)) continue;
      if (!this.#blockIsRight(torrent, root, offset, size)) return false;
    }
    return true;
  }

  /** Digest of a piece as it stands, or null when part of it is missing. */
  digest(torrent: SimTorrent, root: string, piece: number): Uint8Array | null {
    const running = new PieceDigest();
    const count = torrent.blockCount(piece);
    for (let block = 0; block < count; block++) {
      const size = torrent.blockSize(piece, block);
      const bytes = this.readTorrent(torrent, root, piece * torrent.pieceLength + block * BLOCK_BYTES, size);
      if (bytes === null) return null;
      running.add(bytes, 0, size);
    }
    return running.take();
  }

  /** A stretch of piece space as it stands, pads as zeros; null when part of it is missing. */
  readTorrent(torrent: SimTorrent, root: string, offset: number, length: number): Uint8Array | null {
    const bytes = new Uint8Array(length);
    for (const file of torrent.files) {
      const from = Math.max(file.offset, offset);
      const to = Math.min(file.offset + file.length, offset + length);
      if (from >= to || file.pad) continue;
      const found = this.files.get(`${root}/${file.path.join('/')}`);
      if (found === undefined || found.size < to - file.offset) return null;
      found.read(from - file.offset, bytes.subarray(from - offset, to - offset));
    }
    return bytes;
  }

  /** Whether the block lies in one file, at a multiple of 16 KiB, and is kept there as its own tag. */
  #isTagged(torrent: SimTorrent, root: string, offset: number, size: number, piece: number, block: number): boolean {
    const file = torrent.files.find((each) => offset >= each.offset && offset < each.offset + each.length);
    if (file === undefined || file.pad || (offset - file.offset) % BLOCK_BYTES !== 0) return false;
    const end = offset + size - file.offset;
    const stored = this.files.get(`${root}/${file.path.join('/')}`);
    if (end > file.length || stored === undefined || stored.size < end) return false;
    tagWords(this.#words, 0, torrent.id, piece, block, 0);
    return stored.isTag((offset - file.offset) / BLOCK_BYTES, this.#words);
  }

  #blockIsRight(torrent: SimTorrent, root: string, offset: number, length: number): boolean {
    const stands = this.readTorrent(torrent, root, offset, length);
    if (stands === null) return false;
    const right = torrent.read(offset, length);
    return equal(stands, right);
  }
}
