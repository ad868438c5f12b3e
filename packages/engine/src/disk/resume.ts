/**
 * The resume record: what a torrent needs to go on after a stop, a kill or a power cut. One dictionary in bencoding, then
 * the SHA-1 of it, so that bytes changed by accident are no record at all.
 *
 * What is trusted (see restore.ts): after a clean stop, and after a kill in the same boot, `flushed`; after a power cut
 * `synced`. Bytes of files that were changed without their size or time changing are found by a full check alone.
 *
 * Invariant: `decodeRecord` never throws and gives nothing that is out of bounds; a record holds no path but its folders,
 * which are absolute and without '..'. File names come from the metainfo, which is checked against the info-hash.
 * Limits: as the constants below say; a record past them is none.
 */

import { Bitfield } from '../base/bitfield.ts';
import { concat, equal, utf8DecodeStrict } from '../base/bytes.ts';
import { sha1 } from '../base/hash.ts';
import { BDict, BencodeError, type BInput, decode, encode } from '../codec/bencode.ts';
import type { Disk } from './disk.ts';

/** Pieces that may be hashed again at a start after a kill (DEMANDS K1). */
export const MAX_IN_DOUBT = 32;
const VERSION = 1;
const DIGEST_BYTES = 20;
/** What POSIX systems take. */
const MAX_PATH = 4096;
/** Far above 2^21, the most that real torrents have. */
const MAX_PIECES = 2 ** 25;
const MAX_FILES = 2 ** 22;
/** Bytes of a file's stamp: size and mtime as 64-bit floats. */
const STAMP_BYTES = 16;

export interface ResumeRecord {
  /** `Metainfo.swarmHash`, 20 bytes. */
  readonly infoHash: Uint8Array;
  readonly name: string;
  /** Absolute. */
  readonly folder: string;
  /** Set while a move is under way: where the files may be already. */
  readonly movingTo: string | null;
  /** The session's own dictionary: selection, trackers, limits, totals. Opaque here. */
  readonly options: Uint8Array;
  /** A whole .torrent, or null while a magnet waits for its metadata. */
  readonly torrent: Uint8Array | null;
  readonly bootId: string;
  /** Written by an orderly stop, after the last write and sync. */
  readonly clean: boolean;
  readonly flushed: Bitfield;
  readonly synced: Bitfield;
  /** Pieces that were verified and about to be written, or open: worth a look. */
  readonly inDoubt: readonly number[];
  /** Size (MISSING, UNKNOWN) and mtime of each file when it was last looked at, in pairs; empty: of none. */
  readonly stamps: Float64Array;
  /** Files this torrent made, one bit each; empty: none. */
  readonly made: Uint8Array;
  /** Files whose edges are in the part file. */
  readonly parted: readonly number[];
}

/** What a record holds besides the disk's own knowledge. */
export interface RecordExtras {
  readonly options: Uint8Array;
  readonly torrent: Uint8Array | null;
  readonly bootId: string;
  /** Only after `stop` ended without a fault. */
  readonly clean: boolean;
  readonly movingTo?: string | null;
  /** Complete pieces under judgement and open partials, the fullest first. */
  readonly inDoubt?: readonly number[];
}

/** The record of a torrent as it stands. */
export function makeRecord(disk: Disk, extras: RecordExtras): ResumeRecord {
  const { meta, places, table } = disk;
  const count = meta.files.length;
  let seen = false;
  let made = 0;
  const stamps = new Float64Array(count * 2);
  const bits = new Bitfield(count);
  for (let f = 0; f < count; f++) {
    stamps[f * 2] = table.size(f);
    stamps[f * 2 + 1] = table.mtimeMs(f);
    if (table.size(f) >= -1) seen = true;
    if (table.isMade(f)) {
      bits.set(f);
      made++;
    }
  }
  const inDoubt = disk.inDoubt(MAX_IN_DOUBT);
  for (const piece of extras.inDoubt ?? []) {
    if (inDoubt.length < MAX_IN_DOUBT && !disk.flushed.get(piece) && !inDoubt.includes(piece)) inDoubt.push(piece);
  }
  return {
    infoHash: meta.swarmHash,
    name: meta.name,
    folder: disk.folder,
    movingTo: extras.movingTo ?? null,
    options: extras.options,
    torrent: extras.torrent,
    bootId: extras.bootId,
    clean: extras.clean,
    flushed: disk.flushed,
    synced: disk.synced,
    inDoubt,
    stamps: seen ? stamps : new Float64Array(0),
    made: made > 0 ? bits.bytes : new Uint8Array(0),
    parted: places.partedFiles(),
  };
}

/** A record for a torrent whose metadata is not here yet. */
export function magnetRecord(infoHash: Uint8Array, name: string, folder: string, options: Uint8Array): ResumeRecord {
  return {
    infoHash,
    name,
    folder,
    movingTo: null,
    options,
    torrent: null,
    bootId: '',
    clean: false,
    flushed: new Bitfield(0),
    synced: new Bitfield(0),
    inDoubt: [],
    stamps: new Float64Array(0),
    made: new Uint8Array(0),
    parted: [],
  };
}

export function encodeRecord(record: ResumeRecord): Uint8Array {
  const { flushed, synced } = record;
  const fields: { [key: string]: BInput | undefined } = {
    boot: record.bootId,
    clean: record.clean ? 1 : 0,
    doubt: [...record.inDoubt],
    flushed: flushed.bytes,
    folder: record.folder,
    hash: record.infoHash,
    made: record.made,
    moving: record.movingTo ?? undefined,
    name: record.name,
    options: record.options,
    parted: [...record.parted],
    pieces: flushed.length,
    stamps: stampBytes(record.stamps),
    // mostly the same, and long
    synced: equal(synced.bytes, flushed.bytes) ? undefined : synced.bytes,
    torrent: record.torrent ?? undefined,
    v: VERSION,
  };
  const bytes = encode(fields);
  return concat([bytes, sha1(bytes)]);
}

/** Null: not a record, damaged, of another version, or out of bounds. The arrays may be views of `bytes`. */
export function decodeRecord(bytes: Uint8Array): ResumeRecord | null {
  const end = bytes.length - DIGEST_BYTES;
  if (end < 2) return null;
  const body = bytes.subarray(0, end);
  if (!equal(sha1(body), bytes.subarray(end))) return null;
  try {
    const value = decode(body, { depth: 4, tokens: MAX_FILES * 2 });
    return value instanceof BDict ? read(value) : null;
  } catch (error) {
    if (error instanceof BencodeError) return null;
    throw error;
  }
}

function read(dict: BDict): ResumeRecord | null {
  const infoHash = dict.bytes('hash');
  const name = text(dict, 'name', MAX_PATH);
  const folder = text(dict, 'folder', MAX_PATH);
  const bootId = text(dict, 'boot', 256);
  const options = dict.bytes('options');
  const flushedBytes = dict.bytes('flushed');
  const made = dict.bytes('made');
  const pieceCount = dict.int('pieces') ?? -1;
  const clean = dict.int('clean');
  if (dict.int('v') !== VERSION || infoHash?.length !== DIGEST_BYTES || (clean !== 0 && clean !== 1)) return null;
  if (name === null || folder === null || bootId === null || options === null || made === null) return null;
  if (flushedBytes === null || pieceCount < 0 || pieceCount > MAX_PIECES || !isSafeFolder(folder)) return null;
  const flushed = Bitfield.from(flushedBytes, pieceCount);
  const synced = dict.has('synced') ? Bitfield.from(dict.bytes('synced') ?? made, pieceCount) : flushed?.clone();
  const inDoubt = numbers(dict, 'doubt', MAX_IN_DOUBT, pieceCount);
  const parted = numbers(dict, 'parted', MAX_FILES, MAX_FILES);
  const stamps = readStamps(dict.bytes('stamps'));
  if (!flushed || !synced || inDoubt === null || parted === null || stamps === null) return null;
  let movingTo: string | null = null;
  if (dict.has('moving')) {
    movingTo = text(dict, 'moving', MAX_PATH);
    if (movingTo === null || !isSafeFolder(movingTo)) return null;
  }
  const torrent = dict.bytes('torrent');
  if (dict.has('torrent') && torrent === null) return null;
  // what is not flushed cannot be synced
  for (let p = synced.nextSet(0); p >= 0; p = synced.nextSet(p + 1)) if (!flushed.get(p)) return null;
  const rest = { options, torrent, bootId, clean: clean === 1, flushed, synced, inDoubt, stamps, made, parted };
  return { infoHash, name, folder, movingTo, ...rest };
}

function text(dict: BDict, key: string, longest: number): string | null {
  const bytes = dict.bytes(key);
  return bytes === null || bytes.length > longest ? null : utf8DecodeStrict(bytes);
}

/** Different whole numbers below `below`, at most `most`. */
function numbers(dict: BDict, key: string, most: number, below: number): number[] | null {
  const list = dict.list(key);
  if (list === null || list.length > most) return null;
  const found = new Set<number>();
  for (const value of list) {
    if (typeof value !== 'number' || value < 0 || value >= below || found.has(value)) return null;
    found.add(value);
  }
  return [...found];
}

/** Absolute, and leads nowhere but down. */
function isSafeFolder(folder: string): boolean {
  if (folder.includes('\0') || !/^(\/|[A-Za-z]:[\\/]|\\\\)/.test(folder)) return false;
  return !folder.split(/[\\/]/).includes('..');
}

function stampBytes(stamps: Float64Array): Uint8Array {
  const bytes = new Uint8Array(stamps.length * 8);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < stamps.length; i++) view.setFloat64(i * 8, stamps[i]!);
  return bytes;
}

function readStamps(bytes: Uint8Array | null): Float64Array | null {
  if (bytes === null || bytes.length % STAMP_BYTES !== 0 || bytes.length > MAX_FILES * STAMP_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const stamps = new Float64Array(bytes.length / 8);
  for (let i = 0; i < stamps.length; i++) {
    const value = view.getFloat64(i * 8);
    const fine = i % 2 === 0 ? Number.isSafeInteger(value) && value >= -2 : Number.isFinite(value);
    if (!fine) return null;
    stamps[i] = value;
  }
  return stamps;
}
