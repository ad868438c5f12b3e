/**
 * The UDP tracker protocol as pure functions (BEP 15, 41, 7): URLs and asks to datagrams, and datagrams to replies.
 *
 *     connect    magic 8 | action 0 | transaction 4                       ->  action 0 | transaction | connection id 8
 *     announce   connection id 8 | action 1 | transaction 4 | info-hash 20 | peer id 20 | downloaded 8 | left 8
 *                | uploaded 8 | event 4 | IP 4 | key 4 | num_want 4 | port 2 | options
 *                ->  action 1 | transaction | interval 4 | leechers 4 | seeders 4 | peers, 6 or 18 bytes each
 *     scrape     connection id 8 | action 2 | transaction 4 | info-hash 20 ...
 *                ->  action 2 | transaction | (seeders 4 | completed 4 | leechers 4) ...
 *     error      action 3 | transaction | text
 *
 * Invariant: whatever bytes come, a parser returns. Peers are as long as the family of the socket says, never as the
 * content looks; what is left over at the end is let pass, since exact sizes are not to be relied on.
 */

import { readU32, utf8Encode, writeU16, writeU32 } from '../base/bytes.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import { PeerCollector } from './peer-collector.ts';
import {
  type AnnounceAsk,
  type AnnounceEvent,
  type AnnounceReply,
  clampMs,
  displayText,
  type Family,
  MIN_INTERVAL_MS,
  NO_REASON,
  type ScrapeReply,
  UNKNOWN_LEFT,
  wholeBytes,
} from './tracker.ts';

export const Action = { Connect: 0, Announce: 1, Scrape: 2, Error: 3 } as const;
export const CONNECT_REPLY_BYTES = 16;
export const ANNOUNCE_REPLY_BYTES = 20;
/** Info-hashes of one scrape (BEP 15: about 74 fit into a packet). */
export const MAX_SCRAPE = 74;

const CONNECT_BYTES = 16;
const ANNOUNCE_BYTES = 98;
const MAGIC_HIGH = 0x417;
const MAGIC_LOW = 0x27101980;
const OPTION_URL_DATA = 2;
const MAX_OPTION_BYTES = 255;
/** BEP 15 knows no `paused`; a partial seed says so by `left` alone. */
const EVENTS: Record<AnnounceEvent, number> = { '': 0, completed: 1, started: 2, stopped: 3, paused: 0 };

export interface UdpTrackerUrl {
  /** Name or canonical address. */
  readonly host: string;
  readonly port: number;
  /** Path and query as they stand (BEP 41). */
  readonly data: Uint8Array;
}

/** Null: no UDP tracker's URL, or one without a port. Name and password before the host mean nothing here. */
export function parseUdpUrl(url: string): UdpTrackerUrl | null {
  const match = /^udp:\/\/(?:[^/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^/?#@:[\]]+):(\d{1,5})([/?][^#]*)?(?:#.*)?$/i.exec(url);
  if (match === null) return null;
  const port = Number(match[2]);
  if (port < 1 || port > 65535) return null;
  const bracketed = match[1]!.startsWith('[');
  const ip = parseIp(bracketed ? match[1]!.slice(1, -1) : match[1]!);
  if (bracketed && ip === null) return null;
  return { host: ip === null ? match[1]! : formatIp(ip), port, data: utf8Encode(match[3] ?? '') };
}

export function connectPacket(transaction: number): Uint8Array {
  const packet = new Uint8Array(CONNECT_BYTES);
  writeU32(packet, 0, MAGIC_HIGH);
  writeU32(packet, 4, MAGIC_LOW);
  writeU32(packet, 8, Action.Connect);
  writeU32(packet, 12, transaction);
  return packet;
}

/** `connection`: the 8 bytes that `connect` was answered with. `data`: path and query of the URL. */
export function announcePacket(
  connection: Uint8Array,
  transaction: number,
  ask: AnnounceAsk,
  data: Uint8Array,
): Uint8Array {
  const optionCount = Math.ceil(data.length / MAX_OPTION_BYTES);
  const packet = new Uint8Array(ANNOUNCE_BYTES + data.length + 2 * optionCount);
  packet.set(connection, 0);
  writeU32(packet, 8, Action.Announce);
  writeU32(packet, 12, transaction);
  packet.set(ask.infoHash, 16);
  packet.set(ask.peerId, 36);
  writeU64(packet, 56, wholeBytes(ask.downloaded));
  writeU64(packet, 64, ask.left < 0 ? UNKNOWN_LEFT : wholeBytes(ask.left));
  writeU64(packet, 72, wholeBytes(ask.uploaded));
  writeU32(packet, 80, EVENTS[ask.event]);
  // 84: IP address, 0: the sender's
  writeU32(packet, 88, ask.key);
  writeU32(packet, 92, ask.numWant);
  writeU16(packet, 96, ask.port);
  let at = ANNOUNCE_BYTES;
  for (let from = 0; from < data.length; from += MAX_OPTION_BYTES) {
    const chunk = data.subarray(from, from + MAX_OPTION_BYTES);
    packet[at] = OPTION_URL_DATA;
    packet[at + 1] = chunk.length;
    packet.set(chunk, at + 2);
    at += 2 + chunk.length;
  }
  return packet;
}

export function scrapePacket(
  connection: Uint8Array,
  transaction: number,
  infoHashes: readonly Uint8Array[],
): Uint8Array {
  const packet = new Uint8Array(16 + 20 * infoHashes.length);
  packet.set(connection, 0);
  writeU32(packet, 8, Action.Scrape);
  writeU32(packet, 12, transaction);
  for (let i = 0; i < infoHashes.length; i++) packet.set(infoHashes[i]!, 16 + 20 * i);
  return packet;
}

/** Of at least ANNOUNCE_REPLY_BYTES, from a tracker at `remoteIp`. */
export function readAnnounce(bytes: Uint8Array, family: Family, remoteIp: string): AnnounceReply {
  const ipBytes = family === 4 ? 4 : 16;
  const found = new PeerCollector(remoteIp);
  const whole = Math.floor((bytes.length - ANNOUNCE_REPLY_BYTES) / (ipBytes + 2)) * (ipBytes + 2);
  found.packed(bytes.subarray(ANNOUNCE_REPLY_BYTES, ANNOUNCE_REPLY_BYTES + whole), ipBytes);
  return {
    failure: null,
    retryInMs: null,
    warning: null,
    intervalMs: clampMs((readU32(bytes, 8) | 0) * 1000),
    minIntervalMs: MIN_INTERVAL_MS,
    trackerId: null,
    externalIp: null,
    seeders: counted(bytes, 16),
    leechers: counted(bytes, 12),
    peers4: found.peers4(),
    peers6: found.peers6(),
    named: [],
  };
}

/** Counts of the first `count` torrents asked for, fewer where the answer is short. */
export function readScrape(bytes: Uint8Array, count: number): ScrapeReply[] {
  const replies: ScrapeReply[] = [];
  for (let at = 8; at + 12 <= bytes.length && replies.length < count; at += 12) {
    replies.push({
      failure: null,
      seeders: counted(bytes, at),
      leechers: counted(bytes, at + 8),
      completed: counted(bytes, at + 4),
      downloaders: null,
      minIntervalMs: MIN_INTERVAL_MS,
    });
  }
  return replies;
}

/** Of at least 8 bytes. */
export function readError(bytes: Uint8Array): string {
  return displayText(bytes.subarray(8)) || NO_REASON;
}

/** A signed number in the protocol; below 0 the tracker does not know. */
function counted(bytes: Uint8Array, at: number): number | null {
  const value = readU32(bytes, at) | 0;
  return value < 0 ? null : value;
}

function writeU64(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / 0x100000000));
  writeU32(bytes, at + 4, value % 0x100000000);
}
