/**
 * Finds those who take and never say that they have something: an honest peer takes at most what it lacks. Who has had a
 * quarter more than that, and then some, feeds it to others or to nobody, at the cost of those who wait.
 *
 * Counted by address, over its connections. A peer that comes again under the same name lacks no more than before.
 *
 * Limits: MAX_TAKERS addresses, those looked at last; IDS names of each count (several may share an address).
 */

import { toHex } from '../base/bytes.ts';
import type { Peer } from './peer.ts';

const MAX_TAKERS = 2000;
const IDS = 16;
const TOLERANCE = 1.25;
/** Blocks that crossed with cancels, pieces that failed at their end; and for small torrents, bad luck. */
const SLACK_BYTES = 128 << 20;

interface Taker {
  readonly ids: Set<string>;
  /** What all of these names lacked when they came, bytes. */
  lacked: number;
  taken: number;
}

export class Takers {
  readonly #takers = new Map<string, Taker>();

  /** Looks at what a peer took since the last time. True: it takes too much. `bytes`: those of the whole torrent. */
  judge(peer: Peer, bytes: number): boolean {
    const fresh = peer.up.total - peer.takenSeen;
    if (fresh <= 0) return false;
    peer.takenSeen = peer.up.total;
    const taker = this.#takerOf(peer.link.remote.ip);
    const id = toHex(peer.peerId);
    if (!taker.ids.has(id) && taker.ids.size < IDS) {
      taker.ids.add(id);
      taker.lacked += bytes * peer.lackedShare;
    }
    taker.taken += fresh;
    return taker.taken > taker.lacked * TOLERANCE + SLACK_BYTES;
  }

  #takerOf(ip: string): Taker {
    const taker = this.#takers.get(ip) ?? { ids: new Set(), lacked: 0, taken: 0 };
    this.#takers.delete(ip);
    this.#takers.set(ip, taker);
    if (this.#takers.size > MAX_TAKERS)
      for (const oldest of this.#takers.keys()) if (this.#takers.delete(oldest)) break;
    return taker;
  }
}
