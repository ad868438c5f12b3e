/**
 * One iterative lookup in one family (BEP 5): asks closer and closer nodes until the 8 closest that live have answered.
 * Knows whom to ask next and when it is done; what is asked, and what is done with the answers, is its task's affair.
 *
 *   new --asked--> flying --answer--> answered            slow and late ones hold nobody up; their answers are still
 *                    | soft          ^  ^                 taken while the lookup lasts
 *                    +----> slow ----+  |
 *                    | late             |
 *                    +----> late -------+ --hard--> failed
 *
 * The closest set counts one node per /24 (IPv4) or /64, and only nodes whose id matches their address (BEP 42). When the
 * network has not 8 such, everybody counts, and is asked only then: closed networks live on one loopback address.
 *
 * Limits: 5 queries in flight, MAX_QUERIES in all, MAX_CANDIDATES remembered, and at most 5 of the addresses one reply
 * named are contacted (DEMANDS H8), however many it named.
 */

import { readU32 } from '../base/bytes.ts';
import { formatIp, isUsablePeerAddress } from '../base/ip.ts';
import { NodeContact } from './node-contact.ts';
import { compareDistance, ID_BYTES, isSecure } from './node-id.ts';
import { K } from './routing-table.ts';

/** libtorrent's branching factor. */
const ALPHA = 5;
const MAX_QUERIES = 200;
const MAX_CANDIDATES = 160;
/** Ids that do not match their address cost nothing to make: so many are asked while others may answer. */
const MAX_INSECURE = 8;
const CONTACTS_PER_REPLY = 5;
/** A reply has 8; some send twice as many. */
const NODES_PER_REPLY = 20;

export const CandidateState = { New: 0, Flying: 1, Slow: 2, Late: 3, Answered: 4, Failed: 5 } as const;
export type CandidateState = (typeof CandidateState)[keyof typeof CandidateState];

/** What one reply named, and how many of it were contacted. */
export class Source {
  readonly hop: number;
  readonly router: boolean;
  contacted = 0;

  constructor(hop: number, router: boolean) {
    this.hop = hop;
    this.router = router;
  }
}

/** The id of a bootstrap node is unknown until it answers. */
export class Candidate extends NodeContact {
  readonly router: boolean;
  state: CandidateState = CandidateState.New;
  source: Source | null;
  hop: number;
  /** Who may store with it. */
  token: Uint8Array | null = null;
  /** `seq` it holds (BEP 44); -1: it has nothing. */
  seq = -1;
  /** Top words of the distance to the target. */
  high = 0;
  low = 0;

  constructor(compact: Uint8Array, ip: string, port: number, source: Source | null, router: boolean) {
    super(compact, ip, port);
    this.source = source;
    this.router = router;
    this.hop = source === null ? 1 : source.hop + 1;
  }
}

export interface LookupOwner {
  /** Ask this candidate. False: it cannot be asked. */
  onAsk(now: number, lookup: Lookup, candidate: Candidate): boolean;
  /** Whether its table holds this address: then it is no new one. */
  knows(lookup: Lookup, ip: string, port: number): boolean;
  onLookupDone(now: number, lookup: Lookup): void;
}

export class Lookup {
  readonly family: 4 | 6;
  readonly target: Uint8Array;
  done = false;
  queried = 0;
  answeredCount = 0;
  readonly #owner: LookupOwner;
  readonly #ownId: Uint8Array;
  readonly #compactBytes: number;
  readonly #thorough: boolean;
  /** By distance; bootstrap nodes that have not answered stand apart. */
  readonly #list: Candidate[] = [];
  readonly #routers: Candidate[] = [];
  readonly #known = new Map<string, Candidate>();
  readonly #networks = new Set<number | string>();
  /** Bootstrap nodes in flight stand apart: five of them, dead, must not keep us from asking others. */
  #flying = 0;
  #routersFlying = 0;
  #insecureAsked = 0;
  #slow = 0;
  #late = 0;
  #advancing = false;

  /**
   * `thorough`: also contact what bootstrap nodes name far from the target, so that one honest of them gets us out of the
   * company the others keep.
   */
  constructor(family: 4 | 6, target: Uint8Array, ownId: Uint8Array, owner: LookupOwner, thorough: boolean = false) {
    this.family = family;
    this.target = target;
    this.#thorough = thorough;
    this.#ownId = ownId;
    this.#owner = owner;
    this.#compactBytes = family === 4 ? 26 : 38;
  }

  /** Whether there is anybody to ask. */
  get isEmpty(): boolean {
    return this.#list.length === 0 && this.#routers.length === 0;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** A node of our table, or one that was restored. */
  addKnown(compact: Uint8Array, ip: string, port: number): void {
    const key = keyOf(compact, ID_BYTES, compact.length);
    if (this.#known.has(key)) return;
    this.#place(new Candidate(compact, ip, port, null, false), key);
  }

  /** A bootstrap node: asked first. `address`: 4 or 16 bytes. */
  addRouter(address: Uint8Array, ip: string, port: number): void {
    const compact = new Uint8Array(this.#compactBytes);
    compact.set(address, ID_BYTES);
    compact[compact.length - 2] = port >>> 8;
    compact[compact.length - 1] = port;
    const key = keyOf(compact, ID_BYTES, compact.length);
    if (this.#known.has(key)) return;
    const router = new Candidate(compact, ip, port, null, true);
    router.hop = 0;
    this.#known.set(key, router);
    this.#routers.push(router);
  }

  /** Nodes that a reply named: compact ones one after the other. `source` is shared by all that the reply named. */
  addNamed(bytes: Uint8Array, at: number, length: number, source: Source): void {
    const size = this.#compactBytes;
    const end = at + Math.min(length, NODES_PER_REPLY * size);
    for (; at + size <= end; at += size) {
      const key = keyOf(bytes, at + ID_BYTES, at + size);
      const held = this.#known.get(key);
      if (held !== undefined) {
        // named by several: whoever has more contacts left to give
        if (held.state !== CandidateState.New || held.source === null) continue;
        if (source.contacted < held.source.contacted) held.source = source;
        continue;
      }
      const port = (bytes[at + size - 2]! << 8) | bytes[at + size - 1]!;
      const address = bytes.subarray(at + ID_BYTES, at + size - 2);
      if (!isUsablePeerAddress(address, port)) continue;
      const compact = new Uint8Array(bytes.subarray(at, at + size));
      if (compareDistance(compact, this.#ownId, this.target) === 0) continue;
      const ip = formatIp(address);
      // an IPv4 address in IPv6 clothes has no place in that network
      if (this.family === 6 && !ip.includes(':')) continue;
      const candidate = new Candidate(compact, ip, port, source, false);
      if (this.#owner.knows(this, ip, port)) candidate.source = null;
      this.#place(candidate, key);
    }
  }

  /** Its reply is here; `id` are 20 bytes at `idAt`. What it named was added before. Null token: it gave none. */
  answered(now: number, candidate: Candidate, bytes: Uint8Array, idAt: number, token: Uint8Array | null): void {
    if (!this.#leaves(candidate)) return;
    candidate.state = CandidateState.Answered;
    candidate.token = token;
    this.answeredCount++;
    if (candidate.router || !sameId(candidate.compact, bytes, idAt)) {
      // its place is where its own id says, not where others put it
      const place = this.#list.indexOf(candidate);
      if (place >= 0) this.#list.splice(place, 1);
      candidate.compact.set(bytes.subarray(idAt, idAt + ID_BYTES));
      candidate.secure = isSecure(candidate.compact, candidate.compact.subarray(ID_BYTES, this.#compactBytes - 2));
      this.#insert(candidate);
    }
    this.advance(now);
  }

  slow(now: number, candidate: Candidate): void {
    if (candidate.state !== CandidateState.Flying) return;
    candidate.state = CandidateState.Slow;
    this.#lands(candidate);
    this.#slow++;
    this.advance(now);
  }

  late(now: number, candidate: Candidate): void {
    if (candidate.state !== CandidateState.Slow) return;
    candidate.state = CandidateState.Late;
    this.#slow--;
    this.#late++;
    this.advance(now);
  }

  failed(now: number, candidate: Candidate): void {
    if (!this.#leaves(candidate)) return;
    candidate.state = CandidateState.Failed;
    this.advance(now);
  }

  /** Asks whom it can, and ends when there is nothing left to learn. */
  advance(now: number): void {
    if (this.done || this.#advancing) return;
    this.#advancing = true;
    let finished = false;
    for (const router of this.#routers) if (router.state === CandidateState.New) this.#ask(now, router);
    const more = this.#thorough && this.#askNamedByRouters(now);
    finished = this.#walk(now, true) && !more;
    if (!finished && this.#flying === 0) finished = this.#walk(now, false);
    if (!finished && this.#flying === 0) finished = this.#isHopeless();
    this.#advancing = false;
    if (finished) this.finish(now);
  }

  finish(now: number): void {
    if (this.done) return;
    this.done = true;
    this.#owner.onLookupDone(now, this);
  }

  // --------------------------------------------------------------------------------------------------------- outputs

  /** The closest nodes that answered, at most `max`: one of a network and true to their address first. */
  closest(max: number = K, needToken: boolean = true): Candidate[] {
    const chosen: Candidate[] = [];
    for (let round = 0; round < 3 && chosen.length < max; round++) {
      this.#networks.clear();
      for (const candidate of chosen) this.#networks.add(candidate.network);
      for (const candidate of this.#list) {
        if (chosen.length >= max) break;
        if (candidate.state !== CandidateState.Answered || (needToken && candidate.token === null)) continue;
        if (chosen.includes(candidate)) continue;
        if (round < 2 && this.#networks.has(candidate.network)) continue;
        if (round < 1 && !candidate.secure) continue;
        this.#networks.add(candidate.network);
        chosen.push(candidate);
      }
    }
    return chosen;
  }

  /** How far from our own table the closest of them stand. */
  get hops(): number {
    let hops = 0;
    for (const candidate of this.closest(K, false)) hops = Math.max(hops, candidate.hop);
    return hops;
  }

  // --------------------------------------------------------------------------------------------------------- private

  /** True: there are more to ask. */
  #askNamedByRouters(now: number): boolean {
    if (this.queried >= MAX_QUERIES) return false;
    for (const candidate of this.#list) {
      const source = candidate.source;
      if (candidate.state !== CandidateState.New || source === null || !source.router) continue;
      if (source.contacted >= CONTACTS_PER_REPLY) continue;
      if (this.#flying >= ALPHA) return true;
      this.#ask(now, candidate);
    }
    return false;
  }

  /**
   * Goes from the closest on until 8 have answered, and asks those on the way. True: nothing closer is to come.
   * `strict`: one per network, and only nodes true to their address count.
   */
  #walk(now: number, strict: boolean): boolean {
    let found = 0;
    let waiting = false;
    const networks = this.#networks;
    networks.clear();
    // asking may not change the list: replies never come from inside
    for (const candidate of this.#list) {
      const state = candidate.state;
      if (state === CandidateState.Failed || state === CandidateState.Slow || state === CandidateState.Late) continue;
      if (strict && networks.has(candidate.network)) continue;
      if (state === CandidateState.New) {
        const source = candidate.source;
        if (source !== null && source.contacted >= CONTACTS_PER_REPLY) continue;
        if (this.#flying >= ALPHA) return false;
        if (this.queried >= MAX_QUERIES) continue;
        if (strict && !candidate.secure && ++this.#insecureAsked > MAX_INSECURE) continue;
        if (!this.#ask(now, candidate)) continue;
        networks.add(candidate.network);
        waiting = true;
        continue;
      }
      networks.add(candidate.network);
      if (state === CandidateState.Flying) waiting = true;
      else if (!strict || candidate.secure) found++;
      if (found === K) break;
    }
    return found === K && !waiting;
  }

  /** Nobody left to ask: done, unless those who are slow are all there is. */
  #isHopeless(): boolean {
    if (this.#slow > 0 || this.#routersFlying > 0) return false;
    return this.#late === 0 || this.answeredCount > 0;
  }

  #ask(now: number, candidate: Candidate): boolean {
    if (!this.#owner.onAsk(now, this, candidate)) {
      candidate.state = CandidateState.Failed;
      return false;
    }
    candidate.state = CandidateState.Flying;
    if (candidate.router) this.#routersFlying++;
    else this.#flying++;
    this.queried++;
    if (candidate.source !== null) candidate.source.contacted++;
    return true;
  }

  /** Takes an asked candidate out of the count of its state; false: it was not asked, or its lookup is over. */
  #leaves(candidate: Candidate): boolean {
    switch (candidate.state) {
      case CandidateState.Flying:
        this.#lands(candidate);
        break;
      case CandidateState.Slow:
        this.#slow--;
        break;
      case CandidateState.Late:
        this.#late--;
        break;
      default:
        return false;
    }
    return true;
  }

  #lands(candidate: Candidate): void {
    if (candidate.router) this.#routersFlying--;
    else this.#flying--;
  }

  #place(candidate: Candidate, key: string): void {
    if (this.#list.length >= MAX_CANDIDATES && !this.#makeRoom(candidate)) return;
    this.#known.set(key, candidate);
    this.#insert(candidate);
  }

  #insert(candidate: Candidate): void {
    candidate.high = (readU32(candidate.compact, 0) ^ readU32(this.target, 0)) >>> 0;
    candidate.low = (readU32(candidate.compact, 4) ^ readU32(this.target, 4)) >>> 0;
    let from = 0;
    let to = this.#list.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#isCloser(this.#list[middle]!, candidate)) from = middle + 1;
      else to = middle;
    }
    this.#list.splice(from, 0, candidate);
  }

  #isCloser(a: Candidate, b: Candidate): boolean {
    if (a.high !== b.high) return a.high < b.high;
    if (a.low !== b.low) return a.low < b.low;
    return compareDistance(a.compact, b.compact, this.target) < 0;
  }

  /** Forgets one that was not asked: the furthest of those least worth, unless the newcomer is worth even less. */
  #makeRoom(newcomer: Candidate): boolean {
    const list = this.#list;
    this.#networks.clear();
    let victim = -1;
    let least = 3;
    for (let i = 0; i < list.length; i++) {
      const candidate = list[i]!;
      const worth = this.#worth(candidate);
      this.#networks.add(candidate.network);
      if (candidate.state !== CandidateState.New || worth > least) continue;
      victim = i;
      least = worth;
    }
    if (victim < 0) return false;
    const worth = this.#worth(newcomer);
    const gone = list[victim]!;
    if (worth < least || (worth === least && this.#isCloser(gone, newcomer))) return false;
    this.#known.delete(keyOf(gone.compact, ID_BYTES, gone.compact.length));
    list.splice(victim, 1);
    return true;
  }

  /** 0: there are closer ones of its network; 1: its id does not match its address; 2: neither. */
  #worth(candidate: Candidate): number {
    if (this.#networks.has(candidate.network)) return 0;
    return candidate.secure ? 2 : 1;
  }
}

function sameId(compact: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < ID_BYTES; i++) if (compact[i] !== bytes[at + i]) return false;
  return true;
}

/** Address and port as text, one character a byte. */
function keyOf(bytes: Uint8Array, from: number, to: number): string {
  if (to - from === 6) {
    return String.fromCharCode(
      bytes[from]!,
      bytes[from + 1]!,
      bytes[from + 2]!,
      bytes[from + 3]!,
      bytes[from + 4]!,
      bytes[from + 5]!,
    );
  }
  let key = '';
  for (let i = from; i < to; i++) key += String.fromCharCode(bytes[i]!);
  return key;
}
