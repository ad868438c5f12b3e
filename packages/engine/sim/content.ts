/**
 * What the torrents of the simulation hold. The content of a block is a function of (torrent, piece, block): a tag of
 * 32 bytes and zeros after it. So a virtual disk can keep 32 bytes for 16 KiB, and every block tells where it belongs.
 *
 *     | magic | torrent | piece | block | mark | mix | mix | mix |   8 words, little-endian; then zeros
 *
 * `mark` is 0 in right content; another number makes content that is corrupt and still compact.
 *
 * A piece's digest is SHA-1 over the *summaries* of its blocks and its length. The summary of a compact block is its
 * tag; of any other bytes, their SHA-256. So the digest depends on every byte of the content, as a real one does, and
 * costs a comparison with zeros.
 */

import { Buffer } from 'node:buffer';
import { sha1, sha256 } from '../src/base/hash.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';

export const TAG_BYTES = 32;
export const TAG_WORDS = 8;
const MAGIC = 0x4d495353;
const ZEROS: Buffer = Buffer.alloc(BLOCK_BYTES);

/** The words of a tag, into `words` at `at`. */
export function tagWords(
  words: Int32Array,
  at: number,
  torrent: number,
  piece: number,
  block: number,
  mark: number,
): void {
  words[at] = MAGIC;
  words[at + 1] = torrent;
  words[at + 2] = piece;
  words[at + 3] = block;
  words[at + 4] = mark;
  let mix =
    Math.imul(torrent ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(piece + 1, 0xc2b2ae35) ^ Math.imul(block + 1, 0x27d4eb2f);
  for (let i = 5; i < TAG_WORDS; i++) {
    mix = Math.imul(mix ^ (mix >>> 15) ^ mark, 0x2c1b3c6d) + i;
    words[at + i] = mix | 0;
  }
}

export function putWords(target: Uint8Array, at: number, words: Int32Array, from: number, bytes: number): void {
  for (let i = 0; i < bytes; i++) target[at + i] = words[from + (i >> 2)]! >>> ((i & 3) * 8);
}

export function takeWords(source: Uint8Array, at: number, words: Int32Array, to: number): void {
  for (let i = 0; i < TAG_WORDS; i++) {
    const o = at + i * 4;
    words[to + i] = source[o]! | (source[o + 1]! << 8) | (source[o + 2]! << 16) | (source[o + 3]! << 24);
  }
}

/** Whether these bytes are a tag and zeros. */
export function isCompact(bytes: Uint8Array, at: number, length: number): boolean {
  if (
    length < TAG_BYTES ||
    bytes[at] !== 0x53 ||
    bytes[at + 1] !== 0x53 ||
    bytes[at + 2] !== 0x49 ||
    bytes[at + 3] !== 0x4d
  ) {
    return false;
  }
  return ZEROS.compare(bytes, at + TAG_BYTES, at + length, 0, length - TAG_BYTES) === 0;
}

export function isZero(bytes: Uint8Array, at: number, length: number): boolean {
  return ZEROS.compare(bytes, at, at + length, 0, length) === 0;
}

/** Writes the 32 bytes that stand for a block's content. */
export function summary(bytes: Uint8Array, at: number, length: number, target: Uint8Array, to: number): void {
  if (isCompact(bytes, at, length)) {
    for (let i = 0; i < TAG_BYTES; i++) target[to + i] = bytes[at + i]!;
  } else {
    target.set(sha256(bytes.subarray(at, at + length)), to);
  }
}

/** A running digest of a piece, block by block. */
export class PieceDigest {
  #summaries: Uint8Array = new Uint8Array(64 * TAG_BYTES);
  #count = 0;
  #bytes = 0;

  /** The next block of the piece; all but the last have 16 KiB. */
  add(bytes: Uint8Array, at: number, length: number): void {
    const end = (this.#count + 1) * TAG_BYTES;
    if (end + 8 > this.#summaries.length) {
      const wider = new Uint8Array(this.#summaries.length * 2);
      wider.set(this.#summaries);
      this.#summaries = wider;
    }
    summary(bytes, at, length, this.#summaries, this.#count * TAG_BYTES);
    this.#count++;
    this.#bytes += length;
  }

  /** SHA-1 of each block alone, as if each were a piece; joined. The blocks stay for `take`. */
  each(): Uint8Array {
    const digests = new Uint8Array(this.#count * 20);
    const alone = new Uint8Array(TAG_BYTES + 8);
    for (let b = 0; b < this.#count; b++) {
      alone.set(this.#summaries.subarray(b * TAG_BYTES, (b + 1) * TAG_BYTES));
      const length = Math.min(BLOCK_BYTES, this.#bytes - b * BLOCK_BYTES);
      for (let i = 0; i < 4; i++) alone[TAG_BYTES + i] = length >>> (i * 8);
      digests.set(sha1(alone), b * 20);
    }
    return digests;
  }

  /** The summaries so far, joined; borrowed. */
  summaries(): Uint8Array {
    return this.#summaries.subarray(0, this.#count * TAG_BYTES);
  }

  /** 20 bytes; starts anew. */
  take(): Uint8Array {
    const end = this.#count * TAG_BYTES;
    for (let i = 0; i < 8; i++) this.#summaries[end + i] = i < 4 ? this.#bytes >>> (i * 8) : 0;
    const digest = sha1(this.#summaries.subarray(0, end + 8));
    this.#count = 0;
    this.#bytes = 0;
    return digest;
  }
}
