/**
 * The pieces that a choked peer may ask for (BEP 6), chosen by its address so that coming back gains nothing new. All
 * addresses of a /24 (IPv6, which BEP 6 leaves open: a /48) share one set.
 */

import { sha1 } from '../base/hash.ts';
import { parseIp } from '../base/ip.ts';
import type { Peer } from './peer.ts';
import type { Swarm } from './swarm.ts';

const ALLOWED_FAST_COUNT = 10;

/** `count` distinct pieces for the peer at `ip` (4 or 16 bytes), or all if there are fewer. Order as in BEP 6. */
export function allowedFastSet(ip: Uint8Array, infoHash: Uint8Array, pieceCount: number, count: number): number[] {
  const prefix = ip.length === 4 ? 3 : 6;
  let x = new Uint8Array(ip.length + infoHash.length);
  x.set(ip.subarray(0, prefix));
  x.set(infoHash, ip.length);
  const size = Math.min(count, pieceCount);
  const set: number[] = [];
  while (set.length < size) {
    x = Uint8Array.from(sha1(x));
    for (let i = 0; i < 20 && set.length < size; i += 4) {
      const drawn = ((x[i]! << 24) | (x[i + 1]! << 16) | (x[i + 2]! << 8) | x[i + 3]!) >>> 0;
      const piece = drawn % pieceCount;
      if (!set.includes(piece)) set.push(piece);
    }
  }
  return set;
}

/** Tells a peer that has little what it may ask for at once; the first time only. */
export function offerFast(swarm: Swarm, peer: Peer): void {
  const { have, meta } = swarm;
  if (!peer.conversation.fast || have === null || peer.has === null || peer.grantedFast.length > 0) return;
  if (peer.has.count >= ALLOWED_FAST_COUNT || have.isEmpty) return;
  const set = allowedFastSet(parseIp(peer.link.remote.ip)!, meta!.swarmHash, have.length, ALLOWED_FAST_COUNT);
  peer.grantedFast = set.filter((piece) => have.get(piece) && !peer.has!.get(piece));
  for (const piece of peer.grantedFast) peer.conversation.allowedFast(piece);
}
