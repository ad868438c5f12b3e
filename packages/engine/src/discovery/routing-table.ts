/**
 * The nodes one family knows (BEP 5), by how many leading bits of their id they share with ours. Only nodes that answered
 * get in. A bucket holds 8; the four furthest hold 128, 64, 32 and 16, so that lookups start closer (as libtorrent's).
 *
 *   good: no query lost since its last answer     questionable: silent for 15 minutes, asked by the owner (`stale`)
 *   bad: two answers missing in a row; it gives way to a newcomer or a replacement, and goes for good after MAX_FAILS
 *
 * Invariants: one node per IP address; a second node of a /24 or /64 only while its bucket has room, and it gives way
 * first. Nodes whose id does not match their address (BEP 42) give way to those whose does.
 */

import { assert } from '../base/assert.ts';
import { readU32 } from '../base/bytes.ts';
import { NodeContact } from './node-contact.ts';
import { compareDistance, ID_BYTES, sharedBits } from './node-id.ts';

export const K = 8;
const TOP_SIZES: readonly number[] = [128, 64, 32, 16];
const MAX_SPARES = 8;
/** A node is questionable after this time without a sign of life (BEP 5). */
export const QUESTIONABLE_MS: number = 15 * 60_000;
const BAD_FAILS = 2;
/** With nobody to take its place a node is kept for longer, so that an outage of ours does not empty the table. */
const MAX_FAILS = 8;

export class RouteNode extends NodeContact {
  /** When it last answered. */
  seenAt: number;
  /** When it last answered or asked us something. */
  heardAt: number;
  /** Answers missing since the last one that came. */
  fails = 0;
  rttMs: number;

  constructor(compact: Uint8Array, ip: string, port: number, now: number, rttMs: number) {
    super(compact, ip, port);
    this.seenAt = now;
    this.heardAt = now;
    this.rttMs = rttMs;
  }

  /** A view. */
  get id(): Uint8Array {
    return this.compact.subarray(0, ID_BYTES);
  }
}

class Bucket {
  readonly nodes: RouteNode[] = [];
  /** First word of each node's id, beside `nodes`. */
  words: Uint32Array = new Uint32Array(K);
  /** Answered when there was no room; the latest last. */
  readonly spares: RouteNode[] = [];
  changedAt: number;

  constructor(now: number) {
    this.changedAt = now;
  }
}

export class RoutingTable {
  count = 0;
  ownId: Uint8Array;
  #insecureCount = 0;
  /** Nodes of each network. */
  #crowds = new Map<number | string, number>();
  #buckets: (Bucket | null)[] = [];
  #byIp = new Map<string, RouteNode>();
  /** First words' distances of what `closest` has chosen so far. */
  readonly #keys: Float64Array = new Float64Array(64);
  readonly #crowd: RouteNode[] = [];
  readonly #networks: Set<number | string> = new Set();

  constructor(ownId: Uint8Array) {
    this.ownId = ownId;
  }

  get spareCount(): number {
    let n = 0;
    for (const bucket of this.#buckets) n += bucket?.spares.length ?? 0;
    return n;
  }

  /** Buckets there are, from the furthest on. */
  get depth(): number {
    return this.#buckets.length;
  }

  /** The node at this address, on whatever port. */
  at(ip: string): RouteNode | null {
    return this.#byIp.get(ip) ?? null;
  }

  /** All nodes, from the furthest bucket on. */
  nodes(): RouteNode[] {
    const all: RouteNode[] = [];
    for (const bucket of this.#buckets) if (bucket !== null) all.push(...bucket.nodes);
    return all;
  }

  /**
   * A node answered. `compact` (26 or 38 bytes) is borrowed. True: it is in the table now and was not before.
   */
  answered(now: number, compact: Uint8Array, ip: string, port: number, rttMs: number): boolean {
    const held = this.#byIp.get(ip);
    if (held !== undefined) {
      const same = compareDistance(held.compact, compact, this.ownId) === 0;
      if (held.port === port && same) {
        held.rttMs = held.rttMs * 0.75 + rttMs * 0.25;
        held.fails = 0;
        held.seenAt = now;
        held.heardAt = now;
        this.#buckets[this.#bucketOf(compact)]!.changedAt = now;
        return false;
      }
      // another program behind the address, or the same one under a new id
      if (held.port !== port && held.fails === 0) return false;
      this.#remove(held);
    }
    const index = this.#bucketOf(compact);
    if (index >= 160) return false;
    const bucket = this.#bucket(now, index);
    for (const other of bucket.nodes) {
      if (compareDistance(other.compact, compact, this.ownId) !== 0) continue;
      if (other.fails === 0) return false;
      this.#remove(other);
      break;
    }
    const node = new RouteNode(new Uint8Array(compact), ip, port, now, rttMs);
    if (bucket.nodes.length < sizeOf(index)) {
      this.#insert(bucket, node);
      bucket.changedAt = now;
      return true;
    }
    const victim = victimFor(bucket, node);
    if (victim !== null) {
      this.#remove(victim);
      this.#insert(bucket, node);
      bucket.changedAt = now;
      return true;
    }
    this.#keepSpare(bucket, node);
    return false;
  }

  /** A node asked us something. True: we know it, with this port. */
  asked(now: number, ip: string, port: number): boolean {
    const node = this.#byIp.get(ip);
    if (node === undefined || node.port !== port) return false;
    node.heardAt = now;
    return true;
  }

  /** Whether a node that is not known would get in if it answered; asking it is worth a packet. */
  wants(id: Uint8Array, idAt: number, ip: string): boolean {
    if (this.#byIp.has(ip)) return false;
    const index = sharedBits(this.ownId, id, idAt);
    if (index >= 160) return false;
    const bucket = index < this.#buckets.length ? this.#buckets[index]! : null;
    if (bucket === null || bucket.nodes.length < sizeOf(index) || bucket.spares.length < MAX_SPARES / 2) return true;
    return bucket.nodes.some((node) => node.fails > 0);
  }

  /** An answer did not come. */
  failed(now: number, ip: string, port: number): void {
    const node = this.#byIp.get(ip);
    if (node === undefined || node.port !== port) return;
    node.fails++;
    if (node.fails < BAD_FAILS) return;
    const bucket = this.#buckets[this.#bucketOf(node.compact)]!;
    let spare: RouteNode | undefined;
    do spare = bucket.spares.pop();
    while (spare !== undefined && (this.#byIp.has(spare.ip) || this.#holds(bucket, spare)));
    if (spare === undefined && node.fails < MAX_FAILS) return;
    this.#remove(node);
    if (spare === undefined) return;
    this.#insert(bucket, spare);
    bucket.changedAt = now;
  }

  /** The node longest without a sign of life, if that is past its time; or null. */
  stale(now: number): RouteNode | null {
    let worst: RouteNode | null = null;
    let worstAt = Number.POSITIVE_INFINITY;
    for (const bucket of this.#buckets) {
      if (bucket === null) continue;
      for (const node of bucket.nodes) {
        // one that failed is asked again soon: a second time decides
        const at = node.fails === 0 ? node.heardAt : node.heardAt - 10 * 60_000;
        if (at >= worstAt) continue;
        worst = node;
        worstAt = at;
      }
    }
    return worst !== null && now - worstAt >= QUESTIONABLE_MS ? worst : null;
  }

  /** The bucket that longest saw no change, if that was `ageMs` ago; or -1. Those beyond the deepest used one count as it. */
  idleBucket(now: number, ageMs: number): number {
    let idlest = -1;
    let at = now - ageMs;
    for (let i = 0; i < this.#buckets.length; i++) {
      const changedAt = this.#bucket(now, i).changedAt;
      if (changedAt > at) continue;
      idlest = i;
      at = changedAt;
    }
    return idlest;
  }

  /** Says that a bucket is being looked after. */
  touch(now: number, index: number): void {
    if (index < this.#buckets.length) this.#bucket(now, index).changedAt = now;
  }

  /**
   * Puts the nodes closest to an id into `out`, closest first; returns how many. With `good`, none that owes an answer.
   */
  closest(target: Uint8Array, targetAt: number, max: number, out: RouteNode[], good: boolean): number {
    return this.#closest(target, targetAt, max, out, good, false);
  }

  #closest(
    target: Uint8Array,
    targetAt: number,
    max: number,
    out: RouteNode[],
    good: boolean,
    secure: boolean,
  ): number {
    const buckets = this.#buckets;
    if (max > this.#keys.length) max = this.#keys.length;
    // nodes of this bucket share more bits with the target than any other, those of deeper ones all the same number
    const home = sharedBits(this.ownId, target, targetAt);
    let found = 0;
    if (home < buckets.length) found = this.#choose(buckets[home]!, target, targetAt, 0, 0, max, out, good, secure);
    if (found < max) {
      const from = found;
      for (let i = home + 1; i < buckets.length; i++) {
        found = this.#choose(buckets[i]!, target, targetAt, from, found, max, out, good, secure);
      }
    }
    for (let i = Math.min(home, buckets.length) - 1; i >= 0 && found < max; i--) {
      found = this.#choose(buckets[i]!, target, targetAt, found, found, max, out, good, secure);
    }
    return found;
  }

  /**
   * As `closest`, but first come nodes whose id matches their address, one of a network, however close others are: a crowd
   * of one /24 or of chosen ids must not be all that we name or start from.
   */
  closestFair(target: Uint8Array, targetAt: number, max: number, out: RouteNode[], good: boolean): number {
    const found = this.closest(target, targetAt, max, out, good);
    if ((this.#crowds.size === 1 && this.#insecureCount === 0) || isFair(out, found)) return found;
    const most = this.#keys.length;
    const all = this.#crowd;
    this.#networks.clear();
    const secure = this.#closest(target, targetAt, most, all, good, true);
    let chosen = this.#pickNetworks(all, secure, out, 0, max);
    if (chosen === max) return chosen;
    let count = secure;
    if (this.#insecureCount > 0) {
      count = this.#closest(target, targetAt, most, all, good, false);
      chosen = this.#pickNetworks(all, count, out, chosen, max);
    }
    const distinct = chosen;
    for (let i = 0; i < count && chosen < max; i++) {
      const node = all[i]!;
      let taken = false;
      for (let k = 0; k < distinct; k++) if (out[k] === node) taken = true;
      if (!taken) out[chosen++] = node;
    }
    return chosen;
  }

  /** Appends those of networks not yet seen. */
  #pickNetworks(from: readonly RouteNode[], count: number, out: RouteNode[], chosen: number, max: number): number {
    for (let i = 0; i < count && chosen < max; i++) {
      const node = from[i]!;
      if (this.#networks.has(node.network)) continue;
      this.#networks.add(node.network);
      out[chosen++] = node;
    }
    return chosen;
  }

  /** Takes on another id: every node finds its new place, those that do not fit are forgotten. */
  rebuild(now: number, ownId: Uint8Array): void {
    const all = this.nodes();
    this.ownId = ownId;
    this.#buckets = [];
    this.#byIp = new Map();
    this.count = 0;
    this.#insecureCount = 0;
    this.#crowds = new Map();
    for (const node of all) {
      const index = this.#bucketOf(node.compact);
      if (index >= 160) continue;
      const bucket = this.#bucket(now, index);
      if (bucket.nodes.length < sizeOf(index)) this.#insert(bucket, node);
    }
  }

  /** Merges a bucket into out[from..found), sorted by distance, never past `max`. */
  #choose(
    bucket: Bucket | null,
    target: Uint8Array,
    targetAt: number,
    from: number,
    found: number,
    max: number,
    out: RouteNode[],
    good: boolean,
    secure: boolean,
  ): number {
    if (bucket === null) return found;
    const keys = this.#keys;
    const nodes = bucket.nodes;
    const words = bucket.words;
    const word = readU32(target, targetAt) | 0;
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i]!;
      if ((good && node.fails > 0) || (secure && !node.secure)) continue;
      const distance = (words[i]! ^ word) >>> 0;
      let place = found;
      if (found === max) {
        if (found === from || distance > keys[found - 1]!) continue;
        place--;
        if (distance === keys[place]! && compareDistance(node.compact, out[place]!.compact, target, targetAt) > 0) {
          continue;
        }
      } else {
        found++;
      }
      while (place > from) {
        const before = keys[place - 1]!;
        if (before < distance) break;
        const other = out[place - 1]!;
        if (before === distance && compareDistance(other.compact, node.compact, target, targetAt) < 0) break;
        keys[place] = before;
        out[place] = other;
        place--;
      }
      keys[place] = distance;
      out[place] = node;
    }
    return found;
  }

  #bucketOf(compact: Uint8Array): number {
    return sharedBits(this.ownId, compact);
  }

  #bucket(now: number, index: number): Bucket {
    while (this.#buckets.length <= index) this.#buckets.push(null);
    let bucket = this.#buckets[index]!;
    if (bucket === null) {
      bucket = new Bucket(now);
      this.#buckets[index] = bucket;
    }
    return bucket;
  }

  #insert(bucket: Bucket, node: RouteNode): void {
    assert(!this.#byIp.has(node.ip), 'one node per address');
    if (bucket.nodes.length === bucket.words.length) {
      const words = new Uint32Array(bucket.words.length * 2);
      words.set(bucket.words);
      bucket.words = words;
    }
    bucket.words[bucket.nodes.length] = readU32(node.compact, 0);
    bucket.nodes.push(node);
    this.#byIp.set(node.ip, node);
    this.count++;
    if (!node.secure) this.#insecureCount++;
    this.#crowds.set(node.network, (this.#crowds.get(node.network) ?? 0) + 1);
  }

  #remove(node: RouteNode): void {
    const bucket = this.#buckets[this.#bucketOf(node.compact)]!;
    const place = bucket.nodes.indexOf(node);
    const last = bucket.nodes.pop()!;
    if (last !== node) {
      bucket.nodes[place] = last;
      bucket.words[place] = bucket.words[bucket.nodes.length]!;
    }
    this.#byIp.delete(node.ip);
    this.count--;
    if (!node.secure) this.#insecureCount--;
    const others = this.#crowds.get(node.network)! - 1;
    if (others === 0) this.#crowds.delete(node.network);
    else this.#crowds.set(node.network, others);
  }

  /** Whether another node has this one's id. */
  #holds(bucket: Bucket, node: RouteNode): boolean {
    return bucket.nodes.some((other) => compareDistance(other.compact, node.compact, this.ownId) === 0);
  }

  #keepSpare(bucket: Bucket, node: RouteNode): void {
    const spares = bucket.spares;
    const known = spares.findIndex((spare) => spare.ip === node.ip);
    if (known >= 0) spares.splice(known, 1);
    // the place of a spare is worth something only to networks and ids that count
    if (bucket.nodes.some((other) => other.network === node.network)) return;
    if (spares.length >= MAX_SPARES) spares.shift();
    spares.push(node);
  }
}

/** Whether the first `count` are of as many networks, with ids that match their addresses. */
function isFair(nodes: readonly RouteNode[], count: number): boolean {
  for (let i = 0; i < count; i++) {
    const { network, secure } = nodes[i]!;
    if (!secure) return false;
    for (let k = 0; k < i; k++) if (nodes[k]!.network === network) return false;
  }
  return true;
}

/** Who gives way to a newcomer in a full bucket; null: nobody. */
function victimFor(bucket: Bucket, node: RouteNode): RouteNode | null {
  let failing: RouteNode | null = null;
  for (const other of bucket.nodes) {
    if (other.fails > 0 && (failing === null || other.fails > failing.fails)) failing = other;
  }
  if (failing !== null && failing.fails >= BAD_FAILS) return failing;
  if (bucket.nodes.some((other) => other.network === node.network)) return null;
  if (failing !== null) return failing;
  const networks = new Set<number | string>();
  let crowded: RouteNode | null = null;
  let insecure: RouteNode | null = null;
  for (const other of bucket.nodes) {
    if (networks.has(other.network)) crowded = other;
    networks.add(other.network);
    if (!other.secure) insecure = other;
  }
  if (crowded !== null) return crowded;
  return node.secure ? insecure : null;
}

function sizeOf(index: number): number {
  return index < TOP_SIZES.length ? TOP_SIZES[index]! : K;
}
