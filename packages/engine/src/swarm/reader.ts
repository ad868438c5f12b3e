/**
 * Readers: somebody reads a stretch of the torrent while it downloads (streaming). Each asks for one piece after the
 * other; the pieces it is about to need are made urgent, and it is told when the one it waits for can be read.
 *
 * Invariant: a reader waits for at most one piece or one read. Limits: AHEAD_BYTES are made urgent, so that one reader
 * does not turn the whole torrent into a sequential download.
 */

import type { IoFault } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import type { Swarm } from './swarm.ts';

/** Some seconds of film at a high rate. */
const AHEAD_BYTES = 8 << 20;
/** Blocks of one read. */
const RUN = 32;

export interface ReaderSink {
  /** The piece that was waited for is verified; `read` may be called. */
  onReady(): void;
  /** Bytes from where `read` began; borrowed until return. */
  onBytes(bytes: readonly Uint8Array[]): void;
  onReadFault(fault: IoFault): void;
}

export class Reader {
  readonly id: number;
  readonly sink: ReaderSink;
  readonly last: number;
  piece: number;
  /** Where in the piece's first block the next read begins, and how much of what is read is wanted. */
  skip = 0;
  length = 0;

  constructor(id: number, first: number, last: number, sink: ReaderSink) {
    this.id = id;
    this.piece = first;
    this.last = last;
    this.sink = sink;
  }
}

export class Readers {
  readonly #swarm: Swarm;
  readonly #readers = new Map<number, Reader>();

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  /** Somebody reads: what is fetched first is theirs to say. */
  get active(): boolean {
    return this.#readers.size > 0;
  }

  /** A reader over pieces first..last. */
  open(first: number, last: number, sink: ReaderSink): Reader {
    // the lowest free number: the picker keeps a window per number
    let id = 1;
    while (this.#readers.has(id)) id++;
    const reader = new Reader(id, first, last, sink);
    this.#readers.set(reader.id, reader);
    return reader;
  }

  close(reader: Reader): void {
    if (!this.#readers.delete(reader.id)) return;
    this.#swarm.picker?.setUrgent(0, -1, reader.id);
  }

  /** Moves the reader to a piece. Returns whether it can be read at once; else `onReady` follows. */
  seek(reader: Reader, piece: number): boolean {
    reader.piece = piece;
    this.#rush(reader);
    return this.#swarm.have?.get(piece) ?? false;
  }

  /** Reads up to `length` bytes of the reader's piece from `begin` on, at most half a MiB. The answer is `onBytes`. */
  read(reader: Reader, begin: number, length: number): void {
    const first = Math.floor(begin / BLOCK_BYTES);
    const end = Math.min(begin + length, (first + RUN) * BLOCK_BYTES);
    reader.skip = begin - first * BLOCK_BYTES;
    reader.length = end - begin;
    this.#swarm.store!.read(-reader.id, reader.piece, first, Math.ceil(end / BLOCK_BYTES) - first);
  }

  pieceVerified(piece: number): void {
    for (const reader of this.#readers.values()) if (reader.piece === piece) reader.sink.onReady();
  }

  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void {
    const reader = this.#readers.get(-job);
    if (fault !== null) return reader?.sink.onReadFault(fault);
    const views: Uint8Array[] = [];
    let skip = reader?.skip ?? 0;
    let left = reader?.length ?? 0;
    for (let i = 0; i < count; i++) {
      const bytes = this.#swarm.slots.payload(slots[i]!).subarray(skip, Math.min(BLOCK_BYTES, skip + left));
      left -= bytes.length;
      skip = 0;
      views.push(bytes);
    }
    reader?.sink.onBytes(views);
    for (let i = 0; i < count; i++) this.#swarm.slots.release(slots[i]!);
  }

  /** The torrent stops: nobody is told anything more. */
  stop(): void {
    this.#readers.clear();
  }

  #rush(reader: Reader): void {
    const { layout, picker } = this.#swarm;
    if (layout === null || picker === null) return;
    const ahead = Math.max(1, Math.floor(AHEAD_BYTES / layout.pieceLength));
    picker.setUrgent(reader.piece, Math.min(reader.last, reader.piece + ahead), reader.id);
    for (const peer of this.#swarm.peers) this.#swarm.wake(peer);
  }
}
