/**
 * All UDP trackers of a session (BEP 15): owns the connection ids and every exchange under way, and turns asks into
 * datagrams and datagrams into replies. Sans-IO.
 *
 *   ask -> connection id known and younger than 60 s? -no-> connect -> its id: kept for all asks of that address
 *                 | yes                                                    |
 *                 '--> announce or scrape <--------------------------------'
 *                          | answer: over     | silence: again after 15 s, 30 s .., or on to the next address
 *
 * Silence and refusals after an id that was not fresh cost that id and one more connect: the tracker may have forgotten
 * it. A connect is shared by all who wait for it.
 *
 * Invariant: each ask ends once, by a reply or a fault, at its timeout at the latest. A datagram counts only with the
 * transaction id of an exchange under way and from the address that was asked (DEMANDS T8); ids come from the Random port.
 * Who is asked by a name that only a proxy looks up may answer a connect from any address, which is then kept to.
 *
 * Limits: of the 15 x 2^n s of BEP 15 only those within the ask's timeout; MAX_ADDRESSES of one name are tried, each for
 * its share of that time; idle connection ids are dropped past SERVERS_KEPT.
 */

import { assert } from '../base/assert.ts';
import { readU32 } from '../base/bytes.ts';
import type { IoFault } from '../base/errors.ts';
import { formatEndpoint, formatIp, isUsablePeerAddress, parseIp } from '../base/ip.ts';
import { isNameAddress } from '../base/name-address.ts';
import type { Random } from '../base/ports.ts';
import { type AnnounceAsk, type AnnounceReply, failedReply, failedScrape, type ScrapeReply } from './tracker.ts';
import {
  Action,
  ANNOUNCE_REPLY_BYTES,
  announcePacket,
  CONNECT_REPLY_BYTES,
  connectPacket,
  MAX_SCRAPE,
  readAnnounce,
  readError,
  readScrape,
  scrapePacket,
} from './tracker-udp-packets.ts';

/** A client may use a connection id for so long (BEP 15). */
const CONNECTION_MS = 60_000;
/** First wait for an answer; doubles with each try (BEP 15). */
const RETRY_MS = 15_000;
/** An address gets at least this long, however many there are. */
const ADDRESS_MS = 3_000;
const MAX_ADDRESSES = 8;
/** A connect under way is not sent again earlier, whoever else needs it. */
const CONNECT_AGAIN_MS = 2_000;
/** What could not be sent (no socket yet, no room) is tried again, so often and so late. */
const SEND_AGAIN_MS = 1_000;
const MAX_SEND_FAILS = 3;
const SERVERS_KEPT = 256;

export interface UdpTrackerSink {
  /** The bytes are the caller's again on return. False: the datagram was not taken. */
  onUdpTrackerSend(bytes: Uint8Array, ip: string, port: number): boolean;
  /** An announce is over: answered or refused. */
  onUdpTrackerAnnounce(id: number, reply: AnnounceReply, remoteIp: string): void;
  /** A scrape is over; one reply for each hash that was asked for, in order. */
  onUdpTrackerScrape(id: number, replies: readonly ScrapeReply[]): void;
  /** The ask is over without an answer. */
  onUdpTrackerFault(id: number, fault: IoFault): void;
}

export interface UdpTrackerAsk {
  /** The caller's, not in use. */
  readonly id: number;
  /** What the tracker's name stands for, tried in this order; IP text. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** Path and query of the URL (BEP 41). */
  readonly data: Uint8Array;
  readonly timeoutMs: number;
  /** Null: a scrape of `scrape`. */
  readonly announce: AnnounceAsk | null;
  /** At most MAX_SCRAPE hashes of 20 bytes. */
  readonly scrape: readonly Uint8Array[];
}

export interface UdpTrackersOptions {
  /** For transaction ids, which keep strangers from answering. */
  readonly random: Random;
  readonly sink: UdpTrackerSink;
}

export class UdpTrackers {
  readonly #random: Random;
  readonly #sink: UdpTrackerSink;
  readonly #servers = new Map<string, Server>();
  readonly #exchanges = new Map<number, Exchange>();
  readonly #drawn = new Uint8Array(4);
  /** Some server was asked by name. */
  #hasNamed = false;

  constructor(options: UdpTrackersOptions) {
    this.#random = options.random;
    this.#sink = options.sink;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** True: it was an answer to us, whatever became of it. */
  datagram(now: number, bytes: Uint8Array, ip: string, port: number): boolean {
    if (bytes.length < 8) return false;
    const server = this.#servers.get(formatEndpoint(ip, port));
    if (server !== undefined && this.#heard(server, now, bytes)) return true;
    if (!this.#hasNamed) return false;
    for (const named of [...this.#servers.values()]) {
      if (!named.isNamed || named.port !== port) continue;
      // the answer to a connect says where the name leads
      const leads = named.connecting && readU32(bytes, 4) === named.transaction;
      if (leads) named.to = ip;
      if (named.to === ip && this.#heard(named, now, bytes)) return true;
    }
    return false;
  }

  /** A datagram from this server's address. True: it answers something. */
  #heard(server: Server, now: number, bytes: Uint8Array): boolean {
    const action = readU32(bytes, 0);
    const transaction = readU32(bytes, 4);
    if (server.connecting && transaction === server.transaction) {
      if (action === Action.Connect && bytes.length >= CONNECT_REPLY_BYTES) this.#connected(server, now, bytes);
      else if (action === Action.Error) this.#refused(server, bytes);
      return true;
    }
    for (const exchange of server.exchanges) {
      if (!exchange.connected || exchange.transaction !== transaction) continue;
      this.#answered(exchange, now, action, bytes);
      return true;
    }
    return false;
  }

  /** Sends again what was not answered, and ends what took too long. */
  tick(now: number): void {
    for (const exchange of [...this.#exchanges.values()]) {
      if (!this.#exchanges.has(exchange.ask.id)) continue;
      if (now >= exchange.endAt) this.#fail(exchange, 'ETIMEOUT', exchange.silence(now));
      else if (now >= exchange.retryAt) this.#again(exchange, now);
    }
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** Answers come later, also where nothing can be sent. */
  ask(now: number, ask: UdpTrackerAsk): void {
    assert(!this.#exchanges.has(ask.id), 'the id of an ask is not in use');
    assert(ask.announce !== null || (ask.scrape.length > 0 && ask.scrape.length <= MAX_SCRAPE), 'a scrape has hashes');
    const exchange = new Exchange(ask, now);
    // who answered before goes first: a good-bye has no time for the dead
    const known = exchange.addresses.findIndex((ip) => {
      return (this.#servers.get(formatEndpoint(ip, ask.port))?.validUntil ?? 0) > 0;
    });
    if (known > 0) exchange.addresses.unshift(...exchange.addresses.splice(known, 1));
    this.#exchanges.set(ask.id, exchange);
    if (exchange.addresses.length === 0) exchange.endAt = now;
    else this.#begin(exchange, now);
  }

  /** Forgets an ask. True: the tracker may have heard it. */
  abandon(id: number): boolean {
    const exchange = this.#exchanges.get(id);
    if (exchange === undefined) return false;
    this.#end(exchange);
    return exchange.heard;
  }

  // --------------------------------------------------------------------------------------------------------- outputs

  nextAt(): number {
    let at = Number.POSITIVE_INFINITY;
    for (const { retryAt, endAt } of this.#exchanges.values()) at = Math.min(at, retryAt, endAt);
    return at;
  }

  /** Asks under way. */
  get askCount(): number {
    return this.#exchanges.size;
  }

  /** Addresses that something is remembered of. */
  get serverCount(): number {
    return this.#servers.size;
  }

  // --------------------------------------------------------------------------------------------------------- private

  /** Starts on the exchange's present address. */
  #begin(exchange: Exchange, now: number): void {
    const ip = exchange.addresses[exchange.at]!;
    const key = formatEndpoint(ip, exchange.ask.port);
    let server = this.#servers.get(key);
    if (server === undefined) {
      if (this.#servers.size >= SERVERS_KEPT) this.#dropIdle(now);
      server = new Server(key, ip, exchange.ask.port);
      if (server.isNamed) this.#hasNamed = true;
      this.#servers.set(key, server);
    }
    exchange.server = server;
    exchange.fresh = false;
    server.exchanges.add(exchange);
    this.#next(exchange, now);
  }

  /** Sends what comes next, as a first try: the ask itself, or a connect. */
  #next(exchange: Exchange, now: number): void {
    exchange.connected = now < exchange.server!.validUntil;
    exchange.tries = 0;
    if (exchange.connected) exchange.transaction = this.#transaction();
    this.#send(exchange, now);
  }

  #again(exchange: Exchange, now: number): void {
    const server = exchange.server!;
    if (exchange.sendFails > 0) return this.#send(exchange, now);
    const stale = exchange.connected && !exchange.fresh;
    if (stale) {
      // it may have restarted and forgotten us
      server.forget(exchange.connection);
      return this.#next(exchange, now);
    }
    if (exchange.at + 1 < exchange.addresses.length) return this.#move(exchange, now);
    // meanwhile the id may have expired, or another ask may have got one
    if (exchange.connected !== now < server.validUntil) return this.#next(exchange, now);
    exchange.tries++;
    this.#send(exchange, now);
  }

  /** On to the next address of the same name. */
  #move(exchange: Exchange, now: number): void {
    this.#leave(exchange);
    exchange.at++;
    exchange.sendFails = 0;
    this.#begin(exchange, now);
  }

  #send(exchange: Exchange, now: number): void {
    const server = exchange.server!;
    const sent = exchange.connected ? this.#sendAsk(exchange, server) : this.#sendConnect(server, now);
    if (sent) {
      exchange.sendFails = 0;
      exchange.retryAt = now + exchange.patienceMs(now);
      return;
    }
    exchange.sendFails++;
    exchange.retryAt = now + SEND_AGAIN_MS;
    if (exchange.sendFails < MAX_SEND_FAILS) return;
    if (exchange.at + 1 < exchange.addresses.length) this.#move(exchange, now);
    else this.#fail(exchange, 'ENETUNREACH', `${server.key} cannot be reached from here`);
  }

  #sendAsk(exchange: Exchange, server: Server): boolean {
    const { announce, data, scrape } = exchange.ask;
    exchange.connection = server.connection;
    const packet =
      announce !== null
        ? announcePacket(server.connection, exchange.transaction, announce, data)
        : scrapePacket(server.connection, exchange.transaction, scrape);
    if (!this.#sink.onUdpTrackerSend(packet, server.to, server.port)) return false;
    exchange.heard = true;
    return true;
  }

  #sendConnect(server: Server, now: number): boolean {
    if (server.connecting && now - server.connectSentAt < CONNECT_AGAIN_MS) return true;
    if (!server.connecting) server.transaction = this.#transaction();
    server.connecting = true;
    if (!this.#sink.onUdpTrackerSend(connectPacket(server.transaction), server.ip, server.port)) return false;
    server.connectSentAt = now;
    return true;
  }

  #connected(server: Server, now: number, bytes: Uint8Array): void {
    server.connecting = false;
    server.connection = bytes.slice(8, CONNECT_REPLY_BYTES);
    server.validUntil = now + CONNECTION_MS;
    for (const exchange of [...server.exchanges]) {
      if (exchange.connected || !server.exchanges.has(exchange)) continue;
      exchange.fresh = true;
      exchange.sendFails = 0;
      this.#next(exchange, now);
    }
  }

  /** The connect itself was answered with an error: it is the answer to all who wait for it. */
  #refused(server: Server, bytes: Uint8Array): void {
    server.connecting = false;
    const why = readError(bytes);
    for (const exchange of [...server.exchanges]) {
      // who hears of one may give up others
      if (!exchange.connected && server.exchanges.has(exchange)) this.#refuse(exchange, why);
    }
  }

  #answered(exchange: Exchange, now: number, action: number, bytes: Uint8Array): void {
    const { announce, id, scrape } = exchange.ask;
    const server = exchange.server!;
    if (action === Action.Error) {
      if (exchange.fresh) return this.#refuse(exchange, readError(bytes));
      // perhaps of the old connection id alone
      server.forget(exchange.connection);
      return this.#next(exchange, now);
    }
    if (announce !== null) {
      if (action !== Action.Announce || bytes.length < ANNOUNCE_REPLY_BYTES) return;
      this.#end(exchange);
      this.#sink.onUdpTrackerAnnounce(id, readAnnounce(bytes, server.v6 ? 6 : 4, server.to), server.to);
    } else {
      if (action !== Action.Scrape) return;
      this.#end(exchange);
      const replies = readScrape(bytes, scrape.length);
      while (replies.length < scrape.length) replies.push(failedScrape('the answer leaves this torrent out'));
      this.#sink.onUdpTrackerScrape(id, replies);
    }
  }

  #refuse(exchange: Exchange, why: string): void {
    const { announce, id, scrape } = exchange.ask;
    this.#end(exchange);
    if (announce !== null) this.#sink.onUdpTrackerAnnounce(id, failedReply(why), exchange.server!.to);
    else
      this.#sink.onUdpTrackerScrape(
        id,
        scrape.map(() => failedScrape(why)),
      );
  }

  #fail(exchange: Exchange, code: string, message: string): void {
    this.#end(exchange);
    this.#sink.onUdpTrackerFault(exchange.ask.id, { code, message });
  }

  #end(exchange: Exchange): void {
    this.#exchanges.delete(exchange.ask.id);
    if (exchange.server !== null) this.#leave(exchange);
  }

  /** Nobody waits for a server without exchanges: what comes late from it is not ours any more. */
  #leave(exchange: Exchange): void {
    const server = exchange.server!;
    server.exchanges.delete(exchange);
    if (server.exchanges.size > 0) return;
    server.connecting = false;
    if (server.validUntil === 0) this.#servers.delete(server.key);
  }

  #dropIdle(now: number): void {
    for (const [key, server] of this.#servers) {
      if (server.exchanges.size === 0 && server.validUntil <= now) this.#servers.delete(key);
    }
  }

  #transaction(): number {
    this.#random.fill(this.#drawn);
    return readU32(this.#drawn, 0);
  }
}

/** One address of a tracker. */
class Server {
  readonly key: string;
  readonly ip: string;
  readonly port: number;
  /** `ip` stands for a name that a proxy looks up. */
  readonly isNamed: boolean;
  /** Where it answered from, for a name; else `ip`. Connects go to the name again. */
  to: string;
  /** 8 bytes; good while `validUntil` is ahead. 0: there is none. */
  connection: Uint8Array = new Uint8Array(8);
  validUntil = 0;
  /** A connect is under way. */
  connecting = false;
  transaction = 0;
  connectSentAt = Number.NEGATIVE_INFINITY;
  readonly exchanges: Set<Exchange> = new Set();

  constructor(key: string, ip: string, port: number) {
    this.key = key;
    this.ip = ip;
    this.port = port;
    this.isNamed = isNameAddress(ip);
    this.to = ip;
  }

  get v6(): boolean {
    return this.to.includes(':');
  }

  /** This connection id is doubtful; a newer one stays. */
  forget(connection: Uint8Array | null): void {
    if (connection === this.connection) this.validUntil = 0;
  }
}

/** One ask and how far it is. */
class Exchange {
  readonly ask: UdpTrackerAsk;
  /** Canonical and usable. */
  readonly addresses: string[];
  endAt: number;
  at = 0;
  server: Server | null = null;
  /** The ask itself is out; else it waits for a connect. */
  connected = false;
  /** The connection id was made for this ask. */
  fresh = false;
  connection: Uint8Array | null = null;
  transaction = 0;
  tries = 0;
  sendFails = 0;
  retryAt = 0;
  /** The ask itself was sent at least once. */
  heard = false;
  readonly #startedAt: number;

  constructor(ask: UdpTrackerAsk, now: number) {
    this.ask = ask;
    this.endAt = now + ask.timeoutMs;
    this.#startedAt = now;
    const addresses: string[] = [];
    for (const text of ask.addresses) {
      const ip = parseIp(text);
      if (ip !== null && isUsablePeerAddress(ip, ask.port)) addresses.push(formatIp(ip));
    }
    this.addresses = addresses.slice(0, MAX_ADDRESSES);
  }

  /** How long to wait for the answer to what is sent now. */
  patienceMs(now: number): number {
    const leftMs = this.endAt - now;
    const others = this.addresses.length - this.at - 1;
    let wait = RETRY_MS * 2 ** this.tries;
    // a short ask, or one late in its time, is still tried twice
    if (this.tries === 0) wait = Math.min(wait, leftMs / 2);
    if (others > 0) wait = Math.min(wait, Math.max(ADDRESS_MS, leftMs / (others + 1)));
    return Math.max(1, wait);
  }

  silence(now: number): string {
    if (this.server === null) return 'the tracker has no address that can be asked';
    const seconds = Math.round((now - this.#startedAt) / 1000);
    const many = this.at > 0 ? ` and ${this.at} other addresses` : '';
    return `no answer from ${this.server.key}${many} within ${seconds} s`;
  }
}
