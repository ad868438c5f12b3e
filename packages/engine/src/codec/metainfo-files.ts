/**
 * The file lists of a torrent: v1 `length` or `files` (BEP 3), v2 `file tree` (BEP 52), attributes (BEP 47), and whether
 * the two of a hybrid describe the same files. Paths come out component by component safe, not yet distinct.
 */

import { utf8Decode } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import type { Tape } from './bencode.ts';
import { LEAF_BYTES, MERKLE_HASH_BYTES } from './merkle.ts';
import { safeComponent, safeName } from './safe-path.ts';

/** A TorrentFile in the making. */
export interface FileRecord {
  path: string[];
  readonly length: number;
  offset: number;
  readonly pad: boolean;
  readonly executable: boolean;
  readonly hidden: boolean;
  readonly symlink: readonly string[] | null;
  piecesRoot: Uint8Array | null;
}

/** libtorrent's limit: below 2^48, and the tree over 16 KiB leaves has fewer than 2^31 nodes. */
const MAX_FILE_LENGTH = Math.min(2 ** 48 - 1, (2 ** 30 - 1) * LEAF_BYTES);
/** libtorrent's limit. */
const MAX_FOLDERS = 100;

export function bad(where: string, what: string): ShoalError {
  return new ShoalError('bad-torrent', `bad torrent: ${where}: ${what}`);
}

/** v1 with `length`: one file, named by the torrent. */
export function singleFileV1(tape: Tape): FileRecord {
  const attributes = readAttributes(tape, 0);
  const length = attributes.link ? 0 : readLength(tape, 0, 'info');
  let at = tape.find(0, 'name.utf-8');
  if (at < 0 || !tape.isString(at)) at = tape.find(0, 'name');
  const name = safeName(tape.string(at));
  if (name === null) throw bad('info.name', 'nothing in it can name a file');
  return record([name], length, 0, attributes, null);
}

/** v1 with `files`. */
export function filesV1(tape: Tape, list: number, folder: string): FileRecord[] {
  const files: FileRecord[] = [];
  let offset = 0;
  let last: readonly string[] = [];
  for (let t = list + 1; !tape.isEnd(t); t = tape.next(t)) {
    const where = `info.files[${files.length}]`;
    if (!tape.isDict(t)) throw bad(where, 'not a dictionary');
    const attributes = readAttributes(tape, t);
    const length = attributes.link ? 0 : readLength(tape, t, where);
    let path: string[];
    let names = tape.find(t, 'path.utf-8');
    if (names < 0 || !tape.isList(names)) names = tape.find(t, 'path');
    if (names >= 0 && tape.isList(names) && !tape.isEnd(names + 1)) {
      path = readPath(tape, names, folder, last, `${where}.path`);
    } else if (attributes.pad) {
      path = [folder, '.pad', String(length)];
    } else {
      throw bad(`${where}.path`, 'missing, or not a list of names');
    }
    // BitComet's pads have no attribute, only this name
    if (path[path.length - 1]!.startsWith('_____padding_file_')) attributes.pad = true;
    const target = attributes.link ? readTarget(tape, t, folder, path, where) : null;
    files.push(record(path, length, offset, attributes, target));
    offset += length;
    if (offset > Number.MAX_SAFE_INTEGER) throw bad(where, 'the files are too long together');
    last = path;
  }
  return files;
}

/** v2. Files lie in the tree's order, each from a piece's start on. */
export function filesV2(
  tape: Tape,
  tree: number,
  folder: string,
  manyFiles: boolean,
  pieceLength: number,
): FileRecord[] {
  const files: FileRecord[] = [];
  let offset = 0;
  /** Per open folder: the token to go on at, and the path down to it. */
  const at: number[] = [tree + 1];
  const paths: string[][] = [[folder]];
  while (at.length > 0) {
    const key = at[at.length - 1]!;
    if (tape.isEnd(key)) {
      at.pop();
      paths.pop();
      continue;
    }
    const node = key + 1;
    at[at.length - 1] = tape.next(node);
    const above = paths[paths.length - 1]!;
    const where = `info.file tree.${[...above.slice(1), utf8Decode(tape.string(key))].join('/')}`;
    if (tape.length(key) === 0) throw bad(where, 'an empty name beside others, or above all');
    if (!tape.isDict(node)) throw bad(where, 'not a dictionary');
    const name = safeComponent(tape.string(key));
    if (!isLeaf(tape, node)) {
      if (at.length > MAX_FOLDERS) throw bad(where, `more than ${MAX_FOLDERS} folders deep`);
      at.push(node + 1);
      paths.push([...above, name]);
      continue;
    }
    // one file that has the torrent's name is a bare file; any other single file stands in the torrent's folder
    const alone = at.length === 1 && files.length === 0 && tape.isEnd(tape.next(node)) && !manyFiles && name === folder;
    const path = alone ? [name] : [...above, name];
    const file = fileV2(tape, node + 2, folder, path, where);
    file.offset = offset;
    files.push(file);
    offset += Math.ceil(file.length / pieceLength) * pieceLength;
    if (offset > Number.MAX_SAFE_INTEGER) throw bad(where, 'the files are too long together');
  }
  return files;
}

/**
 * A hybrid's files: those of v1, with the roots of v2. Both lists must hold the same files in the same order, and every
 * file must begin on a piece's border (BEP 52, "Upgrade path"); attributes and the names of empty files may differ.
 */
export function hybridFiles(files: FileRecord[], tree: readonly FileRecord[], pieceLength: number): FileRecord[] {
  let i = 0;
  for (const file of files) {
    if (file.pad) continue;
    const twin = tree[i++];
    const name = file.path.join('/');
    if (twin === undefined) throw bad('info', `${name} is in 'files' and not in 'file tree'`);
    if (file.length !== twin.length) {
      throw bad('info', `${name} has ${file.length} bytes in the v1 part and ${twin.length} in 'file tree'`);
    }
    if (file.length === 0) continue;
    if (!samePath(file.path, twin.path)) {
      throw bad('info', `${name} of the v1 part is ${twin.path.join('/')} in 'file tree'`);
    }
    if (file.offset % pieceLength !== 0) throw bad('info', `${name} does not begin on a piece's border`);
    file.piecesRoot = twin.piecesRoot;
  }
  if (i < tree.length) throw bad('info', `${tree[i]!.path.join('/')} is in 'file tree' and not in 'files'`);
  return files;
}

interface Attributes {
  pad: boolean;
  executable: boolean;
  hidden: boolean;
  link: boolean;
}

/** Letters in any order; those nobody defined mean nothing (BEP 47). */
function readAttributes(tape: Tape, dict: number): Attributes {
  const attributes: Attributes = { pad: false, executable: false, hidden: false, link: false };
  const at = tape.find(dict, 'attr');
  if (at < 0 || !tape.isString(at)) return attributes;
  const from = tape.dataStart(at);
  const to = from + tape.length(at);
  for (let i = from; i < to; i++) {
    const c = tape.bytes[i];
    if (c === 112) attributes.pad = true;
    else if (c === 120) attributes.executable = true;
    else if (c === 104) attributes.hidden = true;
    else if (c === 108) attributes.link = true;
  }
  return attributes;
}

function readLength(tape: Tape, dict: number, where: string): number {
  const at = tape.find(dict, 'length');
  if (at < 0 || !tape.isInt(at)) throw bad(`${where}.length`, 'missing, or not an integer');
  const length = tape.int(at);
  if (typeof length !== 'number' || length < 0 || length > MAX_FILE_LENGTH) {
    throw bad(`${where}.length`, `${length} is not in 0..${MAX_FILE_LENGTH}`);
  }
  return length;
}

/** `last`: the path before, whose texts are used again where they are the same. */
function readPath(tape: Tape, list: number, folder: string, last: readonly string[], where: string): string[] {
  const path = [folder];
  for (let t = list + 1; !tape.isEnd(t); t = tape.next(t)) {
    if (!tape.isString(t)) throw bad(`${where}[${path.length - 1}]`, 'not a string');
    if (path.length > MAX_FOLDERS) throw bad(where, `more than ${MAX_FOLDERS} folders deep`);
    const name = safeComponent(tape.string(t));
    const known = last[path.length];
    path.push(known === name ? known : name);
  }
  return path;
}

/**
 * Where a link points. '.' and '..' are dropped, the rest is made safe like paths are, so that it cannot lead outside.
 * Null (the link becomes an empty file): nothing is left, or it points at itself or a folder it stands in.
 */
function readTarget(
  tape: Tape,
  dict: number,
  folder: string,
  path: readonly string[],
  where: string,
): readonly string[] | null {
  const list = tape.find(dict, 'symlink path');
  if (list < 0 || !tape.isList(list)) return null;
  const target = [folder];
  for (let t = list + 1; !tape.isEnd(t); t = tape.next(t)) {
    if (!tape.isString(t)) throw bad(`${where}.symlink path`, 'holds something that is not a string');
    if (target.length > MAX_FOLDERS) throw bad(`${where}.symlink path`, `more than ${MAX_FOLDERS} folders deep`);
    if (tape.isText(t, '.') || tape.isText(t, '..')) continue;
    target.push(safeComponent(tape.string(t)));
  }
  return samePath(target, path.slice(0, target.length)) ? null : target;
}

/** A node that is a file: {'': {...}}. */
function isLeaf(tape: Tape, node: number): boolean {
  const key = node + 1;
  return !tape.isEnd(key) && tape.length(key) === 0 && tape.isEnd(tape.next(key + 1));
}

function fileV2(tape: Tape, dict: number, folder: string, path: string[], where: string): FileRecord {
  if (!tape.isDict(dict)) throw bad(where, 'not a dictionary');
  const attributes = readAttributes(tape, dict);
  if (attributes.pad) throw bad(where, 'a pad file, which v2 has none of');
  const length = attributes.link ? 0 : readLength(tape, dict, where);
  const target = attributes.link ? readTarget(tape, dict, folder, path, where) : null;
  const file = record(path, length, 0, attributes, target);
  if (length === 0) return file;
  const root = tape.find(dict, 'pieces root');
  if (root < 0 || !tape.isString(root) || tape.length(root) !== MERKLE_HASH_BYTES) {
    throw bad(`${where}.pieces root`, 'missing, or not 32 bytes');
  }
  file.piecesRoot = tape.string(root);
  if (file.piecesRoot.every((byte) => byte === 0)) throw bad(`${where}.pieces root`, 'all zeros');
  return file;
}

function record(
  path: string[],
  length: number,
  offset: number,
  attributes: Attributes,
  symlink: readonly string[] | null,
): FileRecord {
  const { pad, executable, hidden } = attributes;
  return { path, length, offset, pad, executable, hidden, symlink, piecesRoot: null };
}

function samePath(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
