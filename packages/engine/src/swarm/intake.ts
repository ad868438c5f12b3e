/**
 * The way of a block that comes in: matched to a request, put into its slot, and with its whole piece hashed, judged and
 * handed to the store. Nothing here is allocated per block.
 *
 *     head() -> slot      block() -> partial      complete -> hasher -> passed: store.put + verified, HAVE
 *                                                                   -> failed: blame, release, again
 *
 * A *streaming* (large) piece is hashed in order while it arrives, `CHUNK` blocks at a time, and each hashed chunk is
 * written at once, unverified and never claimed; so a 32 MiB piece needs little memory and is not read back. When memory
 * runs out before a chunk is complete, blocks are *spilled*: written unhashed, the piece read back to be judged.
 */

import { assert } from '../base/assert.ts';
import { equal } from '../base/bytes.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { HashKind, type HashSink } from '../base/ports.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { BlockState, type Partial } from './partials.ts';
import type { Peer } from './peer.ts';
import type { Swarm } from './swarm.ts';

/** Blocks hashed at a time of a streaming piece: 1 MiB, long enough that the round trip to a worker is nothing. */
const CHUNK = 64;

const Job = { Whole: 0, Chunk: 1, Blame: 2, ReadBack: 3, GoodCopy: 4, StoreBlame: 5 } as const;
type Job = (typeof Job)[keyof typeof Job];
const NO_SLOTS = new Int32Array(0);

export class Intake implements HashSink {
  readonly #swarm: Swarm;
  readonly #jobs = new Map<number, { readonly partial: Partial; readonly kind: Job; readonly slots: Int32Array }>();
  #nextJob = 1;
  #nextStream = 1;
  /** Slots held by pieces under judgement. */
  judgingSlots = 0;

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  // ----------------------------------------------------------------------------------------------------- from peers

  /** The header of a block is in: where does it go? -1: nowhere. */
  head(peer: Peer, piece: number, begin: number, length: number): number {
    const { layout, partials, slots } = this.#swarm;
    const block = begin / BLOCK_BYTES;
    peer.inPartial = null;
    if (layout === null || piece >= layout.pieceCount || begin + length > layout.pieceSize(piece)) {
      peer.fault(PeerFault.OutOfRange);
      return -1;
    }
    peer.lastPayloadMs = this.#swarm.now;
    // of another length than a block's it is nothing we ever ask for
    const whole = Number.isInteger(block) && length === layout.blockSize(piece, block);
    const asked = whole && peer.window.remove(piece, block);
    const partial = partials.get(piece);
    if (!asked) {
      const late = whole && peer.lateCount > 0;
      peer.unasked(length);
      if (!late || partial === undefined || partial.state[block]! > BlockState.Asked || partial.judging) return -1;
      // given up, and here after all: taken as if it were asked for
      if (partial.onlyFrom !== -1 && partial.onlyFrom !== peer.number) return -1;
      const missing = partial.state[block] === BlockState.Missing;
      if (missing && slots.freeCount <= this.#swarm.slotReserve) return -1;
      partials.ask(partial, block, missing ? slots.take() : -1);
      this.#swarm.wasted -= length;
    } else {
      peer.window.received(this.#swarm.now, length);
      if (partial === undefined || partial.state[block]! !== BlockState.Asked) {
        this.#swarm.wasted += length;
        return -1;
      }
    }
    const reserved = partial!.slots[block]!;
    const slot = reserved >= 0 ? reserved : slots.take();
    if (reserved >= 0) partial!.slots[block] = -1;
    if (slot < 0) {
      this.#unask(partial!, block);
      this.#swarm.wasted += length;
      return -1;
    }
    peer.inPartial = partial!;
    peer.inBlock = block;
    return slot;
  }

  /** The payload is in its slot. */
  block(peer: Peer, length: number, slot: number): void {
    const { partials, slots, now } = this.#swarm;
    const partial = peer.inPartial;
    const block = peer.inBlock;
    peer.inPartial = null;
    this.#swarm.countDown(peer, length);
    this.#swarm.wake(peer);
    if (partial === null || partials.get(partial.piece) !== partial) {
      slots.release(slot);
      this.#swarm.wasted += length;
      return;
    }
    if (partial.state[block] !== BlockState.Asked) {
      partial.askers[block]!--;
      slots.release(slot);
      this.#swarm.wasted += length;
      return;
    }
    const reserved = partial.slots[block]!;
    if (reserved >= 0) slots.release(reserved);
    partials.arrived(partial, block, slot, peer.number, now);
    if (partial.askers[block]! > 0) this.#swarm.requests.cancelOthers(partial, block, peer);
    if (partial.streaming) this.#pump(partial);
    else if (partial.complete) this.#judge(partial);
  }

  /** The payload will not come whole; the slot is ours again. */
  abort(peer: Peer, slot: number): void {
    const { partials, slots } = this.#swarm;
    const partial = peer.inPartial;
    const block = peer.inBlock;
    peer.inPartial = null;
    if (partial === null || partials.get(partial.piece) !== partial) return slots.release(slot);
    if (partial.state[block] !== BlockState.Asked) {
      partial.askers[block]!--;
      return slots.release(slot);
    }
    if (partial.askers[block]! > 1 && partial.slots[block] === -1) {
      partial.slots[block] = slot;
      partial.askers[block]!--;
      return;
    }
    this.#unask(partial, block);
    slots.release(slot);
  }

  // -------------------------------------------------------------------------------------------------------- memory

  /**
   * Memory ran out while nothing is on its way to disk: writes the blocks of the partial that holds most. Returns
   * whether anything was spilled.
   */
  spill(): boolean {
    const { partials, store } = this.#swarm;
    if (store === null || store.pendingSlots > 0 || this.judgingSlots > 0) return false;
    let best: Partial | null = null;
    let bestHeld = 0;
    for (const partial of partials.list) {
      const held = partial.arrivedCount - partial.hashingTo;
      if (partial.judging || partial.hashingTo > partial.hashedTo || held <= bestHeld) continue;
      best = partial;
      bestHeld = held;
    }
    if (best === null) return false;
    if (best.stream !== 0) this.#swarm.hasher.abandon(best.stream);
    best.stream = 0;
    best.spilled = true;
    this.#putReceived(best);
    this.#swarm.spilled += bestHeld;
    return true;
  }

  /** What this peer sent of unfinished pieces is fetched again from others. */
  distrust(sender: number): void {
    const { partials, slots } = this.#swarm;
    for (const partial of partials.list) {
      if (partial.judging) continue;
      for (let b = partial.hashingTo; b < partial.blockCount; b++) {
        if (partial.senders[b] !== sender || partial.state[b] !== BlockState.Received) continue;
        slots.release(partials.revoke(partial, b));
      }
    }
  }

  /** Drops what a partial holds, because the torrent stops or the piece is not wanted any more. */
  drop(partial: Partial): void {
    const { partials, slots, store } = this.#swarm;
    for (let b = 0; b < partial.blockCount; b++) {
      const slot = partial.slots[b]!;
      if (slot < 0 || (b < partial.hashingTo && b >= partial.hashedTo) || partial.judging) continue;
      slots.release(slot);
      partial.slots[b] = -1;
    }
    if (partial.stream !== 0 && !partial.judging) this.#swarm.hasher.abandon(partial.stream);
    if (partial.spilled || partial.hashedTo > 0) store?.discard(partial.piece);
    partials.close(partial);
  }

  // ----------------------------------------------------------------------------------------------------- judgement

  onHashed(number: number, fault: IoFault | null, digest: Uint8Array): void {
    const job = this.#jobs.get(number);
    assert(job !== undefined, 'a hash nobody asked for');
    this.#jobs.delete(number);
    const { partial } = job;
    const open = this.#swarm.partials.get(partial.piece) === partial;
    switch (job.kind) {
      case Job.Chunk:
        return this.#chunkHashed(partial, job.slots, open);
      case Job.Blame:
        return this.#blamed(partial, digest);
      case Job.GoodCopy:
        this.#swarm.blame.passed(partial, fault === null ? digest : null);
        for (const slot of job.slots) this.#swarm.slots.release(slot);
        return;
      case Job.Whole:
        this.judgingSlots -= job.slots.length;
        if (partial.streaming) this.#chunkHashed(partial, job.slots, open);
        if (!open) {
          if (!partial.streaming) for (const slot of job.slots) this.#swarm.slots.release(slot);
          return;
        }
        return this.#verdict(partial, fault, digest);
      case Job.ReadBack:
        if (open) this.#verdict(partial, fault, digest);
        return;
      case Job.StoreBlame:
        if (open) this.#blamedInStore(partial, fault === null ? digest : null);
    }
  }

  /** The digest of a spilled piece, from the store. */
  onStoreHash(number: number, fault: IoFault | null, digest: Uint8Array): void {
    this.onHashed(number, fault, digest);
  }

  #judge(partial: Partial): void {
    const { layout, meta, store } = this.#swarm;
    const { piece } = partial;
    partial.judging = true;
    if (partial.spilled) {
      this.#putReceived(partial);
      store!.hash(this.#job(partial, Job.ReadBack, NO_SLOTS), meta!.hashKind, piece);
      return;
    }
    this.judgingSlots += partial.blockCount;
    this.#swarm.hasher.hash(
      this.#job(partial, Job.Whole, partial.slots),
      meta!.hashKind,
      partial.slots,
      partial.blockCount,
      layout!.pieceSize(piece),
      meta!.leafCount(piece),
      0,
      true,
      this,
    );
  }

  /** Sends the next chunk of a streaming piece to the hasher, if it is whole and none is under way. */
  #pump(partial: Partial): void {
    const { layout, meta } = this.#swarm;
    if (partial.spilled) {
      if (partial.complete) this.#judge(partial);
      return;
    }
    if (partial.hashingTo > partial.hashedTo) return;
    const { blockCount, hashedTo, state } = partial;
    const end = Math.min(hashedTo + CHUNK, blockCount);
    for (let b = hashedTo; b < end; b++) if (state[b] !== BlockState.Received) return;
    const last = end === blockCount;
    const chunk = partial.slots.slice(hashedTo, end);
    if (partial.stream === 0) partial.stream = this.#nextStream++;
    partial.hashingTo = end;
    partial.judging = last;
    this.judgingSlots += last ? chunk.length : 0;
    const bytes = last ? layout!.pieceSize(partial.piece) - hashedTo * BLOCK_BYTES : chunk.length * BLOCK_BYTES;
    this.#swarm.hasher.hash(
      this.#job(partial, last ? Job.Whole : Job.Chunk, chunk),
      meta!.hashKind,
      chunk,
      chunk.length,
      bytes,
      meta!.leafCount(partial.piece),
      partial.stream,
      last,
      this,
    );
  }

  /** A chunk is hashed: it can be written, though the piece is not verified. */
  #chunkHashed(partial: Partial, slots: Int32Array, open: boolean): void {
    if (!open) {
      for (const slot of slots) this.#swarm.slots.release(slot);
      return;
    }
    const from = partial.hashedTo;
    this.#swarm.store!.put(partial.piece, from, slots, 0, slots.length);
    this.#swarm.partials.handedOver(partial, from, partial.hashingTo);
    partial.hashedTo = partial.hashingTo;
    if (!partial.judging) this.#pump(partial);
  }

  #verdict(partial: Partial, fault: IoFault | null, digest: Uint8Array): void {
    const { meta, partials, store } = this.#swarm;
    const { piece } = partial;
    const inStore = partial.streaming || partial.spilled;
    if (fault !== null) {
      // the disk, not the peers: the piece is fetched again when the disk works again
      store!.discard(piece);
      partials.close(partial);
      this.#swarm.reopenPiece(piece);
      return this.#swarm.onStoreFault(fault);
    }
    if (!equal(digest, meta!.digestOf(piece))) return this.#failed(partial, inStore);
    const suspected = this.#swarm.blame.suspects(piece);
    if (suspected && !inStore) for (const slot of partial.slots) this.#swarm.slots.retain(slot);
    const kept = suspected && !inStore ? partial.slots.slice() : null;
    if (!inStore) store!.put(piece, 0, partial.slots, 0, partial.blockCount);
    store!.verified(piece);
    partials.close(partial);
    if (kept !== null) this.#hashEach(partial, Job.GoodCopy, kept);
    else if (suspected) store!.hash(this.#job(partial, Job.GoodCopy, NO_SLOTS), HashKind.EachSha1, piece);
    else this.#swarm.blame.passed(partial, null);
    this.#swarm.pieceVerified(piece);
  }

  #failed(partial: Partial, inStore: boolean): void {
    const { store } = this.#swarm;
    this.#swarm.hashFails++;
    this.#swarm.wasted += this.#swarm.layout!.pieceSize(partial.piece);
    // each block's hash is kept, to be compared with the good copy that comes later
    if (!inStore) this.#hashEach(partial, Job.Blame, partial.slots);
    else store!.hash(this.#job(partial, Job.StoreBlame, NO_SLOTS), HashKind.EachSha1, partial.piece);
  }

  #blamedInStore(partial: Partial, digests: Uint8Array | null): void {
    const { partials, store } = this.#swarm;
    store!.discard(partial.piece);
    partials.close(partial);
    this.#swarm.blame.failed(partial, digests);
    this.#swarm.reopenPiece(partial.piece);
  }

  #blamed(partial: Partial, digests: Uint8Array): void {
    const { partials, slots } = this.#swarm;
    for (const slot of partial.slots) slots.release(slot);
    if (partials.get(partial.piece) !== partial) return;
    partials.close(partial);
    this.#swarm.blame.failed(partial, digests);
    this.#swarm.reopenPiece(partial.piece);
  }

  #hashEach(partial: Partial, kind: Job, slots: Int32Array): void {
    const size = this.#swarm.layout!.pieceSize(partial.piece);
    const job = this.#job(partial, kind, slots);
    this.#swarm.hasher.hash(job, HashKind.EachSha1, slots, slots.length, size, 0, 0, true, this);
  }

  /** Hands every Received block to the store, in runs. */
  #putReceived(partial: Partial): void {
    const { partials, store } = this.#swarm;
    let b = 0;
    while (b < partial.blockCount) {
      if (partial.state[b] !== BlockState.Received) {
        b++;
        continue;
      }
      let end = b + 1;
      while (end < partial.blockCount && partial.state[end] === BlockState.Received) end++;
      store!.put(partial.piece, b, partial.slots, b, end - b);
      partials.handedOver(partial, b, end);
      b = end;
    }
  }

  #unask(partial: Partial, block: number): void {
    const slot = this.#swarm.partials.unask(partial, block);
    if (slot >= 0) this.#swarm.slots.release(slot);
  }

  #job(partial: Partial, kind: Job, slots: Int32Array): number {
    const number = this.#nextJob++;
    this.#jobs.set(number, { partial, kind, slots });
    return number;
  }
}
