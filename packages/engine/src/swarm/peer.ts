/**
 * One connected peer of a torrent: what it has, what we asked of it, what it asked of us. Turns the conversation's calls
 * into the swarm's verbs; decides nothing that concerns more than this peer.
 *
 * Invariant: `wantedCount` is the number of pieces that it has and we want and lack, so that our interest is exact.
 * Limits: 2,000 requests queued from a peer (advertised as reqq), 16 allowed-fast pieces remembered.
 */

import { Bitfield } from '../base/bitfield.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { Meter } from '../base/meter.ts';
import type { Endpoint } from '../base/ports.ts';
import type { Limiter } from '../transport/limiter.ts';
import type { Conversation } from '../wire/conversation.ts';
import type { ConversationSink, ExtendedHandshake } from '../wire/conversation-sink.ts';
import type { HolepunchMessage } from '../wire/holepunch.ts';
import type { Encryption } from '../wire/mse.ts';
import type { PexMessage } from '../wire/pex.ts';
import type { ChokeRecord } from './choker.ts';
import type { Partial } from './partials.ts';
import type { PexPeer } from './pex.ts';
import { RequestWindow } from './request-window.ts';
import type { Swarm } from './swarm.ts';
import { UploadQueue } from './upload-queue.ts';

/** What carries a peer's conversation; the session's side of a connection. */
export interface PeerLink {
  readonly conversation: Conversation;
  readonly remote: Endpoint;
  readonly incoming: boolean;
  /** It runs over uTP. */
  readonly utp?: boolean;
  readonly encryption?: Encryption;
  /** Rate limits do not concern it. */
  readonly unlimited?: boolean;
  /** Something is to be sent: flush at the end of this turn. */
  touch(): void;
  /** Stops and resumes reading, for a peer that asks faster than it takes. */
  pause(): void;
  resume(): void;
  /** Ends the connection; `closed` of the peer is called by the link before it returns. */
  close(fault: PeerFault, why: IoFault | null): void;
}

/** Allowed-fast pieces taken from a peer (BEP 6 sends 10). */
const MAX_REMEMBERED_FAST = 16;
/** So long a peer is new to the choker (BEP 3: three rounds). */
const NEW_MS = 30_000;
/** A reader for whom nothing could be read for so long, though it asked, has no room: half a MiB at 50 kB/s. */
const STILL_MS = 10_000;
/** Extension handshakes, upload-only and port messages of a connection: honest peers send a handful. */
const MAX_NOTICES = 1000;
/** Blocks nobody asked for that are put down to races before the peer is taken for a flooder. */
const MAX_UNASKED = 256;

export class Peer implements ConversationSink, ChokeRecord {
  readonly swarm: Swarm;
  readonly link: PeerLink;
  readonly conversation: Conversation;
  /** Index in the swarm's table; names it in partials. */
  readonly number: number;
  readonly peerId: Uint8Array = new Uint8Array(20);
  readonly connectedAtMs: number;

  /** What it has; null until the piece count is known. */
  has: Bitfield | null = null;
  /** It was attached before the metadata was known, and told that we have nothing. */
  toldNothing = false;
  /** What it said before the piece count was known: a raw bitfield, all, or none; and single haves. */
  rawBits: Uint8Array | null = null;
  rawAll = false;
  rawHaves: number[] = [];
  /** How often it said all that it has. */
  statementCount = 0;
  wantedCount = 0;
  uploadOnly = false;
  /** Payload it took, as far as that was judged. */
  takenSeen = 0;
  /** Share of the torrent that it lacked when it came. */
  lackedShare = 1;

  readonly window: RequestWindow = new RequestWindow();
  /** Where its next blocks are taken from. */
  current: Partial | null = null;
  /** The piece it opened last, and how many bytes of pieces in a row led there. */
  lastOpened = -1;
  runBytes = 0;
  /** The payload being received, while it is of use. */
  inPartial: Partial | null = null;
  inBlock = -1;
  /** Is asked for nothing before this time. */
  restUntilMs = 0;
  /** Answers that may still come for requests we gave up. */
  lateCount = 0;
  unaskedCount = 0;
  noticeCount = 0;
  /** Pieces it lets us ask for while it chokes us (BEP 6). */
  fastPieces: number[] = [];
  rejectsInRow = 0;
  snubbed = false;
  /** Downloads whole pieces alone until one is good (parole). */
  onParole = false;
  /** Failed pieces it had a part in. */
  failedPieces = 0;

  readonly uploads: UploadQueue = new UploadQueue();
  /** Not read from, because it asks faster than it takes. */
  uploadsPaused = false;
  /** Pieces that it may ask for while choked, and how many blocks of them it got (BEP 6). */
  grantedFast: readonly number[] = [];
  fastServed = 0;
  readonly down: Meter = new Meter();
  readonly up: Meter = new Meter();
  /** Its places in the queues for what the torrent's limits leave; made when there are limits. */
  downShare: Limiter | null = null;
  upShare: Limiter | null = null;
  lastPayloadMs: number;
  lastUsefulMs: number;
  /** When it was unchoked last; before that, when it came. */
  unchokedAt: number;
  /** When it was choked last; before that, when it came. */
  waitingSince: number;
  uploadedSinceUnchoke = 0;
  /** When something was read for it last, or it was unchoked. */
  servedAtMs = 0;
  /** Metadata pieces asked of it, not answered yet. */
  metadataAsked = 0;
  metadataRestUntilMs = 0;
  /** What it was served of the metadata since then. */
  metadataServedSinceMs = 0;
  metadataServedBytes = 0;
  metadataRequestCount = 0;
  /** What peer exchange keeps of it; null: it takes no part. */
  pex: PexPeer | null = null;
  /** Closed for what it did, or did not do: nobody to tell others of. */
  faulted = false;
  /** Waits for the end of the turn. */
  awake = false;
  closed = false;

  constructor(swarm: Swarm, link: PeerLink, number: number, now: number) {
    this.swarm = swarm;
    this.link = link;
    this.conversation = link.conversation;
    this.number = number;
    this.connectedAtMs = now;
    this.unchokedAt = now;
    this.waitingSince = now;
    this.lastPayloadMs = now;
    this.lastUsefulMs = now;
  }

  get isSeed(): boolean {
    return this.has?.isFull ?? this.rawAll;
  }

  // what the choker looks at
  get id(): number {
    return this.number;
  }

  /** Wants to be served, and takes what it is served: an upload slot is of no use to one that stands still. */
  get interested(): boolean {
    return this.conversation.peerInterested && !this.#standsStill;
  }

  get choked(): boolean {
    return this.conversation.amChoking;
  }

  get downRate(): number {
    return this.down.rateBps;
  }

  get upRate(): number {
    return this.up.rateBps;
  }

  get isNew(): boolean {
    return this.unchokedAt === this.connectedAtMs && this.swarm.now - this.connectedAtMs < NEW_MS;
  }

  get #standsStill(): boolean {
    const { swarm, uploads } = this;
    if (uploads.count === 0 || swarm.uploads.starved) return false;
    return swarm.now - this.servedAtMs >= STILL_MS;
  }

  /** May be asked for blocks of `piece` now. */
  mayAsk(piece: number): boolean {
    return !this.conversation.peerChoking || this.fastPieces.includes(piece);
  }

  fault(fault: PeerFault): void {
    this.faulted = fault !== PeerFault.Redundant;
    this.link.close(fault, null);
  }

  // ------------------------------------------------------------------------------------------------ conversation sink

  onHandshake(): void {}

  onPeerId(): void {}

  onChoke(): void {
    this.swarm.requests.choked(this);
  }

  onUnchoke(): void {
    this.rejectsInRow = 0;
    this.swarm.wake(this);
  }

  onInterested(): void {
    this.swarm.interestChanged(this);
  }

  onNotInterested(): void {
    this.swarm.interestChanged(this);
  }

  onHave(piece: number): void {
    if (this.has === null) {
      if (this.rawHaves.length < 65536) this.rawHaves.push(piece);
      else this.fault(PeerFault.Flood);
      return;
    }
    if (piece >= this.has.length) return this.fault(PeerFault.OutOfRange);
    if (this.has.set(piece)) this.swarm.supply.gained(this, piece);
  }

  onBitfield(bits: Uint8Array): void {
    if (this.has === null) this.rawBits = bits.slice();
    else {
      const has = Bitfield.from(bits, this.has.length);
      if (has === null) this.fault(PeerFault.BadBitfield);
      else this.swarm.supply.stated(this, has);
    }
  }

  onHaveAll(): void {
    this.rawAll = true;
    if (this.has !== null) {
      const has = new Bitfield(this.has.length);
      has.setAll();
      this.swarm.supply.stated(this, has);
    }
  }

  onHaveNone(): void {}

  onDontHave(piece: number): void {
    if (this.has === null) return;
    if (piece >= this.has.length) return this.fault(PeerFault.OutOfRange);
    this.rawAll = false;
    if (this.has.clear(piece)) this.swarm.supply.lost(this, piece);
  }

  onRequest(piece: number, begin: number, length: number): void {
    this.swarm.uploads.requested(this, piece, begin, length);
  }

  onCancel(piece: number, begin: number, length: number): void {
    this.swarm.uploads.cancelled(this, piece, begin, length);
  }

  onBlockHead(piece: number, begin: number, length: number): number {
    return this.swarm.intake.head(this, piece, begin, length);
  }

  onBlock(_piece: number, _begin: number, length: number, slot: number): void {
    this.swarm.intake.block(this, length, slot);
  }

  onBlockAbort(slot: number): void {
    this.swarm.intake.abort(this, slot);
  }

  onReject(piece: number, begin: number, length: number): void {
    this.swarm.requests.rejected(this, piece, begin, length);
  }

  onSuggest(): void {}

  onAllowedFast(piece: number): void {
    if (this.has !== null && piece >= this.has.length) return this.fault(PeerFault.OutOfRange);
    if (this.fastPieces.length >= MAX_REMEMBERED_FAST || this.fastPieces.includes(piece)) return;
    this.fastPieces.push(piece);
    this.swarm.wake(this);
  }

  onPort(port: number): void {
    if (++this.noticeCount > MAX_NOTICES) this.fault(PeerFault.Flood);
    else this.swarm.portNamed(this, port);
  }

  onExtendedHandshake(handshake: ExtendedHandshake): void {
    if (++this.noticeCount > MAX_NOTICES) return this.fault(PeerFault.Flood);
    if (handshake.uploadOnly !== null) this.onUploadOnly(handshake.uploadOnly);
    if (handshake.reqq > 0) this.window.setPeerLimit(handshake.reqq);
    this.swarm.extended(this, handshake);
  }

  onUploadOnly(uploadOnly: boolean): void {
    if (++this.noticeCount > MAX_NOTICES) return this.fault(PeerFault.Flood);
    this.uploadOnly = uploadOnly;
    this.swarm.interestChanged(this);
  }

  onMetadataRequest(piece: number): void {
    this.swarm.metadata.requested(this, piece, this.swarm.now);
  }

  onMetadataData(piece: number, totalSize: number, data: Uint8Array): void {
    this.swarm.metadata.received(this, piece, totalSize, data, this.swarm.peers, this.swarm.now);
  }

  onMetadataReject(piece: number): void {
    this.swarm.metadata.rejected(this, piece, this.swarm.now);
  }

  onPex(message: PexMessage): void {
    const { swarm } = this;
    swarm.pex?.receive(this, message, swarm.now, swarm.have?.isFull !== true);
  }

  onHolepunch(message: HolepunchMessage): void {
    this.swarm.holepunch.received(this, message, this.swarm.now);
  }

  onFault(fault: PeerFault): void {
    this.fault(fault);
  }

  /** A block came that was not asked for. Counted as waste; too many and it is a flood. */
  unasked(length: number): void {
    this.swarm.wasted += length;
    if (this.lateCount > 0) this.lateCount--;
    else if (++this.unaskedCount > MAX_UNASKED) this.fault(PeerFault.Flood);
  }
}
