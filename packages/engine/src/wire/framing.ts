/**
 * Cuts a peer's byte stream into handshake, messages and blocks (BEP 3), wherever the reads happen to end.
 *
 * Contract (DESIGN.md section 4): the input is `receive(bytes)`, borrowed until it returns; the output is calls to the
 * FrameSink, during it. A sink never calls `receive` (asserted); it may call `stop`. A stream cut differently gives the
 * same calls.
 *
 * What lies whole in the input is handed on in place. Of a message that does not, the part at hand is kept in `scratch`
 * until the rest comes; a block's payload never is: it goes into its slot as it comes, and a message nobody wants is
 * counted off.
 *
 *     head 48 -> peer id 20 -> ( length 4 -> id -> body )*
 *                                             `-> piece: 13 bytes -> payload into the slot, or skipped
 *
 * Limits: the length is judged before the body is kept (`admit`, and MAX_MESSAGE_BYTES in any case); scratch grows with
 * the bytes that came, at most to twice their number, never with the length announced, and is given back when large.
 */

import { assert } from '../base/assert.ts';
import { readU32 } from '../base/bytes.ts';
import { PeerFault } from '../base/errors.ts';
import { BLOCK_BYTES, type SlotPool } from '../base/slot-pool.ts';
import { HANDSHAKE_HEAD_BYTES, mayBeHandshake, PEER_ID_BYTES, RESERVED_AT } from './handshake.ts';
import {
  EXTENDED_HEAD_BYTES,
  MAX_BLOCK_BYTES,
  MAX_MESSAGE_BYTES,
  MessageId,
  PIECE_HEAD_BYTES,
  PIECE_OVERHEAD_BYTES,
} from './messages.ts';

export interface FrameSink {
  /** 48 bytes stand at `at`; the protocol's name was checked. */
  onHandshakeHead(bytes: Uint8Array, at: number): void;
  /** 20 bytes stand at `at`. */
  onPeerIdBytes(bytes: Uint8Array, at: number): void;
  /**
   * Whether a message may come: ADMIT, SKIP, or a PeerFault. `length` counts the id; `extendedId` is -1 but for extended
   * messages. Asked once or twice a message, so it must change nothing. Not asked for pieces.
   */
  admit(id: number, extendedId: number, length: number): number;
  /** A whole message: its body (without the id) is bytes[at .. at + length). */
  onMessage(id: number, bytes: Uint8Array, at: number, length: number): void;
  /** The head of a piece message with a payload of 1 .. MAX_BLOCK_BYTES. The slot for it, or -1: skip it. */
  onPieceHead(piece: number, begin: number, length: number): number;
  /** The payload is in `slot`. */
  onPieceEnd(slot: number): void;
  /** onPieceHead named this slot, but stopped the stream. */
  onPieceRefused(slot: number): void;
  /** The framer has stopped. */
  onFrameFault(fault: PeerFault): void;
}

export const ADMIT = 0;
export const SKIP = -1;

/** Small enough for V8 to keep inside the heap object. */
const SMALL_SCRATCH = 64;
/** A larger scratch is given back once its message is through. */
const KEEP_SCRATCH = 1024;
const NOTHING = new Uint8Array(0);

const Action = { HandshakeHead: 0, PeerId: 1, KeepAlive: 2, Piece: 3, Message: 4, Skip: 5, More: 6 } as const;

export class Framer {
  /** Takes no more bytes: a fault, or `stop`. */
  stopped = false;
  /** Bytes of memory held for a message that is not whole. */
  get heldBytes(): number {
    return this.scratch.length;
  }

  private readonly slots: SlotPool;
  private readonly sink: FrameSink;
  private receiving = false;
  /** What is to be done with the message that `measure` looked at last. */
  private action: number = Action.HandshakeHead;
  private handshakeLeft = 2;
  private scratch: Uint8Array = NOTHING;
  private held = 0;
  /** Bytes of the present message that must be held before it is worth looking again; only with held > 0. */
  private need = 0;
  /** The payload under way. */
  private slot = -1;
  private slotAt = 0;
  private slotLeft = 0;
  private skipLeft = 0;

  constructor(slots: SlotPool, sink: FrameSink) {
    this.slots = slots;
    this.sink = sink;
  }

  receive(bytes: Uint8Array): void {
    assert(!this.receiving, 'bytes given to a conversation from inside its sink');
    this.receiving = true;
    const end = bytes.length;
    let at = 0;
    while (at < end && !this.stopped) {
      if (this.slotLeft > 0) at = this.fill(bytes, at, end);
      else if (this.skipLeft > 0) {
        const n = Math.min(this.skipLeft, end - at);
        this.skipLeft -= n;
        at += n;
      } else if (this.held > 0) at = this.complete(bytes, at, end);
      else at = this.take(bytes, at, end);
    }
    this.receiving = false;
  }

  /** Ends it and frees what is held. Returns the slot of a payload under way, which is the caller's again, or -1. */
  stop(): number {
    const slot = this.slot;
    this.stopped = true;
    this.slot = -1;
    this.slotLeft = 0;
    this.skipLeft = 0;
    this.held = 0;
    this.scratch = NOTHING;
    return slot;
  }

  /** A message that begins in the input. */
  private take(bytes: Uint8Array, at: number, end: number): number {
    const need = this.measure(bytes, at, end - at);
    if (this.stopped) return end;
    if (need > end - at) {
      this.need = need;
      this.hold(bytes, at, end - at);
      return end;
    }
    this.act(bytes, at, need);
    return at + need;
  }

  /** A message that began in an earlier input. */
  private complete(bytes: Uint8Array, at: number, end: number): number {
    const n = Math.min(this.need - this.held, end - at);
    this.hold(bytes, at, n);
    if (this.held < this.need) return end;
    const need = this.measure(this.scratch, 0, this.held);
    if (this.stopped) return end;
    if (need > this.held) this.need = need;
    else {
      const scratch = this.scratch;
      this.held = 0;
      if (scratch.length > KEEP_SCRATCH) this.scratch = NOTHING;
      this.act(scratch, 0, need);
    }
    return at + n;
  }

  /** The payload under way, as far as it is here. */
  private fill(bytes: Uint8Array, at: number, end: number): number {
    const n = Math.min(this.slotLeft, end - at);
    this.slots.write(this.slot, this.slotAt, bytes, at, n);
    this.slotAt += n;
    this.slotLeft -= n;
    if (this.slotLeft === 0) {
      const slot = this.slot;
      this.slot = -1;
      this.sink.onPieceEnd(slot);
    }
    return at + n;
  }

  /**
   * Looks at the first `have` bytes of a message: how many are needed to do `action`, or, with action More, to look
   * again. Never lets through a length that nobody admitted. Stops the stream on a fault.
   */
  private measure(bytes: Uint8Array, at: number, have: number): number {
    if (this.handshakeLeft > 0) return this.measureHandshake(bytes, at, have);
    this.action = Action.More;
    if (have < 4) return 4;
    const length = readU32(bytes, at);
    if (length === 0) {
      this.action = Action.KeepAlive;
      return 4;
    }
    if (length > MAX_MESSAGE_BYTES) return this.fault(PeerFault.TooLong);
    if (have < 5) return 5;
    const id = bytes[at + 4]!;
    if (id === MessageId.Piece) {
      if (length <= PIECE_OVERHEAD_BYTES) return this.fault(PeerFault.BadLength);
      if (length > PIECE_OVERHEAD_BYTES + MAX_BLOCK_BYTES) return this.fault(PeerFault.TooLong);
      this.action = Action.Piece;
      return PIECE_HEAD_BYTES;
    }
    let head = 5;
    let extendedId = -1;
    if (id === MessageId.Extended) {
      if (length < 2) return this.fault(PeerFault.BadLength);
      if (have < EXTENDED_HEAD_BYTES) return EXTENDED_HEAD_BYTES;
      head = EXTENDED_HEAD_BYTES;
      extendedId = bytes[at + 5]!;
    }
    const verdict = this.sink.admit(id, extendedId, length);
    if (verdict === ADMIT) {
      this.action = Action.Message;
      return 4 + length;
    }
    if (verdict !== SKIP) return this.fault(verdict as PeerFault);
    this.action = Action.Skip;
    return head;
  }

  private measureHandshake(bytes: Uint8Array, at: number, have: number): number {
    if (this.handshakeLeft === 1) {
      this.action = Action.PeerId;
      return PEER_ID_BYTES;
    }
    // judged byte by byte: a web browser would wait for an answer instead of sending 48 bytes
    if (!mayBeHandshake(bytes, at, have)) return this.fault(PeerFault.BadHandshake);
    this.action = Action.HandshakeHead;
    return have < RESERVED_AT ? have + 1 : HANDSHAKE_HEAD_BYTES;
  }

  /** Does `action` with `need` bytes at `at`. */
  private act(bytes: Uint8Array, at: number, need: number): void {
    switch (this.action) {
      case Action.Piece:
        this.actPiece(bytes, at);
        break;
      case Action.Message:
        this.sink.onMessage(bytes[at + 4]!, bytes, at + 5, need - 5);
        break;
      case Action.Skip:
        this.skipLeft = 4 + readU32(bytes, at) - need;
        break;
      case Action.HandshakeHead:
        this.handshakeLeft = 1;
        this.sink.onHandshakeHead(bytes, at);
        break;
      case Action.PeerId:
        this.handshakeLeft = 0;
        this.sink.onPeerIdBytes(bytes, at);
        break;
      default:
        break;
    }
  }

  private actPiece(bytes: Uint8Array, at: number): void {
    const length = readU32(bytes, at) - PIECE_OVERHEAD_BYTES;
    const slot = this.sink.onPieceHead(readU32(bytes, at + 5), readU32(bytes, at + 9), length);
    if (this.stopped) {
      if (slot >= 0) this.sink.onPieceRefused(slot);
    } else if (slot < 0) this.skipLeft = length;
    else {
      assert(length <= BLOCK_BYTES, 'a slot given for a block larger than a slot');
      this.slot = slot;
      this.slotAt = 0;
      this.slotLeft = length;
    }
  }

  private fault(fault: PeerFault): number {
    this.stop();
    this.sink.onFrameFault(fault);
    return 0;
  }

  private hold(bytes: Uint8Array, at: number, n: number): void {
    const size = this.held + n;
    if (this.scratch.length < size) this.grow(size);
    const scratch = this.scratch;
    if (n > 64) scratch.set(bytes.subarray(at, at + n), this.held);
    else for (let i = 0; i < n; i++) scratch[this.held + i] = bytes[at + i]!;
    this.held = size;
  }

  private grow(size: number): void {
    let room = SMALL_SCRATCH;
    while (room < size) room *= 2;
    const grown = new Uint8Array(Math.max(SMALL_SCRATCH, Math.min(room, this.need)));
    grown.set(this.scratch.subarray(0, this.held));
    this.scratch = grown;
  }
}
