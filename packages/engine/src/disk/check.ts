/**
 * Hashes pieces as they stand on disk, on the hasher's workers, some megabytes a job, all cores busy.
 *
 * Files are looked at first: a piece that reaches past the end of a file is bad without being read, which is a normal
 * thing, not a fault. When a job fails, its pieces are hashed one by one, and the one that fails alone is bad.
 *
 * Limits: `2 x threads` jobs under way; `BURST` pieces are judged by sizes alone in one turn.
 */

import { Bitfield } from '../base/bitfield.ts';
import { equal } from '../base/bytes.ts';
import type { IoFault } from '../base/errors.ts';
import type { HashSpan } from '../base/ports.ts';
import type { FileTable } from './file-table.ts';
import { type Io, Job } from './io.ts';
import { NO_FILE, type Places } from './part-file.ts';

/** Long enough that a round trip to a worker is nothing, short enough that progress is seen. */
const BATCH_BYTES = 8388608;
const BURST = 4096;

export interface CheckSink {
  onChecked(piece: number, good: boolean): void;
  onCheckDone(): void;
  onWork(): void;
}

export class Check {
  readonly #io: Io;
  readonly #places: Places;
  readonly #table: FileTable;
  readonly #sink: CheckSink;
  /** Null: all pieces. */
  #pieces: readonly number[] | null = null;
  #next = 0;
  /** To be hashed one by one. */
  #singles: number[] = [];
  #underWay = 0;
  /** Pieces whose files are long enough; null while the files are being looked at. */
  #readable: Bitfield | null = null;
  #stopped = false;

  constructor(io: Io, places: Places, table: FileTable, sink: CheckSink) {
    this.#io = io;
    this.#places = places;
    this.#table = table;
    this.#sink = sink;
  }

  start(pieces: readonly number[] | null): void {
    this.#pieces = pieces;
    const files = this.#filesOf(pieces);
    this.#table.look(this.#io, this.#places, files, () => {
      if (this.#stopped) return;
      this.#readable = new Bitfield(this.#places.layout.pieceCount);
      this.#readable.setAll();
      this.#table.clearUnreadable(this.#readable, this.#places);
      this.#sink.onWork();
    });
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Starts as many jobs as may be under way. */
  pump(): void {
    let burst = 0;
    while (!this.#stopped && this.#readable !== null && !this.#io.held) {
      if (this.#underWay >= this.#io.hasher.threads * 2) return;
      const single = this.#singles.pop();
      if (single !== undefined) {
        this.#hash([single]);
        continue;
      }
      const piece = this.#peek();
      if (piece < 0) {
        if (this.#underWay > 0) return;
        this.#stopped = true;
        return this.#sink.onCheckDone();
      }
      if (this.#readable.get(piece)) {
        this.#hash(this.#batch());
        continue;
      }
      this.#next++;
      this.#sink.onChecked(piece, false);
      if (++burst === BURST) return this.#sink.onWork();
    }
  }

  ended(pieces: readonly number[], fault: IoFault | null, digests: Uint8Array): void {
    this.#underWay--;
    if (this.#stopped) return;
    if (fault !== null && pieces.length > 1) for (const piece of pieces) this.#singles.push(piece);
    else {
      const size = fault === null ? digests.length / pieces.length : 0;
      for (let i = 0; i < pieces.length && !this.#stopped; i++) {
        const piece = pieces[i]!;
        const digest = digests.subarray(i * size, (i + 1) * size);
        this.#sink.onChecked(piece, fault === null && equal(digest, this.#places.meta.digestOf(piece)));
      }
    }
    this.pump();
  }

  /** The next piece, or -1 at the end. */
  #peek(): number {
    if (this.#pieces !== null) return this.#pieces[this.#next] ?? -1;
    return this.#next < this.#places.layout.pieceCount ? this.#next : -1;
  }

  /** Pieces for one job: only its last one may be shorter than the others. */
  #batch(): number[] {
    const { meta, layout } = this.#places;
    const batch: number[] = [];
    let bytes = 0;
    let leafCount = 0;
    for (let piece = this.#peek(); piece >= 0; piece = this.#peek()) {
      const leaves = meta.leafCount(piece);
      if (!this.#readable!.get(piece) || (batch.length > 0 && leaves !== leafCount)) break;
      leafCount = leaves;
      batch.push(piece);
      this.#next++;
      const size = layout.pieceSize(piece);
      bytes += size;
      if (bytes >= BATCH_BYTES || size !== meta.pieceLength) break;
    }
    return batch;
  }

  #hash(pieces: readonly number[]): void {
    const { meta, layout } = this.#places;
    const spans: { file: HashSpan['file']; offset: number; length: number }[] = [];
    for (const piece of pieces) {
      for (const place of this.#places.find(piece, 0, layout.pieceSize(piece))) {
        const file = place.file === NO_FILE ? null : this.#places.ref(place.file);
        const last = spans[spans.length - 1];
        if (last !== undefined && last.file === file && (file === null || last.offset + last.length === place.offset)) {
          last.length += place.length;
        } else spans.push({ file, offset: place.offset, length: place.length });
      }
    }
    this.#underWay++;
    const job = new CheckJob(this, pieces);
    this.#io.hashFiles(job, meta.hashKind, spans, meta.pieceLength, meta.leafCount(pieces[0]!));
  }

  #filesOf(pieces: readonly number[] | null): readonly number[] {
    if (pieces === null || pieces.length * 8 > this.#places.meta.files.length)
      return this.#table.dataFiles(this.#places);
    const files = new Set<number>();
    for (const piece of pieces) {
      for (const place of this.#places.find(piece, 0, this.#places.layout.pieceSize(piece))) {
        if (place.file !== NO_FILE) files.add(place.file);
      }
    }
    return [...files];
  }
}

class CheckJob extends Job {
  readonly #check: Check;
  readonly #pieces: readonly number[];

  constructor(check: Check, pieces: readonly number[]) {
    super();
    this.#check = check;
    this.#pieces = pieces;
  }

  override onHash(fault: IoFault | null, digest: Uint8Array): void {
    this.#check.ended(this.#pieces, fault, digest);
  }
}
