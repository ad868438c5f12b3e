/**
 * Local service discovery (BEP 14): tells the LAN by multicast which torrents are here, and hears it from others. Owns
 * what is announced when, and the messages; sockets are the session's.
 *
 * A torrent is announced when it is new, twice more after 2 and 4 s since multicast is lost easily (as libtorrent does),
 * and every 5 minutes from then on; a packet names as many torrents as fit, those due soon included.
 * Limits: 1,400 bytes a packet. One packet a minute; what is not used is saved, up to 6, and spent on new torrents alone,
 * which are not repeated when little is saved. More torrents than fit four packets (96) take turns. 100 messages a second
 * are read, of at most 8 KiB.
 */

import { latin1, toHex, utf8Encode } from '../base/bytes.ts';
import type { Rng } from '../base/random.ts';

export const LSD_PORT = 6771;
export const LSD_GROUP_V4 = '239.192.152.143';
export const LSD_GROUP_V6 = 'ff15::efc0:988f';

export interface LsdSink {
  /** To all interfaces of the family; borrowed until return. */
  onLsdSend(bytes: Uint8Array, family: 4 | 6): void;
  /** Somebody has a torrent that was added here. The hash is ours to keep. */
  onLsdPeer(infoHash: Uint8Array, ip: string, port: number): void;
}

export interface LsdOptions {
  readonly rng: Rng;
  readonly sink: LsdSink;
}

interface Announced {
  readonly infoHash: Uint8Array;
  readonly hex: string;
  dueMs: number;
  sentCount: number;
  /** The message that named it last. */
  heardIn: number;
}

const MAX_PACKET_BYTES = 1400;
const MAX_MESSAGE_BYTES = 8192;
const MAX_MESSAGES_PER_SECOND = 100;
const EVERY_MS = 300_000;
const PACKET_MS = 60_000;
const SAVED_PACKETS = 6;
/** What is kept for first announces. */
const RESERVED_PACKETS = 3;
/** Between packets that hold nothing new: four in five minutes, and the fifth is saved. */
const OLD_PACKET_MS = 75_000;
/** Between packets, however new a torrent is; so those that are added one after the other share one. */
const GAP_MS = 2000;
/** Announces of a new torrent, and what passes between them. */
const FIRST_COUNT = 3;
const FIRST_MS: readonly number[] = [0, 2000, 4000];
/** Torrents in a packet: "Infohash: ", 40 digits and CRLF each, beside at most 119 bytes of other headers. */
const MAX_NAMED: number = Math.floor((MAX_PACKET_BYTES - 119) / 52);

export class Lsd {
  /** Where our peers listen; 0: nothing is announced yet. */
  port = 0;
  readonly cookie: string;
  readonly #sink: LsdSink;
  /** In the order of their last announce. */
  readonly #torrents: Map<string, Announced> = new Map();
  /** No new torrent is due before, and none of the others. */
  #newDueMs = Infinity;
  #dueMs = Infinity;
  #sentMs = -Infinity;
  #saved: number = SAVED_PACKETS;
  #savedMs = 0;
  #messageCount = 0;
  #secondMs = -Infinity;
  #secondCount = 0;

  constructor(options: LsdOptions) {
    this.#sink = options.sink;
    this.cookie = options.rng.u32().toString(16).padStart(8, '0');
  }

  add(now: number, infoHash: Uint8Array): void {
    const hex = toHex(infoHash);
    if (this.#torrents.has(hex)) return;
    this.#torrents.set(hex, { infoHash: infoHash.slice(), hex, dueMs: now, sentCount: 0, heardIn: 0 });
    this.#newDueMs = Math.min(this.#newDueMs, now);
  }

  remove(infoHash: Uint8Array): void {
    this.#torrents.delete(toHex(infoHash));
    if (this.#torrents.size === 0) this.#plan();
  }

  get count(): number {
    return this.#torrents.size;
  }

  /** There is somebody else to tell (an interface came up): all is announced once more, soon. */
  again(now: number): void {
    for (const torrent of this.#torrents.values()) {
      torrent.dueMs = Math.min(torrent.dueMs, now);
      torrent.sentCount = Math.min(torrent.sentCount, FIRST_COUNT - 1);
    }
    this.#plan();
  }

  datagram(now: number, bytes: Uint8Array, ip: string): void {
    if (now - this.#secondMs >= 1000) {
      this.#secondMs = now;
      this.#secondCount = 0;
    }
    if (bytes.length > MAX_MESSAGE_BYTES || ++this.#secondCount > MAX_MESSAGES_PER_SECOND) return;
    const message = parseLsd(bytes);
    if (message === null || message.cookie === this.cookie) return;
    this.#messageCount++;
    for (const hex of message.infoHashes) {
      const torrent = this.#torrents.get(hex);
      if (torrent === undefined || torrent.heardIn === this.#messageCount) continue;
      torrent.heardIn = this.#messageCount;
      this.#sink.onLsdPeer(torrent.infoHash, ip, message.port);
    }
  }

  tick(now: number): void {
    if (now < this.nextAt()) return;
    const earned = Math.floor((now - this.#savedMs) / PACKET_MS);
    this.#saved = Math.min(SAVED_PACKETS, this.#saved + earned);
    this.#savedMs += earned * PACKET_MS;
    const named = this.#choose(now);
    const step = this.#saved > RESERVED_PACKETS ? 1 : FIRST_COUNT;
    for (const torrent of named) {
      torrent.sentCount = Math.min(FIRST_COUNT, torrent.sentCount + step);
      torrent.dueMs = now + (FIRST_MS[torrent.sentCount] ?? EVERY_MS);
      this.#torrents.delete(torrent.hex);
      this.#torrents.set(torrent.hex, torrent);
    }
    this.#plan();
    if (named.length === 0) return;
    this.#saved--;
    this.#sentMs = now;
    const hexes = named.map(({ hex }) => hex);
    this.#sink.onLsdSend(formatLsd(4, this.port, hexes, this.cookie), 4);
    this.#sink.onLsdSend(formatLsd(6, this.port, hexes, this.cookie), 6);
  }

  nextAt(): number {
    if (this.port === 0) return Infinity;
    const dueMs = Math.min(
      Math.max(this.#newDueMs, this.#sentMs + GAP_MS),
      Math.max(this.#dueMs, this.#sentMs + OLD_PACKET_MS),
    );
    return this.#saved > 0 ? dueMs : Math.max(dueMs, this.#savedMs + PACKET_MS);
  }

  /** Who goes into the next packet: the newest first, then who has waited longest. */
  #choose(now: number): Announced[] {
    const named: Announced[] = [];
    for (let count = 0; count <= FIRST_COUNT; count++) {
      const isNew = count < FIRST_COUNT;
      // the packet goes anyway: who is due before the next one comes along
      const untilMs = isNew ? now : now + OLD_PACKET_MS;
      for (const torrent of this.#torrents.values()) {
        if (torrent.sentCount !== count || torrent.dueMs > untilMs) continue;
        named.push(torrent);
        if (named.length === MAX_NAMED) return named;
      }
    }
    return named;
  }

  #plan(): void {
    this.#newDueMs = Infinity;
    this.#dueMs = Infinity;
    for (const { dueMs, sentCount } of this.#torrents.values()) {
      if (sentCount < FIRST_COUNT) this.#newDueMs = Math.min(this.#newDueMs, dueMs);
      else this.#dueMs = Math.min(this.#dueMs, dueMs);
    }
  }
}

export interface LsdMessage {
  readonly port: number;
  /** 40 lower-case hex digits each; may repeat. */
  readonly infoHashes: readonly string[];
  readonly cookie: string | null;
}

/** At most MAX_NAMED hashes, or it grows past 1,400 bytes. */
export function formatLsd(family: 4 | 6, port: number, infoHashes: readonly string[], cookie: string): Uint8Array {
  const host = family === 4 ? LSD_GROUP_V4 : `[${LSD_GROUP_V6}]`;
  let text = `BT-SEARCH * HTTP/1.1\r\nHost: ${host}:${LSD_PORT}\r\nPort: ${port}\r\n`;
  for (const hex of infoHashes) text += `Infohash: ${hex}\r\n`;
  return utf8Encode(`${text}cookie: ${cookie}\r\n\r\n\r\n`);
}

/** Null: no BT-SEARCH, or one without a port to connect to or a torrent. Reads each byte once. */
export function parseLsd(bytes: Uint8Array): LsdMessage | null {
  const lines = latin1(bytes).split('\n');
  if (!/^BT-SEARCH[ \t]+\*[ \t]+HTTP\/1\.[0-9]\r?$/i.test(lines[0]!)) return null;
  let port = 0;
  let cookie: string | null = null;
  const infoHashes: string[] = [];
  for (let i = 1; i < lines.length; i++) {
    const line = lines[i]!;
    // an empty line ends the headers
    if (line === '' || line === '\r') break;
    const colon = line.indexOf(':');
    if (colon < 0) continue;
    const value = line.slice(colon + 1).trim();
    switch (line.slice(0, colon).trim().toLowerCase()) {
      case 'port':
        if (!/^[0-9]{1,5}$/.test(value)) return null;
        port = Number(value);
        break;
      case 'infohash':
        if (/^[0-9a-fA-F]{40}$/.test(value)) infoHashes.push(value.toLowerCase());
        break;
      case 'cookie':
        cookie = value;
        break;
      default:
    }
  }
  return port >= 1 && port <= 65535 && infoHashes.length > 0 ? { port, infoHashes, cookie } : null;
}
