/** Compares files with a torrent, piece by piece, on all hash threads. Reads only; what is missing counts as bad. */

import { equal } from '../base/bytes.ts';
import { type IoFault, ShoalError } from '../base/errors.ts';
import { type FileRef, type Hasher, HashKind, type HashSpan } from '../base/ports.ts';
import { Layout } from '../codec/layout.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import { type HashTask, type OnProgress, runHashTasks, TASK_BYTES } from './hash-tasks.ts';

export interface VerifyOptions {
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}

export interface VerifyResult {
  readonly pieces: number;
  readonly good: number;
  /** Indices of pieces that are missing or changed, ascending. */
  readonly bad: readonly number[];
  /** Bytes of files in good pieces, pads not counted. */
  readonly bytesGood: number;
}

/** Where the content is: `name` in `folder` is the torrent's own file or folder. */
export interface VerifyPlace {
  readonly folder: string;
  readonly name: string;
}

/** Rejects with ShoalError 'disk' when a file is there and cannot be read, 'aborted', or 'bad-torrent' without digests. */
export async function verifyContent(
  hasher: Hasher,
  meta: Metainfo,
  place: VerifyPlace,
  options: VerifyOptions = {},
): Promise<VerifyResult> {
  if (!meta.hasDigests) throw new ShoalError('bad-torrent', 'the torrent lacks the hashes of its pieces');
  const check = new Verification(meta, place);
  await runHashTasks(hasher, check.tasks(), {
    bytesTotal: check.bytesTotal,
    onProgress: options.onProgress,
    signal: options.signal,
  });
  return check.result();
}

/** Faults that say "that is not there" rather than "that cannot be read". */
const MISSING: ReadonlySet<string> = new Set([
  'ENOENT',
  'ENOTDIR',
  'EISDIR',
  'ELOOP',
  'ENXIO',
  'ENOTREG',
  'EIO_SHORT',
  'ENAMETOOLONG',
]);

class Verification {
  readonly bytesTotal: number;
  readonly #meta: Metainfo;
  readonly #layout: Layout;
  readonly #refs: readonly (FileRef | null)[];
  readonly #isGood: Uint8Array;

  constructor(meta: Metainfo, place: VerifyPlace) {
    this.#meta = meta;
    this.#layout = new Layout(meta);
    this.#isGood = new Uint8Array(meta.pieceCount);
    this.#refs = meta.files.map((file) => {
      if (file.pad) return null;
      return { root: place.folder, path: [place.name, ...file.path.slice(1)], executable: file.executable };
    });
    let bytes = 0;
    for (const file of meta.files) bytes += file.length;
    this.bytesTotal = bytes;
  }

  /** Runs of pieces that one call can hash: for v2 they end with each file, whose last piece is short. */
  *tasks(): Generator<HashTask> {
    const { pieceCount, pieceLength } = this.#layout;
    const most = Math.max(1, Math.floor(TASK_BYTES / pieceLength));
    for (let first = 0; first < pieceCount; ) {
      let count = 1;
      while (count < most && first + count < pieceCount && this.#continues(first + count)) count++;
      yield this.#task(first, count);
      first += count;
    }
  }

  result(): VerifyResult {
    const bad: number[] = [];
    let bytesGood = 0;
    for (let piece = 0; piece < this.#isGood.length; piece++) {
      if (this.#isGood[piece] === 0) bad.push(piece);
      else bytesGood += this.#fileBytes(piece);
    }
    const pieces = this.#isGood.length;
    return { pieces, good: pieces - bad.length, bad, bytesGood };
  }

  #continues(piece: number): boolean {
    if (this.#meta.hashKind !== HashKind.Merkle) return true;
    const previous = this.#layout.pieceSize(piece - 1);
    return (
      previous === this.#layout.pieceLength &&
      this.#layout.fileAt(piece * this.#layout.pieceLength) ===
        this.#layout.fileAt((piece - 1) * this.#layout.pieceLength)
    );
  }

  #task(first: number, count: number): HashTask {
    const spans: HashSpan[] = [];
    let bytes = 0;
    for (let piece = first; piece < first + count; piece++) {
      for (const { file, offset, length } of this.#layout.spans(piece, 0, this.#layout.pieceSize(piece))) {
        const ref = this.#refs[file] ?? null;
        const last = spans[spans.length - 1];
        bytes += length;
        if (last !== undefined && last.file === ref && ref !== null && last.offset + last.length === offset) {
          spans[spans.length - 1] = { file: ref, offset: last.offset, length: last.length + length };
        } else spans.push({ file: ref, offset, length });
      }
    }
    return {
      kind: this.#meta.hashKind,
      spans,
      pieceLength: this.#layout.pieceLength,
      leafCount: this.#meta.leafCount(first),
      bytes,
      onDigests: (digests, fault) => this.#compare(first, count, digests, fault),
    };
  }

  #compare(first: number, count: number, digests: Uint8Array, fault: IoFault | null): void {
    if (fault !== null && !MISSING.has(fault.code)) throw new ShoalError('disk', fault.message);
    if (digests.length === 0) return;
    const size = digests.length / count;
    for (let i = 0; i < count; i++) {
      const digest = digests.subarray(i * size, (i + 1) * size);
      if (equal(digest, this.#meta.digestOf(first + i))) this.#isGood[first + i] = 1;
    }
  }

  #fileBytes(piece: number): number {
    let bytes = 0;
    for (const { file, length } of this.#layout.spans(piece, 0, this.#layout.pieceSize(piece))) {
      if (this.#refs[file] !== null) bytes += length;
    }
    return bytes;
  }
}
