/**
 * What a tracker is asked and what it answers, whatever protocol carries it (BEP 3, 7, 15, 21, 24, 31, 48). The protocols
 * turn bytes into these shapes; announce.ts decides with them. All times here are already clamped, all counts checked.
 */

import { utf8Decode } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';

/** IPv4 or IPv6. */
export type Family = 4 | 6;

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

/** One exchange with one tracker over one address family; whoever carries it knows the protocol. */
export interface TrackerRequest {
  /** Unique within the torrent. */
  readonly id: number;
  readonly protocol: 'http' | 'udp';
  readonly url: string;
  readonly family: Family;
  /** From the moment it is sent off. */
  readonly timeoutMs: number;
  /** 20 bytes. */
  readonly infoHash: Uint8Array;
  /** Null: a scrape. */
  readonly announce: AnnounceAsk | null;
}

/** Fault code: the tracker has no address of this family, or this machine has none. Says nothing against the tracker. */
export const NO_FAMILY = 'ENOFAMILY';

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

/** How far a tracker is in one address family. */
export interface TrackerFamilyStatus {
  readonly family: Family;
  readonly status: 'idle' | 'announcing' | 'working' | 'failed';
  /** What went wrong, or what it warned of. */
  readonly message: string | null;
  /** Failures in a row. */
  readonly fails: number;
  /** Peers in its last answer. */
  readonly peers: number;
  /** Milliseconds since the last announce ended, well or not; null: none yet. */
  readonly lastMs: number | null;
  /** Milliseconds until the next announce, or null. */
  readonly nextMs: number | null;
}

/** The state of one tracker, for people and programs. */
export interface TrackerStatus {
  readonly url: string;
  readonly tier: number;
  /** Of the family that works best: one that answers is enough. */
  readonly status: 'idle' | 'announcing' | 'working' | 'failed';
  /** What the tracker said last: an error, a warning. */
  readonly message: string | null;
  readonly seeders: number | null;
  readonly leechers: number | null;
  /** How often the torrent was completed, by its scrape. */
  readonly downloads: number | null;
  /** Failures in a row, 0 while one family works. */
  readonly fails: number;
  /** Peers in its last answers, over both families. */
  readonly peers: number;
  /** Milliseconds since the last announce ended, well or not; null: none yet. */
  readonly lastMs: number | null;
  /** Milliseconds until the next announce, or null. */
  readonly nextMs: number | null;
  /** Each family it is asked over; empty where it cannot be asked at all. */
  readonly families: readonly TrackerFamilyStatus[];
}

/** No tracker makes us ask more often (DEMANDS T4), whatever it says. */
export const MIN_INTERVAL_MS = 60_000;
/** Nor less often: it might have meant it in another unit. */
export const MAX_INTERVAL_MS = 86_400_000;
/** Where a reply names none; the common setting of trackers. */
export const DEFAULT_INTERVAL_MS = 1_800_000;
/** Peers taken from one reply: five times what is asked for. */
export const MAX_PEERS = 1000;
/** `left` while the metadata is missing: anything but 0, which would say that we seed (libtorrent's figure). */
export const UNKNOWN_LEFT = 16384;
/** Longest text of a tracker that is shown. */
const MAX_TEXT = 256;

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

export function failedScrape(failure: string): ScrapeReply {
  return {
    failure,
    seeders: null,
    leechers: null,
    completed: null,
    downloaders: null,
    minIntervalMs: MIN_INTERVAL_MS,
  };
}

/** An interval as a tracker gives it, made bearable. */
export function clampMs(ms: number): number {
  return Math.min(MAX_INTERVAL_MS, Math.max(MIN_INTERVAL_MS, ms));
}

/** A count of bytes as trackers are told it: a whole number, 0 where there is none. */
export function wholeBytes(bytes: number): number {
  return Number.isFinite(bytes) && bytes > 0 ? Math.min(Number.MAX_SAFE_INTEGER, Math.floor(bytes)) : 0;
}

/**
 * Text of a server for people to see: one line, no control characters (terminal escapes) and none that change the
 * direction of writing.
 */
export function displayText(bytes: Uint8Array): string {
  const clean = utf8Decode(bytes.subarray(0, 4 * MAX_TEXT))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must go
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe]/g, '')
    .trim();
  return clean.length > MAX_TEXT ? `${clean.slice(0, MAX_TEXT - 1)}…` : clean;
}

export const NO_REASON = 'the tracker refused, and gave no reason';

export type TrackerProtocol = 'http' | 'udp' | 'websocket';

const OWN_KEYS = /[?&](?:info_hash|peer_id|port|uploaded|downloaded|left|event|corrupt)=/i;
/** Longest tracker URL taken; passkey URLs stay under 300. */
const MAX_URL_LENGTH = 2048;

/**
 * Which protocol a tracker URL asks for, or null when it is no tracker URL: unknown scheme, no host, too long, holding a
 * space or control character (which would let a torrent write its own request headers), or what an announce itself says
 * (which would let it write the announce).
 */
export function trackerProtocol(url: string): TrackerProtocol | null {
  if (url.length > MAX_URL_LENGTH) return null;
  for (let i = 0; i < url.length; i++) {
    const c = url.charCodeAt(i);
    if (c <= 0x20 || c === 0x7f || c === 0x5c) return null;
  }
  const match = /^([A-Za-z]{2,5}):\/\/[^/?#]/.exec(url);
  if (match === null || OWN_KEYS.test(url)) return null;
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

/** The address family of a tracker whose URL has an address in place of a name; null: a name, which may have both. */
export function literalFamily(url: string): Family | null {
  const authority = /^[A-Za-z]+:\/\/(?:[^/?#@]*@)?(\[[^\]]*\]|[^:/?#]*)/.exec(url)?.[1] ?? '';
  if (authority.startsWith('[')) return parseIp(authority.slice(1, -1))?.length === 4 ? 4 : 6;
  return parseIp(authority) === null ? null : 4;
}
