/**
 * Takes from the files of another torrent what this one is likely to share with it (BEP 38, 46), before what stands on
 * disk is checked: the check keeps what is right, piece by piece, and nothing here needs to be.
 *
 *     a file of this torrent            what is done
 *     has its own place already         stays where it is; cut to its length where the old one was longer
 *     like one of the old torrent       that one is copied to where nothing stands yet
 *
 * Alike are, the first that is found: files of the same content (v2: pieces root), of the same path below the top folder
 * and the same length, of the same name and length, of the same path below the top folder.
 *
 * Invariant: the old torrent's files are only read, but for those that share their place with one of this torrent; a fault
 * costs the shared data, no more. Limit: `BATCH` files between two looks at whether the torrent stops.
 */

import { toHex } from '../base/bytes.ts';
import type { FileRef } from '../base/ports.ts';
import type { Metainfo, TorrentFile } from '../codec/metainfo.ts';
import type { Disk } from './disk.ts';
import type { Job } from './io.ts';
import { Sweep } from './sweep.ts';

/** Where another torrent's data is. */
export interface OldFiles {
  readonly meta: Metainfo;
  /** Absolute. */
  readonly folder: string;
}

const BATCH = 64;

/** `done` does not come when the disk is stopped meanwhile. */
export function reuseFiles(disk: Disk, old: OldFiles, done: () => void): void {
  const likes = new Likes(old.meta);
  const sources = new Map<number, TorrentFile>();
  const { files } = disk.meta;
  for (let f = 0; f < files.length; f++) {
    const file = files[f]!;
    if (!isData(file) || !disk.table.isWanted(f)) continue;
    const own = old.folder === disk.folder ? likes.at(file.path) : null;
    const source = own ?? likes.of(file);
    if (source !== null && (own === null || own.length > file.length)) sources.set(f, source);
  }
  const isOwn = (f: number): boolean => old.folder === disk.folder && samePath(files[f]!.path, sources.get(f)!.path);
  const copied: number[] = [];
  const long: number[] = [];
  const { io, places, table } = disk;
  const look = new Steps(disk, [...sources.keys()], {
    start: (job, f) => io.stat(job, places.ref(f)),
    each: (f, fault, stat) => {
      if (fault !== null) return;
      if (isOwn(f)) {
        if (stat?.regular === true && stat.size > files[f]!.length) long.push(f);
      } else if (stat === null) copied.push(f);
    },
  });
  const copy = new Steps(disk, copied, {
    start: (job, f) => {
      const { path, executable } = sources.get(f)!;
      const from: FileRef = { root: old.folder, path, executable };
      io.copy(job, from, places.ref(f));
    },
    each: (f, fault) => {
      if (fault !== null) return;
      table.written(f);
      if (sources.get(f)!.length > files[f]!.length) long.push(f);
    },
  });
  const cut = new Steps(disk, long, {
    start: (job, f) => io.allocate(job, places.ref(f), files[f]!.length, false),
    each: (f, fault) => {
      if (fault === null) table.written(f);
    },
  });
  look.run(() => copy.run(() => cut.run(done)));
}

interface StepPlan {
  start(job: Job, file: number): void;
  each(...answer: Parameters<ConstructorParameters<typeof Sweep>[1]['each']>): void;
}

/** A sweep in batches, so that a stop need not wait for all of it. */
class Steps {
  readonly #disk: Disk;
  readonly #files: readonly number[];
  readonly #plan: StepPlan;

  constructor(disk: Disk, files: readonly number[], plan: StepPlan) {
    this.#disk = disk;
    this.#files = files;
    this.#plan = plan;
  }

  run(then: () => void, from: number = 0): void {
    if (!this.#disk.isOpen) return;
    if (from >= this.#files.length) return then();
    new Sweep(this.#files.slice(from, from + BATCH), {
      start: (job, f) => this.#plan.start(job, f),
      each: (f, fault, stat) => this.#plan.each(f, fault, stat),
      done: () => this.run(then, from + BATCH),
    }).run();
  }
}

/** The old torrent's files, by what makes them alike. */
class Likes {
  readonly #byRoot = new Map<string, TorrentFile>();
  readonly #byPath = new Map<string, TorrentFile>();
  readonly #byPlace = new Map<string, TorrentFile>();
  readonly #byName = new Map<string, TorrentFile>();

  constructor(meta: Metainfo) {
    for (const file of meta.files) {
      if (!isData(file)) continue;
      if (file.piecesRoot !== null) this.#byRoot.set(toHex(file.piecesRoot), file);
      this.#byPath.set(file.path.join('/'), file);
      this.#byPlace.set(belowTop(file), file);
      this.#byName.set(nameAndLength(file), file);
    }
  }

  at(path: readonly string[]): TorrentFile | null {
    return this.#byPath.get(path.join('/')) ?? null;
  }

  of(file: TorrentFile): TorrentFile | null {
    const same = file.piecesRoot === null ? undefined : this.#byRoot.get(toHex(file.piecesRoot));
    if (same !== undefined) return same;
    const place = this.#byPlace.get(belowTop(file));
    if (place?.length === file.length) return place;
    return this.#byName.get(nameAndLength(file)) ?? place ?? null;
  }
}

function isData(file: TorrentFile): boolean {
  return !file.pad && file.length > 0 && file.symlink === null;
}

/** Empty for the file of a torrent of one file. */
function belowTop(file: TorrentFile): string {
  return file.path.slice(1).join('/');
}

function nameAndLength(file: TorrentFile): string {
  return `${file.length} ${file.path[file.path.length - 1]}`;
}

function samePath(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((component, i) => component === b[i]);
}
