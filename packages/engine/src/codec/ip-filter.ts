/**
 * Block lists as they are passed around, read line by line, each line in whichever form it has:
 *
 *     Some name: with colons:1.2.3.4-1.2.3.255                     P2P (PeerGuardian)
 *     001.002.003.004 - 001.002.003.255 , 100 , some name          DAT (eMule); levels of 128 and more are not blocked
 *     10.0.0.0/8    2001:db8::/32    1.2.3.4                       CIDR, or an address
 *     # comment     // comment      (nothing)
 *
 * Linear in the text, without an object per line of IPv4; a line that is none of these is counted and passed over.
 */

import { utf8Decode } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import type { IpRangesBuilder } from '../base/ip-ranges.ts';

export interface IpFilterReport {
  readonly rangeCount: number;
  /** Lines that made no sense, and the number of the first one (from 1), or 0. */
  readonly badLineCount: number;
  readonly firstBadLine: number;
}

const LF = 10;
const CR = 13;
const SPACE = 32;
const TAB = 9;
/** Levels of DAT from here on mean "allowed". */
const DAT_ALLOWED = 128;

/** Adds what the text (decompressed) blocks. Never throws. */
export function readIpFilter(text: Uint8Array, into: IpRangesBuilder): IpFilterReport {
  const before = into.count;
  let badLineCount = 0;
  let firstBadLine = 0;
  let line = 0;
  for (let at = 0; at < text.length; ) {
    let end = text.indexOf(LF, at);
    if (end < 0) end = text.length;
    line++;
    if (!readLine(text, at, end, into)) {
      badLineCount++;
      if (firstBadLine === 0) firstBadLine = line;
    }
    at = end + 1;
  }
  return { rangeCount: into.count - before, badLineCount, firstBadLine };
}

/** False: it makes no sense. */
function readLine(text: Uint8Array, from: number, to: number, into: IpRangesBuilder): boolean {
  while (from < to && isBlank(text[from]!)) from++;
  while (to > from && (isBlank(text[to - 1]!) || text[to - 1] === CR)) to--;
  if (from === to || text[from] === 0x23 || text[from] === 0x3b) return true;
  if (text[from] === 0x2f && text[from + 1] === 0x2f) return true;
  // DAT or a bare range: it begins with an address
  let at = readV4(text, from, to);
  if (at > 0) return readTail(text, at, to, address, into);
  // P2P: the range stands after the last colon
  const colon = text.lastIndexOf(0x3a, to - 1);
  if (colon >= from) {
    at = readV4(text, skipBlank(text, colon + 1, to), to);
    if (at > 0 && text[skipBlank(text, at, to)] === 0x2d) return readTail(text, at, to, address, into);
  }
  return readV6(utf8Decode(text.subarray(from, to)), into);
}

/** After the first address: nothing, a prefix length, or a second address and perhaps a level. */
function readTail(text: Uint8Array, at: number, to: number, first: number, into: IpRangesBuilder): boolean {
  at = skipBlank(text, at, to);
  if (at === to) return into.addV4(first, first);
  if (text[at] === 0x2f) {
    const bits = readNumber(text, at + 1, to);
    if (bits < 0 || bits > 32 || numberEnd !== to) return false;
    const size = 2 ** (32 - bits);
    const start = first - (first % size);
    return into.addV4(start, start + size - 1);
  }
  if (text[at] !== 0x2d) return false;
  at = readV4(text, skipBlank(text, at + 1, to), to);
  if (at < 0) return false;
  const last = address;
  at = skipBlank(text, at, to);
  if (at < to && text[at] === 0x2c) {
    const level = readNumber(text, skipBlank(text, at + 1, to), to);
    if (level < 0) return false;
    if (level >= DAT_ALLOWED) return true;
  } else if (at < to) return false;
  return into.addV4(first, last);
}

/** Rare, so it may be slow: an address, a prefix or a range, with or without a name before it. */
function readV6(line: string, into: IpRangesBuilder): boolean {
  const slash = line.lastIndexOf('/');
  if (slash > 0) {
    const ip = parseIp(line.slice(0, slash).trim());
    const bits = /^\d{1,3}$/.test(line.slice(slash + 1)) ? Number(line.slice(slash + 1)) : -1;
    if (ip === null || ip.length !== 16 || bits < 0 || bits > 128) return false;
    const first = ip.slice();
    const last = ip.slice();
    for (let bit = bits; bit < 128; bit++) {
      first[bit >> 3]! &= ~(128 >> (bit & 7));
      last[bit >> 3]! |= 128 >> (bit & 7);
    }
    return into.add(first, last);
  }
  const dash = line.lastIndexOf('-');
  if (dash < 0) {
    const ip = parseIp(line);
    return ip !== null && into.add(ip, ip);
  }
  const last = parseIp(line.slice(dash + 1).trim());
  if (last === null || last.length !== 16) return false;
  // the name before it may hold anything: the address is what stands after the last blank, or the longest that parses
  const head = line.slice(0, dash).trim();
  for (let at = Math.max(0, head.length - 39); at < head.length; at++) {
    if (at > 0 && !/[\s:]/.test(head[at - 1]!)) continue;
    const first = parseIp(head.slice(at));
    if (first !== null && first.length === 16) return into.add(first, last);
  }
  return false;
}

/** What `readV4` read. */
let address = 0;
/** Where `readNumber` ended. */
let numberEnd = 0;

/** Leading zeros are as good as none, as DAT has them. Returns where it ends, or -1. */
function readV4(text: Uint8Array, at: number, to: number): number {
  let value = 0;
  for (let part = 0; part < 4; part++) {
    if (part > 0) {
      if (at >= to || text[at] !== 0x2e) return -1;
      at++;
    }
    const number = readNumber(text, at, to);
    if (number < 0 || number > 255 || numberEnd - at > 3) return -1;
    value = value * 256 + number;
    at = numberEnd;
  }
  address = value;
  return at;
}

/** Of at most 4 digits; -1: none. */
function readNumber(text: Uint8Array, at: number, to: number): number {
  let value = 0;
  const start = at;
  while (at < to && at - start < 4) {
    const digit = text[at]! - 0x30;
    if (digit < 0 || digit > 9) break;
    value = value * 10 + digit;
    at++;
  }
  numberEnd = at;
  return at === start ? -1 : value;
}

function skipBlank(text: Uint8Array, at: number, to: number): number {
  while (at < to && isBlank(text[at]!)) at++;
  return at;
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB;
}
