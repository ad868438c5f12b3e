/**
 * One family of the DHT (BEP 32: two networks that happen to share a socket): its id, table and bootstrap nodes, and the
 * upkeep of them.
 *
 *   bootstrap: lookup of our own id, again while the table holds few; then one lookup per bucket, the furthest first
 *   upkeep:    who was silent for 15 minutes is pinged, a bucket without a change for 15 minutes is looked up
 *   restored:  nodes of an earlier run, pinged a few at a time; they are no part of the table until they answer
 *
 * Bootstrap nodes are asked while the table is small, and never enter the table by answering that.
 */

import { equal } from '../base/bytes.ts';
import { formatIp, isUsablePeerAddress, parseIp } from '../base/ip.ts';
import type { Lookup, Source } from './dht-lookup.ts';
import { FindTask, type TaskHost } from './dht-task.ts';
import { type Filler, ID_BYTES, idMatches, makeNodeId, randomIdNear } from './node-id.ts';
import { K, type RouteNode, RoutingTable } from './routing-table.ts';

const REFRESH_MS = 15 * 60_000;
const RETRY_MIN_MS = 2_000;
const RETRY_MAX_MS = 300_000;
/** A table with fewer nodes is looked after again this soon, at first. */
const FEW_RETRY_MS = 60_000;
const MAX_ROUTERS = 32;
/** Restored nodes asked in one go, and how often. */
const RESTORE_BATCH = 8;
const RESTORE_EVERY_MS = 250;
/** Silent nodes pinged in one go: 300 nodes are through in 15 minutes. */
const STALE_BATCH = 4;
const STALE_EVERY_MS = 10_000;
/** Of the addresses that a reply of the other family names; the rest is for its own lookup. */
const MEET_PER_REPLY = 2;
/** Known nodes that a lookup begins with. */
const KNOWN_FOR_LOOKUP = 16;

interface Router {
  readonly address: Uint8Array;
  readonly ip: string;
  readonly port: number;
  dead: boolean;
}

export interface FamilyHost extends TaskHost {
  /** Nodes in the tables of the families that run. */
  readonly nodeCount: number;
  /** Pings; a node that answers gets into the table. False: cannot be asked. */
  ping(now: number, ip: string, port: number): boolean;
  startUpkeep(now: number, task: FindTask): void;
}

export class DhtFamily {
  readonly family: 4 | 6;
  readonly table: RoutingTable;
  readonly routers: Router[] = [];
  running = false;
  /** A node answered our own lookup, once. */
  bootstrapped = false;
  readonly #host: FamilyHost;
  readonly #random: Filler;
  #task: FindTask | null = null;
  #bootstrapAt = Number.POSITIVE_INFINITY;
  #retryMs = RETRY_MIN_MS;
  /** Buckets still to be filled after bootstrap, from here down; -1: none. */
  #fillBucket = -1;
  #bootstrapping = false;
  #restored: Uint8Array[] = [];
  #restoreAt = Number.POSITIVE_INFINITY;
  #staleAt = Number.POSITIVE_INFINITY;

  constructor(family: 4 | 6, host: FamilyHost, random: Filler) {
    this.family = family;
    this.#host = host;
    this.#random = random;
    this.table = new RoutingTable(makeNodeId(random, null));
  }

  /** Whether a lookup would have anybody to ask. */
  get hasContacts(): boolean {
    return this.table.count > 0 || this.routers.length > 0 || this.#restored.length > 0;
  }

  get isBusy(): boolean {
    return this.#task !== null;
  }

  start(now: number, externalIp: string | null): void {
    if (this.running) return;
    this.running = true;
    if (externalIp !== null) this.bindTo(now, externalIp);
    this.#bootstrapAt = now;
    this.#restoreAt = this.#restored.length > 0 ? now : Number.POSITIVE_INFINITY;
    this.#staleAt = now + STALE_EVERY_MS;
  }

  stop(): void {
    this.running = false;
    this.#task = null;
    this.#fillBucket = -1;
    this.#bootstrapAt = Number.POSITIVE_INFINITY;
    this.#restoreAt = Number.POSITIVE_INFINITY;
    this.#staleAt = Number.POSITIVE_INFINITY;
  }

  nextAt(): number {
    if (!this.running) return Number.POSITIVE_INFINITY;
    const next = Math.min(this.#restoreAt, this.#staleAt);
    return this.#task === null && this.hasContacts ? Math.min(next, this.#bootstrapAt) : next;
  }

  tick(now: number): void {
    if (!this.running) return;
    if (now >= this.#restoreAt) this.#askRestored(now);
    if (now >= this.#staleAt) this.#upkeep(now);
    if (now >= this.#bootstrapAt && this.#task === null && this.hasContacts) {
      this.#bootstrapping = true;
      this.#begin(now, this.table.ownId);
    }
  }

  /** Our address as the world sees it: the id must match it (BEP 42), or give way to one that does. */
  bindTo(now: number, ip: string): void {
    const address = parseIp(ip);
    if (address === null || (address.length === 4) !== (this.family === 4)) return;
    if (idMatches(this.table.ownId, address)) return;
    this.table.rebuild(now, makeNodeId(this.#random, address));
    if (!this.running) return;
    this.#bootstrapAt = now;
    this.#retryMs = RETRY_MIN_MS;
  }

  addRouter(now: number, address: Uint8Array, ip: string, port: number): boolean {
    if (this.routers.length >= MAX_ROUTERS) return false;
    if (this.routers.some((router) => router.ip === ip && router.port === port)) return false;
    this.routers.push({ address, ip, port, dead: false });
    if (this.#bootstrapping) this.#task?.addRouter(now, this.family, address, ip, port);
    else if (this.table.count < K) this.#bootstrapSoon(now);
    return true;
  }

  /** A node came into the table. */
  grew(now: number): void {
    if (this.table.count === 1 && !this.#bootstrapping) this.#bootstrapSoon(now);
  }

  /** Looks around again: the other family wants to be found. */
  lookAround(now: number): void {
    if (this.running && this.table.count > 0) this.#bootstrapAt = Math.min(this.#bootstrapAt, now);
  }

  /** Pings some of those that the other family heard of. */
  meet(now: number, bytes: Uint8Array, at: number, length: number, source: Source): void {
    const size = this.family === 4 ? 26 : 38;
    for (const end = at + length; at + size <= end && source.contacted < MEET_PER_REPLY; at += size) {
      if (!this.running || this.table.count >= K) return;
      const compact = bytes.subarray(at, at + size);
      const ip = ipOf(compact);
      if (!isUsablePeerAddress(compact.subarray(ID_BYTES, size - 2), portOf(compact))) continue;
      if (ip.includes(':') !== (this.family === 6) || this.table.at(ip) !== null) continue;
      source.contacted++;
      this.#host.ping(now, ip, portOf(compact));
    }
  }

  routerAnswered(ip: string, port: number, answered: boolean): void {
    for (const router of this.routers) if (router.ip === ip && router.port === port) router.dead = !answered;
  }

  restore(now: number, id: Uint8Array, nodes: readonly Uint8Array[]): void {
    // who has met us already knows us by the id we have
    if (this.table.count === 0) this.table.ownId = id;
    this.#restored = [...nodes];
    if (!this.running || nodes.length === 0) return;
    this.#restoreAt = now;
    if (!this.bootstrapped) this.#bootstrapAt = now;
  }

  /** Gives a lookup whom we know: the closest of the table, restored ones while that is small, bootstrap nodes too. */
  fill(lookup: Lookup): void {
    const count = this.table.closestFair(lookup.target, 0, KNOWN_FOR_LOOKUP, scratch, false);
    for (let i = 0; i < count; i++) {
      const node = scratch[i]!;
      lookup.addKnown(new Uint8Array(node.compact), node.ip, node.port);
    }
    if (this.table.count >= K) return;
    for (const compact of this.#restored.slice(0, KNOWN_FOR_LOOKUP)) {
      lookup.addKnown(new Uint8Array(compact), ipOf(compact), portOf(compact));
    }
    for (const router of this.routers) {
      // a dead one would hold up a lookup that can do without, in this family or in the other
      if (router.dead && this.#host.nodeCount > 0 && !this.#bootstrapping) continue;
      lookup.addRouter(router.address, router.ip, router.port);
    }
  }

  /** Our own lookup ended. True: the first bootstrap is done. */
  taskOver(now: number, task: FindTask): boolean {
    if (task !== this.#task) return false;
    this.#task = null;
    if (!this.#bootstrapping) {
      this.#fillNext(now);
      return false;
    }
    this.#bootstrapping = false;
    if (task.answered === 0) {
      this.#bootstrapAt = now + this.#retryMs;
      this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
      return false;
    }
    const first = !this.bootstrapped;
    this.bootstrapped = true;
    if (!equal(task.target, this.table.ownId)) {
      // our id changed on the way: those beside the new one have not heard of us
      this.#bootstrapAt = now;
      return first;
    }
    if (this.table.count < K) {
      if (this.#retryMs < FEW_RETRY_MS) this.#retryMs = FEW_RETRY_MS;
      this.#bootstrapAt = now + this.#retryMs;
      this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
    } else {
      this.#bootstrapAt = Number.POSITIVE_INFINITY;
      this.#retryMs = RETRY_MIN_MS;
    }
    // a handful is known whole by now
    if (this.table.count >= K) {
      this.#fillBucket = 0;
      this.#fillNext(now);
    }
    return first;
  }

  /** Good nodes first, then the rest; compact. */
  saved(max: number): Uint8Array[] {
    const nodes = this.table.nodes();
    nodes.sort((a, b) => a.fails - b.fails || b.seenAt - a.seenAt || (a.ip < b.ip ? -1 : 1));
    const compact = nodes.slice(0, max).map((node) => node.compact);
    // an early save must not lose what was not asked yet
    for (const node of this.#restored) if (compact.length < max) compact.push(node);
    return compact;
  }

  #bootstrapSoon(now: number): void {
    if (!this.running) return;
    this.#retryMs = RETRY_MIN_MS;
    this.#bootstrapAt = now;
  }

  #begin(now: number, target: Uint8Array): void {
    this.#task = new FindTask(this.#host, this.family, target);
    this.#host.startUpkeep(now, this.#task);
  }

  /** Buckets up to the deepest get one lookup each; near our own id there is nothing more to find. */
  #fillNext(now: number): void {
    if (this.#fillBucket < 0 || this.#task !== null) return;
    const bucket = this.#fillBucket++;
    if (bucket >= this.table.depth - 1 || !this.running) {
      this.#fillBucket = -1;
      return;
    }
    this.table.touch(now, bucket);
    this.#begin(now, randomIdNear(this.#random, this.table.ownId, bucket));
  }

  #askRestored(now: number): void {
    for (let i = 0; i < RESTORE_BATCH && this.#restored.length > 0; i++) {
      const compact = this.#restored.shift()!;
      this.#host.ping(now, ipOf(compact), portOf(compact));
    }
    this.#restoreAt = this.#restored.length > 0 ? now + RESTORE_EVERY_MS : Number.POSITIVE_INFINITY;
  }

  #upkeep(now: number): void {
    this.#staleAt = now + STALE_EVERY_MS;
    for (let i = 0; i < STALE_BATCH; i++) {
      const node = this.table.stale(now);
      if (node === null) break;
      // asked once in a while, not until the answer is due
      node.heardAt = now;
      if (!this.#host.ping(now, node.ip, node.port)) break;
    }
    if (this.#task !== null || this.table.count === 0) {
      if (this.table.count === 0 && this.#task === null && this.#bootstrapAt === Number.POSITIVE_INFINITY) {
        this.#bootstrapSoon(now);
      }
      return;
    }
    const bucket = this.table.idleBucket(now, REFRESH_MS);
    if (bucket < 0) return;
    this.table.touch(now, bucket);
    const deepest = bucket >= this.table.depth - 1;
    const own = this.table.ownId;
    this.#begin(now, deepest ? own : randomIdNear(this.#random, own, bucket));
  }
}

const scratch: RouteNode[] = [];

function ipOf(compact: Uint8Array): string {
  return formatIp(compact.subarray(ID_BYTES, compact.length - 2));
}

function portOf(compact: Uint8Array): number {
  return (compact[compact.length - 2]! << 8) | compact[compact.length - 1]!;
}
