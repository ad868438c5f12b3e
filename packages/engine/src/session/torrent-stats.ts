/** The public statistics of a torrent, put together from the parts that own the facts. */

import { clientName } from '../codec/peer-id.ts';
import type { Entry } from './entry.ts';
import type { PeerStats, TorrentStats } from './types.ts';

export function torrentStats(entry: Entry): TorrentStats {
  const { swarm } = entry;
  const bytesDone = entry.bytesDone();
  const bytesTotal = entry.bytesTotal();
  const downRate = swarm.down.rateBps;
  let seeds = 0;
  for (const peer of swarm.peers) if (peer.isSeed) seeds++;
  return {
    state: entry.state,
    bytesDone,
    bytesTotal,
    downRate,
    upRate: swarm.up.rateBps,
    downloaded: swarm.down.total,
    uploaded: swarm.up.total,
    wasted: swarm.wasted,
    hashFails: swarm.hashFails,
    resumed: entry.resumedBytes,
    peers: swarm.peers.length,
    seeds,
    candidates: entry.finder.book.candidateCount,
    sources: entry.finder.book.counts(),
    piecesDone: swarm.have?.count ?? 0,
    pieceCount: entry.meta?.pieceCount ?? 0,
    spilled: swarm.spilled,
    checking: entry.state === 'checking' ? entry.checkedPieces / Math.max(1, entry.checkTotal) : null,
    eta: downRate > 0 && bytesTotal > bytesDone ? (bytesTotal - bytesDone) / downRate : null,
    error: entry.error,
  };
}

export function peerStats(entry: Entry): PeerStats[] {
  return entry.swarm.peers.map((peer) => ({
    address: peer.link.remote,
    client: peer.conversation.remote.client ?? clientName(peer.peerId),
    incoming: peer.link.incoming,
    transport: peer.link.utp ? 'utp' : 'tcp',
    encryption: peer.link.encryption ?? 'none',
    progress: peer.has === null ? Number(peer.rawAll) : peer.has.count / Math.max(1, peer.has.length),
    downRate: peer.down.rateBps,
    upRate: peer.up.rateBps,
    downloaded: peer.down.total,
    uploaded: peer.up.total,
    amChoking: peer.conversation.amChoking,
    amInterested: peer.conversation.amInterested,
    peerChoking: peer.conversation.peerChoking,
    peerInterested: peer.conversation.peerInterested,
    requestsOut: peer.window.count,
    requestsIn: peer.uploads.count,
  }));
}
