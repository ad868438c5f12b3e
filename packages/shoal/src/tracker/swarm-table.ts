/**
 * Owns what the tracker knows: info-hash -> who takes part, since when. Pure: time comes in, in whole seconds.
 *
 * A peer is an address and a port, as seen by the tracker. Per swarm and address family the peers stand packed in one
 * byte array, found by an open-addressing table of Int32:
 *
 *     peers   | ip 4 or 16 | port 2 | peer id 20 | ...      swapped with the last on removal, so no holes
 *     seenS, flags          by the same index
 *     places  hash -> index + 1                             at most half full, linear probing
 *
 * That is 26 + 4 + 1 and some 8 to 16 bytes a v4 peer.
 *
 * Limits: `maxSwarms`, `maxPeersPerSwarm` and `maxPeers` over all; who comes later is answered but not remembered. A peer
 * not heard of for `peerTtlS` is gone at the next `sweep`.
 */

export interface SwarmLimits {
  readonly maxSwarms: number;
  readonly maxPeersPerSwarm: number;
  readonly maxPeers: number;
  readonly peerTtlS: number;
}

export type SwarmEvent = 'none' | 'started' | 'completed' | 'stopped' | 'paused';

export interface SwarmCounts {
  seeders: number;
  leechers: number;
  /** Leechers that still download (BEP 21). */
  downloaders: number;
  /** How often someone finished. */
  completed: number;
}

export class SwarmTable {
  readonly #limits: SwarmLimits;
  readonly #random: () => number;
  /** By info-hash, one character per byte. */
  readonly #swarms = new Map<string, Swarm>();
  #peerCount = 0;
  #seederCount = 0;

  /** `random` gives 0 <= x < 1; it chooses who is handed out, and salts the tables. */
  constructor(limits: SwarmLimits, random: () => number) {
    this.#limits = limits;
    this.#random = random;
  }

  get swarmCount(): number {
    return this.#swarms.size;
  }

  get peerCount(): number {
    return this.#peerCount;
  }

  get seederCount(): number {
    return this.#seederCount;
  }

  /**
   * One announce. `ip` has 4 or 16 bytes, `peerId` 20; `seed`: nothing left to get. False: there was no room to remember
   * the peer. A port of 0 is never remembered.
   */
  announce(
    infoHash: string,
    ip: Uint8Array,
    port: number,
    peerId: Uint8Array,
    seed: boolean,
    event: SwarmEvent,
    nowS: number,
  ): boolean {
    let swarm = this.#swarms.get(infoHash);
    if (event === 'stopped') {
      if (swarm !== undefined) this.#drop(infoHash, swarm, listOf(swarm, ip), listOf(swarm, ip).find(ip, port));
      return true;
    }
    if (port === 0) return true;
    if (swarm === undefined) {
      if (this.#swarms.size >= this.#limits.maxSwarms) return false;
      const salt = Math.floor(this.#random() * 0x100000000);
      swarm = { four: new PeerList(4, salt), six: new PeerList(16, salt), completed: 0 };
      this.#swarms.set(infoHash, swarm);
    }
    const list = listOf(swarm, ip);
    let at = list.find(ip, port);
    if (at < 0) {
      const full =
        this.#peerCount >= this.#limits.maxPeers || swarm.four.count + swarm.six.count >= this.#limits.maxPeersPerSwarm;
      if (full) {
        if (swarm.four.count + swarm.six.count === 0) this.#swarms.delete(infoHash);
        return false;
      }
      at = list.add(ip, port);
      this.#peerCount++;
    }
    const before = list.flags[at]!;
    if (event === 'completed' && (before & FINISHED) === 0) swarm.completed++;
    let flags = before & FINISHED;
    if (event === 'completed' || seed) flags |= FINISHED;
    if (seed) flags |= SEED;
    else if (event === 'paused') flags |= PAUSED;
    list.set(at, peerId, flags, nowS);
    this.#seederCount += (flags & SEED) - (before & SEED);
    return true;
  }

  counts(infoHash: string): SwarmCounts | null {
    const swarm = this.#swarms.get(infoHash);
    if (swarm === undefined) return null;
    const seeders = swarm.four.seeds + swarm.six.seeds;
    const leechers = swarm.four.count + swarm.six.count - seeders;
    const downloaders = leechers - swarm.four.paused - swarm.six.paused;
    return { seeders, leechers, downloaders, completed: swarm.completed };
  }

  /**
   * Up to `wanted` peers of one family (4 or 16 bytes of ip), chosen at random, not the one with this ip and port.
   * `give` gets a view of ip, port and peer id in a row, to be copied.
   */
  sample(
    infoHash: string,
    ipBytes: 4 | 16,
    wanted: number,
    notIp: Uint8Array,
    notPort: number,
    give: (entry: Uint8Array) => void,
  ): number {
    const swarm = this.#swarms.get(infoHash);
    if (swarm === undefined || wanted <= 0) return 0;
    const list = ipBytes === 4 ? swarm.four : swarm.six;
    const self = notIp.length === ipBytes ? list.find(notIp, notPort) : -1;
    const others = list.count - (self >= 0 ? 1 : 0);
    const taken = Math.min(wanted, others);
    // one from each of `taken` equal stretches of the list without the asker: no one twice, all alike likely
    for (let i = 0; i < taken; i++) {
      const from = Math.floor((i * others) / taken);
      const to = Math.floor(((i + 1) * others) / taken);
      const at = from + Math.floor(this.#random() * (to - from));
      give(list.entry(self >= 0 && at >= self ? at + 1 : at));
    }
    return taken;
  }

  /** Forgets peers not heard of for the time to live, and empty swarms. */
  sweep(nowS: number): void {
    const oldest = nowS - this.#limits.peerTtlS;
    for (const [infoHash, swarm] of this.#swarms) {
      for (const list of [swarm.four, swarm.six]) {
        for (let at = list.count - 1; at >= 0; at--) {
          if (list.seenS[at]! < oldest) this.#drop(infoHash, swarm, list, at);
        }
      }
    }
  }

  #drop(infoHash: string, swarm: Swarm, list: PeerList, at: number): void {
    if (at < 0) return;
    this.#seederCount -= list.flags[at]! & SEED;
    list.remove(at);
    this.#peerCount--;
    if (swarm.four.count + swarm.six.count === 0) this.#swarms.delete(infoHash);
  }
}

interface Swarm {
  readonly four: PeerList;
  readonly six: PeerList;
  completed: number;
}

const SEED = 1;
const PAUSED = 2;
/** Has been counted as finished, or came as a seed. */
const FINISHED = 4;
const PEER_ID_BYTES = 20;

function listOf(swarm: Swarm, ip: Uint8Array): PeerList {
  return ip.length === 4 ? swarm.four : swarm.six;
}

class PeerList {
  count = 0;
  seeds = 0;
  paused = 0;
  seenS: Uint32Array = new Uint32Array(0);
  flags: Uint8Array = new Uint8Array(0);
  readonly #ipBytes: number;
  readonly #stride: number;
  readonly #salt: number;
  #peers: Uint8Array = new Uint8Array(0);
  /** Index + 1, or 0. The length is a power of two, at least twice the count. */
  #places: Int32Array = new Int32Array(0);

  constructor(ipBytes: number, salt: number) {
    this.#ipBytes = ipBytes;
    this.#stride = ipBytes + 2 + PEER_ID_BYTES;
    this.#salt = salt;
  }

  /** Index of the peer, or -1. */
  find(ip: Uint8Array, port: number): number {
    const mask = this.#places.length - 1;
    if (mask < 0) return -1;
    for (let place = this.#hash(ip, 0, port) & mask; ; place = (place + 1) & mask) {
      const at = this.#places[place]! - 1;
      if (at < 0) return -1;
      if (this.#is(at, ip, port)) return at;
    }
  }

  /** Adds one that is not there; its index. */
  add(ip: Uint8Array, port: number): number {
    if (this.count === this.flags.length) this.#grow();
    const at = this.count++;
    const start = at * this.#stride;
    this.#peers.set(ip, start);
    this.#peers[start + this.#ipBytes] = port >>> 8;
    this.#peers[start + this.#ipBytes + 1] = port & 255;
    this.flags[at] = 0;
    this.#link(at);
    return at;
  }

  set(at: number, peerId: Uint8Array, flags: number, nowS: number): void {
    const before = this.flags[at]!;
    this.seeds += (flags & SEED) - (before & SEED);
    this.paused += ((flags & PAUSED) - (before & PAUSED)) / PAUSED;
    this.flags[at] = flags;
    this.seenS[at] = nowS;
    this.#peers.set(peerId, at * this.#stride + this.#ipBytes + 2);
  }

  /** The last one takes its index. */
  remove(at: number): void {
    this.seeds -= this.flags[at]! & SEED;
    this.paused -= (this.flags[at]! & PAUSED) / PAUSED;
    this.#unlink(at);
    const last = --this.count;
    if (at === last) return;
    this.#unlink(last);
    this.#peers.copyWithin(at * this.#stride, last * this.#stride, (last + 1) * this.#stride);
    this.flags[at] = this.flags[last]!;
    this.seenS[at] = this.seenS[last]!;
    this.#link(at);
  }

  entry(at: number): Uint8Array {
    return this.#peers.subarray(at * this.#stride, (at + 1) * this.#stride);
  }

  #is(at: number, ip: Uint8Array, port: number): boolean {
    const start = at * this.#stride;
    for (let i = 0; i < this.#ipBytes; i++) if (this.#peers[start + i] !== ip[i]) return false;
    const here = start + this.#ipBytes;
    return ((this.#peers[here]! << 8) | this.#peers[here + 1]!) === port;
  }

  /** FNV-1a over address and port, salted, so that nobody can aim for one bucket. */
  #hash(bytes: Uint8Array, start: number, port: number): number {
    let h = this.#salt ^ 0x811c9dc5;
    for (let i = 0; i < this.#ipBytes; i++) h = Math.imul(h ^ bytes[start + i]!, 0x01000193);
    h = Math.imul(h ^ (port & 255), 0x01000193);
    h = Math.imul(h ^ (port >>> 8), 0x01000193);
    h = Math.imul(h ^ (h >>> 15) ^ this.#salt, 0x2c1b3c6d);
    return (h ^ (h >>> 13)) >>> 0;
  }

  #hashAt(at: number): number {
    const start = at * this.#stride;
    const port = (this.#peers[start + this.#ipBytes]! << 8) | this.#peers[start + this.#ipBytes + 1]!;
    return this.#hash(this.#peers, start, port);
  }

  #link(at: number): void {
    const mask = this.#places.length - 1;
    let place = this.#hashAt(at) & mask;
    while (this.#places[place] !== 0) place = (place + 1) & mask;
    this.#places[place] = at + 1;
  }

  /** Takes the index out and closes the gap, so that no probe ends early. */
  #unlink(at: number): void {
    const places = this.#places;
    const mask = places.length - 1;
    let gap = this.#hashAt(at) & mask;
    while (places[gap] !== at + 1) gap = (gap + 1) & mask;
    for (let place = (gap + 1) & mask; places[place] !== 0; place = (place + 1) & mask) {
      const home = this.#hashAt(places[place]! - 1) & mask;
      // it may move into the gap unless its home lies behind the gap
      if (((place - home) & mask) < ((place - gap) & mask)) continue;
      places[gap] = places[place]!;
      gap = place;
    }
    places[gap] = 0;
  }

  #grow(): void {
    const room = Math.max(4, this.flags.length * 2);
    const peers = new Uint8Array(room * this.#stride);
    peers.set(this.#peers);
    this.#peers = peers;
    const flags = new Uint8Array(room);
    flags.set(this.flags);
    this.flags = flags;
    const seenS = new Uint32Array(room);
    seenS.set(this.seenS);
    this.seenS = seenS;
    this.#places = new Int32Array(room * 2);
    for (let at = 0; at < this.count; at++) this.#link(at);
  }
}
