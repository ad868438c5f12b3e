/**
 * The DHT node: both families, the queries of others, our own, and the commands (BEP 5, 32, 33, 42, 43, 44, 45, 51).
 * Sans-IO: datagrams and time come in, datagrams go out through the sink.
 *
 *   datagram -> FloodGuard -> KrpcMessage -> query: DhtServer -> RateCap -> sink
 *                                         -> reply: DhtRpc -> RoutingTable, Task -> Lookup -> sink
 *
 * Invariants: nobody is in a table who did not answer us; an address that may be forged gets at most 7 times the bytes it
 * sent, our ping included; sinks of commands are told at the end of an input, never from inside a command; a read-only
 * node (BEP 43) answers nobody and says so in its queries.
 *
 * Limits: those of the parts, MAX_ACTIVE commands at once and MAX_WAITING more in line. In a small network commands are
 * paced, since every node there hears of every one of them and silences who asks too much.
 */

import { assert } from '../base/assert.ts';
import { plainView } from '../base/bytes.ts';
import { isUsablePeerAddress, parseIp } from '../base/ip.ts';
import type { Crypto } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import type { DhtFamily } from './dht-family.ts';
import { FLOOD_LIMIT, FloodGuard, RateCap } from './dht-guard.ts';
import { DhtHost } from './dht-host.ts';
import type { DhtItem } from './dht-items.ts';
import type { Call } from './dht-rpc.ts';
import { DhtServer } from './dht-server.ts';
import { MAX_SAVED, readState, writeState } from './dht-state.ts';
import { FindTask, type Task } from './dht-task.ts';
import {
  type DhtAnnounce,
  type DhtItemSink,
  type DhtPeersSink,
  type DhtPutSink,
  type DhtSampleSink,
  type DhtScrapeSink,
  GetTask,
  type ItemKey,
  PeersTask,
  PutTask,
  SampleTask,
  ScrapeTask,
} from './dht-tasks.ts';
import type { ExternalIp } from './external-ip.ts';
import { KrpcKind, KrpcMessage, Method } from './krpc.ts';
import { MAX_PACKET } from './krpc-write.ts';
import { compareDistance, type Filler, ID_BYTES } from './node-id.ts';

export type {
  DhtAnnounce,
  DhtItemSink,
  DhtPeersResult,
  DhtPeersSink,
  DhtPutSink,
  DhtSampleSink,
  DhtScrapeSink,
  ItemKey,
} from './dht-tasks.ts';

/** DEMANDS H2. */
const AMPLIFICATION = 7;
const UPLOAD_BPS = 8000;
const MAX_HASHES = 2000;
const MAX_PEERS_PER_HASH = 500;
const MAX_ITEMS = 700;
const MAX_ACTIVE = 64;
const MAX_WAITING = 10_000;
/** A command waits this long for somebody to ask. */
const PATIENCE_MS = 10_000;
/** Networks below this size are paced: so many commands in so long a time, each a query or two to every node. */
const SMALL_NETWORK = 64;
const PACE = 16;
const PACE_MS = 10_000;
/** Whoever asks us is pinged once in this time, and so many at most. */
const PING_MEMORY_MS = 60_000;
const MAX_PINGED = 600;
const STORE_TICK_MS = 10_000;
const VOTE_EVERY_MS = 5_000;
/** With nobody to ask there is nothing to wait for. */
const LONELY_MS = 1000;

export interface DhtSink {
  /** Borrowed until return; the family is that of `ip`. False: it did not leave, and no answer will come. */
  onDhtSend(bytes: Uint8Array, ip: string, port: number): boolean;
  /** The first bootstrap is done: a node answered, or nobody is known to be asked. Once. */
  onDhtReady?(): void;
  /** The votes of nodes made `external` change its mind. */
  onDhtExternalIp?(family: 4 | 6, ip: string): void;
}

export interface DhtOptions {
  readonly rng: Rng;
  /** Fills secrets and ids; without it `rng` does, whose output can be foretold by those who see enough of it. */
  readonly random?: Filler;
  readonly crypto: Crypto;
  /** Shared with all who learn how the world sees us. */
  readonly external: ExternalIp;
  readonly sink: DhtSink;
  /** Ask, but never answer (BEP 43). */
  readonly readOnly?: boolean;
  /** Four bytes that name this program. */
  readonly version: Uint8Array;
  /** Bytes of replies a second; default 8,000. */
  readonly uploadRateBps?: number;
  readonly maxHashes?: number;
  readonly maxPeersPerHash?: number;
  readonly maxItems?: number;
  /** Packets an address may send in 10 s before it is not heard for 5 minutes; default 50. Infinity also ends the pacing. */
  readonly floodLimit?: number;
}

export interface DhtStats {
  readonly nodes4: number;
  readonly nodes6: number;
  /** Nodes in waiting for a place in the tables. */
  readonly replacements: number;
  /** Commands under way or in line. */
  readonly lookups: number;
  readonly queriesIn: number;
  readonly queriesOut: number;
  readonly repliesIn: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Packets of those who send too many. */
  readonly droppedIn: number;
  /** Replies that were due but for the rate. */
  readonly droppedOut: number;
  readonly peersStored: number;
  readonly hashesStored: number;
  readonly itemsStored: number;
}

/** A node of the table. */
export interface DhtNode {
  readonly id: Uint8Array;
  readonly ip: string;
  readonly port: number;
}

export class Dht {
  readonly #sink: DhtSink;
  readonly #external: ExternalIp;
  readonly #crypto: Crypto;
  readonly #readOnly: boolean;
  readonly #paced: boolean;
  readonly #host: DhtHost;
  readonly #v4: DhtFamily;
  readonly #v6: DhtFamily;
  readonly #server: DhtServer;
  readonly #guard: FloodGuard;
  readonly #rate: RateCap;
  readonly #message: KrpcMessage = new KrpcMessage();
  /** Commands in line, oldest first. */
  readonly #waiting: Task[] = [];
  /** Commands that run; upkeep does not count. */
  #active = 0;
  #paceAt: number = Number.NEGATIVE_INFINITY;
  #paceCount = 0;
  #ready = false;
  #lonelyAt: number = Number.POSITIVE_INFINITY;
  #storeTickAt: number = Number.POSITIVE_INFINITY;
  /** Whom we pinged for asking us, since `#metAt`. */
  readonly #met: Set<string> = new Set();
  #metAt: number = Number.NEGATIVE_INFINITY;
  readonly #ip4: Uint8Array = new Uint8Array(4);
  readonly #compact4: Uint8Array = new Uint8Array(26);
  readonly #compact6: Uint8Array = new Uint8Array(38);
  /** Our addresses as `external` has them since our own votes, and when the next vote for them counts. */
  #seen4: Uint8Array | null = null;
  #seen6: Uint8Array | null = null;
  #voteAt: number = Number.NEGATIVE_INFINITY;
  #queriesIn = 0;
  #repliesIn = 0;
  #bytesIn = 0;
  #droppedIn = 0;
  #droppedOut = 0;

  constructor(options: DhtOptions) {
    const random = options.random ?? options.rng;
    this.#sink = options.sink;
    this.#external = options.external;
    this.#crypto = options.crypto;
    this.#readOnly = options.readOnly ?? false;
    this.#host = new DhtHost(options.sink, random, options.version, this.#readOnly);
    this.#v4 = this.#host.v4;
    this.#v6 = this.#host.v6;
    const floodLimit = options.floodLimit ?? FLOOD_LIMIT;
    this.#paced = floodLimit !== Number.POSITIVE_INFINITY;
    this.#guard = new FloodGuard(floodLimit);
    this.#rate = new RateCap(options.uploadRateBps ?? UPLOAD_BPS);
    this.#server = new DhtServer({
      rng: options.rng,
      random,
      crypto: options.crypto,
      writer: this.#host.writer,
      maxHashes: options.maxHashes ?? MAX_HASHES,
      maxPeersPerHash: options.maxPeersPerHash ?? MAX_PEERS_PER_HASH,
      maxItems: options.maxItems ?? MAX_ITEMS,
    });
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** A datagram that begins with 'd'. */
  datagram(now: number, bytes: Uint8Array, ip: string, port: number): void {
    const family = ip.includes(':') ? this.#v6 : this.#v4;
    if (!family.running) return;
    this.#bytesIn += bytes.length;
    const admitted = this.#guard.admit(now, ip, port);
    // who forges a flood in a node's name must not keep us from its answers
    if (!admitted && (this.#host.rpc.count === 0 || !endsAsReply(bytes))) {
      this.#droppedIn++;
      return;
    }
    const m = this.#message;
    if (!m.parse(plainView(bytes)) || (!admitted && m.kind === KrpcKind.Query)) return;
    const address = this.#addressOf(ip);
    if (address === null || !isUsablePeerAddress(address, port)) return;
    if (m.kind === KrpcKind.Query) this.#query(now, m, family, address, ip, port);
    else this.#reply(now, m, family, address, ip, port);
    if (this.#host.over.length > 0) this.#flush(now);
  }

  tick(now: number): void {
    for (let call = this.#host.rpc.expire(now); call !== null; call = this.#host.rpc.expire(now)) this.#lost(now, call);
    this.#v4.tick(now);
    this.#v6.tick(now);
    if (now >= this.#storeTickAt) {
      this.#storeTickAt = now + STORE_TICK_MS;
      this.#server.tick(now);
      this.#guard.sweep(now);
    }
    if (now >= this.#lonelyAt) {
      this.#lonelyAt = Number.POSITIVE_INFINITY;
      if (!this.#host.hasContacts) this.#becomeReady();
    }
    this.#startWaiting(now);
    this.#flush(now);
  }

  nextAt(): number {
    if (this.#host.over.length > 0) return 0;
    let next = Math.min(
      this.#host.rpc.nextAt(),
      this.#v4.nextAt(),
      this.#v6.nextAt(),
      this.#storeTickAt,
      this.#lonelyAt,
    );
    const first = this.#waiting[0];
    if (first !== undefined) {
      const blocked = this.#active >= MAX_ACTIVE;
      if (!this.#host.hasContacts) next = Math.min(next, first.waitUntil);
      else if (!blocked) next = Math.min(next, this.#paceCount < PACE ? 0 : this.#paceAt + PACE_MS);
    }
    return next;
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** Begins bootstrap with what is known. Called again when a family comes. */
  start(now: number, families: { v4: boolean; v6: boolean }): void {
    if (families.v4 && !this.#v4.running) {
      this.#v4.start(now, this.#external.ip4);
      this.#v6.lookAround(now);
    }
    if (families.v6 && !this.#v6.running) {
      this.#v6.start(now, this.#external.ip6);
      this.#v4.lookAround(now);
    }
    this.#host.familiesChanged();
    if (this.#host.families().length === 0) return;
    if (this.#storeTickAt === Number.POSITIVE_INFINITY) this.#storeTickAt = now + STORE_TICK_MS;
    if (!this.#ready) this.#lonelyAt = now + LONELY_MS;
  }

  /** Everything under way ends as it stands; its sinks are told now. */
  stop(): void {
    this.#waiting.length = 0;
    for (const task of this.#host.tasks.values()) task.end();
    this.#v4.stop();
    this.#v6.stop();
    this.#host.familiesChanged();
    this.#host.rpc.clear();
    this.#storeTickAt = Number.POSITIVE_INFINITY;
    this.#lonelyAt = Number.POSITIVE_INFINITY;
    this.#flush(0);
  }

  /** A bootstrap node: asked, never put into the table for answering. */
  addRouter(now: number, ip: string, port: number): void {
    const address = parseIp(ip);
    if (address === null || !isUsablePeerAddress(address, port)) return;
    const family = address.length === 4 ? this.#v4 : this.#v6;
    if (!family.addRouter(now, address, ip, port)) return;
    for (const task of this.#host.tasks.values()) {
      // those that began before this one was known, and have found nobody
      if (task.started && !task.upkeep && task.answered === 0) task.addRouter(now, family.family, address, ip, port);
    }
  }

  /** A node somebody named: in the table once it answered. */
  addNode(now: number, ip: string, port: number): void {
    const address = parseIp(ip);
    if (address === null || !isUsablePeerAddress(address, port)) return;
    const family = address.length === 4 ? this.#v4 : this.#v6;
    if (!family.running || family.table.at(ip)?.port === port) return;
    this.#host.ping(now, ip, port);
  }

  /** Peers of an info-hash; with `announce` we are one of them afterwards. Returns the id of the lookup. */
  getPeers(now: number, infoHash: Uint8Array, sink: DhtPeersSink, announce: DhtAnnounce | null): number {
    return this.#add(now, new PeersTask(this.#host, target20(infoHash), sink, announce));
  }

  /** How many seeds and peers there are (BEP 33). */
  scrape(now: number, infoHash: Uint8Array, sink: DhtScrapeSink): number {
    return this.#add(now, new ScrapeTask(this.#host, target20(infoHash), sink));
  }

  /** An item (BEP 44); a mutable one when its key is given. */
  getItem(now: number, target: Uint8Array, key: ItemKey | null, sink: DhtItemSink): number {
    return this.#add(now, new GetTask(this.#host, target20(target), this.#crypto, key, sink));
  }

  /** `cas`: the `seq` that shall be there, or -1. */
  putItem(now: number, item: DhtItem, cas: number, sink: DhtPutSink): number {
    return this.#add(now, new PutTask(this.#host, item, cas, sink));
  }

  /** What nodes on the way to `target` store (BEP 51). */
  sample(now: number, target: Uint8Array, sink: DhtSampleSink): number {
    return this.#add(now, new SampleTask(this.#host, target20(target), sink));
  }

  /** The command's sink is not called any more. Unknown ids are over. */
  cancel(id: number): void {
    const task = this.#host.tasks.get(id);
    if (task === undefined) return;
    task.cancelled = true;
    const place = this.#waiting.indexOf(task);
    if (place >= 0) {
      this.#waiting.splice(place, 1);
      this.#host.tasks.delete(id);
      return;
    }
    task.end();
  }

  /** The world sees us at another address: the id follows it (BEP 42). */
  externalChanged(now: number, family: 4 | 6, ip: string): void {
    (family === 4 ? this.#v4 : this.#v6).bindTo(now, ip);
  }

  /** Ids and nodes, for the next run. */
  save(): Uint8Array {
    const state = (family: DhtFamily): { id: Uint8Array; nodes: Uint8Array[] } => ({
      id: family.table.ownId,
      nodes: family.saved(MAX_SAVED),
    });
    return writeState({ v4: state(this.#v4), v6: state(this.#v6) });
  }

  /** At the start, or soon after. False: no state of ours, or tampered with; nothing changed. */
  restore(now: number, bytes: Uint8Array): boolean {
    const state = readState(bytes);
    if (state === null) return false;
    if (state.v4 !== null) this.#v4.restore(now, state.v4.id, state.v4.nodes);
    if (state.v6 !== null) this.#v6.restore(now, state.v6.id, state.v6.nodes);
    // the id was made for the address of that run
    const { ip4, ip6 } = this.#external;
    if (ip4 !== null) this.#v4.bindTo(now, ip4);
    if (ip6 !== null) this.#v6.bindTo(now, ip6);
    return true;
  }

  // --------------------------------------------------------------------------------------------------------- outputs

  /** Nodes there are to ask. */
  get nodeCount(): number {
    return this.#host.nodeCount;
  }

  get stats(): DhtStats {
    return {
      nodes4: this.#v4.table.count,
      nodes6: this.#v6.table.count,
      replacements: this.#v4.table.spareCount + this.#v6.table.spareCount,
      lookups: this.#host.tasks.size,
      queriesIn: this.#queriesIn,
      queriesOut: this.#host.queriesOut,
      repliesIn: this.#repliesIn,
      bytesIn: this.#bytesIn,
      bytesOut: this.#host.bytesOut,
      droppedIn: this.#droppedIn,
      droppedOut: this.#droppedOut,
      peersStored: this.#server.peers.peerCount,
      hashesStored: this.#server.peers.hashCount,
      itemsStored: this.#server.items.count,
    };
  }

  nodes(family: 4 | 6): DhtNode[] {
    const { table } = family === 4 ? this.#v4 : this.#v6;
    return table.nodes().map((node) => ({ id: node.id, ip: node.ip, port: node.port }));
  }

  /** Whether others announced peers of this info-hash to us. */
  storesPeersOf(infoHash: Uint8Array): boolean {
    return this.#server.peers.has(infoHash);
  }

  /** Our id in a family, 20 bytes. */
  nodeId(family: 4 | 6): Uint8Array {
    return this.#host.ownId(family);
  }

  // -------------------------------------------------------------------------------------------------------- private

  #query(now: number, m: KrpcMessage, family: DhtFamily, address: Uint8Array, ip: string, port: number): void {
    this.#queriesIn++;
    if (this.#readOnly) return;
    const table = family.table;
    const known = table.asked(now, ip, port);
    let spent = 0;
    if (!known && m.idAt >= 0 && !m.readOnly && table.wants(m.bytes, m.idAt, ip)) spent = this.#meet(now, ip, port);
    // items may be longer than short queries allow: a node of the table has shown that it is where it says
    const whole = known && m.method === Method.Get;
    const cap = whole ? MAX_PACKET : Math.min(MAX_PACKET, AMPLIFICATION * m.bytes.length - spent);
    if (this.#rate.isSpent(now)) {
      this.#droppedOut++;
      return;
    }
    const table4 = this.#v4.running ? this.#v4.table : null;
    const table6 = this.#v6.running ? this.#v6.table : null;
    this.#server.answer(now, m, address, port, table, table4, table6, cap);
    const { length } = this.#host.writer;
    if (length > cap) return;
    if (!this.#rate.take(length)) {
      this.#droppedOut++;
      return;
    }
    this.#host.transmit(ip, port);
  }

  /** Pings one who asked us, if not lately; returns the bytes that took. */
  #meet(now: number, ip: string, port: number): number {
    if (now - this.#metAt >= PING_MEMORY_MS) {
      this.#met.clear();
      this.#metAt = now;
    }
    if (this.#met.size >= MAX_PINGED || this.#met.has(ip)) return 0;
    this.#met.add(ip);
    return this.#host.ping(now, ip, port) ? this.#host.writer.length : 0;
  }

  #reply(now: number, m: KrpcMessage, family: DhtFamily, address: Uint8Array, ip: string, port: number): void {
    const call = this.#host.rpc.match(now, m, ip, port);
    if (call === null) return;
    this.#guard.forgive();
    this.#repliesIn++;
    if (m.ipAt >= 0) this.#vote(now, m, ip);
    const { table } = family;
    const compact = family.family === 4 ? this.#compact4 : this.#compact6;
    if (m.kind === KrpcKind.Reply && m.idAt >= 0) {
      for (let i = 0; i < ID_BYTES; i++) compact[i] = m.bytes[m.idAt + i]!;
      if (compareDistance(compact, table.ownId, compact) === 0) {
        // we have met ourselves
        this.#lost(now, call);
        return;
      }
      compact.set(address, ID_BYTES);
      compact[compact.length - 2] = port >>> 8;
      compact[compact.length - 1] = port;
      if (call.router) family.routerAnswered(ip, port, true);
      else if (table.answered(now, compact, ip, port, now - call.sentAt)) family.grew(now);
      call.owner?.onAnswer(now, call, m);
    } else {
      call.owner?.onRefused(now, call, m);
    }
    this.#host.rpc.done(call);
  }

  #lost(now: number, call: Call): void {
    const family = this.#host.family(call.ip.includes(':') ? 6 : 4);
    if (call.router) family.routerAnswered(call.ip, call.port, false);
    else family.table.failed(now, call.ip, call.port);
    call.owner?.onLost(now, call);
    this.#host.rpc.done(call);
  }

  /** How the sender sees us (BEP 42). */
  #vote(now: number, m: KrpcMessage, from: string): void {
    const length = m.ipLength === 6 || m.ipLength === 4 ? 4 : 16;
    const external = this.#external;
    // one who sees us as all do is worth a vote now and then
    const known = length === 4 ? this.#seen4 : this.#seen6;
    if (known !== null && now < this.#voteAt && sameBytes(m.bytes, m.ipAt, known)) return;
    this.#voteAt = now + VOTE_EVERY_MS;
    if (!external.vote(now, m.copy(m.ipAt, length), from, 'dht')) return;
    const seen = length === 4 ? external.ip4 : external.ip6;
    if (seen === null) return;
    const family = length === 4 ? 4 : 6;
    this.#host.family(family).bindTo(now, seen);
    if (family === 4) this.#seen4 = parseIp(seen);
    else this.#seen6 = parseIp(seen);
    this.#sink.onDhtExternalIp?.(family, seen);
  }

  #add(now: number, task: Task): number {
    task.waitUntil = now + PATIENCE_MS;
    this.#host.add(task);
    this.#waiting.push(task);
    if (this.#waiting.length > MAX_WAITING) this.#waiting.shift()!.end();
    this.#startWaiting(now);
    return task.id;
  }

  #startWaiting(now: number): void {
    if (this.#waiting.length === 0) return;
    const contacts = this.#host.hasContacts;
    if (now - this.#paceAt >= PACE_MS) {
      this.#paceAt = now;
      this.#paceCount = 0;
    }
    const paced = this.#paced && this.#v4.table.count + this.#v6.table.count < SMALL_NETWORK;
    while (this.#waiting.length > 0 && this.#active < MAX_ACTIVE) {
      const task = this.#waiting[0]!;
      if (contacts ? paced && this.#paceCount >= PACE : task.waitUntil > now) return;
      this.#paceCount++;
      this.#waiting.shift();
      this.#active++;
      task.start(now);
    }
  }

  /** Tells the sinks of what is over. They may give new commands. */
  #flush(now: number): void {
    const { over, tasks, rpc } = this.#host;
    for (let i = 0; i < over.length; i++) {
      const task = over[i]!;
      tasks.delete(task.id);
      rpc.forget(task);
      if (task.started && !task.upkeep) this.#active--;
      if (!task.cancelled) task.onEnd();
      if (task instanceof FindTask && this.#host.family(task.family).taskOver(now, task)) this.#becomeReady();
    }
    over.length = 0;
  }

  #becomeReady(): void {
    if (this.#ready) return;
    this.#ready = true;
    this.#lonelyAt = Number.POSITIVE_INFINITY;
    this.#sink.onDhtReady?.();
  }

  /** Borrowed until the next call; null: no address. */
  #addressOf(ip: string): Uint8Array | null {
    const bytes = this.#ip4;
    let part = 0;
    let value = -1;
    for (let i = 0; i < ip.length; i++) {
      const c = ip.charCodeAt(i);
      if (c === 46) {
        if (value < 0 || part === 3) return parseIp(ip);
        bytes[part++] = value;
        value = -1;
      } else {
        if (c < 48 || c > 57) return parseIp(ip);
        value = (value < 0 ? 0 : value * 10) + c - 48;
        if (value > 255) return parseIp(ip);
      }
    }
    if (part !== 3 || value < 0) return parseIp(ip);
    bytes[3] = value;
    return bytes;
  }
}

/** "1:y1:re" or "1:y1:ee": the last key of a message that is sorted. */
function endsAsReply(bytes: Uint8Array): boolean {
  const end = bytes.length;
  const y = bytes[end - 2];
  return end > 12 && bytes[end - 5] === 121 && (y === 114 || y === 101);
}

function sameBytes(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  for (let i = 0; i < wanted.length; i++) if (bytes[at + i] !== wanted[i]) return false;
  return true;
}

function target20(bytes: Uint8Array): Uint8Array {
  assert(bytes.length === ID_BYTES, 'a target is 20 bytes');
  return new Uint8Array(bytes);
}
