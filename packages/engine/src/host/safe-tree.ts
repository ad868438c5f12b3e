/**
 * Opens and changes files below a root without ever following a link below it, synchronously, for worker threads.
 *
 * Where the system has /proc/self/fd, folders are opened one after the other, each relative to the one before and with
 * O_NOFOLLOW, and files by `/proc/self/fd/N/name`: what stood at a path a moment ago does not matter, only what is
 * opened. Elsewhere each component is looked at with lstat first, which leaves a moment for a race.
 *
 * Opened folders are kept while a batch of jobs runs (the owner calls `close` after it), so that thousands of files in
 * a folder walk its path once. Limit: 32 folders, kept by the owner's calls of `tidy` between jobs.
 */

import { closeSync, constants, existsSync, fstatSync, lstatSync, mkdirSync, openSync } from 'node:fs';
import { errorCode } from './fault.ts';
import { folderKey } from './folder-key.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

/** Flags of node's constants; undefined ones (other systems) count as 0. Node adds O_CLOEXEC. */
const SAFE = (O_NOFOLLOW ?? 0) | (O_NONBLOCK ?? 0);
export const OPEN_READ: number = O_RDONLY | SAFE;
export const OPEN_WRITE: number = O_RDWR | SAFE;
export const OPEN_CREATE: number = O_RDWR | O_CREAT | SAFE;

const MAX_FOLDERS = 32;
/** Whether an open file or folder has a path of its own. */
export const HAS_FD_FOLDER: boolean = O_DIRECTORY !== undefined && existsSync('/proc/self/fd');

interface Folder {
  /** -1 where folders are named by path. */
  readonly fd: number;
  /** What a name is appended to. */
  readonly prefix: string;
}

/** An error with an errno name of ours. */
export function codedError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

export class SafeTree {
  readonly #folders = new Map<string, Folder>();
  /** Device of each root once seen: a root that vanished or changed is not made anew (a file system is gone). */
  readonly #rootDevices = new Map<string, number>();

  readonly #maxFolders: number;

  constructor(maxFolders: number = MAX_FOLDERS) {
    this.#maxFolders = Math.min(maxFolders, MAX_FOLDERS);
  }

  /** A descriptor. Throws node's errors (ELOOP: a link). `make`: missing folders are made. */
  openFile(folder: string, name: string, flags: number, mode: number, make: boolean): number {
    const kept = this.#folders.has(folder);
    try {
      return openSync(`${this.folder(folder, make)}/${name}`, flags, mode);
    } catch (error) {
      // the kept folder may have been removed and made anew since
      if (!kept || errorCode(error) !== 'ENOENT') throw error;
      this.close();
      return openSync(`${this.folder(folder, make)}/${name}`, flags, mode);
    }
  }

  /** The folder (a folderKey) as a path to append '/name' to; good until `close` or `tidy`. */
  folder(key: string, make: boolean): string {
    const known = this.#folders.get(key);
    return known !== undefined ? known.prefix : this.#walk(key, make);
  }

  /** The folder that holds the file. */
  parent(root: string, path: readonly string[], make: boolean): string {
    return this.folder(folderKey(root, path), make);
  }

  /** Opens folder after folder, from the nearest one that is open. */
  #walk(key: string, make: boolean): string {
    const cut = key.indexOf('\0');
    const root = key.slice(0, cut);
    let at = key.length;
    let folder: Folder | undefined;
    while (at > cut + 1 && folder === undefined) {
      at = Math.max(key.lastIndexOf('/', at - 1), cut + 1);
      folder = this.#folders.get(key.slice(0, at));
    }
    if (folder === undefined) {
      at = cut + 1;
      folder = this.#root(root, make);
    }
    while (at < key.length) {
      const from = key[at] === '/' ? at + 1 : at;
      const next = key.indexOf('/', from);
      const end = next === -1 ? key.length : next;
      folder = this.#keep(key.slice(0, end), openBelow(folder.prefix, key.slice(from, end), make));
      at = end;
    }
    return folder.prefix;
  }

  /** Forgets that a root was seen, so that it may be made anew. */
  forgetRoot(root: string): void {
    this.#rootDevices.delete(root);
  }

  /** Closes the folders when they are many; what `parent` gave before is void then. */
  tidy(): void {
    if (this.#folders.size > this.#maxFolders) this.close();
  }

  /** Closes the folders and forgets the roots. */
  reset(): void {
    this.close();
    this.#rootDevices.clear();
  }

  /** Closes the folders kept open. */
  close(): void {
    for (const folder of this.#folders.values()) if (folder.fd !== -1) closeSync(folder.fd);
    this.#folders.clear();
  }

  #root(root: string, make: boolean): Folder {
    const known = this.#folders.get(`${root}\0`);
    if (known !== undefined) return known;
    const device = this.#rootDevices.get(root);
    if (make && device === undefined) mkdirSync(root, { recursive: true });
    const folder = openRoot(root, device !== undefined);
    const now = folder.fd === -1 ? lstatSync(root).dev : fstatSync(folder.fd).dev;
    if (device !== undefined && now !== device) {
      if (folder.fd !== -1) closeSync(folder.fd);
      throw codedError('ENODEV', `${root} is on another file system than before: is something not mounted?`);
    }
    this.#rootDevices.set(root, now);
    return this.#keep(`${root}\0`, folder);
  }

  #keep(at: string, folder: Folder): Folder {
    this.#folders.set(at, folder);
    return folder;
  }
}

function openRoot(root: string, seen: boolean): Folder {
  try {
    return openFolder(root, false);
  } catch (error) {
    if (!seen || errorCode(error) !== 'ENOENT') throw error;
    throw codedError('ENODEV', `${root} is not there any more: is something not mounted?`);
  }
}

function openBelow(prefix: string, name: string, make: boolean): Folder {
  const at = `${prefix}/${name}`;
  try {
    return openFolder(at, true);
  } catch (error) {
    if (!make || errorCode(error) !== 'ENOENT') throw error;
  }
  try {
    mkdirSync(at, 0o777);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
  return openFolder(at, true);
}

function openFolder(at: string, below: boolean): Folder {
  if (HAS_FD_FOLDER) {
    const fd = openSync(at, O_RDONLY | O_DIRECTORY | (below ? O_NOFOLLOW : 0));
    return { fd, prefix: `/proc/self/fd/${fd}` };
  }
  if (below) {
    const stat = lstatSync(at);
    if (!stat.isDirectory()) throw codedError(stat.isSymbolicLink() ? 'ELOOP' : 'ENOTDIR', 'not a folder');
  }
  return { fd: -1, prefix: at };
}
