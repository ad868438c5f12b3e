/**
 * Serves peers: validates and queues what they ask, reads runs of blocks ahead of each peer's connection, and sees that
 * each request gets exactly one answer, a piece or (BEP 6) a reject.
 *
 * A run is up to `MAX_RUN` requests for blocks that follow each other: one read, one gathered write. What a peer has not
 * taken yet is bounded by `WATERMARK`, so a reader that stands still holds little. Nothing is dropped silently: a peer
 * with the fast extension gets rejects past the limit that we advertised; of any other we stop reading for a while.
 */

import { assert } from '../base/assert.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import type { Peer } from './peer.ts';
import type { Swarm } from './swarm.ts';
import { UploadQueue } from './upload-queue.ts';

/** Blocks read and sent in one go: 512 KiB, half the watermark, so that reading and sending overlap. */
const MAX_RUN = 32;
/** Bytes read or being sent that a peer has not taken, at most (DEMANDS W6). */
const WATERMARK = 1 << 20;
/** The same for a peer that is choked and served all the same (allowed fast): there may be many. */
const CHOKED_WATERMARK = 4 * BLOCK_BYTES;
/** Blocks that a reader may have under way however little memory is free. */
const MIN_ROOM = 2;
/** Part of the slots that readers who stand still may hold together. */
const UPLOAD_SHARE = 1 / 2;
/** Longest request that is served (webtorrent's; BEP 3 practice is 16 KiB). */
const MAX_REQUEST = 131072;
/** Requests of a peer without the fast extension that can arrive in what was read before reading stopped. */
const HARD_LIMIT = 20_000;
/** Requests looked at for cancels in one turn: about 2 ms. */
const MAX_SEARCHED = 1_000_000;
/** Pieces that are served to a choked peer (BEP 6 allowed fast), each this often. */
const FAST_SERVINGS = 2;

interface Read {
  peer: Peer;
  piece: number;
  firstBlock: number;
  blockCount: number;
  /** The request as it was made when it is not a run of whole blocks; length 0: it is a run. */
  begin: number;
  length: number;
  bytes: number;
}

export class Uploads {
  readonly #swarm: Swarm;
  readonly #reads = new Map<number, Read>();
  #nextJob = 1;
  /** Something was not sent for want of rate. */
  starved = false;
  /** Requests looked at for cancels in this turn. */
  #searched = 0;
  #searchedAtMs = -1;

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  /** What one of `count` peers served at once may hold, in bytes. */
  static share(slotCount: number, count: number): number {
    const blocks = Math.max(1, Math.floor((slotCount * UPLOAD_SHARE) / count));
    return Math.min(WATERMARK, blocks * BLOCK_BYTES);
  }

  requested(peer: Peer, piece: number, begin: number, length: number): void {
    const { layout } = this.#swarm;
    if (layout === null) return this.#refuse(peer, piece, begin, length);
    if (piece >= layout.pieceCount || length > MAX_REQUEST || begin + length > layout.pieceSize(piece)) {
      return peer.fault(PeerFault.OutOfRange);
    }
    const allowed = !peer.conversation.amChoking || this.#servesFast(peer, piece, layout.blockCount(piece));
    if (!allowed || !this.#swarm.have!.get(piece)) return this.#refuse(peer, piece, begin, length);
    if (peer.uploads.full) {
      if (peer.conversation.fast) return this.#refuse(peer, piece, begin, length);
      if (peer.uploads.count >= HARD_LIMIT) return peer.fault(PeerFault.Flood);
      peer.link.pause();
      peer.uploadsPaused = true;
    }
    peer.uploads.push(piece, begin, length);
    this.#swarm.wake(peer);
  }

  cancelled(peer: Peer, piece: number, begin: number, length: number): void {
    const { uploads, conversation } = peer;
    if (this.#swarm.now !== this.#searchedAtMs) {
      this.#searchedAtMs = this.#swarm.now;
      this.#searched = 0;
    }
    // a cancel may be ignored: a flood of them is, past some milliseconds of searching in a turn
    if (uploads.count === 0 || this.#searched > MAX_SEARCHED) return;
    const at = uploads.find(piece, begin, length);
    this.#searched += at < 0 ? uploads.count : at + 1;
    // one that is being read is answered with the piece
    if (at < 0) return;
    uploads.removeAt(at);
    if (conversation.fast) this.#refuse(peer, piece, begin, length);
  }

  /** Chokes and answers what is queued. Pieces that it may have all the same (allowed fast) are rejected too: simple and legal. */
  choke(peer: Peer): void {
    const { uploads, conversation } = peer;
    peer.waitingSince = this.#swarm.now;
    conversation.choke();
    if (conversation.fast) {
      for (let i = 0; i < uploads.count; i++)
        conversation.reject(uploads.piece(i), uploads.begin(i), uploads.length(i));
    }
    uploads.clear();
    this.#resume(peer);
    peer.link.touch();
  }

  unchoke(peer: Peer, now: number): void {
    peer.unchokedAt = now;
    peer.servedAtMs = now;
    peer.uploadedSinceUnchoke = 0;
    peer.conversation.unchoke();
    peer.link.touch();
  }

  /** Starts reads for a peer until its connection has enough to do. */
  serve(peer: Peer, now: number): void {
    const { uploads } = peer;
    const { store } = this.#swarm;
    if (store === null) return;
    while (uploads.count > 0 && !peer.closed) {
      const room = this.#room(peer);
      if (room <= 0) break;
      const run = Math.min(this.#run(uploads), Math.ceil(room / BLOCK_BYTES));
      const granted = this.#swarm.grantUp(peer, now, Math.max(run, 1));
      if (granted === 0) break;
      // a request of an odd shape can be eight times what was granted for it
      if (run === 0) this.#swarm.spendUp(peer, now, uploads.length(0) - BLOCK_BYTES);
      this.#read(peer, Math.min(run, granted));
    }
    if (peer.uploadsPaused && uploads.count < UploadQueue.LIMIT / 2) this.#resume(peer);
  }

  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void {
    const read = this.#reads.get(job);
    assert(read !== undefined, 'a read nobody asked for');
    this.#reads.delete(job);
    const { peer } = read;
    peer.uploads.readingBytes -= read.blockCount * BLOCK_BYTES;
    if (fault !== null) {
      if (peer.closed) return;
      // that the piece is not to be had comes first, so that the peer does not count these as rejects of its own
      this.#swarm.readFault(read.piece, fault);
      if (!peer.closed) this.#refuseRead(read);
      return;
    }
    if (peer.closed) {
      for (let i = 0; i < count; i++) this.#swarm.slots.release(slots[i]!);
      return;
    }
    if (read.length === 0) this.#sendRun(read, slots, count);
    else this.#sendSlice(read, slots, count);
    peer.servedAtMs = this.#swarm.now;
    peer.up.add(read.bytes);
    peer.uploadedSinceUnchoke += read.bytes;
    this.#swarm.countUp(read.bytes);
    this.#swarm.wake(peer);
    peer.link.touch();
  }

  /** Bytes that may be read for the peer now. A slot counts whole, however little of it was asked for. */
  #room(peer: Peer): number {
    const { conversation, uploads } = peer;
    const share = conversation.amChoking
      ? Math.min(CHOKED_WATERMARK, this.#swarm.uploadShare)
      : this.#swarm.uploadShare;
    // of what is left each takes a part only, so that those who stand still never have it all
    const left = Math.max(MIN_ROOM, this.#swarm.slots.freeCount >> 3) * BLOCK_BYTES;
    const held = Math.max(conversation.queuedBytes, conversation.queuedSlots * BLOCK_BYTES) + uploads.readingBytes;
    return Math.min(share, left) - held;
  }

  /** How many of the oldest requests are whole blocks that follow each other; 0: the oldest is of another shape. */
  #run(uploads: UploadQueue): number {
    const layout = this.#swarm.layout!;
    const piece = uploads.piece(0);
    const begin = uploads.begin(0);
    const size = layout.pieceSize(piece);
    let n = 0;
    while (n < MAX_RUN && n < uploads.count) {
      const at = begin + n * BLOCK_BYTES;
      if (uploads.piece(n) !== piece || uploads.begin(n) !== at) break;
      if (at % BLOCK_BYTES !== 0 || uploads.length(n) !== Math.min(BLOCK_BYTES, size - at)) break;
      n++;
    }
    return n;
  }

  /** Reads for the `run` oldest requests, or for the oldest alone, of whatever shape, when run is 0. */
  #read(peer: Peer, run: number): void {
    const { uploads } = peer;
    const piece = uploads.piece(0);
    const begin = uploads.begin(0);
    const firstBlock = Math.floor(begin / BLOCK_BYTES);
    const slice = run === 0;
    const length = slice ? uploads.length(0) : 0;
    const end = slice ? begin + length : Math.min(begin + run * BLOCK_BYTES, this.#swarm.layout!.pieceSize(piece));
    const blockCount = Math.ceil(end / BLOCK_BYTES) - firstBlock;
    const bytes = end - begin;
    uploads.shift(slice ? 1 : run);
    uploads.readingBytes += blockCount * BLOCK_BYTES;
    const job = this.#nextJob++;
    this.#reads.set(job, { peer, piece, firstBlock, blockCount, begin, length, bytes });
    this.#swarm.store!.read(job, piece, firstBlock, blockCount);
  }

  #sendRun(read: Read, slots: Int32Array, count: number): void {
    const { conversation } = read.peer;
    const size = this.#swarm.layout!.pieceSize(read.piece);
    for (let i = 0; i < count; i++) {
      const begin = (read.firstBlock + i) * BLOCK_BYTES;
      if (begin + BLOCK_BYTES <= size) conversation.pieceBlock(slots[i]!, read.piece, begin);
      else conversation.pieceSlice(slots[i]!, 0, read.piece, begin, size - begin);
    }
  }

  /** A request that is not one whole block: its bytes lie in one slot or run over several. */
  #sendSlice(read: Read, slots: Int32Array, count: number): void {
    read.peer.conversation.pieceSpan(
      slots,
      count,
      read.begin - read.firstBlock * BLOCK_BYTES,
      read.piece,
      read.begin,
      read.length,
    );
  }

  #refuseRead(read: Read): void {
    const { peer } = read;
    if (!peer.conversation.fast) return peer.fault(PeerFault.Closed);
    if (read.length > 0) return this.#refuse(peer, read.piece, read.begin, read.length);
    const layout = this.#swarm.layout!;
    for (let b = read.firstBlock; b < read.firstBlock + read.blockCount; b++) {
      this.#refuse(peer, read.piece, b * BLOCK_BYTES, layout.blockSize(read.piece, b));
    }
  }

  #refuse(peer: Peer, piece: number, begin: number, length: number): void {
    if (!peer.conversation.fast) return;
    peer.conversation.reject(piece, begin, length);
    peer.link.touch();
  }

  #servesFast(peer: Peer, piece: number, blockCount: number): boolean {
    if (!peer.grantedFast.includes(piece) || peer.fastServed >= peer.grantedFast.length * blockCount * FAST_SERVINGS) {
      return false;
    }
    peer.fastServed++;
    return true;
  }

  #resume(peer: Peer): void {
    if (!peer.uploadsPaused) return;
    peer.uploadsPaused = false;
    peer.link.resume();
  }
}
