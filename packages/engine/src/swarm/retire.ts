/** Who is kept: closes peers that are silent or of no use, and lets the others know that we are here. */

import { PeerFault } from '../base/errors.ts';
import type { Peer } from './peer.ts';
import type { Swarm } from './swarm.ts';

/** A peer silent for so long is closed. Keep-alives come about every two minutes (BEP 3), so a little more than that. */
const SILENCE_MS = 140_000;
const KEEP_ALIVE_MS = 100_000;
/** A peer that has had no use for us nor we for it (libtorrent: 600 s). */
const USELESS_MS = 600_000;

/** Every second. */
export function retire(swarm: Swarm, peer: Peer, now: number): void {
  const { conversation } = peer;
  if (now - conversation.lastReceivedMs >= SILENCE_MS) return peer.fault(PeerFault.Timeout);
  const useful = peer.wantedCount > 0 || conversation.peerInterested;
  if (useful) peer.lastUsefulMs = now;
  else if (now - peer.lastUsefulMs >= USELESS_MS) return peer.fault(PeerFault.Redundant);
  if (swarm.picker === null && swarm.have?.isFull && peer.has?.isFull) return peer.fault(PeerFault.Redundant);
  if (now - conversation.lastSentMs >= KEEP_ALIVE_MS) {
    conversation.keepAlive();
    peer.link.touch();
  }
}
