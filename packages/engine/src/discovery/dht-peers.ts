/**
 * The peers that others announced to this node of the DHT (BEP 5), as seeds or not (BEP 33).
 *
 * Invariant: a hash is here as long as it has peers, each at most once. A public address counts once per hash, whatever
 * port it names last (BEP 33); local addresses once per port, since whole closed networks live on one of them.
 *
 * Limits: `maxHashes` hashes, `maxPeersPerHash` peers each, v4 and v6 together, 30 minutes since the last announce (libtorrent's
 * figures are 2,000, 500, 30). When full, an entry of the newcomer's own network (/24, /64) gives way before any other, so that a
 * flood from one place drives out itself. Everything lies packed in chunks of CHUNK peers that are reused, 13 bytes a
 * v4 peer and 25 a v6 one: no announce leaves garbage behind, and a full store of v4 peers takes 14 MiB.
 *
 *   slot (hash) -> newest chunk, partly filled -> full chunk -> full chunk
 *   entry: ip 4|16 | port 2 | seconds of the last announce 4 | its bits in a Bloom filter and the seed flag 3
 */

import { isLocal } from '../base/ip.ts';
import type { Rng } from '../base/random.ts';
import { BloomFilter, bloomPlaces } from './dht-bloom.ts';
import { HashTable } from './dht-hash-table.ts';
import { networkOf } from './node-id.ts';

const EXPIRE_S = 30 * 60;
/** All hashes are looked over once in this time. */
const SWEEP_MS = 60_000;
/** Peers in a chunk. */
const CHUNK = 16;
const PAGE_CHUNKS = 16;
/** Entries looked at to find one that gives way. */
export const SAMPLE = 16;
const SEED = 1 << 22;

export class DhtPeers {
  /** Peers in all, both families. */
  peerCount = 0;
  readonly #rng: Rng;
  readonly #maxPeers: number;
  readonly #hashes: HashTable;
  readonly #v4: PeerLists;
  readonly #v6: PeerLists;
  /** Per slot: network of whoever announced it first. */
  readonly #networks: (number | string)[] = [];
  #sweepSlot = 0;
  #sweptAt = Number.NEGATIVE_INFINITY;

  constructor(rng: Rng, maxHashes: number, maxPeersPerHash: number) {
    this.#rng = rng;
    this.#maxPeers = maxPeersPerHash;
    this.#hashes = new HashTable(rng, maxHashes);
    this.#v4 = new PeerLists(4);
    this.#v6 = new PeerLists(16);
  }

  get hashCount(): number {
    return this.#hashes.count;
  }

  has(infoHash: Uint8Array): boolean {
    return this.#hashes.find(infoHash) >= 0;
  }

  /** Of one hash, both families. */
  peersOf(infoHash: Uint8Array): number {
    const slot = this.#hashes.find(infoHash);
    return slot < 0 ? 0 : this.#v4.count(slot) + this.#v6.count(slot);
  }

  /** An announce from `ip` (4 or 16 bytes) that was shown to be there. Port 0 is ignored. */
  add(now: number, infoHash: Uint8Array, ip: Uint8Array, port: number, seed: boolean): void {
    if (port < 1 || port > 65535) return;
    const seconds = Math.floor(now / 1000);
    const lists = ip.length === 4 ? this.#v4 : this.#v6;
    let slot = this.#hashes.find(infoHash);
    if (slot >= 0 && lists.refresh(slot, ip, port, isLocal(ip), seconds, seed)) return;
    if (slot < 0) slot = this.#newSlot(infoHash, networkOf(ip));
    else if (this.#v4.count(slot) + this.#v6.count(slot) >= this.#maxPeers) this.#makeRoom(slot, ip);
    lists.append(slot, ip, port, seconds, bloomPlaces(ip) | (seed ? SEED : 0));
    this.peerCount++;
  }

  /** At most `max` peers drawn at random, in random order: 6 or 18 bytes each. With `noSeed`, none known to be a seed. */
  peers(now: number, infoHash: Uint8Array, family: 4 | 6, max: number, noSeed: boolean): Uint8Array[] {
    const slot = this.#fresh(now, infoHash);
    const found: Uint8Array[] = [];
    if (slot < 0 || max < 1) return found;
    const lists = family === 4 ? this.#v4 : this.#v6;
    // reservoir: each of those that qualify is kept with the same chance
    let seen = 0;
    for (let at = lists.first(slot); at >= 0; at = lists.next(slot, at)) {
      if (noSeed && lists.isSeed(at)) continue;
      seen++;
      if (found.length < max) {
        found.push(lists.endpoint(at));
        continue;
      }
      const place = this.#rng.below(seen);
      if (place < max) found[place] = lists.endpoint(at);
    }
    this.#rng.shuffle(found);
    return found;
  }

  /** The filters of BEP 33 over the peers of a hash, both families; null: none are known. */
  blooms(now: number, infoHash: Uint8Array): { seeds: Uint8Array; peers: Uint8Array } | null {
    const slot = this.#fresh(now, infoHash);
    if (slot < 0) return null;
    const seeds = new BloomFilter();
    const peers = new BloomFilter();
    for (const lists of [this.#v4, this.#v6]) {
      for (let at = lists.first(slot); at >= 0; at = lists.next(slot, at)) {
        (lists.isSeed(at) ? seeds : peers).addPlaces(lists.bits(at));
      }
    }
    return { seeds: seeds.bytes, peers: peers.bytes };
  }

  /** At most `max` hashes drawn at random (BEP 51), joined. */
  sample(max: number): Uint8Array {
    const { count } = this.#hashes;
    const wanted = Math.min(max, count);
    const joined = new Uint8Array(20 * wanted);
    let taken = 0;
    for (let slot = 0; taken < wanted; slot++) {
      if (this.#rng.below(count - slot) < wanted - taken) this.#hashes.copy(slot, joined, 20 * taken++);
    }
    return joined;
  }

  /** Forgets who was not heard of for 30 minutes; a part of the hashes each time. */
  tick(now: number): void {
    const { count } = this.#hashes;
    const since = Math.min(now - this.#sweptAt, SWEEP_MS);
    const due = Math.min(count, Math.floor((count * since) / SWEEP_MS) + 1);
    if (since < 1000) return;
    this.#sweptAt = now;
    for (let i = 0; i < due && this.#hashes.count > 0; i++) {
      // from the end, since a slot that is dropped is taken by the last one
      this.#sweepSlot = (this.#sweepSlot <= 0 ? this.#hashes.count : Math.min(this.#sweepSlot, this.#hashes.count)) - 1;
      this.#expire(this.#sweepSlot, now);
    }
  }

  /** The slot of a hash once its expired peers are gone, or -1. */
  #fresh(now: number, infoHash: Uint8Array): number {
    const slot = this.#hashes.find(infoHash);
    return slot >= 0 && this.#expire(slot, now) ? slot : -1;
  }

  /** False: nothing is left of it. */
  #expire(slot: number, now: number): boolean {
    const deadline = now / 1000 - EXPIRE_S;
    this.peerCount -= this.#v4.expire(slot, deadline) + this.#v6.expire(slot, deadline);
    if (this.#v4.count(slot) + this.#v6.count(slot) > 0) return true;
    this.#dropSlot(slot);
    return false;
  }

  #newSlot(infoHash: Uint8Array, network: number | string): number {
    if (this.#hashes.isFull) this.#dropSlot(this.#leastWorth(network));
    const slot = this.#hashes.add(infoHash);
    this.#networks[slot] = network;
    this.#v4.open(slot);
    this.#v6.open(slot);
    return slot;
  }

  #dropSlot(slot: number): void {
    this.peerCount -= this.#v4.count(slot) + this.#v6.count(slot);
    const last = this.#hashes.count - 1;
    this.#v4.close(slot, last);
    this.#v6.close(slot, last);
    this.#networks[slot] = this.#networks[last]!;
    this.#hashes.remove(slot);
  }

  /** Of a few hashes, one with few peers that the newcomer's own network brought, else the one with the fewest. */
  #leastWorth(network: number | string): number {
    let worst = -1;
    let fewest = 0;
    for (let i = 0; i < SAMPLE; i++) {
      const slot = this.#rng.below(this.#hashes.count);
      const peers = this.#v4.count(slot) + this.#v6.count(slot);
      const worth = this.#networks[slot] === network && peers <= 2 ? 0 : peers;
      if (worst < 0 || worth < fewest) {
        worst = slot;
        fewest = worth;
      }
    }
    return worst;
  }

  /** Takes out a peer of the newcomer's network, else of a few the one longest not heard of. */
  #makeRoom(slot: number, ip: Uint8Array): void {
    const lists = ip.length === 4 ? this.#v4 : this.#v6;
    let victims = lists;
    let victim = lists.neighbour(slot, ip);
    if (victim < 0) {
      victims =
        this.#rng.below(this.#v4.count(slot) + this.#v6.count(slot)) < this.#v4.count(slot) ? this.#v4 : this.#v6;
      victim = victims.oldestOf(slot, SAMPLE, this.#rng);
    }
    victims.remove(slot, victim);
    this.peerCount--;
  }
}

/** The lists of one family. Entries are known by their number: chunk x CHUNK + place in it. */
class PeerLists {
  readonly #ipBytes: number;
  readonly #entryBytes: number;
  readonly #pages: Uint8Array[] = [];
  /** Per chunk: the next of its list, or of the free ones; -1: none. */
  #nextChunk: Int32Array = new Int32Array(0);
  #freeChunk = -1;
  /** Per slot. */
  #heads: Int32Array = new Int32Array(0);
  #counts: Uint16Array = new Uint16Array(0);

  constructor(ipBytes: number) {
    this.#ipBytes = ipBytes;
    this.#entryBytes = ipBytes + 9;
  }

  count(slot: number): number {
    return this.#counts[slot]!;
  }

  open(slot: number): void {
    if (slot >= this.#heads.length) {
      this.#heads = longer(this.#heads, slot);
      const counts = new Uint16Array(this.#heads.length);
      counts.set(this.#counts);
      this.#counts = counts;
    }
    this.#heads[slot] = -1;
    this.#counts[slot] = 0;
  }

  /** Empties a list; that of slot `last` gets its number. */
  close(slot: number, last: number): void {
    for (let chunk = this.#heads[slot]!; chunk >= 0; ) {
      const next = this.#nextChunk[chunk]!;
      this.#free(chunk);
      chunk = next;
    }
    this.#heads[slot] = this.#heads[last]!;
    this.#counts[slot] = this.#counts[last]!;
    this.#heads[last] = -1;
    this.#counts[last] = 0;
  }

  // ---- walking: from the newest entry to the oldest of the list

  first(slot: number): number {
    const count = this.#counts[slot]!;
    return count === 0 ? -1 : this.#heads[slot]! * CHUNK + ((count - 1) % CHUNK);
  }

  next(_slot: number, entry: number): number {
    if (entry % CHUNK > 0) return entry - 1;
    const chunk = this.#nextChunk[Math.floor(entry / CHUNK)]!;
    return chunk < 0 ? -1 : chunk * CHUNK + CHUNK - 1;
  }

  // ---- entries

  isSeed(entry: number): boolean {
    return (this.bits(entry) & SEED) !== 0;
  }

  /** What `bloomPlaces` gave, with SEED or not. */
  bits(entry: number): number {
    const page = this.#page(entry);
    const at = this.#at(entry) + this.#ipBytes + 6;
    return page[at]! | (page[at + 1]! << 8) | (page[at + 2]! << 16);
  }

  /** Address and port, as they go over the wire. */
  endpoint(entry: number): Uint8Array {
    const at = this.#at(entry);
    return this.#page(entry).slice(at, at + this.#ipBytes + 2);
  }

  seconds(entry: number): number {
    const page = this.#page(entry);
    const at = this.#at(entry) + this.#ipBytes + 2;
    return (page[at]! | (page[at + 1]! << 8) | (page[at + 2]! << 16) | (page[at + 3]! << 24)) >>> 0;
  }

  append(slot: number, ip: Uint8Array, port: number, seconds: number, bits: number): void {
    const count = this.#counts[slot]!;
    if (count % CHUNK === 0) {
      const chunk = this.#take();
      this.#nextChunk[chunk] = this.#heads[slot]!;
      this.#heads[slot] = chunk;
    }
    this.#counts[slot] = count + 1;
    const entry = this.first(slot);
    this.#page(entry).set(ip, this.#at(entry));
    this.#write(entry, port, seconds, bits);
  }

  /** The newest entry takes the place of the one removed. */
  remove(slot: number, entry: number): void {
    const newest = this.first(slot);
    if (newest !== entry) {
      const from = this.#at(newest);
      this.#page(entry).set(this.#page(newest).subarray(from, from + this.#entryBytes), this.#at(entry));
    }
    this.#counts[slot]!--;
    if (newest % CHUNK > 0) return;
    const chunk = this.#heads[slot]!;
    this.#heads[slot] = this.#nextChunk[chunk]!;
    this.#free(chunk);
  }

  /** Renews the entry of this address (and port, with `perPort`). False: there is none. */
  refresh(slot: number, ip: Uint8Array, port: number, perPort: boolean, seconds: number, seed: boolean): boolean {
    const entry = this.#find(slot, ip, this.#ipBytes, perPort ? port : 0);
    if (entry < 0) return false;
    this.#write(entry, port, seconds, (this.bits(entry) & ~SEED) | (seed ? SEED : 0));
    return true;
  }

  /** Takes out all that were last heard of at or before `deadline`, in seconds; how many. */
  expire(slot: number, deadline: number): number {
    if (deadline < 0) return 0;
    let removed = 0;
    for (let entry = this.first(slot); entry >= 0; ) {
      const next = this.next(slot, entry);
      if (this.seconds(entry) <= deadline) {
        // what takes its place is newer in the list, so it was looked at
        this.remove(slot, entry);
        removed++;
      }
      entry = next;
    }
    return removed;
  }

  /** An entry of the same /24 or /64, or -1. */
  neighbour(slot: number, ip: Uint8Array): number {
    return this.#find(slot, ip, this.#ipBytes === 4 ? 3 : 8, 0);
  }

  /** Of `tries` entries drawn at random, the one longest not heard of. The list is not empty. */
  oldestOf(slot: number, tries: number, rng: Rng): number {
    const stride = Math.max(1, Math.floor(this.#counts[slot]! / tries));
    let skip = rng.below(stride);
    let oldest = this.first(slot);
    for (let entry = oldest; entry >= 0; entry = this.next(slot, entry)) {
      if (skip-- > 0) continue;
      skip = stride - 1;
      if (this.seconds(entry) < this.seconds(oldest)) oldest = entry;
    }
    return oldest;
  }

  /** An entry whose address begins with these bytes, with this port unless it is 0; or -1. */
  #find(slot: number, ip: Uint8Array, bytes: number, port: number): number {
    const ipBytes = this.#ipBytes;
    const entryBytes = this.#entryBytes;
    // addresses differ most in their last bytes
    const last = bytes - 1;
    const lastByte = ip[last]!;
    let inChunk = this.#counts[slot]! % CHUNK;
    for (let chunk = this.#heads[slot]!; chunk >= 0; chunk = this.#nextChunk[chunk]!) {
      const page = this.#page(chunk * CHUNK);
      const start = this.#at(chunk * CHUNK);
      for (let i = 0, at = start; i < (inChunk === 0 ? CHUNK : inChunk); i++, at += entryBytes) {
        if (page[at + last] !== lastByte) continue;
        let same = 0;
        while (same < last && page[at + same] === ip[same]) same++;
        if (same < last) continue;
        if (port === 0 || ((page[at + ipBytes]! << 8) | page[at + ipBytes + 1]!) === port) return chunk * CHUNK + i;
      }
      inChunk = 0;
    }
    return -1;
  }

  #write(entry: number, port: number, seconds: number, bits: number): void {
    const page = this.#page(entry);
    const at = this.#at(entry) + this.#ipBytes;
    page[at] = port >>> 8;
    page[at + 1] = port;
    for (let i = 0; i < 4; i++) page[at + 2 + i] = seconds >>> (8 * i);
    for (let i = 0; i < 3; i++) page[at + 6 + i] = bits >>> (8 * i);
  }

  // ---- chunks

  #page(entry: number): Uint8Array {
    return this.#pages[Math.floor(entry / (CHUNK * PAGE_CHUNKS))]!;
  }

  #at(entry: number): number {
    return (entry % (CHUNK * PAGE_CHUNKS)) * this.#entryBytes;
  }

  #take(): number {
    if (this.#freeChunk < 0) {
      const first = this.#pages.length * PAGE_CHUNKS;
      this.#pages.push(new Uint8Array(PAGE_CHUNKS * CHUNK * this.#entryBytes));
      if (first + PAGE_CHUNKS > this.#nextChunk.length) {
        this.#nextChunk = longer(this.#nextChunk, first + PAGE_CHUNKS - 1);
      }
      for (let chunk = first + PAGE_CHUNKS - 1; chunk >= first; chunk--) this.#free(chunk);
    }
    const chunk = this.#freeChunk;
    this.#freeChunk = this.#nextChunk[chunk]!;
    return chunk;
  }

  #free(chunk: number): void {
    this.#nextChunk[chunk] = this.#freeChunk;
    this.#freeChunk = chunk;
  }
}

/** A copy with room for place `index`, and for as many again. */
function longer(array: Int32Array, index: number): Int32Array {
  const copy = new Int32Array(Math.max(4, 2 * array.length, index + 1));
  copy.set(array);
  return copy;
}
