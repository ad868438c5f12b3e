/**
 * Reads .torrent files and info dictionaries (BEP 3, 5, 12, 19, 27, 47, 52) into Metainfo, judging them as libtorrent
 * does: names are made safe, oddities outside the info dictionary are skipped, what would make peers disagree about
 * pieces is refused. The only thing thrown is ShoalError 'bad-torrent', naming what is wrong and where.
 *
 * Limits: 128 MiB (2^21 pieces of a hybrid need 109), 2^21 pieces, pieces below 512 MiB, files below 2^48 bytes (all
 * libtorrent's), 16,384 trackers, web seeds and nodes each.
 */

import { copyOf, toHex, utf8Decode } from '../base/bytes.ts';
import { formatIp, type HostPort, parseIp } from '../base/ip.ts';
import { BencodeError, scan, scanPrefix, type Tape } from './bencode.ts';
import { infoHashV1, infoHashV2 } from './infohash.ts';
import { isPowerOfTwo, LEAF_BYTES, MERKLE_HASH_BYTES } from './merkle.ts';
import { bad, type FileRecord, filesV1, filesV2, hybridFiles, singleFileV1 } from './metainfo-files.ts';
import { Metainfo } from './metainfo-model.ts';
import { distinctPaths, safeName } from './safe-path.ts';
import { cleanTrackers, webSeedUrl } from './urls.ts';

export { Metainfo, type MetainfoParts, type TorrentFile } from './metainfo-model.ts';

/** What a magnet link knows and the info dictionary does not. */
export interface ParseExtra {
  readonly trackers?: readonly (readonly string[])[];
  readonly webSeeds?: readonly string[];
}

const MAX_BYTES = 128 * 1024 * 1024;
const MAX_PIECES = 2097152;
const MAX_PIECE_LENGTH = 32767 * 16384;
const MAX_LIST = 16384;
/** Numbered names tried in vain, all told: some 32 files of one name. No honest torrent comes near; libtorrent's limit. */
const MAX_CLASHES = 500;

/** Reads a .torrent file. */
export function parseTorrent(bytes: Uint8Array): Metainfo {
  if (bytes.length > MAX_BYTES) throw bad('torrent', `${bytes.length} bytes are more than ${MAX_BYTES}`);
  const tape = scanned(bytes, 'torrent');
  if (!tape.isDict(0)) throw bad('torrent', 'not a dictionary');
  const info = tape.find(0, 'info');
  if (info < 0) throw bad('torrent', "no 'info'");
  const infoBytes = copyOf(bytes.subarray(tape.start(info), tape.end(info)));
  const infoTape = scan(infoBytes);
  const outer = readOuter(tape);
  const meta = build(infoTape, outer);
  readLayers(tape, meta);
  return meta;
}

/** Reads an info dictionary, as peers send it (BEP 9). The bytes are copied. */
export function parseInfo(infoBytes: Uint8Array, extra?: ParseExtra): Metainfo {
  if (infoBytes.length > MAX_BYTES) throw bad('info', `${infoBytes.length} bytes are more than ${MAX_BYTES}`);
  const tape = scanned(copyOf(infoBytes), 'info');
  if (tape.end(0) !== infoBytes.length) throw bad('info', 'bytes after the end of the dictionary');
  return build(tape, {
    trackers: cleanTrackers(extra?.trackers ?? []),
    webSeeds: [...(extra?.webSeeds ?? [])],
    nodes: [],
    comment: null,
    createdBy: null,
    createdAt: null,
  });
}

/** What stands outside the info dictionary. */
interface Outer {
  readonly trackers: string[][];
  readonly webSeeds: string[];
  readonly nodes: HostPort[];
  readonly comment: string | null;
  readonly createdBy: string | null;
  readonly createdAt: number | null;
}

/** Blanks and line ends after the value are let pass: editors and servers add them. */
function scanned(bytes: Uint8Array, where: string): Tape {
  try {
    const tape = scanPrefix(bytes);
    for (let i = tape.end(0); i < bytes.length; i++) {
      const c = bytes[i]!;
      if (c !== 10 && c !== 13 && c !== 32 && c !== 9 && c !== 0) throw bad(where, `bytes after the end at byte ${i}`);
    }
    return tape;
  } catch (error) {
    if (error instanceof BencodeError) throw bad(where, `not bencoding: ${error.message}`);
    throw error;
  }
}

function build(tape: Tape, outer: Outer): Metainfo {
  if (!tape.isDict(0)) throw bad('info', 'not a dictionary');
  const version = intOf(tape, 0, 'meta version') ?? -1;
  if (version > 2) throw bad('info.meta version', `${version} is not known`);
  if (version > 0 && tape.disorder >= 0) throw bad('info', `keys are not in order at byte ${tape.disorder}`);
  const v2 = version === 2;
  const pieceLength = readPieceLength(tape, v2);
  const tree = tape.find(0, 'file tree');
  if (v2 && (tree < 0 || !tape.isDict(tree))) throw bad('info.file tree', 'missing, or not a dictionary');
  if (!v2 && tree >= 0 && tape.isDict(tree)) throw bad('info', "'file tree' without 'meta version' 2");
  let list = tape.find(0, 'files');
  if (list >= 0 && !tape.isList(list)) list = -1;
  const v1 = !v2 || list >= 0 || tape.find(0, 'length') >= 0;

  const hash1 = v1 ? infoHashV1(tape.bytes) : null;
  const hash2 = v2 ? infoHashV2(tape.bytes) : null;
  const folder = readName(tape, hash1, hash2);
  let files: FileRecord[] = [];
  if (v1) files = list >= 0 ? filesV1(tape, list, folder) : [singleFileV1(tape)];
  if (v2) {
    const treeFiles = filesV2(tape, tree, folder, list >= 0, pieceLength);
    files = v1 ? hybridFiles(files, treeFiles, pieceLength) : treeFiles;
  }
  if (files.length === 0) throw bad(v1 ? 'info.files' : 'info.file tree', 'no files');
  const piecesAt = checkPieces(tape, files, pieceLength, v1);
  const onDisk = files.filter((file) => !file.pad);
  if (distinctPaths(onDisk, MAX_CLASHES) > MAX_CLASHES) {
    throw bad('info', 'too many files have the path of another');
  }

  const privateFlag = intOf(tape, 0, 'private');
  const single = files.length === 1 && files[0]!.path.length === 1;
  return new Metainfo({
    ...outer,
    name: single ? files[0]!.path[0]! : folder,
    infoHash: hash1,
    infoHashV2: hash2,
    infoBytes: tape.bytes,
    pieceLength,
    files,
    piecesAt,
    isPrivate: privateFlag !== null && privateFlag !== 0,
    webSeeds: [...new Set(outer.webSeeds.map((url) => webSeedUrl(url, files.length > 1)))],
  });
}

function readPieceLength(tape: Tape, v2: boolean): number {
  const where = 'info.piece length';
  const length = intOf(tape, 0, 'piece length');
  if (length === null) throw bad(where, 'missing, or not an integer');
  if (length <= 0 || length > MAX_PIECE_LENGTH) throw bad(where, `${length} is not in 1..${MAX_PIECE_LENGTH}`);
  if (v2 && (length < LEAF_BYTES || !isPowerOfTwo(length))) {
    throw bad(where, `${length} is no power of two of at least 16384`);
  }
  return length;
}

/** The torrent's name made safe; where nothing is left of it, its info-hash. */
function readName(tape: Tape, v1: Uint8Array | null, v2: Uint8Array | null): string {
  let at = tape.find(0, 'name.utf-8');
  if (at < 0 || !tape.isString(at)) at = tape.find(0, 'name');
  if (at < 0 || !tape.isString(at)) throw bad('info.name', 'missing, or not a string');
  return safeName(tape.string(at)) ?? toHex((v1 ?? v2)!);
}

/** Checks sums and counts; returns where the v1 digests begin in the info dictionary, or -1. */
function checkPieces(tape: Tape, files: readonly FileRecord[], pieceLength: number, v1: boolean): number {
  let end = 0;
  for (const file of files) if (file.length > 0) end = file.offset + file.length;
  if (end === 0) throw bad('info', 'the torrent holds no byte');
  const count = Math.ceil(end / pieceLength);
  if (count > MAX_PIECES) throw bad('info', `${count} pieces are more than ${MAX_PIECES}`);
  if (!v1) return -1;
  const pieces = tape.find(0, 'pieces');
  if (pieces < 0 || !tape.isString(pieces)) throw bad('info.pieces', 'missing, or not a string');
  const length = tape.length(pieces);
  if (length !== count * 20) throw bad('info.pieces', `${length} bytes, but ${count} pieces need ${count * 20}`);
  return tape.dataStart(pieces);
}

function readOuter(tape: Tape): Outer {
  const date = intOf(tape, 0, 'creation date');
  return {
    trackers: readTrackers(tape),
    webSeeds: readWebSeeds(tape),
    nodes: readNodes(tape),
    comment: textOf(tape, 'comment.utf-8') ?? textOf(tape, 'comment'),
    createdBy: textOf(tape, 'created by.utf-8') ?? textOf(tape, 'created by'),
    createdAt: date !== null && date >= 0 ? date : null,
  };
}

/** Tiers of `announce-list`; `announce` counts only where these hold nothing usable (BEP 12). */
function readTrackers(tape: Tape): string[][] {
  const tiers: string[][] = [];
  const list = tape.find(0, 'announce-list');
  let count = 0;
  if (list >= 0 && tape.isList(list)) {
    for (let t = list + 1; !tape.isEnd(t) && count < MAX_LIST; t = tape.next(t)) {
      if (!tape.isList(t)) continue;
      const tier: string[] = [];
      for (let u = t + 1; !tape.isEnd(u) && count < MAX_LIST; u = tape.next(u)) {
        if (!tape.isString(u)) continue;
        tier.push(utf8Decode(tape.string(u)));
        count++;
      }
      tiers.push(tier);
    }
  }
  const cleaned = cleanTrackers(tiers);
  if (cleaned.length > 0) return cleaned;
  const announce = tape.find(0, 'announce');
  return announce >= 0 && tape.isString(announce) ? cleanTrackers([[utf8Decode(tape.string(announce))]]) : [];
}

/** `url-list` is one URL or a list of them (BEP 19). */
function readWebSeeds(tape: Tape): string[] {
  const at = tape.find(0, 'url-list');
  if (at < 0) return [];
  if (tape.isString(at)) return readUrls(tape, at, at + 1);
  return tape.isList(at) ? readUrls(tape, at + 1, tape.next(at) - 1) : [];
}

function readUrls(tape: Tape, from: number, to: number): string[] {
  const urls: string[] = [];
  for (let t = from; t < to && urls.length < MAX_LIST; t = tape.next(t)) {
    if (!tape.isString(t)) continue;
    const url = utf8Decode(tape.string(t)).trim();
    if (/^https?:\/\/./i.test(url)) urls.push(url);
  }
  return urls;
}

function readNodes(tape: Tape): HostPort[] {
  const nodes: HostPort[] = [];
  const list = tape.find(0, 'nodes');
  if (list < 0 || !tape.isList(list)) return nodes;
  for (let t = list + 1; !tape.isEnd(t) && nodes.length < MAX_LIST; t = tape.next(t)) {
    if (!tape.isList(t)) continue;
    const host = t + 1;
    const port = tape.isEnd(host) ? host : tape.next(host);
    if (!tape.isString(host) || !tape.isInt(port) || tape.length(host) > 253) continue;
    const number = tape.int(port);
    const text = utf8Decode(tape.string(host));
    if (typeof number !== 'number' || number < 1 || number > 65535 || !/^[A-Za-z0-9._:-]+$/.test(text)) continue;
    const ip = parseIp(text);
    nodes.push({ host: ip === null ? text : formatIp(ip), port: number });
  }
  return nodes;
}

/**
 * `piece layers` (BEP 52). A layer may be missing, as with a magnet: it is asked from peers later. One that is there
 * must belong to a file and lead to its root.
 */
function readLayers(tape: Tape, meta: Metainfo): void {
  if (meta.infoHashV2 === null) return;
  const dict = tape.find(0, 'piece layers');
  if (dict < 0 || !tape.isDict(dict)) return;
  const owners = new Map<string, number[]>();
  meta.files.forEach((file, i) => {
    if (!meta.needsLayer(i)) return;
    const root = toHex(file.piecesRoot!);
    const known = owners.get(root);
    if (known === undefined) owners.set(root, [i]);
    else known.push(i);
  });
  for (let key = dict + 1; !tape.isEnd(key); key = tape.next(key + 1)) {
    const root = toHex(tape.string(key).subarray(0, MERKLE_HASH_BYTES + 1));
    const where = `piece layers[${root}]`;
    const files = owners.get(root);
    if (files === undefined) throw bad(where, 'belongs to no file that needs it');
    if (!tape.isString(key + 1)) throw bad(where, 'not a string');
    const layer = tape.string(key + 1);
    for (const file of files) {
      if (meta.layer(file) !== null) throw bad(where, 'stands there twice');
      if (!meta.setLayer(file, layer))
        throw bad(where, `does not lead to the root of ${meta.files[file]!.path.join('/')}`);
    }
  }
}

function textOf(tape: Tape, key: string): string | null {
  const at = tape.find(0, key);
  return at >= 0 && tape.isString(at) && tape.length(at) > 0 ? utf8Decode(tape.string(at)) : null;
}

/** A dictionary's integer within +-2^53, or null. */
function intOf(tape: Tape, dict: number, key: string): number | null {
  const at = tape.find(dict, key);
  if (at < 0 || !tape.isInt(at)) return null;
  const value = tape.int(at);
  return typeof value === 'number' ? value : null;
}
