/**
 * Decides what is asked of whom. A peer's next block comes from, in this order:
 *
 *   1. the partial it works on        (fast peers take whole pieces, in order)
 *   2. a partial whose owner is gone
 *   3. a new piece of the picker's    (while the partials are few and it fits the memory)
 *   4. somebody else's partial        (memory or pieces are scarce: help the oldest along)
 *   5. endgame: a block asked of another; one at a time and only with nothing else in flight
 *
 * Invariant: a block's `askers` is the number of windows it stands in plus the payloads of it being received.
 * A slot is reserved with each request; without one nothing is asked, so memory bounds what is in flight.
 */

import { PeerFault } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { BlockState, type Partial } from './partials.ts';
import type { Peer } from './peer.ts';
import type { Swarm } from './swarm.ts';

/** No payload for so long with requests out: the peer is snubbing us (libtorrent's piece timeout). */
const SNUB_MS = 20_000;
/** A piece that nothing came of for so long has come to a stop. */
const STOPPED_MS = 5000;
/** Rejected requests in a row before the peer is given up (libtorrent's max_rejects). */
const MAX_REJECTS = 50;
/** Rest after a reject, so that the same block is not asked for again at once. */
const REJECT_REST_MS = 500;
/** A piece kept for one peer on parole is for all again after so long (as a peer is snubbed), if they have nothing else to do. */
const PAROLE_MS = 30_000;
/** A peer that brings a piece within so many seconds takes several in a row, up to so many bytes (libtorrent's figures). */
const RUN_S = 20;
const MAX_RUN_BYTES = 8 << 20;
/** More partials than this for each peer are not opened (libtorrent: 1.5). */
const PARTIALS_PER_PEER = 1.5;

export class Requests {
  readonly #swarm: Swarm;
  /** A request was not made for want of a slot or of rate; look again when there is some. */
  starved = false;

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  /** Fills the peer's window. */
  refill(peer: Peer, now: number): void {
    const { partials, slots } = this.#swarm;
    if (peer.closed || !this.#swarm.requesting || peer.has === null || now < peer.restUntilMs) return;
    if (peer.conversation.peerChoking && peer.fastPieces.length === 0) return;
    const { window } = peer;
    const target = Math.min(window.target, this.#swarm.windowLimit);
    let asked = false;
    while (window.count < target) {
      const partial = this.#choose(peer, now);
      if (partial === null) {
        if (window.count === 0) asked = this.#endgame(peer, now) || asked;
        break;
      }
      if (slots.freeCount <= this.#swarm.slotReserve || this.#swarm.backlogged || !this.#swarm.grantDown(peer, now)) {
        this.starved = true;
        break;
      }
      const block = partial.nextMissing();
      partials.ask(partial, block, slots.take());
      this.#send(peer, partial, block, now);
      asked = true;
    }
    if (asked) peer.link.touch();
  }

  /** The peer choked us. Without the fast extension that cancels what was asked; with it each request is answered. */
  choked(peer: Peer): void {
    peer.current = null;
    if (!peer.conversation.fast) this.giveUp(peer, 0);
  }

  rejected(peer: Peer, piece: number, begin: number, _length: number): void {
    const block = begin / BLOCK_BYTES;
    if (!peer.window.remove(piece, block)) return;
    this.#unask(piece, block);
    peer.current = null;
    if (peer.conversation.peerChoking) {
      // that is how a choke ends; but one that lets us ask for a piece and rejects it is not asked again at once
      if (peer.fastPieces.includes(piece)) peer.restUntilMs = this.#swarm.now + REJECT_REST_MS;
      return;
    }
    if (++peer.rejectsInRow >= MAX_REJECTS) return peer.fault(PeerFault.Rejects);
    peer.restUntilMs = this.#swarm.now + REJECT_REST_MS;
  }

  /** Takes back all requests of a peer but the `keep` oldest. Answers that come all the same are taken if still of use. */
  giveUp(peer: Peer, keep: number): void {
    const { window } = peer;
    for (let i = window.count - 1; i >= keep; i--) {
      const piece = window.pieceAt(i);
      const block = window.blockAt(i);
      window.remove(piece, block);
      this.#unask(piece, block);
      peer.lateCount++;
    }
    if (keep === 0) peer.current = null;
  }

  /** The peer has this piece no more. */
  withdraw(peer: Peer, piece: number): void {
    const { window } = peer;
    for (let i = window.count - 1; i >= 0; i--) {
      if (window.pieceAt(i) !== piece) continue;
      const block = window.blockAt(i);
      window.remove(piece, block);
      this.#unask(piece, block);
      peer.lateCount++;
    }
  }

  /** The peer is gone: its partials are for anyone. */
  forget(peer: Peer): void {
    this.giveUp(peer, 0);
    this.#disown(peer);
  }

  /** Every second: who has requests out and sends nothing? */
  sweep(peer: Peer, now: number): void {
    if (peer.window.count === 0) return;
    if (now - Math.max(peer.lastPayloadMs, peer.window.oldestMs()) < SNUB_MS) return;
    peer.snubbed = true;
    peer.window.snub();
    this.giveUp(peer, 0);
    this.#disown(peer);
    peer.lastPayloadMs = now;
  }

  /** The block is here: those who were asked too are told. */
  cancelOthers(partial: Partial, block: number, except: Peer): void {
    for (const other of this.#swarm.peers) {
      if (other === except || !other.window.remove(partial.piece, block)) continue;
      partial.askers[block]!--;
      other.lateCount++;
      other.conversation.cancel(
        partial.piece,
        block * BLOCK_BYTES,
        this.#swarm.layout!.blockSize(partial.piece, block),
      );
      other.link.touch();
      this.#swarm.wake(other);
    }
  }

  #send(peer: Peer, partial: Partial, block: number, now: number): void {
    const { piece } = partial;
    peer.window.add(piece, block, now);
    peer.conversation.request(piece, block * BLOCK_BYTES, this.#swarm.layout!.blockSize(piece, block));
  }

  #unask(piece: number, block: number): void {
    const partial = this.#swarm.partials.get(piece);
    if (partial === undefined || partial.state[block] !== BlockState.Asked) return;
    const slot = this.#swarm.partials.unask(partial, block);
    if (slot >= 0) this.#swarm.slots.release(slot);
  }

  #disown(peer: Peer): void {
    for (const partial of this.#swarm.partials.list) {
      if (partial.owner === peer.number) partial.owner = -1;
      if (partial.onlyFrom === peer.number) partial.onlyFrom = -1;
    }
  }

  #choose(peer: Peer, now: number): Partial | null {
    const { current } = peer;
    if (current !== null) {
      if (current.missingCount > 0 && this.#serves(peer, current)) return current;
      peer.current = null;
    }
    const { list } = this.#swarm.partials;
    for (const partial of list) {
      if (partial.owner !== -1 || partial.missingCount === 0 || !this.#serves(peer, partial)) continue;
      if (peer.onParole && partial.arrivedCount > 0) continue;
      return this.#adopt(peer, partial);
    }
    const opened = this.#open(peer, now);
    if (opened !== null) return opened;
    for (const partial of list) {
      if (partial.missingCount === 0 || !this.#helps(peer, partial, now)) continue;
      partial.onlyFrom = -1;
      return partial;
    }
    return null;
  }

  #serves(peer: Peer, partial: Partial): boolean {
    if (partial.onlyFrom !== -1 && partial.onlyFrom !== peer.number) return false;
    return this.#can(peer, partial);
  }

  #can(peer: Peer, partial: Partial): boolean {
    if (partial.judging || !peer.has!.get(partial.piece)) return false;
    return peer.mayAsk(partial.piece) && this.#swarm.partials.get(partial.piece) === partial;
  }

  /**
   * Whether the peer, with nothing to do of its own, takes a hand in a partial. Parole keeps senders apart for a while
   * only: nobody can hold up a piece by it, and all may be on parole.
   */
  #helps(peer: Peer, partial: Partial, now: number): boolean {
    const old = now - partial.openedAtMs >= PAROLE_MS;
    if (peer.onParole && partial.owner !== -1 && !old) return false;
    return old ? this.#can(peer, partial) : this.#serves(peer, partial);
  }

  #adopt(peer: Peer, partial: Partial): Partial {
    partial.owner = peer.number;
    if (peer.onParole) partial.onlyFrom = peer.number;
    peer.current = partial;
    return partial;
  }

  #open(peer: Peer, now: number): Partial | null {
    const { picker, partials } = this.#swarm;
    if (picker === null) return null;
    let unfinished = 0;
    // those it has no use for (their peers left, or have them no more) must not keep it idle
    for (const partial of partials.list) if (partial.missingCount > 0 && peer.has!.get(partial.piece)) unfinished++;
    if (unfinished > this.#swarm.peers.length * PARTIALS_PER_PEER) return null;
    let piece = peer.conversation.peerChoking ? -1 : picker.pickFrom(this.#swarm.blame.evidenceFor(peer), peer.has!);
    if (piece < 0) {
      piece = peer.conversation.peerChoking
        ? picker.pickFrom(peer.fastPieces, peer.has!)
        : picker.pick(peer.has!, this.#swarm.sequential);
      if (piece < 0) return null;
      if (this.#continues(peer, piece)) piece = peer.lastOpened + 1;
    }
    if (!this.#swarm.fits(piece)) {
      this.starved = true;
      return null;
    }
    peer.runBytes = piece === peer.lastOpened + 1 ? peer.runBytes + this.#swarm.layout!.pieceLength : 0;
    peer.lastOpened = piece;
    return this.#adopt(peer, this.#swarm.openPartial(piece, peer.number, now));
  }

  /**
   * Whether a fast peer goes on with the piece behind its last one, which is no less rare than the one picked: what is
   * read and written in a row costs both disks less (libtorrent does so too).
   */
  #continues(peer: Peer, picked: number): boolean {
    const { layout, picker, readers } = this.#swarm;
    const piece = peer.lastOpened + 1;
    if (peer.lastOpened < 0 || piece >= layout!.pieceCount || peer.runBytes >= MAX_RUN_BYTES || readers.active)
      return false;
    if (peer.down.rateBps * RUN_S < layout!.pieceLength || peer.conversation.peerChoking) return false;
    if (!picker!.isMissing(piece) || picker!.isOpen(piece) || !peer.has!.get(piece)) return false;
    return (
      picker!.priority(piece) === picker!.priority(picked) &&
      picker!.availability(piece) <= picker!.availability(picked)
    );
  }

  /** Asks for the block that has been waited for longest, of those nobody else was asked for twice. */
  #endgame(peer: Peer, now: number): boolean {
    // pieces that wait for memory are no endgame: asking twice then only wastes, but where a piece has come to a stop
    const early = this.#swarm.picker!.pickableCount > 0;
    let best: Partial | null = null;
    let bestBlock = -1;
    let bestAskers = 3;
    for (const partial of this.#swarm.partials.list) {
      if (!this.#helps(peer, partial, now) || (early && now - partial.lastArrivalMs < STOPPED_MS)) continue;
      for (let b = 0; b < partial.blockCount; b++) {
        if (partial.state[b] !== BlockState.Asked || partial.askers[b]! >= bestAskers) continue;
        // it is sending that very block
        if (peer.inPartial === partial && peer.inBlock === b) continue;
        best = partial;
        bestBlock = b;
        bestAskers = partial.askers[b]!;
      }
      if (bestAskers === 1) break;
    }
    if (best === null || !this.#swarm.grantDown(peer, now)) return false;
    best.onlyFrom = -1;
    this.#swarm.partials.ask(best, bestBlock, -1);
    this.#send(peer, best, bestBlock, now);
    return true;
  }
}
