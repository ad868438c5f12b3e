/**
 * Carries out what SmartBan finds: who sent corrupt data is banned by address, who is suspected goes on parole.
 *
 * Invariant: an address is remembered as long as evidence against its peer is or may come: after the peer left, while a
 * failed copy or a piece not judged yet has blocks of it. So nobody escapes by leaving before the verdict.
 */

import type { Partial } from './partials.ts';
import type { Peer } from './peer.ts';
import { SmartBan } from './smart-ban.ts';
import type { Swarm } from './swarm.ts';

export class Blame {
  readonly #swarm: Swarm;
  readonly #smart = new SmartBan();
  /** Addresses of peers that left while evidence about them is kept. */
  readonly #gone = new Map<number, string>();

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  /** Whether the digests of the blocks are of use when the piece passes. */
  suspects(piece: number): boolean {
    return this.#smart.wantsDigests(piece);
  }

  /** Pieces that are to be fetched of this peer before others, because their good copy is proof. */
  evidenceFor(peer: Peer): readonly number[] {
    return this.#smart.evidenceFor(peer.number);
  }

  /** A piece failed. `digests`: SHA-1 of each block, joined, or null. */
  failed(partial: Partial, digests: Uint8Array | null): void {
    this.#punish(this.#smart.failed(partial.piece, partial.senders, digests));
  }

  passed(partial: Partial, digests: Uint8Array | null): void {
    this.#punish(this.#smart.passed(partial.piece, partial.senders, digests));
  }

  left(peer: Peer): void {
    if (this.#concerns(peer.number)) this.#gone.set(peer.number, peer.link.remote.ip);
    this.#smart.left(peer.number);
  }

  #concerns(number: number): boolean {
    if (this.#smart.remembers(number)) return true;
    for (const partial of this.#swarm.partials.list) if (partial.senders.includes(number)) return true;
    return false;
  }

  #punish(culprits: readonly number[]): void {
    for (const number of [...culprits]) {
      const peer = this.#swarm.peers.find((p) => p.number === number);
      const ip = peer?.link.remote.ip ?? this.#gone.get(number);
      if (ip !== undefined) this.#swarm.ban(ip, 'sent corrupt data');
    }
    for (const number of this.#gone.keys()) if (!this.#concerns(number)) this.#gone.delete(number);
    for (const peer of this.#swarm.peers) peer.onParole = this.#smart.onParole(peer.number);
  }
}
