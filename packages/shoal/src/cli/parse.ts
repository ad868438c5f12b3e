/** The small languages of the command line: sizes, rates, selections, addresses. Each throws UsageError saying what it takes. */

import { isIP } from 'node:net';
import { UsageError } from './exit-code.ts';

const UNIT_BYTES: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  kib: 2 ** 10,
  kb: 1e3,
  m: 2 ** 20,
  mib: 2 ** 20,
  mb: 1e6,
  g: 2 ** 30,
  gib: 2 ** 30,
  gb: 1e9,
  t: 2 ** 40,
  tib: 2 ** 40,
  tb: 1e12,
};

/** '512K', '20M', '1.5MiB', '700000'. K, M, G and KiB, MiB, GiB are powers of 1024; KB, MB, GB of 1000. In bytes. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match === null ? undefined : UNIT_BYTES[(match[2] ?? '').toLowerCase()];
  if (match === null || unit === undefined) {
    throw new UsageError(`'${text}' is not a size; write 512K, 20M or 1.5MiB`);
  }
  const bytes = Math.round(Number(match[1]) * unit);
  if (!Number.isSafeInteger(bytes)) throw new UsageError(`'${text}' is too large`);
  return bytes;
}

/** A size per second, '/s' allowed; 0: no limit. */
export function parseRate(text: string): number {
  return parseSize(text.replace(/\/s(ec)?$/i, ''));
}

/** A power of two from 16 KiB to 256 MiB. */
export function parsePieceSize(text: string): number {
  const bytes = parseSize(text);
  if (bytes < 16 * 1024 || bytes > 256 * 1024 * 1024 || 2 ** Math.round(Math.log2(bytes)) !== bytes) {
    throw new UsageError(`'${text}' is not a piece size; it is a power of two from 16K to 256M`);
  }
  return bytes;
}

/** More indices than this in one selection are a slip of the keyboard. */
const MAX_SELECTED = 1_000_000;

/** '0,2-4' -> [0, 2, 3, 4], sorted, each once. */
export function parseSelect(text: string): number[] {
  const indices = new Set<number>();
  for (const part of text.split(',')) {
    const match = /^\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*$/.exec(part);
    const first = Number(match?.[1]);
    const last = match?.[2] === undefined ? first : Number(match[2]);
    if (match === null || last < first || last - first + indices.size >= MAX_SELECTED) {
      throw new UsageError(`'${text}' is not a selection; write file numbers as in \`shoal info\`, like 0,2-4`);
    }
    for (let i = first; i <= last; i++) indices.add(i);
  }
  return [...indices].sort((a, b) => a - b);
}

/** 'host:port', '1.2.3.4:5', '[::1]:5'; returned as written, once it is known to make sense. */
export function parsePeer(text: string): string {
  return parseHostPort(text, 'peer');
}

/** The same for a node of the DHT. */
export function parseNode(text: string): string {
  return parseHostPort(text, 'DHT node');
}

function parseHostPort(text: string, noun: string): string {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const bracketed = match?.[1];
  if (match === null || port < 1 || port > 65535 || (bracketed !== undefined && isIP(bracketed) !== 6)) {
    throw new UsageError(`'${text}' is not a ${noun}; write HOST:PORT, and [ADDRESS]:PORT for IPv6`);
  }
  return text;
}

export function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (port < 0 || port > 65535) throw new UsageError(`'${text}' is not a port; it is a number from 0 to 65535`);
  return port;
}

export function parseAddress(text: string): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (isIP(bare) === 0) throw new UsageError(`'${text}' is not a local IP address`);
  return bare;
}

/** Of a file or folder; an empty one is a variable of the shell that is not set. */
export function parsePath(text: string): string {
  if (text === '') throw new UsageError('the path is empty');
  return text;
}

/** Seconds, fractions allowed; in milliseconds. */
export function parseTimeout(text: string): number {
  const seconds = /^(\d+(\.\d+)?|\.\d+)s?$/.test(text) ? Number.parseFloat(text) : 0;
  if (seconds <= 0 || seconds > 1e6) throw new UsageError(`'${text}' is not a time; write seconds, like 30`);
  return seconds * 1000;
}

/** What is done again and again is not done more than once a second. */
export function parseInterval(text: string): number {
  const ms = parseTimeout(text);
  if (ms < 1000) throw new UsageError(`'${text}' is too often; once a second is the most`);
  return ms;
}

/** Of a DHT item: the number that grows with each version. */
export function parseSeq(text: string): number {
  const seq = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(seq)) throw new UsageError(`'${text}' is not a sequence number; write 0, 1, 2, ...`);
  return seq;
}

/** BEP 44. */
const MAX_SALT_BYTES = 64;

/** Text that tells apart what one key puts; as bytes, at most 64. */
export function parseSalt(text: string): Uint8Array {
  const salt = new TextEncoder().encode(text);
  if (salt.length === 0 || salt.length > MAX_SALT_BYTES) {
    throw new UsageError(`a salt has 1 to ${MAX_SALT_BYTES} bytes, not ${salt.length}`);
  }
  return salt;
}

export function parseTrackerUrl(text: string): string {
  return parseUrl(text, ['http:', 'https:', 'udp:', 'ws:', 'wss:'], 'tracker');
}

export function parseWebSeedUrl(text: string): string {
  return parseUrl(text, ['http:', 'https:', 'ftp:'], 'web seed');
}

function parseUrl(text: string, schemes: readonly string[], noun: string): string {
  if (!URL.canParse(text) || !schemes.includes(new URL(text).protocol)) {
    const known = schemes.map((scheme) => `${scheme}//`).join(', ');
    throw new UsageError(`'${text}' is not a ${noun} address; it begins with ${known}`);
  }
  return text;
}
