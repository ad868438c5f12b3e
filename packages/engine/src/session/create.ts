/**
 * Makes a torrent of files that are there: reads and hashes them on all hash threads as the plan of `codec/create` says.
 * Each byte is read once; for hybrid torrents the last piece of a file is read twice (v1 sees the pad behind it, v2 does
 * not).
 */

import { ShoalError } from '../base/errors.ts';
import { type FileRef, type Hasher, HashKind, type HashSpan } from '../base/ports.ts';
import {
  buildTorrent,
  leafCountOf,
  type PlannedFile,
  planTorrent,
  type TorrentFormat,
  type TorrentPlan,
} from '../codec/create.ts';
import { LEAF_BYTES } from '../codec/merkle.ts';
import { type Metainfo, parseTorrent } from '../codec/metainfo.ts';
import { type HashTask, type OnProgress, runHashTasks, TASK_BYTES } from './hash-tasks.ts';

export interface CreateOptions {
  /** One tier each. */
  readonly trackers?: readonly string[];
  readonly webSeeds?: readonly string[];
  /** A power of two from 16 KiB on. Default: by size, for about 1,000 to 2,000 pieces. */
  readonly pieceLength?: number;
  readonly private?: boolean;
  /** Default 'v1'. */
  readonly version?: TorrentFormat;
  readonly comment?: string;
  readonly createdBy?: string;
  /** Unix seconds; default: now. Null: none, so that the same files give the same bytes. */
  readonly createdAt?: number | null;
  readonly onProgress?: OnProgress;
  readonly signal?: AbortSignal;
}

export interface CreatedTorrent {
  /** The .torrent file. */
  readonly bytes: Uint8Array;
  readonly meta: Metainfo;
}

/** What there is to put in; paths are below `root`. */
export interface CreateContent {
  readonly root: string;
  readonly name: string;
  readonly single: boolean;
  readonly files: readonly {
    readonly path: readonly string[];
    readonly length: number;
    readonly executable: boolean;
    readonly symlink: readonly string[] | null;
  }[];
}

/** Rejects with ShoalError: 'bad-option' for what no torrent can be made of, 'disk', 'aborted'. `wallMs`: unix time now. */
export async function createFromContent(
  hasher: Hasher,
  content: CreateContent,
  options: CreateOptions,
  wallMs: number,
): Promise<CreatedTorrent> {
  const format = options.version ?? 'v1';
  // A v2 file tree of a single entry means that file alone; a folder around it cannot be told (BEP 52).
  const alone = format === 'v2' && content.files.length === 1 && content.files[0]!.path.length === 1;
  const plan = planTorrent({
    name: alone ? content.files[0]!.path[0]! : content.name,
    single: content.single || alone,
    files: content.files,
    format,
    pieceLength: options.pieceLength ?? 0,
    private: options.private ?? false,
    trackers: (options.trackers ?? []).map((url) => [url]),
    webSeeds: options.webSeeds ?? [],
    comment: options.comment ?? null,
    createdBy: options.createdBy ?? null,
    createdAt: options.createdAt === undefined ? Math.floor(wallMs / 1000) : options.createdAt,
  });
  const hashing = new Creation(plan, content);
  await runHashTasks(hasher, hashing.tasks(), {
    bytesTotal: hashing.bytesTotal,
    onProgress: options.onProgress,
    signal: options.signal,
  });
  const { v1, v2 } = hashing;
  const bytes = buildTorrent(plan, { v1, v2 });
  const meta = parseTorrent(bytes);
  checkNames(plan, meta);
  return { bytes, meta };
}

class Creation {
  readonly v1: Uint8Array | null;
  readonly v2: readonly Uint8Array[] | null;
  readonly bytesTotal: number;
  readonly #plan: TorrentPlan;
  readonly #refs: readonly (FileRef | null)[];

  constructor(plan: TorrentPlan, content: CreateContent) {
    const { format } = plan.spec;
    this.#plan = plan;
    this.v1 = format === 'v2' ? null : new Uint8Array(plan.pieceCountV1 * 20);
    this.v2 = format === 'v1' ? null : plan.v2Files.map((place) => new Uint8Array(this.#pieces(place) * 32));
    this.#refs = plan.files.map(({ source, pad, path }) => {
      return pad ? null : { root: content.root, path, executable: content.files[source]!.executable };
    });
    this.bytesTotal = content.files.reduce((sum, file) => sum + file.length, 0);
  }

  *tasks(): Generator<HashTask> {
    if (this.#plan.spec.format === 'v1') yield* this.#tasksV1();
    else for (let i = 0; i < this.#plan.v2Files.length; i++) yield* this.#tasksOfFile(i);
  }

  /** Runs of pieces through all files; pieces do not care where a file ends. */
  *#tasksV1(): Generator<HashTask> {
    const { files, pieceLength } = this.#plan;
    const runBytes = Math.max(1, Math.floor(TASK_BYTES / pieceLength)) * pieceLength;
    let spans: HashSpan[] = [];
    let room = runBytes;
    let at = 0;
    for (let place = 0; place < files.length; place++) {
      const { length } = files[place]!;
      for (let offset = 0; offset < length; ) {
        const part = Math.min(room, length - offset);
        spans.push({ file: this.#refs[place]!, offset, length: part });
        offset += part;
        room -= part;
        if (room > 0) continue;
        const to = at;
        yield this.#task(HashKind.Sha1, spans, runBytes, 0, (digests) => this.v1!.set(digests, to));
        at += (runBytes / pieceLength) * 20;
        spans = [];
        room = runBytes;
      }
    }
    if (spans.length === 0) return;
    yield this.#task(HashKind.Sha1, spans, runBytes - room, 0, (digests) => this.v1!.set(digests, at));
  }

  /** Number `index` of the plan's v2 files: its whole pieces, in runs, then what is left. */
  *#tasksOfFile(index: number): Generator<HashTask> {
    const { pieceLength } = this.#plan;
    const place = this.#plan.v2Files[index]!;
    const planned = this.#plan.files[place]!;
    const file = this.#refs[place]!;
    const whole = Math.floor(planned.length / pieceLength);
    const most = Math.max(1, Math.floor(TASK_BYTES / pieceLength));
    const kind = this.v1 === null ? HashKind.Merkle : HashKind.Both;
    for (let first = 0; first < whole; first += most) {
      const count = Math.min(most, whole - first);
      const spans = [{ file, offset: first * pieceLength, length: count * pieceLength }];
      yield this.#task(kind, spans, count * pieceLength, pieceLength / LEAF_BYTES, (digests) => {
        this.#keep(index, planned, first, count, digests);
      });
    }
    const rest = planned.length - whole * pieceLength;
    if (rest === 0) return;
    const span = { file, offset: whole * pieceLength, length: rest };
    yield this.#task(HashKind.Merkle, [span], rest, leafCountOf(this.#plan, place), (digests) => {
      this.v2![index]!.set(digests, whole * 32);
    });
    if (this.v1 === null) return;
    const isLast = index === this.#plan.v2Files.length - 1;
    const spans = isLast ? [span] : [span, { file: null, offset: 0, length: pieceLength - rest }];
    yield this.#task(HashKind.Sha1, spans, 0, 0, (digests) => {
      this.v1!.set(digests, (planned.offset / pieceLength + whole) * 20);
    });
  }

  /** Sorts the digests of whole pieces out: 32 bytes each, or 20 + 32. */
  #keep(index: number, planned: PlannedFile, first: number, count: number, digests: Uint8Array): void {
    const size = digests.length / count;
    for (let i = 0; i < count; i++) {
      const one = digests.subarray(i * size, (i + 1) * size);
      this.v2![index]!.set(one.subarray(size - 32), (first + i) * 32);
      this.v1?.set(one.subarray(0, 20), (planned.offset / this.#plan.pieceLength + first + i) * 20);
    }
  }

  #task(
    kind: HashKind,
    spans: readonly HashSpan[],
    bytes: number,
    leafCount: number,
    keep: (digests: Uint8Array) => void,
  ): HashTask {
    return {
      kind,
      spans,
      pieceLength: this.#plan.pieceLength,
      leafCount,
      bytes,
      onDigests: (digests, fault) => {
        if (fault !== null) throw new ShoalError('disk', fault.message);
        keep(digests);
      },
    };
  }

  #pieces(place: number): number {
    return Math.ceil(this.#plan.files[place]!.length / this.#plan.pieceLength);
  }
}

/** What other systems would have to rename could not be seeded from here: the names would not fit. */
function checkNames(plan: TorrentPlan, meta: Metainfo): void {
  const written = plan.files.filter((file) => !file.pad);
  const read = meta.files.filter((file) => !file.pad);
  for (let i = 0; i < written.length; i++) {
    const wanted = plan.spec.single ? [plan.spec.name] : [plan.spec.name, ...written[i]!.path];
    if (wanted.join('/') !== read[i]?.path.join('/')) {
      throw new ShoalError('bad-option', `${wanted.join('/')}: not every system can have such a name; rename it`);
    }
  }
}
