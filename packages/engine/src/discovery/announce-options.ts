/** What an Announcer is made with, what it asks for, and what it tells. */

import type { Rng } from '../base/random.ts';
import type { Family, NamedPeer, TrackerRequest } from './tracker.ts';

/**
 * Who is asked: 'tier': one tracker, the first that answers (BEP 12); 'all-tiers': the first that answers of each tier;
 * 'all': every tracker.
 */
export type AnnounceMode = 'tier' | 'all-tiers' | 'all';

/** What an announce says of the transfer; filled by the torrent at the moment of asking. Session totals in bytes. */
export interface AnnounceFigures {
  uploaded: number;
  downloaded: number;
  /** Wanted and missing; of a partial seed, missing of the whole torrent; -1 while the metadata is missing. */
  left: number;
  /** BEP 21: has all it wants, but not all there is. */
  partialSeed: boolean;
}

export interface AnnounceSink {
  /**
   * Ask this; then say `answered`, `scraped` or `failed` with the same id. May be queued, and must not be answered from
   * inside.
   */
  onAsk(request: TrackerRequest): void;
  /** The answer to this request is of no interest any more; none shall be given. True: the tracker may have heard it. */
  onAbandon(id: number): boolean;
  /** 6 and 18 bytes a peer, usable addresses only; borrowed until return. Names are rare and still need resolving. */
  onPeers(peers4: Uint8Array, peers6: Uint8Array, named: readonly NamedPeer[]): void;
  /** How a tracker sees us (BEP 24): one vote. */
  onExternalIp(ip: Uint8Array, trackerIp: string): void;
  /** Of an exclusive torrent: another tracker answers now than before. The peers of the old one are dropped (BEP 27). */
  onTrackerSwitched(): void;
  /** A new warning of a tracker, cleaned for display. */
  onTrackerWarning(url: string, message: string): void;
  /** Asks for the figures of the moment. */
  fillFigures(into: AnnounceFigures): void;
}

export interface AnnouncerOptions {
  readonly infoHash: Uint8Array;
  readonly peerId: Uint8Array;
  /** 32 random bits, kept for the life of the torrent; 0: trackers are told none. */
  readonly key: number;
  /** As the torrent or magnet has them; blank, broken and doubled URLs are passed over, empty tiers too. */
  readonly tiers: readonly (readonly string[])[];
  /** What trackers are asked over. */
  readonly families: readonly Family[];
  readonly mode: AnnounceMode;
  /** One tracker at a time, whatever the mode. */
  readonly exclusive: boolean;
  /** May be shared by all torrents of a session. */
  readonly rng: Rng;
  readonly sink: AnnounceSink;
}
