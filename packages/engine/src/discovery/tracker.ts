/**
 * What a tracker is asked and what it answers, whatever protocol carries it (BEP 3, 7, 15, 21, 24, 31, 48). The protocols
 * turn bytes into these shapes; announce.ts decides with them. All times here are already clamped, all counts checked.
 */

export type AnnounceEvent = '' | 'started' | 'completed' | 'stopped' | 'paused';

/** One announce. Byte counts are those of this session. */
export interface AnnounceAsk {
  /** 20 bytes: v1, or the truncated v2 hash. */
  readonly infoHash: Uint8Array;
  /** 20 bytes. */
  readonly peerId: Uint8Array;
  /** 0: not listening. */
  readonly port: number;
  readonly uploaded: number;
  readonly downloaded: number;
  /** Bytes that are wanted and missing (a partial seed: bytes of the whole torrent that are missing); -1: not known yet. */
  readonly left: number;
  readonly event: AnnounceEvent;
  readonly numWant: number;
  /** 32 bits, the same for the whole life of the torrent, so that the tracker knows us after a change of address. */
  readonly key: number;
  /** What the tracker asked to be told again, or null. */
  readonly trackerId: Uint8Array | null;
  /** Whether this side speaks MSE. */
  readonly supportCrypto: boolean;
}

/** A peer named by host name (only the oldest reply form has them). */
export interface NamedPeer {
  readonly host: string;
  readonly port: number;
}

export interface AnnounceReply {
  /** The tracker's refusal, or what is wrong with its answer; null: all is well. */
  readonly failure: string | null;
  /** BEP 31: milliseconds before the next try after a failure, Infinity for "never", null when not said. */
  readonly retryInMs: number | null;
  readonly warning: string | null;
  /** Between MIN_INTERVAL_MS and MAX_INTERVAL_MS, both. */
  readonly intervalMs: number;
  readonly minIntervalMs: number;
  readonly trackerId: Uint8Array | null;
  /** Our address as the tracker sees it, 4 or 16 bytes. One vote, no more (BEP 24). */
  readonly externalIp: Uint8Array | null;
  readonly seeders: number | null;
  readonly leechers: number | null;
  /** 6 bytes a peer: address and port. Only usable addresses, at most MAX_PEERS over all three. */
  readonly peers4: Uint8Array;
  /** 18 bytes a peer. */
  readonly peers6: Uint8Array;
  readonly named: readonly NamedPeer[];
}

/** Counts of one torrent (BEP 48). */
export interface ScrapeReply {
  readonly failure: string | null;
  readonly seeders: number | null;
  readonly leechers: number | null;
  /** How often it was completed. */
  readonly completed: number | null;
  /** BEP 21: leechers that still download. */
  readonly downloaders: number | null;
  /** `flags.min_request_interval`, clamped as the others. */
  readonly minIntervalMs: number;
}

/** The state of one tracker, for people and programs. */
export interface TrackerStatus {
  readonly url: string;
  readonly tier: number;
  readonly status: 'idle' | 'announcing' | 'working' | 'failed';
  /** What the tracker said last: an error, a warning. */
  readonly message: string | null;
  readonly seeders: number | null;
  readonly leechers: number | null;
  /** Milliseconds until the next announce, or null. */
  readonly nextMs: number | null;
}

/** No tracker makes us ask more often (DEMANDS T4), whatever it says. */
export const MIN_INTERVAL_MS = 60_000;
/** Nor less often: it might have meant it in another unit. */
export const MAX_INTERVAL_MS = 86_400_000;
/** Where a reply names none; the common setting of trackers. */
export const DEFAULT_INTERVAL_MS = 1_800_000;
/** Peers taken from one reply: five times what is asked for. */
export const MAX_PEERS = 1000;

const EMPTY = new Uint8Array(0);

export function failedReply(failure: string, retryInMs: number | null = null): AnnounceReply {
  return {
    failure,
    retryInMs,
    warning: null,
    intervalMs: DEFAULT_INTERVAL_MS,
    minIntervalMs: MIN_INTERVAL_MS,
    trackerId: null,
    externalIp: null,
    seeders: null,
    leechers: null,
    peers4: EMPTY,
    peers6: EMPTY,
    named: [],
  };
}

export type TrackerProtocol = 'http' | 'udp' | 'websocket';

/** Longest tracker URL taken; passkey URLs stay under 300. */
const MAX_URL_LENGTH = 2048;

/**
 * Which protocol a tracker URL asks for, or null when it is no tracker URL: unknown scheme, no host, too long, or holding
 * a space or control character (which would let a torrent write its own request headers).
 */
export function trackerProtocol(url: string): TrackerProtocol | null {
  if (url.length > MAX_URL_LENGTH) return null;
  for (let i = 0; i < url.length; i++) {
    const c = url.charCodeAt(i);
    if (c <= 0x20 || c === 0x7f || c === 0x5c) return null;
  }
  const match = /^([A-Za-z]{2,5}):\/\/[^/?#]/.exec(url);
  if (match === null) return null;
  switch (match[1]!.toLowerCase()) {
    case 'http':
    case 'https':
      return 'http';
    case 'udp':
      return 'udp';
    case 'ws':
    case 'wss':
      return 'websocket';
    default:
      return null;
  }
}
