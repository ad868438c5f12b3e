/**
 * The HTTP tracker protocol as pure functions (BEP 3, 7, 21, 23, 24, 31, 48): URLs to get, and bytes to replies.
 *
 * Invariant: whatever bytes come, a parser returns; an answer that cannot be read is a reply with `failure`. Numbers are
 * clamped here, so that no one behind this file meets an interval of -1 or 10^11.
 *
 * Limits: the body's size is the Http port's (MAX_BODY_BYTES); MAX_PEERS peers, MAX_NAMED of them by name; texts 256.
 */

import { latin1, utf8Decode } from '../base/bytes.ts';
import { formatIp, isLocal, isUsablePeerAddress, parseIp } from '../base/ip.ts';
import { BDict, BencodeError, type BValue, decodePrefix } from '../codec/bencode.ts';
import {
  type AnnounceAsk,
  type AnnounceReply,
  DEFAULT_INTERVAL_MS,
  failedReply,
  MAX_INTERVAL_MS,
  MAX_PEERS,
  MIN_INTERVAL_MS,
  type NamedPeer,
  type ScrapeReply,
} from './tracker.ts';

/** Body cap for the Http port (libtorrent's figure); 1,000 peers as dictionaries are some 90 kB. */
export const MAX_BODY_BYTES: number = 1 << 20;
/** Each name costs a look-up, so few are taken. */
const MAX_NAMED = 20;
const MAX_TEXT = 256;
const MAX_TRACKER_ID_BYTES = 256;
/** `left` while the metadata is missing: anything but 0, which would say that we seed (libtorrent's figure). */
const UNKNOWN_LEFT = 16384;

/** The URL of an announce: the tracker's own query stays in front, untouched. */
export function announceUrl(tracker: string, ask: AnnounceAsk): string {
  let url = withQuery(tracker);
  url += `info_hash=${percentEncode(ask.infoHash)}&peer_id=${percentEncode(ask.peerId)}&port=${ask.port}`;
  url += `&uploaded=${count(ask.uploaded)}&downloaded=${count(ask.downloaded)}`;
  url += `&left=${ask.left < 0 ? UNKNOWN_LEFT : count(ask.left)}`;
  url += `&compact=1&no_peer_id=1&numwant=${ask.numWant}&key=${hex32(ask.key)}`;
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
    return failedReply(refusal === '' ? 'the tracker refused, and gave no reason' : refusal, retryIn(dict));
  }
  if (status < 200 || status > 299) return failedReply(`the tracker answered with HTTP status ${status}`);
  if (dict === null) return failedReply('the answer is not a bencoded dictionary');

  const trackerIp = parseIp(remoteIp);
  const found = new PeerCollector(trackerIp === null || isLocal(trackerIp));
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

/** Gathers usable peers up to MAX_PEERS over all forms, packed. */
class PeerCollector {
  readonly named: NamedPeer[] = [];
  readonly #loopbackToo: boolean;
  readonly #four: number[] = [];
  readonly #six: number[] = [];
  #taken = 0;

  constructor(loopbackToo: boolean) {
    this.#loopbackToo = loopbackToo;
  }

  peers4(): Uint8Array {
    return Uint8Array.from(this.#four);
  }

  peers6(): Uint8Array {
    return Uint8Array.from(this.#six);
  }

  packed(bytes: Uint8Array, ipBytes: 4 | 16): void {
    for (let at = 0; at < bytes.length && this.#taken < MAX_PEERS; at += ipBytes + 2) {
      const port = (bytes[at + ipBytes]! << 8) | bytes[at + ipBytes + 1]!;
      this.#add(bytes.subarray(at, at + ipBytes), port);
    }
  }

  /** The first form of all: dictionaries with `ip` (text, perhaps a name) and `port`. */
  dicts(list: readonly BValue[]): void {
    for (let i = 0; i < list.length && this.#taken < MAX_PEERS; i++) {
      const peer = list[i];
      if (!(peer instanceof BDict)) continue;
      const ip = peer.get('ip');
      const port = peer.get('port');
      if (!(ip instanceof Uint8Array) || typeof port !== 'number' || port < 1 || port > 65535) continue;
      if (ip.length === 0 || ip.length > 253) continue;
      const host = latin1(ip);
      const address = parseIp(host);
      if (address !== null) {
        this.#add(address, port);
      } else if (this.named.length < MAX_NAMED && isName(host)) {
        this.named.push({ host, port });
        this.#taken++;
      }
    }
  }

  #add(address: Uint8Array, port: number): void {
    const ip = address.length === 16 && isMapped(address) ? address.subarray(12) : address;
    if (!isUsablePeerAddress(ip, port) || (!this.#loopbackToo && isLoopback(ip))) return;
    const into = ip.length === 4 ? this.#four : this.#six;
    for (let i = 0; i < ip.length; i++) into.push(ip[i]!);
    into.push(port >>> 8, port & 255);
    this.#taken++;
  }
}

function isMapped(ip: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (ip[i] !== 0) return false;
  return ip[10] === 255 && ip[11] === 255;
}

function isLoopback(ip: Uint8Array): boolean {
  if (ip.length === 4) return ip[0] === 127;
  for (let i = 0; i < 15; i++) if (ip[i] !== 0) return false;
  return ip[15] === 1;
}

/** A host name that ends in a letter: what looks like a number is an address in a spelling made to slip through. */
function isName(host: string): boolean {
  if (host.includes('..') || !/^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(host)) return false;
  const last = host.slice(host.lastIndexOf('.') + 1);
  return /^[A-Za-z]/.test(last) && host.toLowerCase() !== 'localhost' && !host.toLowerCase().endsWith('.localhost');
}

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

/**
 * Text of a server for people to see: one line, no control characters (terminal escapes) and none that change the
 * direction of writing.
 */
function text(value: BValue | undefined): string | null {
  if (!(value instanceof Uint8Array)) return null;
  const clean = utf8Decode(value.subarray(0, 4 * MAX_TEXT))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must go
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe]/g, '')
    .trim();
  return clean.length > MAX_TEXT ? `${clean.slice(0, MAX_TEXT - 1)}…` : clean;
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

function clampMs(ms: number): number {
  return Math.min(MAX_INTERVAL_MS, Math.max(MIN_INTERVAL_MS, ms));
}

/** A count for display; a tracker that says -1 or 10^15 does not know. */
function counted(value: BValue | undefined): number | null {
  return typeof value === 'number' && value >= 0 && value <= 0xffffffff ? value : null;
}

function failedScrape(failure: string): ScrapeReply {
  return {
    failure,
    seeders: null,
    leechers: null,
    completed: null,
    downloaders: null,
    minIntervalMs: MIN_INTERVAL_MS,
  };
}

/** The URL without its fragment, ending so that parameters can follow. */
function withQuery(tracker: string): string {
  const hash = tracker.indexOf('#');
  const url = hash < 0 ? tracker : tracker.slice(0, hash);
  if (!url.includes('?')) return `${url}?`;
  return url.endsWith('?') || url.endsWith('&') ? url : `${url}&`;
}

function count(bytes: number): number {
  return Number.isFinite(bytes) && bytes > 0 ? Math.min(Number.MAX_SAFE_INTEGER, Math.floor(bytes)) : 0;
}

function hex32(value: number): string {
  return (value >>> 0).toString(16).toUpperCase().padStart(8, '0');
}
