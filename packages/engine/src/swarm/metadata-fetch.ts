/**
 * Fetches the info dictionary from peers (BEP 9) and serves it once we have it.
 *
 * An *attempt* is a size that some peer named and a buffer of that size. Its pieces are asked of several peers at once;
 * when all are in, the info-hash decides. A wrong one costs everybody who sent a part of it their say: the next attempt
 * takes everything from one peer, and who sends wrong metadata alone is closed.
 *
 * Limits: 16 MiB of metadata (DEMANDS W14; libtorrent takes 30), 32 pieces in flight per peer, 10 s for an answer. Serving:
 * twice the metadata's size per peer and minute, answers of no use included; silence after that.
 */

import { equal, utf8Encode } from '../base/bytes.ts';
import { PeerFault } from '../base/errors.ts';
import { sha1, sha256 } from '../base/hash.ts';
import type { Peer } from './peer.ts';

export const METADATA_PIECE_BYTES = 16384;
const MAX_METADATA_BYTES = 16 << 20;
/** Half of what Transmission queues. */
const MAX_IN_FLIGHT = 32;
/** All of most metadata. Transmission gives what it was asked for every 2 or 3 s, so that one at a time takes long. */
const FIRST_IN_FLIGHT = 4;
/** What rtorrent's peer ids begin with. */
const RTORRENT: Uint8Array = utf8Encode('-lt');
/** A peer that answers sooner needs no more to do, and one that answers later has enough. */
const QUICK_MS = 250;
const BUSY_MS = 4000;
const ANSWER_MS = 10_000;
/** Rest after a reject or a wrong size (libtorrent: 1 min). */
const REST_MS = 60_000;
const SERVE_PERIOD_MS = 60_000;
/** What an answer costs besides the data, and a reject at most. */
const ANSWER_BYTES = 64;
/** Of a peer in that time: five times as many as the largest metadata has pieces. */
const MAX_REQUESTS = 10_000;
const NOBODY = -1;

export interface MetadataSink {
  /** The info dictionary, verified against the info-hash. */
  onMetadata(infoBytes: Uint8Array): void;
  /** There is metadata to one of the two info-hashes that is not that of the other: none can be of both. */
  onHashesDisagree(): void;
}

/**
 * How many pieces one peer may be asked for at once. Transmission answers some of what it was asked every 2 or 3 s, so
 * that each slow answer makes room for one more; rtorrent forgets what comes while it answers another, so that it is asked for
 * one at a time, and so is whoever left one out.
 */
interface Pace {
  limit: number;
  forgetful: boolean;
  /** 0: not yet. */
  answeredAtMs: number;
}

export class MetadataFetch {
  readonly #infoHash: Uint8Array | null;
  readonly #infoHashV2: Uint8Array | null;
  readonly #sink: MetadataSink;
  /** Null while it is missing. */
  #infoBytes: Uint8Array | null = null;
  #buffer: Uint8Array | null = null;
  /** Per piece: who was asked, when; who sent it. */
  #askedOf = new Int32Array(0);
  #askedAtMs = new Float64Array(0);
  /** Order in which the pieces were asked for. */
  #askedAs = new Int32Array(0);
  #askedCount = 0;
  readonly #paces = new Map<number, Pace>();
  #sentBy = new Int32Array(0);
  #missingCount = 0;
  #begunAtMs = 0;
  /** How long an attempt may take while peers wait that speak of another size; doubles, so that a large one succeeds. */
  #patienceMs = 5000;
  /** After a failure everything comes from one peer. */
  #alone = false;
  #soleNumber = NOBODY;
  #disagree = false;

  constructor(infoHash: Uint8Array | null, infoHashV2: Uint8Array | null, sink: MetadataSink) {
    this.#infoHash = infoHash;
    this.#infoHashV2 = infoHashV2;
    this.#sink = sink;
  }

  get size(): number {
    return this.#infoBytes?.length ?? 0;
  }

  /** We have it, from a file or an earlier run. */
  provide(infoBytes: Uint8Array): void {
    this.#infoBytes = infoBytes;
    this.#buffer = null;
  }

  /** Asks the peer for what it may be asked now. Call it when the peer is ready, answered, or a second has passed. */
  ask(peer: Peer, now: number): void {
    if (this.#infoBytes !== null || this.#disagree || peer.closed || now < peer.metadataRestUntilMs) return;
    const size = peer.conversation.remote.metadataSize;
    if (!peer.conversation.supports.metadata || size <= 0 || size > MAX_METADATA_BYTES) return;
    if (this.#alone && this.#soleNumber !== NOBODY && this.#soleNumber !== peer.number) return;
    if (this.#buffer === null) this.#begin(size, now);
    if (this.#buffer!.length !== size) return;
    if (this.#alone) this.#soleNumber = peer.number;
    const { limit } = this.#paceOf(peer);
    for (let i = 0; i < this.#sentBy.length && peer.metadataAsked < limit; i++) {
      if (this.#sentBy[i] !== NOBODY || this.#askedOf[i] !== NOBODY) continue;
      this.#askedOf[i] = peer.number;
      this.#askedAs[i] = this.#askedCount++;
      this.#askedAtMs[i] = now;
      peer.metadataAsked++;
      peer.conversation.metadataRequest(i);
      peer.link.touch();
    }
  }

  received(peer: Peer, piece: number, totalSize: number, data: Uint8Array, peers: readonly Peer[], now: number): void {
    const buffer = this.#buffer;
    if (buffer === null || piece >= this.#sentBy.length || this.#askedOf[piece] !== peer.number) return;
    const from = piece * METADATA_PIECE_BYTES;
    const length = Math.min(METADATA_PIECE_BYTES, buffer.length - from);
    this.#askedOf[piece] = NOBODY;
    peer.metadataAsked--;
    if (data.length !== length || totalSize !== buffer.length) return this.#rest(peer, now);
    buffer.set(data, from);
    this.#sentBy[piece] = peer.number;
    this.#answered(peer, piece, now);
    this.#missingCount--;
    if (this.#missingCount === 0) this.#judge(peers, now);
    else this.ask(peer, now);
  }

  rejected(peer: Peer, piece: number, now: number): void {
    if (piece >= this.#askedOf.length || this.#askedOf[piece] !== peer.number) return;
    this.#askedOf[piece] = NOBODY;
    peer.metadataAsked--;
    this.#rest(peer, now);
  }

  /** Requests without an answer are free for others; call each second. */
  sweep(peers: readonly Peer[], now: number): void {
    if (this.#buffer === null) return;
    for (let i = 0; i < this.#askedOf.length; i++) {
      if (this.#askedOf[i] === NOBODY || now - this.#askedAtMs[i]! < ANSWER_MS) continue;
      const slow = peers.find((peer) => peer.number === this.#askedOf[i]);
      // it answers one after the other, but not for ever
      const waitedMs = now - this.#askedAtMs[i]!;
      if (slow !== undefined && waitedMs < 3 * ANSWER_MS && now - this.#paceOf(slow).answeredAtMs < ANSWER_MS) continue;
      this.#askedOf[i] = NOBODY;
      if (slow === undefined) continue;
      slow.metadataAsked--;
      const pace = this.#paceOf(slow);
      if (pace.answeredAtMs > 0 && !pace.forgetful) forgets(pace);
      else this.#rest(slow, now);
    }
    // nobody left who speaks of this size, or others wait while it goes on and on: start over with another
    const size = this.#buffer.length;
    const alive = peers.some((p) => p.conversation.remote.metadataSize === size && now >= p.metadataRestUntilMs);
    if (alive && (now - this.#begunAtMs < this.#patienceMs || !peers.some((p) => this.#waits(p, now)))) return;
    for (const peer of peers) {
      if (!alive || !this.#takesPart(peer)) continue;
      peer.metadataRestUntilMs = now + REST_MS;
    }
    for (const number of this.#askedOf) {
      const asked = number === NOBODY ? undefined : peers.find((peer) => peer.number === number);
      if (asked !== undefined) asked.metadataAsked--;
    }
    if (alive) this.#patienceMs *= 2;
    this.#drop();
  }

  #takesPart(peer: Peer): boolean {
    if (this.#alone && this.#soleNumber !== NOBODY) return peer.number === this.#soleNumber;
    return peer.conversation.remote.metadataSize === this.#buffer!.length;
  }

  /** Could be asked, were it not for the attempt that goes on with others. */
  #waits(peer: Peer, now: number): boolean {
    const size = peer.conversation.remote.metadataSize;
    if (this.#takesPart(peer) || now < peer.metadataRestUntilMs) return false;
    return peer.conversation.supports.metadata && size > 0 && size <= MAX_METADATA_BYTES;
  }

  /** The peer is gone. */
  forget(peer: Peer): void {
    for (let i = 0; i < this.#askedOf.length; i++) if (this.#askedOf[i] === peer.number) this.#askedOf[i] = NOBODY;
    if (this.#soleNumber === peer.number) this.#soleNumber = NOBODY;
    this.#paces.delete(peer.number);
  }

  /** A peer asks for a piece of it. */
  requested(peer: Peer, piece: number, now: number): void {
    const info = this.#infoBytes;
    peer.link.touch();
    if (now - peer.metadataServedSinceMs >= SERVE_PERIOD_MS) {
      peer.metadataServedSinceMs = now;
      peer.metadataServedBytes = 0;
      peer.metadataRequestCount = 0;
    }
    if (++peer.metadataRequestCount > MAX_REQUESTS) return peer.fault(PeerFault.Flood);
    const size = info?.length ?? METADATA_PIECE_BYTES;
    const left = Math.max(2 * size, size + 2 * ANSWER_BYTES) - peer.metadataServedBytes;
    const from = piece * METADATA_PIECE_BYTES;
    const length = Math.min(METADATA_PIECE_BYTES, size - from);
    if (info !== null && length > 0 && length + ANSWER_BYTES <= left) {
      peer.metadataServedBytes += length + ANSWER_BYTES;
      peer.conversation.metadataData(piece, size, info.subarray(from, from + length));
    } else if (ANSWER_BYTES <= left) {
      peer.metadataServedBytes += ANSWER_BYTES;
      peer.conversation.metadataReject(piece);
    }
  }

  #begin(size: number, now: number): void {
    const count = Math.ceil(size / METADATA_PIECE_BYTES);
    this.#buffer = new Uint8Array(size);
    this.#askedOf = new Int32Array(count).fill(NOBODY);
    this.#askedAtMs = new Float64Array(count);
    this.#askedAs = new Int32Array(count);
    this.#sentBy = new Int32Array(count).fill(NOBODY);
    this.#missingCount = count;
    this.#begunAtMs = now;
  }

  /**
   * Answers come in the order of the questions: what was asked before this one and is not here will not come. Then what
   * was asked after it may not come either, and is free too.
   */
  #answered(peer: Peer, piece: number, now: number): void {
    const pace = this.#paceOf(peer);
    pace.answeredAtMs = now;
    const leftOut = this.#askedOf.some((of, i) => of === peer.number && this.#askedAs[i]! < this.#askedAs[piece]!);
    if (!leftOut) {
      const tookMs = now - this.#askedAtMs[piece]!;
      if (tookMs >= QUICK_MS && tookMs < BUSY_MS && !pace.forgetful)
        pace.limit = Math.min(pace.limit + 1, MAX_IN_FLIGHT);
      return;
    }
    forgets(pace);
    peer.metadataAsked = 0;
    for (let i = 0; i < this.#askedOf.length; i++) if (this.#askedOf[i] === peer.number) this.#askedOf[i] = NOBODY;
  }

  #paceOf(peer: Peer): Pace {
    let pace = this.#paces.get(peer.number);
    if (pace === undefined) {
      const forgetful = equal(peer.peerId.subarray(0, RTORRENT.length), RTORRENT);
      pace = { limit: forgetful ? 1 : FIRST_IN_FLIGHT, forgetful, answeredAtMs: 0 };
      this.#paces.set(peer.number, pace);
    }
    return pace;
  }

  #judge(peers: readonly Peer[], now: number): void {
    const bytes = this.#buffer!;
    const v1 = this.#infoHash === null || equal(sha1(bytes), this.#infoHash);
    const v2 = this.#infoHashV2 === null || equal(sha256(bytes), this.#infoHashV2);
    if (v1 && v2) {
      this.provide(bytes);
      return this.#sink.onMetadata(bytes);
    }
    const senders = new Set(this.#sentBy);
    this.#drop();
    // nobody can make up bytes to a hash: the sender is honest, and the hashes are of two torrents
    if (this.#infoHash !== null && this.#infoHashV2 !== null && (v1 || v2)) {
      this.#disagree = true;
      return this.#sink.onHashesDisagree();
    }
    this.#alone = true;
    if (senders.size === 1) peers.find((peer) => senders.has(peer.number))?.fault(PeerFault.Corrupt);
    // first those who had no part in it
    for (const peer of peers) if (!senders.has(peer.number)) this.ask(peer, now);
    for (const peer of peers) this.ask(peer, now);
  }

  #drop(): void {
    this.#buffer = null;
    this.#askedOf = new Int32Array(0);
    this.#sentBy = new Int32Array(0);
    this.#missingCount = 0;
    this.#soleNumber = NOBODY;
  }

  #rest(peer: Peer, now: number): void {
    peer.metadataRestUntilMs = now + REST_MS;
    if (this.#soleNumber === peer.number) this.#soleNumber = NOBODY;
  }
}

function forgets(pace: Pace): void {
  pace.forgetful = true;
  pace.limit = 1;
}
