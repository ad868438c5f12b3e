/**
 * Looks at the file system for `createTorrent` and `verifyTorrent`: what a folder holds, and where a torrent's content
 * lies when a user names it loosely. Reads names and sizes only.
 */

import { type Dirent, promises as fs } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { ShoalError } from '../base/errors.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import { errorCode } from './fault.ts';

export interface WalkedFile {
  /** Below the walked folder; [its name] when a file by itself was walked. */
  readonly path: readonly string[];
  readonly length: number;
  readonly executable: boolean;
  /** Where a link points, as `path`; null for a regular file. */
  readonly symlink: readonly string[] | null;
}

export interface WalkedContent {
  /** Absolute, without links: what `path` of each file is relative to. */
  readonly root: string;
  /** Of the walked file or folder. */
  readonly name: string;
  /** A file by itself rather than a folder. */
  readonly single: boolean;
  /** In the order of their names' bytes, component by component: the order of a v2 file tree. */
  readonly files: readonly WalkedFile[];
}

/**
 * Everything under `path`. A link that stays inside is kept as one (BEP 47). One that leads outside is an error, as is
 * anything else that cannot go into a torrent: nothing is left out silently.
 */
export async function walkContent(path: string): Promise<WalkedContent> {
  const top = await attempt(fs.realpath(path), path);
  const stat = await attempt(fs.stat(top), path);
  const name = basename(top);
  if (name === '') throw new ShoalError('bad-option', `${path}: a whole file system cannot be a torrent`);
  if (stat.isDirectory()) return { root: top, name, single: false, files: await new Walk(top).all() };
  if (!stat.isFile()) throw new ShoalError('bad-option', `${path}: is neither a file nor a folder`);
  const file = { path: [name], length: stat.size, executable: isExecutable(stat), symlink: null };
  return { root: dirname(top), name, single: true, files: [file] };
}

/** Deeper than any path a torrent may hold. */
const MAX_DEPTH = 100;
/** Files looked at together; more would only fill the thread pool's queue. */
const STAT_BATCH = 64;

class Walk {
  readonly #root: string;
  readonly #files: WalkedFile[] = [];

  constructor(root: string) {
    this.#root = root;
  }

  async all(): Promise<readonly WalkedFile[]> {
    await this.#folder([]);
    return this.#files;
  }

  async #folder(path: readonly string[]): Promise<void> {
    const folder = join(this.#root, ...path);
    if (path.length > MAX_DEPTH) throw new ShoalError('bad-option', `${folder}: folders lie too deep for a torrent`);
    const entries = await attempt(fs.readdir(folder, { withFileTypes: true }), folder);
    entries.sort(byNameBytes);
    for (let from = 0; from < entries.length; from += STAT_BATCH) {
      const batch = entries.slice(from, from + STAT_BATCH);
      const found = await Promise.all(batch.map((entry) => this.#look(entry, [...path, entry.name])));
      for (let i = 0; i < batch.length; i++) {
        const file = found[i];
        if (file === null || file === undefined) await this.#folder([...path, batch[i]!.name]);
        else this.#files.push(file);
      }
    }
  }

  /** Null: a folder. */
  async #look(entry: Dirent, path: readonly string[]): Promise<WalkedFile | null> {
    const where = join(this.#root, ...path);
    if (entry.name.includes('\ufffd')) throw new ShoalError('bad-option', `${where}: the name is not UTF-8`);
    if (entry.isDirectory()) return null;
    if (entry.isSymbolicLink()) return { path, length: 0, executable: false, symlink: await this.#target(where) };
    const stat = await attempt(fs.lstat(where), where);
    if (!stat.isFile()) throw new ShoalError('bad-option', `${where}: is neither a file nor a folder`);
    return { path, length: stat.size, executable: isExecutable(stat), symlink: null };
  }

  async #target(link: string): Promise<readonly string[]> {
    const target = resolve(dirname(link), await attempt(fs.readlink(link), link));
    const path = relative(this.#root, target).split(sep);
    if (path[0] === '' || path[0] === '..' || isAbsolute(relative(this.#root, target))) {
      throw new ShoalError('bad-option', `${link}: is a link that leads out of the folder`);
    }
    return path;
  }
}

function isExecutable(stat: { readonly mode: number }): boolean {
  return (stat.mode & 0o100) !== 0;
}

function byNameBytes(a: Dirent, b: Dirent): number {
  return Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
}

export interface ContentPlace {
  /** Absolute folder that holds the content; what `AddOptions.folder` takes. */
  readonly folder: string;
  /** What the torrent's own file or folder is called there. */
  readonly name: string;
  /** It is called otherwise in the torrent. */
  readonly renamed: boolean;
}

/**
 * Finds a torrent's content by a path that is the file or folder itself, or the folder that holds it. A folder in which
 * nothing of it is found counts as the one that should hold it. Rejects with 'disk' if nothing is at `path`.
 */
export async function locateContent(meta: Metainfo, path: string): Promise<ContentPlace> {
  const wanted = meta.files[0]?.path[0] ?? meta.name;
  const single = meta.files.every((file) => file.path.length === 1 || file.pad);
  const given = resolve(path);
  const stat = await attempt(fs.stat(given), path);
  if (!stat.isDirectory()) {
    if (!single) throw new ShoalError('bad-option', `${path}: is a file, but the torrent is a folder`);
    return await placeAt(given, wanted);
  }
  const inside = join(given, wanted);
  if (single)
    return (await exists(inside)) ? await placeAt(inside, wanted) : { folder: given, name: wanted, renamed: false };
  const scoreInside = await likeness(meta, inside);
  const scoreGiven = await likeness(meta, given);
  if (scoreGiven > scoreInside || (scoreInside === 0 && basename(given) === wanted))
    return await placeAt(given, wanted);
  return scoreInside > 0 ? await placeAt(inside, wanted) : { folder: given, name: wanted, renamed: false };
}

/** The place itself may be a link; what lies below it may not. */
async function placeAt(path: string, wanted: string): Promise<ContentPlace> {
  const real = await attempt(fs.realpath(path), path);
  const name = basename(real);
  return { folder: dirname(real), name, renamed: name !== wanted };
}

const LIKENESS_SAMPLES = 32;

/** How much `folder` looks like the torrent's own: files there count one, of the right size two. */
async function likeness(meta: Metainfo, folder: string): Promise<number> {
  const sample = meta.files.filter((file) => !file.pad).slice(0, LIKENESS_SAMPLES);
  const scores = await Promise.all(
    sample.map(async (file) => {
      const stat = await fs.lstat(join(folder, ...file.path.slice(1))).catch(() => null);
      if (stat === null) return 0;
      return stat.size === file.length ? 2 : 1;
    }),
  );
  return scores.reduce<number>((sum, score) => sum + score, 0);
}

async function exists(path: string): Promise<boolean> {
  return (await fs.stat(path).catch(() => null)) !== null;
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EACCES: 'permission denied',
  ENOTDIR: 'no such file or folder',
  ELOOP: 'links lead round in a circle',
};

async function attempt<T>(work: Promise<T>, path: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = errorCode(error);
    throw new ShoalError('disk', `${path}: ${REASONS[code] ?? `cannot be read (${code})`}`);
  }
}
