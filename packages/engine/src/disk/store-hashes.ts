/**
 * Pieces that the swarm has hashed from disk: begun when all that was put of them is written and nothing holds the disk.
 *
 * Invariant: each is answered once, unless it was dropped before it began.
 */

import type { IoFault } from '../base/errors.ts';
import { HashKind, type HashSpan } from '../base/ports.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import type { Disk } from './disk.ts';
import { Job } from './io.ts';
import { NO_FILE } from './part-file.ts';

const NO_DIGEST = new Uint8Array(0);

export class StoreHashes {
  readonly #disk: Disk;
  #waiting: StoreHash[] = [];

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /** False: it waits. */
  hash(job: number, kind: HashKind, piece: number): boolean {
    const hash = new StoreHash(this.#disk, job, kind, piece);
    if (this.#begin(hash)) return true;
    this.#waiting.push(hash);
    return false;
  }

  /** What waits of this piece, or of all where it is -1, may be begun. */
  resume(piece: number): void {
    for (const hash of [...this.#waiting]) {
      if (piece >= 0 && hash.piece !== piece) continue;
      if (this.#begin(hash)) this.#waiting.splice(this.#waiting.indexOf(hash), 1);
    }
  }

  /** What waits of this piece is not wanted any more. */
  drop(piece: number): void {
    if (this.#waiting.length > 0) this.#waiting = this.#waiting.filter((hash) => hash.piece !== piece);
  }

  clear(): void {
    this.#waiting = [];
  }

  #begin(hash: StoreHash): boolean {
    const { io, layout, meta, places } = this.#disk;
    const { kind, piece } = hash;
    if (io.held || !this.#disk.isPutWritten(piece)) return false;
    const spans: HashSpan[] = [];
    for (const place of places.find(piece, 0, layout.pieceSize(piece))) {
      const file = place.file === NO_FILE ? null : places.ref(place.file);
      spans.push({ file, offset: place.offset, length: place.length });
    }
    if (kind === HashKind.EachSha1) io.hashFiles(hash, HashKind.Sha1, spans, BLOCK_BYTES, 0);
    else io.hashFiles(hash, kind, spans, meta.pieceLength, meta.leafCount(piece));
    return true;
  }
}

/** One of them. */
class StoreHash extends Job {
  readonly piece: number;
  readonly kind: HashKind;
  readonly #disk: Disk;
  readonly #job: number;

  constructor(disk: Disk, job: number, kind: HashKind, piece: number) {
    super();
    this.#disk = disk;
    this.#job = job;
    this.kind = kind;
    this.piece = piece;
  }

  override onHash(fault: IoFault | null, digest: Uint8Array): void {
    this.#disk.onStoreHash(this.#job, fault, fault === null ? digest : NO_DIGEST);
  }
}
