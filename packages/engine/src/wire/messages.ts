/**
 * Message numbers, length limits and encoders of the peer protocol (BEP 3, 5, 6, 10). Encoders write at a place in the
 * caller's arena and allocate nothing; all numbers are big-endian.
 *
 *     | length 4 (of what follows) | id 1 | body |        length 0: keep-alive
 */

import { writeU16, writeU32 } from '../base/bytes.ts';

export const MessageId = {
  Choke: 0,
  Unchoke: 1,
  Interested: 2,
  NotInterested: 3,
  Have: 4,
  Bitfield: 5,
  Request: 6,
  Piece: 7,
  Cancel: 8,
  /** BEP 5. */
  Port: 9,
  /** BEP 6, this and the four below. */
  Suggest: 13,
  HaveAll: 14,
  HaveNone: 15,
  Reject: 16,
  AllowedFast: 17,
  /** BEP 10. */
  Extended: 20,
} as const;

/** Longest block asked or sent: BEP 3 practice is 16 KiB, clients in the wild go to 128 KiB (BEPS.md, BEP 3). */
export const MAX_BLOCK_BYTES = 131072;
/** Id, index and begin before a block. */
export const PIECE_OVERHEAD_BYTES = 9;
/** A piece message's head on the wire. */
export const PIECE_HEAD_BYTES = 13;
/** Most pieces of a torrent, as in libtorrent; what makes a bitfield 256 KiB at most. */
export const MAX_PIECES = 2097152;
export const MAX_BITFIELD_BYTES: number = MAX_PIECES / 8;
/** Longest extension message, and by that the longest message at all. */
export const MAX_MESSAGE_BYTES = 1048576;

export const KEEP_ALIVE_BYTES = 4;
export const PLAIN_BYTES = 5;
export const PORT_BYTES = 7;
export const HAVE_BYTES = 9;
export const REQUEST_BYTES = 17;
/** Length, id and extended id. */
export const EXTENDED_HEAD_BYTES = 6;

/** The length, id included, that a message of this kind must have; 0: it has no fixed one, or we do not know it. */
export function lengthOf(id: number): number {
  switch (id) {
    case MessageId.Choke:
    case MessageId.Unchoke:
    case MessageId.Interested:
    case MessageId.NotInterested:
    case MessageId.HaveAll:
    case MessageId.HaveNone:
      return 1;
    case MessageId.Port:
      return 3;
    case MessageId.Have:
    case MessageId.Suggest:
    case MessageId.AllowedFast:
      return 5;
    case MessageId.Request:
    case MessageId.Cancel:
    case MessageId.Reject:
      return 13;
    default:
      return 0;
  }
}

export function encodeKeepAlive(target: Uint8Array, at: number): void {
  writeU32(target, at, 0);
}

/** Choke, unchoke, interested, not interested, have all, have none: 5 bytes. */
export function encodePlain(target: Uint8Array, at: number, id: number): void {
  writeU32(target, at, 1);
  target[at + 4] = id;
}

/** 7 bytes (BEP 5). */
export function encodePort(target: Uint8Array, at: number, port: number): void {
  writeU32(target, at, 3);
  target[at + 4] = MessageId.Port;
  writeU16(target, at + 5, port);
}

/** Have, suggest, allowed fast: 9 bytes. */
export function encodePieceIndex(target: Uint8Array, at: number, id: number, piece: number): void {
  writeU32(target, at, 5);
  target[at + 4] = id;
  writeU32(target, at + 5, piece);
}

/** Request, cancel, reject: 17 bytes. */
export function encodeBlockRange(
  target: Uint8Array,
  at: number,
  id: number,
  piece: number,
  begin: number,
  length: number,
): void {
  writeU32(target, at, 13);
  target[at + 4] = id;
  writeU32(target, at + 5, piece);
  writeU32(target, at + 9, begin);
  writeU32(target, at + 13, length);
}

/** The 13 bytes before a block of `length` bytes. */
export function encodePieceHead(target: Uint8Array, at: number, piece: number, begin: number, length: number): void {
  writeU32(target, at, PIECE_OVERHEAD_BYTES + length);
  target[at + 4] = MessageId.Piece;
  writeU32(target, at + 5, piece);
  writeU32(target, at + 9, begin);
}

/** 5 bytes and the bits. */
export function encodeBitfield(target: Uint8Array, at: number, bits: Uint8Array): void {
  writeU32(target, at, 1 + bits.length);
  target[at + 4] = MessageId.Bitfield;
  target.set(bits, at + 5);
}

/** The 6 bytes before a body of `bodyBytes`. */
export function encodeExtendedHead(target: Uint8Array, at: number, extendedId: number, bodyBytes: number): void {
  writeU32(target, at, 2 + bodyBytes);
  target[at + 4] = MessageId.Extended;
  target[at + 5] = extendedId;
}
