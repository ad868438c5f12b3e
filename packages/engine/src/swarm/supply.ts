/**
 * What the peers have of what we want: meets them, takes in what they say they have, and tells them what we have.
 *
 * Invariant: the picker counts what a peer has exactly once, from the moment its `has` is set until it leaves. Its
 * `wantedCount` is how many of the pieces we want and lack it has, and we are interested in it while that is above 0.
 * `sim/checkers` recounts both.
 */

import { Bitfield } from '../base/bitfield.ts';
import { PeerFault } from '../base/errors.ts';
import { offerFast } from './allowed-fast.ts';
import type { Peer } from './peer.ts';
import type { Swarm } from './swarm.ts';

/** Bitfields that a peer sends; aria2 sends one instead of 20 haves. */
const MAX_STATEMENTS = 100;

export class Supply {
  readonly #swarm: Swarm;

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  /** A peer came, or the layout became known: greetings, and what it said before. */
  meet(peer: Peer): void {
    const { conversation } = peer;
    const { have } = this.#swarm;
    if (have === null) {
      // said once and for all; what turns out to be here follows as single haves
      conversation.bitfield(NO_PIECES);
      peer.toldNothing = true;
      return;
    }
    conversation.setPieceCount(have.length);
    if (!peer.toldNothing) conversation.bitfield(have);
    else for (let p = 0; p < have.length; p++) if (have.get(p)) conversation.have(p);
    peer.link.touch();
    const has = peer.rawBits === null ? new Bitfield(have.length) : Bitfield.from(peer.rawBits, have.length);
    if (has === null) return peer.fault(PeerFault.BadBitfield);
    if (peer.rawAll) has.setAll();
    for (const piece of peer.rawHaves) {
      if (piece >= have.length) return peer.fault(PeerFault.OutOfRange);
      has.set(piece);
    }
    peer.rawBits = null;
    peer.rawHaves = [];
    // only now: a peer that is closed above was never counted
    this.#count(peer, has);
  }

  /** The peer's bitfield. */
  stated(peer: Peer, has: Bitfield): void {
    if (peer.up.total === 0) peer.lackedShare = 1 - has.count / has.length;
    // each costs as much as the torrent has pieces, and have all is five bytes
    if (++peer.statementCount > MAX_STATEMENTS + has.length / 20) return peer.fault(PeerFault.Flood);
    this.left(peer);
    this.#count(peer, has);
  }

  /** The peer is gone. */
  left(peer: Peer): void {
    if (peer.has !== null) this.#swarm.picker?.peerLeft(peer.has);
  }

  gained(peer: Peer, piece: number): void {
    const swarm = this.#swarm;
    swarm.picker?.gained(piece);
    if (!swarm.have!.get(piece) && swarm.goal.wants(piece)) {
      peer.wantedCount++;
      this.#showInterest(peer);
      swarm.wake(peer);
    }
    if (peer.isSeed) swarm.wake(peer);
  }

  lost(peer: Peer, piece: number): void {
    const swarm = this.#swarm;
    swarm.picker?.lost(piece);
    const partial = swarm.partials.get(piece);
    if (partial !== undefined && peer.current === partial) peer.current = null;
    swarm.requests.withdraw(peer, piece);
    if (!swarm.have!.get(piece) && swarm.goal.wants(piece)) {
      peer.wantedCount--;
      this.#showInterest(peer);
    }
  }

  /** We have one more: nobody is wanted for it any longer, and those who lack it hear of it. */
  verified(piece: number): void {
    const wanted = this.#swarm.goal.wants(piece);
    for (const peer of this.#swarm.peers) {
      if (peer.has === null) continue;
      if (peer.has.get(piece)) {
        if (wanted) {
          peer.wantedCount--;
          this.#showInterest(peer);
        }
        if (peer.isSeed) continue;
      }
      peer.conversation.have(piece);
      peer.link.touch();
    }
  }

  /** What we want or have is another than before. */
  recount(peer: Peer): void {
    const { picker } = this.#swarm;
    peer.wantedCount = peer.has === null || picker === null ? 0 : picker.countWanted(peer.has);
    this.#showInterest(peer);
    if (peer.wantedCount > 0) this.#swarm.wake(peer);
  }

  #count(peer: Peer, has: Bitfield): void {
    peer.has = has;
    this.#swarm.picker?.peerJoined(has);
    this.recount(peer);
    offerFast(this.#swarm, peer);
    this.#swarm.wake(peer);
  }

  #showInterest(peer: Peer): void {
    if (peer.wantedCount > 0 === peer.conversation.amInterested) return;
    if (peer.wantedCount > 0) peer.conversation.interested();
    else peer.conversation.notInterested();
    peer.link.touch();
  }
}

const NO_PIECES = new Bitfield(0);
