/**
 * The HTTP tracker protocol as pure functions (BEP 3, 7, 21, 23, 24, 31, 48): URLs to get, and bytes to replies.
 *
 * Invariant: whatever bytes come, a parser returns; an answer that cannot be read is a reply with `failure`. Numbers are
 * clamped here, so that no one behind this file meets an interval of -1 or 10^11.
 *
 * Limits: the body's size is the Http port's (MAX_BODY_BYTES); MAX_PEERS peers, a few of them by name.
 */

import { latin1 } from '../base/bytes.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import { BDict, BencodeError, type BValue, decodePrefix } from '../codec/bencode.ts';
import { PeerCollector } from './peer-collector.ts';
import {
  type AnnounceAsk,
  type AnnounceReply,
  clampMs,
  DEFAULT_INTERVAL_MS,
  displayText,
  failedReply,
  failedScrape,
  MAX_INTERVAL_MS,
  MIN_INTERVAL_MS,
  NO_REASON,
  type ScrapeReply,
  UNKNOWN_LEFT,
  wholeBytes,
} from './tracker.ts';

/** Body cap for the Http port (libtorrent's figure); 1,000 peers as dictionaries are some 90 kB. */
export const MAX_BODY_BYTES: number = 1 << 20;
const MAX_TRACKER_ID_BYTES = 256;

/** The URL of an announce: the tracker's own query stays in front, untouched. */
export function announceUrl(tracker: string, ask: AnnounceAsk): string {
  let url = withQuery(tracker);
  url += `info_hash=${percentEncode(ask.infoHash)}&peer_id=${percentEncode(ask.peerId)}&port=${ask.port}`;
  url += `&uploaded=${wholeBytes(ask.uploaded)}&downloaded=${wholeBytes(ask.downloaded)}`;
  url += `&left=${ask.left < 0 ? UNKNOWN_LEFT : wholeBytes(ask.left)}`;
  url += `&compact=1&no_peer_id=1&numwant=${ask.numWant}`;
  if (ask.key !== 0) url += `&key=${hex32(ask.key)}`;
  if (ask.supportCrypto) url += '&supportcrypto=1';
  if (ask.event !== '') url += `&event=${ask.event}`;
  if (ask.trackerId !== null) url += `&trackerid=${percentEncode(ask.trackerId)}`;
  return url;
}

/**
 * The URL that counts these torrents, or null where the tracker has none: by convention there is one only if the last
 * part of the path starts with "announce", which "scrape" replaces (BEP 48).
 */
export function scrapeUrl(tracker: string, infoHashes: readonly Uint8Array[]): string | null {
  const pathEnd = tracker.search(/[?#]/);
  const path = pathEnd < 0 ? tracker : tracker.slice(0, pathEnd);
  const slash = path.lastIndexOf('/');
  if (slash < path.indexOf('://') + 3 || !path.startsWith('announce', slash + 1)) return null;
  let url = withQuery(`${path.slice(0, slash + 1)}scrape${path.slice(slash + 9)}${tracker.slice(path.length)}`);
  for (let i = 0; i < infoHashes.length; i++) url += `${i > 0 ? '&' : ''}info_hash=${percentEncode(infoHashes[i]!)}`;
  return url;
}

/** Every byte that is not unreserved in a URI (RFC 3986) becomes %XX. */
export function percentEncode(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) {
    const b = bytes[i]!;
    const plain =
      (b >= 48 && b <= 57) ||
      (b >= 65 && b <= 90) ||
      (b >= 97 && b <= 122) ||
      b === 45 ||
      b === 46 ||
      b === 95 ||
      b === 126;
    text += plain ? String.fromCharCode(b) : `%${HEX[b >>> 4]}${HEX[b & 15]}`;
  }
  return text;
}

/**
 * Reads the answer to an announce. `remoteIp` is the address the tracker answered from: one on the open internet has no
 * business naming loopback addresses, which would point us at services of our own machine.
 */
export function parseAnnounce(status: number, body: Uint8Array, remoteIp: string): AnnounceReply {
  const dict = readDict(body);
  const refusal = dict === null ? null : text(dict.get('failure reason'));
  if (dict !== null && refusal !== null) {
    return failedReply(refusal === '' ? NO_REASON : refusal, retryIn(dict));
  }
  if (status < 200 || status > 299) return failedReply(`the tracker answered with HTTP status ${status}`);
  if (dict === null) return failedReply('the answer is not a bencoded dictionary');

  const found = new PeerCollector(remoteIp);
  const peers = dict.get('peers');
  if (peers instanceof Uint8Array) {
    if (peers.length % 6 !== 0) return failedReply(`'peers' has ${peers.length} bytes, which is no multiple of 6`);
    found.packed(peers, 4);
  } else if (Array.isArray(peers)) {
    found.dicts(peers);
  }
  const peers6 = dict.get('peers6');
  if (peers6 instanceof Uint8Array) {
    if (peers6.length % 18 !== 0) return failedReply(`'peers6' has ${peers6.length} bytes, which is no multiple of 18`);
    found.packed(peers6, 16);
  } else if (Array.isArray(peers6)) {
    found.dicts(peers6);
  }

  const trackerId = dict.get('tracker id');
  const external = dict.get('external ip');
  const externalOk = external instanceof Uint8Array && (external.length === 4 || external.length === 16);
  const minIntervalMs = clampSeconds(dict.get('min interval'), MIN_INTERVAL_MS);
  return {
    failure: null,
    retryInMs: null,
    warning: text(dict.get('warning message')),
    intervalMs: Math.max(minIntervalMs, clampSeconds(dict.get('interval'), DEFAULT_INTERVAL_MS)),
    minIntervalMs,
    trackerId: trackerId instanceof Uint8Array && trackerId.length <= MAX_TRACKER_ID_BYTES ? trackerId.slice() : null,
    externalIp: externalOk ? parseIp(formatIp(external)) : null,
    seeders: counted(dict.get('complete')),
    leechers: counted(dict.get('incomplete')),
    peers4: found.peers4(),
    peers6: found.peers6(),
    named: found.named,
  };
}

/** Reads the counts of one torrent out of a scrape's answer. */
export function parseScrape(status: number, body: Uint8Array, infoHash: Uint8Array): ScrapeReply {
  const dict = readDict(body);
  if (dict === null) {
    return failedScrape(
      status < 200 || status > 299
        ? `the tracker answered with HTTP status ${status}`
        : 'the answer is not a bencoded dictionary',
    );
  }
  const refusal = text(dict.get('failure reason')) ?? text(dict.get('failure_reason'));
  if (refusal !== null) return failedScrape(refusal);
  if (status < 200 || status > 299) return failedScrape(`the tracker answered with HTTP status ${status}`);
  const files = dict.get('files');
  const file = files instanceof BDict ? files.get(infoHash) : undefined;
  if (!(file instanceof BDict)) return failedScrape('the tracker does not know this torrent');
  const flags = dict.get('flags');
  return {
    failure: null,
    seeders: counted(file.get('complete')),
    leechers: counted(file.get('incomplete')),
    completed: counted(file.get('downloaded')),
    downloaders: counted(file.get('downloaders')),
    minIntervalMs: clampSeconds(
      flags instanceof BDict ? flags.get('min_request_interval') : undefined,
      MIN_INTERVAL_MS,
    ),
  };
}

const HEX = '0123456789ABCDEF';
/** Of the deepest reply (files -> hash -> counts) some room is left; of dictionary peers, what fits MAX_BODY_BYTES. */
const REPLY_LIMITS = { depth: 16, tokens: 150_000 } as const;

/** Null: not a dictionary. What follows the dictionary (a line end, an HTML remark) is let pass, as trackers send it. */
function readDict(body: Uint8Array): BDict | null {
  try {
    const { value } = decodePrefix(body, REPLY_LIMITS);
    return value instanceof BDict ? value : null;
  } catch (error) {
    if (error instanceof BencodeError) return null;
    throw error;
  }
}

function text(value: BValue | undefined): string | null {
  return value instanceof Uint8Array ? displayText(value) : null;
}

/** BEP 31: minutes as a number, or as digits, or the word "never". */
function retryIn(dict: BDict): number | null {
  const value = dict.get('retry in');
  if (value instanceof Uint8Array) {
    const said = latin1(value.subarray(0, 16));
    if (said === 'never') return Number.POSITIVE_INFINITY;
    return /^\d{1,15}$/.test(said) ? clampMs(Number(said) * 60_000) : null;
  }
  if (typeof value === 'bigint') return clampMs(value > 0n ? MAX_INTERVAL_MS : 0);
  return typeof value === 'number' ? clampMs(value * 60_000) : null;
}

function clampSeconds(value: BValue | undefined, otherwiseMs: number): number {
  if (typeof value === 'bigint') return clampMs(value > 0n ? MAX_INTERVAL_MS : 0);
  return typeof value === 'number' ? clampMs(value * 1000) : otherwiseMs;
}

/** A count for display; a tracker that says -1 or 10^15 does not know. */
function counted(value: BValue | undefined): number | null {
  return typeof value === 'number' && value >= 0 && value <= 0xffffffff ? value : null;
}

/** The URL without its fragment, ending so that parameters can follow. */
function withQuery(tracker: string): string {
  const hash = tracker.indexOf('#');
  const url = hash < 0 ? tracker : tracker.slice(0, hash);
  if (!url.includes('?')) return `${url}?`;
  return url.endsWith('?') || url.endsWith('&') ? url : `${url}&`;
}

function hex32(value: number): string {
  return (value >>> 0).toString(16).toUpperCase().padStart(8, '0');
}
