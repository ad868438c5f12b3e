/**
 * One peer's wire protocol (BEP 3-6, 9-11, 21, 54, 55): what it says becomes calls to a ConversationSink, what we say
 * becomes bytes. Owns the choke and interest flags of both sides and what was agreed; decides nothing.
 *
 * Contract (DESIGN.md section 4):
 * - Input: `receive(now, bytes)`; the bytes are borrowed until it returns. Commands only append output and may be given
 *   at any time, also from inside a sink call; after `close` they do nothing. A sink may close it and may exchange
 *   `sink`; it never calls `receive` (asserted).
 * - Output: sink calls, and `takeOut(maxBytes)`: one gathered batch, borrowed until `sentOut()`; no other is given
 *   meanwhile (asserted). No deadline of its own: the owner sweeps lastReceivedMs and lastSentMs.
 * - A slot named by `onBlockHead` is ours to write until `onBlock` or `onBlockAbort`. A slot handed to `pieceBlock` and
 *   its like carries one hold, which goes back on `sentOut` or when closed, or at once when it cannot be sent.
 * - A breach of the protocol is one `onFault`; nothing more is read after it, and the owner closes. `closeInput` leaves
 *   a batch that is out alone, for transports that end later; `close` gives it up too.
 *
 *     handshake head -> onHandshake -> peer id -> onPeerId -> [extended] [port] -> bitfield | have all | have none -> ...
 *
 * Limits: what is received is bounded by Framer and `admit` before it is kept, what is queued by OutBuffer. Piece
 * numbers are below the piece count, or below MAX_PIECES while that is unknown; begins are below 2^31.
 */

import { assert } from '../base/assert.ts';
import type { Bitfield } from '../base/bitfield.ts';
import { equal, readU16, readU32 } from '../base/bytes.ts';
import { PeerFault } from '../base/errors.ts';
import type { SlotPool } from '../base/slot-pool.ts';
import type { ConversationSink, ExtendedHandshake } from './conversation-sink.ts';
import {
  buildExtendedHandshake,
  ExtendedId,
  mergeHandshakes,
  NO_HANDSHAKE,
  type OwnHandshake,
  parseExtendedHandshake,
  RemoteExtensions,
} from './extensions.ts';
import { ADMIT, Framer, type FrameSink, SKIP } from './framing.ts';
import {
  HANDSHAKE_HEAD_BYTES,
  INFO_HASH_AT,
  offersDht,
  offersExtended,
  offersFast,
  PEER_ID_BYTES,
  RESERVED_AT,
} from './handshake.ts';
import { parseHolepunch } from './holepunch.ts';
import { MessageWriter } from './message-writer.ts';
import { lengthOf, MAX_BITFIELD_BYTES, MAX_BLOCK_BYTES, MAX_PIECES, MessageId } from './messages.ts';
import { Offers } from './offers.ts';
import { type OutBatch, OutBuffer } from './out-buffer.ts';
import { parsePex } from './pex.ts';
import { MetadataKind, metadataHead, parseMetadataMessage } from './ut-metadata.ts';

export class Conversation implements FrameSink {
  readonly outgoing: boolean;
  /** Who is told; exchanged when the torrent takes over from the handshake. */
  sink: ConversationSink;

  amChoking = true;
  amInterested = false;
  peerChoking = true;
  peerInterested = false;
  /** Both sides speak the fast extension (BEP 6). */
  fast = false;
  /** The peer speaks the extension protocol (BEP 10). */
  extended = false;
  /** The peer has a DHT node and takes PORT (BEP 5). */
  remoteDht = false;
  /** Which extension messages the peer takes. */
  readonly supports: RemoteExtensions = new RemoteExtensions();
  /** All that its extension handshakes said, the later over the earlier. */
  remote: ExtendedHandshake = NO_HANDSHAKE;
  lastReceivedMs = 0;
  lastSentMs = 0;
  closed = false;

  private readonly framer: Framer;
  private readonly out: OutBuffer;
  private readonly say: MessageWriter;
  private readonly offers: Offers = new Offers();
  /** -1: not known yet. */
  private pieceCount = -1;
  private heardGreeting = false;
  /** The info-hash that the answer must name; null: any. */
  private expectedHash: Uint8Array | null = null;
  /** The peer sent a message that may not stand before its bitfield, or the bitfield. */
  private peerSpoke = false;
  private saidWhatWeHave = false;
  private inPiece = 0;
  private inBegin = 0;
  private inLength = 0;

  constructor(slots: SlotPool, outgoing: boolean, sink: ConversationSink) {
    this.outgoing = outgoing;
    this.sink = sink;
    this.framer = new Framer(slots, this);
    this.out = new OutBuffer(slots);
    this.say = new MessageWriter(this.out, slots);
  }

  // ----------------------------------------------------------------------------------------------------------- input

  receive(now: number, bytes: Uint8Array): void {
    this.lastReceivedMs = now;
    this.framer.receive(bytes);
    if (this.out.overflowed && !this.framer.stopped) this.fail(PeerFault.StalledReader);
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /**
   * The first thing said. `v2` asks for an answer with the v2 info-hash, of which any is then taken (BEP 52); `dht`: we
   * have a DHT node, and take PORT.
   */
  handshake(
    infoHash: Uint8Array,
    peerId: Uint8Array,
    reserved?: { readonly v2?: boolean; readonly dht?: boolean },
  ): void {
    const v2 = reserved?.v2 === true;
    if (this.outgoing && !v2) this.expectedHash = infoHash.slice();
    this.say.handshake(infoHash, peerId, v2, reserved?.dht === true);
  }

  /** The metadata is known: from now on piece numbers and the bitfield's size are checked. */
  setPieceCount(pieceCount: number): void {
    this.pieceCount = pieceCount;
  }

  /** Says nothing to a peer without the extension protocol. May be repeated when something changed. */
  extendedHandshake(own: OwnHandshake): void {
    if (!this.extended) return;
    this.offers.make(own);
    this.say.extension(ExtendedId.Handshake, buildExtendedHandshake(own));
  }

  /** What we have, in the shortest legal way. Once, before anything but `extendedHandshake`. */
  bitfield(have: Bitfield): void {
    assert(!this.saidWhatWeHave, 'what we have is said once');
    assert(this.heardGreeting || this.closed, 'bitfield before the handshake is in');
    this.saidWhatWeHave = true;
    if (have.count === 0) {
      if (this.fast) this.say.plain(MessageId.HaveNone);
    } else if (this.fast && have.isFull) this.say.plain(MessageId.HaveAll);
    else this.say.bitfield(have);
  }

  choke(): void {
    if (this.amChoking) return;
    this.amChoking = true;
    this.say.plain(MessageId.Choke);
  }

  unchoke(): void {
    if (!this.amChoking) return;
    this.amChoking = false;
    this.say.plain(MessageId.Unchoke);
  }

  interested(): void {
    if (this.amInterested) return;
    this.amInterested = true;
    this.say.plain(MessageId.Interested);
  }

  notInterested(): void {
    if (!this.amInterested) return;
    this.amInterested = false;
    this.say.plain(MessageId.NotInterested);
  }

  have(piece: number): void {
    this.say.pieceIndex(MessageId.Have, piece);
  }

  request(piece: number, begin: number, length: number): void {
    this.say.blockRange(MessageId.Request, piece, begin, length);
  }

  cancel(piece: number, begin: number, length: number): void {
    this.say.blockRange(MessageId.Cancel, piece, begin, length);
  }

  /** BEP 6; says nothing when it was not agreed, likewise the two below. */
  reject(piece: number, begin: number, length: number): void {
    if (this.fast) this.say.blockRange(MessageId.Reject, piece, begin, length);
  }

  allowedFast(piece: number): void {
    if (this.fast) this.say.pieceIndex(MessageId.AllowedFast, piece);
  }

  suggest(piece: number): void {
    if (this.fast) this.say.pieceIndex(MessageId.Suggest, piece);
  }

  keepAlive(): void {
    this.say.keepAlive();
  }

  /** A whole block of 16 KiB, header and payload in one view. Takes over one hold on the slot. */
  pieceBlock(slot: number, piece: number, begin: number): void {
    this.say.pieceBlock(slot, piece, begin);
  }

  /** `length` bytes of a slot from `offset` on, as the block at `begin`. Takes over one hold on the slot. */
  pieceSlice(slot: number, offset: number, piece: number, begin: number, length: number): void {
    this.say.pieceSlice(slot, offset, piece, begin, length);
  }

  /**
   * One block of `length` bytes that begins at `offset` in slots[0] and runs on through slots[1..count), at most
   * MAX_BLOCK_BYTES. Takes over one hold on each slot.
   */
  pieceSpan(slots: Int32Array, count: number, offset: number, piece: number, begin: number, length: number): void {
    this.say.pieceSpan(slots, count, offset, piece, begin, length);
  }

  /** BEP 54; says nothing to a peer that did not offer it (see `supports`), likewise those below. */
  dontHave(piece: number): void {
    if (this.supports.dontHave) this.say.extensionU32(this.supports.dontHaveId, piece);
  }

  metadataRequest(piece: number): void {
    this.metadata(MetadataKind.Request, piece, 0, null);
  }

  /** `bytes`: at most 16 KiB, copied. `totalSize`: of the whole info dictionary. */
  metadataData(piece: number, totalSize: number, bytes: Uint8Array): void {
    this.metadata(MetadataKind.Data, piece, totalSize, bytes);
  }

  metadataReject(piece: number): void {
    this.metadata(MetadataKind.Reject, piece, 0, null);
  }

  /** A body that `buildPex` made, copied. */
  pex(body: Uint8Array): void {
    if (this.supports.pex) this.say.extension(this.supports.pexId, body);
  }

  /** The torrent turned out to be private: what only public ones offer is not looked at any more. */
  withdrawOffers(): void {
    this.offers.withdraw();
  }

  /** A body that `buildHolepunch` made, copied. */
  holepunch(body: Uint8Array): void {
    if (this.supports.holepunch) this.say.extension(this.supports.holepunchId, body);
  }

  /** Where our DHT node is (BEP 5); says nothing to a peer without one. */
  port(port: number): void {
    if (this.remoteDht) this.say.port(port);
  }

  /** libtorrent's live form of BEP 21. */
  uploadOnly(flag: boolean): void {
    if (this.supports.uploadOnly) this.say.extensionByte(this.supports.uploadOnlyId, flag ? 1 : 0);
  }

  /**
   * Ends it, but for a batch that is out, which stays lent until `sentOut` or `close`: nothing more is read or said, a
   * payload under way is aborted, what is queued goes back.
   */
  closeInput(): void {
    if (this.closed) return;
    this.closed = true;
    this.out.closeQueue();
    const slot = this.framer.stop();
    if (slot >= 0) this.sink.onBlockAbort(slot);
  }

  /** Ends it wholly: every hold and all memory goes back. The transport has let go of a batch that was out. */
  close(): void {
    this.closeInput();
    this.out.close();
  }

  /** Gives back send memory that lies idle; for sweeps over silent peers. */
  trim(): void {
    this.out.trim();
  }

  // --------------------------------------------------------------------------------------------------------- outputs

  /** Control bytes and payload that wait to be taken. */
  get queuedBytes(): number {
    return this.out.queuedBytes;
  }

  /** Slots of which something waits to be taken, be it one byte. */
  get queuedSlots(): number {
    return this.out.queuedSlots;
  }

  /** The peer takes nothing and the queue hit its bound: it can only be dropped. `receive` says so too. */
  get overflowed(): boolean {
    return this.out.overflowed;
  }

  /** Bytes of memory held for a message that is not whole yet. */
  get heldBytes(): number {
    return this.framer.heldBytes;
  }

  /** The next gathered write, or null. `maxBytes` holds but for a block that stands first. `now` is noted as lastSentMs. */
  takeOut(maxBytes: number, now: number = this.lastSentMs): OutBatch | null {
    const batch = this.out.takeOut(maxBytes);
    if (batch !== null) this.lastSentMs = now;
    return batch;
  }

  sentOut(): void {
    this.out.sentOut();
  }

  // ------------------------------------------------------------------------------------------------- from the framer

  onHandshakeHead(bytes: Uint8Array, at: number): void {
    const reserved = bytes.subarray(at + RESERVED_AT, at + INFO_HASH_AT);
    const infoHash = bytes.subarray(at + INFO_HASH_AT, at + HANDSHAKE_HEAD_BYTES);
    if (this.expectedHash !== null && !equal(this.expectedHash, infoHash)) {
      this.fail(PeerFault.BadHandshake);
      return;
    }
    this.expectedHash = null;
    this.heardGreeting = true;
    this.fast = offersFast(reserved);
    this.extended = offersExtended(reserved);
    this.remoteDht = offersDht(reserved);
    this.sink.onHandshake(infoHash, reserved);
  }

  onPeerIdBytes(bytes: Uint8Array, at: number): void {
    this.sink.onPeerId(bytes.subarray(at, at + PEER_ID_BYTES));
  }

  admit(id: number, extendedId: number, length: number): number {
    if (id === MessageId.Extended) return this.extended ? this.offers.admit(extendedId, length - 2) : SKIP;
    if (id === MessageId.Bitfield) return this.admitBitfield(length - 1);
    const right = lengthOf(id);
    if (right === 0) return SKIP;
    if (id >= MessageId.Suggest && !this.fast) return PeerFault.BadFast;
    return length === right ? ADMIT : PeerFault.BadLength;
  }

  onMessage(id: number, bytes: Uint8Array, at: number, length: number): void {
    if (id === MessageId.Extended) {
      this.onExtended(bytes[at]!, bytes, at + 1, length - 1);
      return;
    }
    if (id === MessageId.Port) {
      this.sink.onPort(readU16(bytes, at));
      return;
    }
    if (!this.inOrder(id)) return;
    switch (id) {
      case MessageId.Choke:
        this.peerChoking = true;
        this.sink.onChoke();
        break;
      case MessageId.Unchoke:
        this.peerChoking = false;
        this.sink.onUnchoke();
        break;
      case MessageId.Interested:
        this.peerInterested = true;
        this.sink.onInterested();
        break;
      case MessageId.NotInterested:
        this.peerInterested = false;
        this.sink.onNotInterested();
        break;
      case MessageId.Bitfield:
        this.onBits(bytes, at, length);
        break;
      case MessageId.HaveAll:
        this.sink.onHaveAll();
        break;
      case MessageId.HaveNone:
        this.sink.onHaveNone();
        break;
      default:
        this.onPieceMessage(id, bytes, at);
        break;
    }
  }

  onPieceHead(piece: number, begin: number, length: number): number {
    if (!this.inOrder(MessageId.Piece)) return -1;
    if (!this.isPiece(piece) || begin > 0x7fffffff) {
      this.fail(PeerFault.OutOfRange);
      return -1;
    }
    this.inPiece = piece;
    this.inBegin = begin;
    this.inLength = length;
    return this.sink.onBlockHead(piece, begin, length);
  }

  onPieceEnd(slot: number): void {
    this.sink.onBlock(this.inPiece, this.inBegin, this.inLength, slot);
  }

  onPieceRefused(slot: number): void {
    this.sink.onBlockAbort(slot);
  }

  onFrameFault(fault: PeerFault): void {
    this.sink.onFault(fault);
  }

  // --------------------------------------------------------------------------------------------------------- private

  /** Have, request, cancel, suggest, reject, allowed fast: bodies that begin with a piece number. */
  private onPieceMessage(id: number, bytes: Uint8Array, at: number): void {
    const piece = readU32(bytes, at);
    if (!this.isPiece(piece)) this.fail(PeerFault.OutOfRange);
    else if (id === MessageId.Have) this.sink.onHave(piece);
    else if (id === MessageId.Suggest) this.sink.onSuggest(piece);
    else if (id === MessageId.AllowedFast) this.sink.onAllowedFast(piece);
    else {
      const begin = readU32(bytes, at + 4);
      const length = readU32(bytes, at + 8);
      if (begin > 0x7fffffff || length === 0 || length > MAX_BLOCK_BYTES) this.fail(PeerFault.OutOfRange);
      else if (id === MessageId.Request) this.sink.onRequest(piece, begin, length);
      else if (id === MessageId.Cancel) this.sink.onCancel(piece, begin, length);
      else this.sink.onReject(piece, begin, length);
    }
  }

  private onBits(bytes: Uint8Array, at: number, length: number): void {
    const spare = this.pieceCount >= 0 ? length * 8 - this.pieceCount : 0;
    if (spare > 0 && (bytes[at + length - 1]! & ((1 << spare) - 1)) !== 0) this.fail(PeerFault.BadBitfield);
    else this.sink.onBitfield(bytes.subarray(at, at + length));
  }

  private onExtended(extendedId: number, bytes: Uint8Array, at: number, length: number): void {
    switch (extendedId) {
      case ExtendedId.Handshake:
        this.onSaid(bytes.subarray(at, at + length));
        break;
      case ExtendedId.UtMetadata:
        this.onMetadata(bytes.subarray(at, at + length));
        break;
      case ExtendedId.DontHave: {
        const piece = readU32(bytes, at);
        if (this.isPiece(piece)) this.sink.onDontHave(piece);
        else this.fail(PeerFault.OutOfRange);
        break;
      }
      case ExtendedId.UploadOnly:
        this.remote = { ...this.remote, uploadOnly: bytes[at] !== 0 };
        this.sink.onUploadOnly(bytes[at] !== 0);
        break;
      case ExtendedId.UtPex: {
        const message = parsePex(bytes.subarray(at, at + length));
        if (message === null) this.fail(PeerFault.BadExtended);
        else this.sink.onPex(message);
        break;
      }
      case ExtendedId.Holepunch: {
        const message = parseHolepunch(bytes.subarray(at, at + length));
        if (message !== null) this.sink.onHolepunch(message);
        break;
      }
      default:
        assert(false, 'an extension message admitted that nobody reads');
    }
  }

  private onSaid(body: Uint8Array): void {
    const said = parseExtendedHandshake(body, this.supports);
    if (said === null) this.fail(PeerFault.BadExtended);
    else {
      this.remote = mergeHandshakes(this.remote, said);
      this.sink.onExtendedHandshake(said);
    }
  }

  private onMetadata(body: Uint8Array): void {
    const message = parseMetadataMessage(body);
    if (message === null) this.fail(PeerFault.BadExtended);
    else if (message.kind === MetadataKind.Request) this.sink.onMetadataRequest(message.piece);
    else if (message.kind === MetadataKind.Reject) this.sink.onMetadataReject(message.piece);
    else if (message.kind === MetadataKind.Data) {
      this.sink.onMetadataData(message.piece, message.totalSize, body.subarray(message.dataAt));
    }
  }

  private admitBitfield(bytes: number): number {
    if (this.pieceCount >= 0) return bytes === (this.pieceCount + 7) >>> 3 ? ADMIT : PeerFault.BadBitfield;
    return bytes <= MAX_BITFIELD_BYTES ? ADMIT : PeerFault.TooLong;
  }

  /**
   * BEP 6: one of bitfield, have all and have none comes, and comes first. BEP 3 has a bitfield first or never, but aria2
   * sends another, or have all, instead of many haves at once, and all clients take that.
   */
  private inOrder(id: number): boolean {
    const first = !this.peerSpoke;
    this.peerSpoke = true;
    if (first && this.fast && id !== MessageId.Bitfield && id !== MessageId.HaveAll && id !== MessageId.HaveNone) {
      this.fail(PeerFault.BadFast);
      return false;
    }
    if (first || id !== MessageId.HaveNone) return true;
    this.fail(PeerFault.BadFast);
    return false;
  }

  private isPiece(piece: number): boolean {
    return piece < (this.pieceCount >= 0 ? this.pieceCount : MAX_PIECES);
  }

  private fail(fault: PeerFault): void {
    if (this.framer.stopped) return;
    const slot = this.framer.stop();
    if (slot >= 0) this.sink.onBlockAbort(slot);
    this.sink.onFault(fault);
  }

  private metadata(kind: number, piece: number, totalSize: number, data: Uint8Array | null): void {
    if (!this.supports.metadata) return;
    this.say.extensionText(this.supports.metadataId, metadataHead(kind, piece, totalSize), data);
  }
}
