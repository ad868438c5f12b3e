/**
 * Magnet links (BEP 9, 52, 53): made and read, those that name a torrent and those that name a publisher, whose torrent
 * changes (BEP 46). Robust reading: keys in any case and with numbers (tr.1), broken percent signs taken as they are,
 * unknown parameters skipped. Linear in the text. Only ShoalError 'bad-magnet' is thrown.
 *
 * Limits: 2 MiB of text, 16,384 trackers, 1,024 web seeds, 1,024 peers, 131,072 file numbers
 * from 16,384 ranges in `so`, the rest is cut off.
 */

import { fromBase32, fromHex, hexDigit, toHex, utf8Decode, utf8Encode } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import { formatEndpoint, type HostPort, parseEndpoint } from '../base/ip.ts';
import { swarmHashOf } from './infohash.ts';
import { isTrackerUrl, isWebSeedUrl } from './urls.ts';

export interface Magnet {
  /** v1, 20 bytes, or null. */
  readonly infoHash: Uint8Array | null;
  /** v2, 32 bytes, or null; one of the two is there. */
  readonly infoHashV2: Uint8Array | null;
  /** 20 bytes. */
  readonly swarmHash: Uint8Array;
  /** A label until the metadata is there; not safe as a file name. */
  readonly name: string | null;
  /** In the link's order. */
  readonly trackers: readonly string[];
  readonly webSeeds: readonly string[];
  readonly peers: readonly HostPort[];
  /** Indices of the files to download, ascending (BEP 53), or null for all. */
  readonly select: readonly number[] | null;
}

/** A link to whoever holds a key (BEP 46): the DHT says which torrent it stands for now. */
export interface Publisher {
  /** ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Tells the torrents of one key apart; at most 64 bytes, empty: none. */
  readonly salt: Uint8Array;
  /** As in a Magnet; they help to find whichever torrent it is. */
  readonly name: string | null;
  readonly trackers: readonly string[];
  readonly webSeeds: readonly string[];
  readonly peers: readonly HostPort[];
  readonly select: readonly number[] | null;
}

/** What `formatMagnet` needs of a magnet or a torrent. */
export interface MagnetParts {
  readonly infoHash: Uint8Array | null;
  readonly infoHashV2: Uint8Array | null;
  readonly name?: string | null;
  readonly trackers?: readonly string[];
  readonly webSeeds?: readonly string[];
  readonly peers?: readonly HostPort[];
  readonly select?: readonly number[] | null;
}

const MAX_TEXT = 2 * 1024 * 1024;
const MAX_TRACKERS = 16384;
const MAX_OTHERS = 1024;
/** More than the files of any torrent in practice. */
const MAX_SELECT = 131072;
const MAX_RANGES = 16384;
const MAX_NAME = 4096;
/** Of a BEP 44 item. */
const MAX_SALT = 64;

export function parseMagnet(text: string): Magnet {
  const { infoHash, infoHashV2, key, salt: _salt, ...rest } = read(text);
  if (infoHash === null && infoHashV2 === null) {
    if (key !== null) throw bad('it names a publisher (BEP 46), not a torrent');
    throw bad("it has no 'xt=urn:btih:' or 'xt=urn:btmh:' with an info-hash");
  }
  return { infoHash, infoHashV2, swarmHash: swarmHashOf(infoHash, infoHashV2), ...rest };
}

/** Null: it is no link to a publisher; one that also names a torrent ('xt') stands for that one alone. */
export function parsePublisher(text: string): Publisher | null {
  const { infoHash, infoHashV2, key, salt, ...rest } = read(text);
  if (key === null || infoHash !== null || infoHashV2 !== null) return null;
  return { publicKey: publicKeyOf(key), salt: saltOf(salt), ...rest };
}

const KEY_URN = 'urn:btpk:';

interface Link extends Omit<Magnet, 'swarmHash'> {
  /** What follows 'xs=urn:btpk:'. */
  readonly key: string | null;
  readonly salt: string;
}

function read(text: string): Link {
  if (text.length > MAX_TEXT) throw bad(`${text.length} characters are more than ${MAX_TEXT}`);
  const link = text.trim();
  if (!/^magnet:\?/i.test(link)) throw bad("it does not begin with 'magnet:?'");
  let v1: Uint8Array | null = null;
  let v2: Uint8Array | null = null;
  let publicKey: string | null = null;
  let salt = '';
  let name: string | null = null;
  let select: Selection | null = null;
  const trackers = new Set<string>();
  const webSeeds = new Set<string>();
  const peers = new Map<string, HostPort>();
  const query = link.slice('magnet:?'.length).split('#', 1)[0]!;
  for (const parameter of query.split('&')) {
    const equals = parameter.indexOf('=');
    if (equals < 0) continue;
    const key = keyOf(parameter.slice(0, equals));
    const raw = parameter.slice(equals + 1);
    if (key === 'xt') {
      const urn = percentDecode(raw).trim();
      const lower = urn.slice(0, 9).toLowerCase();
      if (lower === 'urn:btih:') v1 = agreeing(v1, hashV1(urn.slice(9)), 'btih');
      else if (lower === 'urn:btmh:') v2 = agreeing(v2, hashV2(urn.slice(9)), 'btmh');
    } else if (key === 'xs') {
      const urn = percentDecode(raw).trim();
      if (urn.slice(0, KEY_URN.length).toLowerCase() !== KEY_URN) continue;
      const named = urn.slice(KEY_URN.length).toLowerCase();
      if (publicKey !== null && publicKey !== named) throw bad('it names two different public keys');
      publicKey = named;
    } else if (key === 's') {
      salt ||= percentDecode(raw).trim();
    } else if (key === 'tr') {
      const url = percentDecode(raw).trim();
      if (trackers.size < MAX_TRACKERS && isTrackerUrl(url)) trackers.add(url);
    } else if (key === 'ws') {
      const url = percentDecode(raw).trim();
      if (webSeeds.size < MAX_OTHERS && isWebSeedUrl(url)) webSeeds.add(url);
    } else if (key === 'x.pe') {
      const peer = peers.size < MAX_OTHERS ? parseEndpoint(percentDecode(raw).trim()) : null;
      if (peer !== null) peers.set(formatEndpoint(peer.host, peer.port), peer);
    } else if (key === 'dn') {
      name ??= percentDecode(raw.replaceAll('+', ' ')).slice(0, MAX_NAME).trim() || null;
    } else if (key === 'so') {
      select ??= new Selection();
      select.add(percentDecode(raw));
    }
  }
  return {
    infoHash: v1,
    infoHashV2: v2,
    key: publicKey,
    salt,
    name,
    trackers: [...trackers],
    webSeeds: [...webSeeds],
    peers: [...peers.values()],
    select: select === null ? null : select.sorted(),
  };
}

export function formatMagnet(parts: MagnetParts): string {
  const found: string[] = [];
  if (parts.infoHash !== null) found.push(`xt=urn:btih:${toHex(parts.infoHash)}`);
  if (parts.infoHashV2 !== null) found.push(`xt=urn:btmh:1220${toHex(parts.infoHashV2)}`);
  return joined(found, parts);
}

/** A link to a publisher. `publicKey`: 32 bytes; `salt`: at most 64. */
export function formatPublisher(parts: Pick<Publisher, 'publicKey' | 'salt'> & Partial<Publisher>): string {
  const found = [`xs=${KEY_URN}${toHex(parts.publicKey)}`];
  if (parts.salt.length > 0) found.push(`s=${toHex(parts.salt)}`);
  return joined(found, parts);
}

function joined(found: string[], parts: Omit<MagnetParts, 'infoHash' | 'infoHashV2'>): string {
  if (parts.name != null) found.push(`dn=${percentEncode(parts.name)}`);
  for (const url of parts.trackers ?? []) found.push(`tr=${percentEncode(url)}`);
  for (const url of parts.webSeeds ?? []) found.push(`ws=${percentEncode(url)}`);
  for (const peer of parts.peers ?? []) found.push(`x.pe=${formatEndpoint(peer.host, peer.port)}`);
  if (parts.select != null && parts.select.length > 0) found.push(`so=${ranges(parts.select)}`);
  return `magnet:?${found.join('&')}`;
}

function bad(what: string): ShoalError {
  return new ShoalError('bad-magnet', `bad magnet link: ${what}`);
}

/** Lower case, without the number that keeps equal keys apart. Some links escape the '&' before it as '&amp;'. */
function keyOf(raw: string): string {
  let key = percentDecode(raw.slice(0, 64)).toLowerCase();
  if (key.startsWith('amp;')) key = key.slice(4);
  return key.replace(/\.\d+$/, '');
}

function hashV1(text: string): Uint8Array {
  const hash = text.length === 40 ? fromHex(text) : text.length === 32 ? fromBase32(text) : null;
  if (hash === null) throw bad("the info-hash after 'btih:' is neither 40 hex digits nor 32 base32 characters");
  return hash;
}

/** A multihash: 12 = SHA-256, 20 = 32 bytes. */
function hashV2(text: string): Uint8Array {
  const hash = text.length === 68 && text.startsWith('1220') ? fromHex(text.slice(4)) : null;
  if (hash === null) throw bad("the info-hash after 'btmh:' is not '1220' and 64 hex digits");
  return hash;
}

function publicKeyOf(text: string): Uint8Array {
  const key = text.length === 64 ? fromHex(text) : null;
  if (key === null) throw bad("the public key after 'btpk:' is not 64 hex digits");
  return key;
}

function saltOf(text: string): Uint8Array {
  const salt = text.length <= 2 * MAX_SALT ? fromHex(text) : null;
  if (salt === null) throw bad(`the salt after 's=' is not hex of at most ${MAX_SALT} bytes`);
  return salt;
}

function agreeing(known: Uint8Array | null, hash: Uint8Array, kind: string): Uint8Array {
  if (known !== null && toHex(known) !== toHex(hash)) throw bad(`it names two different torrents by '${kind}'`);
  return hash;
}

/** Numbers and inclusive ranges (BEP 53); what is neither is skipped. Overlapping ranges cost no more than others. */
class Selection {
  readonly #ranges: [number, number][] = [];

  add(text: string): void {
    for (const part of text.split(',')) {
      if (this.#ranges.length === MAX_RANGES) return;
      const found = /^\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?$/.exec(part);
      if (found === null) continue;
      const first = Number(found[1]);
      const last = found[2] === undefined ? first : Number(found[2]);
      if (first <= last) this.#ranges.push([first, last]);
    }
  }

  sorted(): number[] {
    const numbers: number[] = [];
    this.#ranges.sort((a, b) => a[0] - b[0]);
    let next = 0;
    for (const [first, last] of this.#ranges) {
      for (let i = Math.max(first, next); i <= last && numbers.length < MAX_SELECT; i++) numbers.push(i);
      next = Math.max(next, last + 1);
    }
    return numbers;
  }
}

function ranges(select: readonly number[]): string {
  const ascending = select.every((n, i) => i === 0 || select[i - 1]! < n);
  const sorted = ascending ? select : [...new Set(select)].sort((a, b) => a - b);
  const found: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j]! + 1) j++;
    found.push(i === j ? `${sorted[i]}` : `${sorted[i]}-${sorted[j]}`);
    i = j + 1;
  }
  return found.join(',');
}

/** A '%' without two hex digits stays as it is; bytes that are no UTF-8 become U+FFFD. */
function percentDecode(text: string): string {
  if (!text.includes('%')) return text;
  const bytes = utf8Encode(text);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    const high = bytes[i] === 37 && i + 2 < bytes.length ? hexDigit(bytes[i + 1]!) : -1;
    const low = high >= 0 ? hexDigit(bytes[i + 2]!) : -1;
    if (low >= 0) i += 2;
    bytes[length++] = low >= 0 ? high * 16 + low : bytes[i]!;
  }
  return utf8Decode(bytes.subarray(0, length));
}

function percentEncode(text: string): string {
  // by way of UTF-8, so that a lone surrogate, which encodeURIComponent throws at, goes out as U+FFFD
  return encodeURIComponent(utf8Decode(utf8Encode(text)));
}
