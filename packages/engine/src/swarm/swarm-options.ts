/** What a swarm is made with, and what it tells the session. */

import type { IoFault } from '../base/errors.ts';
import type { Hasher } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import type { SlotPool } from '../base/slot-pool.ts';
import type { Limiter } from '../transport/limiter.ts';
import type { ExtendedHandshake } from '../wire/conversation-sink.ts';
import type { HolepunchSink } from './holepunch.ts';
import type { Peer } from './peer.ts';
import type { PexSink } from './pex.ts';

/** What the session hears of a swarm. Calls come inside a turn. */
export interface SwarmSink extends PexSink, HolepunchSink {
  /** The info dictionary arrived and matches the info-hash. */
  onMetadata(infoBytes: Uint8Array): void;
  /** The v1 and v2 info-hashes are of different torrents. */
  onHashesDisagree(): void;
  onVerified(piece: number): void;
  onPieceFlushed(piece: number): void;
  /** Everything wanted is flushed. Again after more was selected. */
  onDone(): void;
  /** The disk failed; nothing is requested until `onDiskWorks`, which needs a `retry`. */
  onDiskFault(fault: IoFault): void;
  /** Writing goes on. */
  onDiskWorks(): void;
  /** A piece we claim could not be read. */
  onReadFault(piece: number, fault: IoFault): void;
  onPeerReady(peer: Peer, handshake: ExtendedHandshake): void;
  /** The peer of a torrent that is not private has a DHT node at this port. */
  onPeerPort(peer: Peer, port: number): void;
  /** The address did, beyond doubt, what no honest peer does. */
  onBan(ip: string, why: string): void;
  /** The swarm has work to do at the end of this turn. */
  onTouched(): void;
}

export interface SwarmOptions {
  readonly infoHash: Uint8Array | null;
  readonly infoHashV2: Uint8Array | null;
  readonly slots: SlotPool;
  readonly hasher: Hasher;
  readonly rng: Rng;
  readonly sink: SwarmSink;
  /** The session's time, read once per turn. */
  readonly turn: { readonly now: number };
  readonly downLimit: Limiter;
  readonly upLimit: Limiter;
  readonly uploadSlots: number;
  /** Peer exchange, as long as the torrent is not known to be private. */
  readonly pex: boolean;
}
