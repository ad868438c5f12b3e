/**
 * Writes whole messages into an out-buffer, in the order in which they are said (BEP 3, 5, 6, 10). What may be said, and
 * whether it was agreed, is the conversation's.
 *
 * Invariant: a handshake stands first. Each message is written whole or, when the buffer takes no more, not at all. A slot
 * handed over carries one hold, which the buffer gives back.
 */

import { assert } from '../base/assert.ts';
import type { Bitfield } from '../base/bitfield.ts';
import { writeU32 } from '../base/bytes.ts';
import { BLOCK_BYTES, type SlotPool } from '../base/slot-pool.ts';
import { encodeHandshake, HANDSHAKE_BYTES, PEER_ID_BYTES } from './handshake.ts';
import {
  EXTENDED_HEAD_BYTES,
  encodeBitfield,
  encodeBlockRange,
  encodeExtendedHead,
  encodeKeepAlive,
  encodePieceHead,
  encodePieceIndex,
  encodePlain,
  encodePort,
  HAVE_BYTES,
  KEEP_ALIVE_BYTES,
  PIECE_HEAD_BYTES,
  PLAIN_BYTES,
  PORT_BYTES,
  REQUEST_BYTES,
} from './messages.ts';
import type { OutBuffer } from './out-buffer.ts';

export class MessageWriter {
  private readonly out: OutBuffer;
  private readonly slots: SlotPool;
  private greeted = false;

  constructor(out: OutBuffer, slots: SlotPool) {
    this.out = out;
    this.slots = slots;
  }

  handshake(infoHash: Uint8Array, peerId: Uint8Array, v2: boolean, dht: boolean): void {
    assert(!this.greeted, 'a second handshake');
    assert(infoHash.length === 20 && peerId.length === PEER_ID_BYTES, 'info-hash and peer id are 20 bytes');
    this.greeted = true;
    const at = this.out.reserve(HANDSHAKE_BYTES);
    if (at >= 0) encodeHandshake(this.out.arena, at, infoHash, peerId, v2, dht);
  }

  keepAlive(): void {
    const at = this.reserve(KEEP_ALIVE_BYTES);
    if (at >= 0) encodeKeepAlive(this.out.arena, at);
  }

  /** A message that is its number alone. */
  plain(id: number): void {
    const at = this.reserve(PLAIN_BYTES);
    if (at >= 0) encodePlain(this.out.arena, at, id);
  }

  bitfield(have: Bitfield): void {
    const at = this.reserve(PLAIN_BYTES + have.bytes.length);
    if (at >= 0) encodeBitfield(this.out.arena, at, have.bytes);
  }

  /** Have, suggest, allowed fast. */
  pieceIndex(id: number, piece: number): void {
    const at = this.reserve(HAVE_BYTES);
    if (at >= 0) encodePieceIndex(this.out.arena, at, id, piece);
  }

  /** Request, cancel, reject. */
  blockRange(id: number, piece: number, begin: number, length: number): void {
    const at = this.reserve(REQUEST_BYTES);
    if (at >= 0) encodeBlockRange(this.out.arena, at, id, piece, begin, length);
  }

  port(port: number): void {
    const at = this.reserve(PORT_BYTES);
    if (at >= 0) encodePort(this.out.arena, at, port);
  }

  /** A whole block of 16 KiB, header and payload in one view. */
  pieceBlock(slot: number, piece: number, begin: number): void {
    this.out.pushSlot(slot, this.slots.wireBlock(slot, piece, begin));
  }

  /** `length` bytes of a slot from `offset` on, as the block at `begin`. */
  pieceSlice(slot: number, offset: number, piece: number, begin: number, length: number): void {
    this.pieceHead(piece, begin, length);
    this.pieceBytes(slot, offset, length);
  }

  /** `length` bytes from `offset` in slots[0] on through slots[1..count), as the block at `begin`. */
  pieceSpan(slots: Int32Array, count: number, offset: number, piece: number, begin: number, length: number): void {
    assert(offset < BLOCK_BYTES && offset + length <= count * BLOCK_BYTES, 'a span outside its slots');
    this.pieceHead(piece, begin, length);
    let left = length;
    for (let i = 0; i < count; i++) {
      const from = i === 0 ? offset : 0;
      const n = Math.min(left, BLOCK_BYTES - from);
      if (n > 0) this.pieceBytes(slots[i]!, from, n);
      else this.slots.release(slots[i]!);
      left -= n;
    }
  }

  /** An extension message (BEP 10) of the peer's number, the body copied. */
  extension(extendedId: number, body: Uint8Array): void {
    const at = this.reserveExtended(extendedId, body.length);
    if (at >= 0) this.out.arena.set(body, at);
  }

  extensionByte(extendedId: number, value: number): void {
    const at = this.reserveExtended(extendedId, 1);
    if (at >= 0) this.out.arena[at] = value;
  }

  extensionU32(extendedId: number, value: number): void {
    const at = this.reserveExtended(extendedId, 4);
    if (at >= 0) writeU32(this.out.arena, at, value);
  }

  /** A body of plain text with `data` behind it. */
  extensionText(extendedId: number, head: string, data: Uint8Array | null): void {
    const at = this.reserveExtended(extendedId, head.length + (data === null ? 0 : data.length));
    if (at < 0) return;
    const arena = this.out.arena;
    for (let i = 0; i < head.length; i++) arena[at + i] = head.charCodeAt(i);
    if (data !== null) arena.set(data, at + head.length);
  }

  private pieceHead(piece: number, begin: number, length: number): void {
    const at = this.reserve(PIECE_HEAD_BYTES);
    if (at >= 0) encodePieceHead(this.out.arena, at, piece, begin, length);
  }

  private pieceBytes(slot: number, offset: number, length: number): void {
    assert(offset >= 0 && length > 0 && offset + length <= BLOCK_BYTES, 'a slice outside its slot');
    this.out.pushSlot(slot, this.slots.payload(slot).subarray(offset, offset + length));
  }

  private reserve(bytes: number): number {
    assert(this.greeted || this.out.closed, 'a message before the handshake');
    return this.out.reserve(bytes);
  }

  private reserveExtended(extendedId: number, bodyBytes: number): number {
    const at = this.reserve(EXTENDED_HEAD_BYTES + bodyBytes);
    if (at < 0) return -1;
    encodeExtendedHead(this.out.arena, at, extendedId, bodyBytes);
    return at + EXTENDED_HEAD_BYTES;
  }
}
