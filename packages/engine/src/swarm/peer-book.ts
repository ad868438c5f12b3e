/**
 * Owns the addresses known for one torrent: where they came from, whether we are connected, and when to try them next.
 *
 *   idle --dialed--> dialing --connected--> connected --disconnected--> idle
 *                    dialing --failed-----> idle
 *
 * Packed: 32 bytes a candidate in typed arrays, none for a torrent that knows nobody. An index names a candidate while it
 * is dialing or connected; an idle one may be dropped for a better one at any `add`.
 *
 * Invariants: an endpoint stands here once; none is one of our own or, when it came, blocked; `next` never gives one before its time.
 *
 * Order of dialing: those a person gave, then fewest failures, then the better source, then BEP 40 priority (a random
 * number while we do not know our own address). One source full of lies does not hide what others know: every fourth
 * time another kind of source comes first, and of those that only peers told of, each teller's have their turn.
 *
 * Limits: 3,000 candidates (libtorrent's max_peerlist_size), the worst making way; a share of that for each source that
 * strangers can fill, which pushes out nobody of a better one before he failed GIVEN_UP times; four ports of a public
 * address on the word of strangers.
 */

import { assert } from '../base/assert.ts';
import { PeerFault } from '../base/errors.ts';
import { formatIp, isLocal, isUsablePeerAddress, parseIp } from '../base/ip.ts';
import type { Endpoint } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import type { AddressRules } from './address-rules.ts';
import { BY_PERSON, CandidateSource, RANKS, SHARES, scoreOf, sourceRank } from './candidate-order.ts';
import { EndpointTable, widened } from './endpoint-table.ts';
import { peerPriority } from './peer-priority.ts';

export { CandidateSource };

/** How many are known, connected or not, by each source; one that several named counts for each of them. */
export interface SourceCounts {
  readonly tracker: number;
  readonly dht: number;
  readonly pex: number;
  readonly lsd: number;
  /** Named by the magnet link or by hand. */
  readonly magnet: number;
  readonly incoming: number;
}

const MAX_CANDIDATES = 3000;
const MAX_OWN = 64;
/** Retries of ordinary candidates: 1, 2, 4 ... 60 minutes. */
const RETRY_MS = 60_000;
const RETRY_CAP_MS = 3_600_000;
/** Of those a person gave, and of the few when nobody else is there: 1, 2, 4 ... 60 s. */
const QUICK_MS = 1000;
const QUICK_CAP_MS = 60_000;
/** So few candidates that all are retried quickly while none is connected. */
const FEW = 8;
/** A connection that lasted so long counts as a good one. */
const GOOD_MS = 30_000;
const RECONNECT_MS = 5000;
const USELESS_MS = 1_800_000;
/** One that could not even be asked. */
const UNASKED_MS = 2000;
/** So many failures, and anybody is worth more (libtorrent's max_failcount). */
const GIVEN_UP = 3;
/** So many, an hour of them, and one that no better source named is forgotten. */
const FORGOTTEN = 6;
/** One machine, or a few behind a NAT. */
const MAX_PER_IP = 4;
/** Every so many dials another kind of source comes first. */
const TURN_EVERY = 4;

const FREE = 0;
const IDLE = 1;
const DIALING = 2;
const CONNECTED = 3;
const STATE = 3;
/** Was connected once. */
const PROVEN = 4;
/** Above it stands who told of it, as a small number. */
const TELLER_SHIFT = 3;
/** Tellers of peer exchange are numbered 1 .. TELLERS, over and over; 0: none. */
export const TELLERS = 31;

const BY_STRANGERS = CandidateSource.Pex | CandidateSource.Dht;
const UNVOUCHED = BY_STRANGERS | CandidateSource.Incoming;
/** Shared, so that a book of a torrent that knows nobody is small. */
const NO_BYTES = new Uint8Array(0);
const NO_PORTS = new Uint16Array(0);
const NO_WORDS = new Uint32Array(0);
const NO_SCORES = new Float64Array(0);
/** Unit of the times kept. */
const TICK_MS = 100;

export class PeerBook {
  connectedCount = 0;
  dialingCount = 0;

  readonly #rng: Rng;
  readonly #rules: AddressRules;
  readonly #limit: number;
  /** Gives each endpoint its index. */
  readonly #table: EndpointTable;
  #sources: Uint8Array = NO_BYTES;
  #failures: Uint8Array = NO_BYTES;
  #state: Uint8Array = NO_BYTES;
  /** In ticks. Idle: when it may be tried. Dialing and connected: since when. */
  #time: Uint32Array = NO_WORDS;
  #priority: Uint32Array = NO_WORDS;

  /** How many of each rank there are. */
  #rankCounts: Uint16Array = NO_PORTS;
  /** Per rank of a newcomer: the score of the worst that would make way for it; Infinity: look again. */
  #cachedWorst: Float64Array = NO_SCORES;
  #dialCount = 0;
  /** How many were dialed of those each teller told of, and the least of the last one: who begins anew begins there. */
  #tellerDials: Uint32Array = NO_WORDS;
  #tellerBase = 0;
  /** How many of those each teller told of are here. */
  #tellerCounts: Uint16Array = NO_PORTS;
  /** Nothing is due before it. */
  #quietUntil = 0;
  #own4: Uint8Array | null = null;
  #own6: Uint8Array | null = null;
  #ownPort = 0;
  readonly #own = new Set<string>();

  /** `rules`: who is not spoken with. */
  constructor(rng: Rng, rules: AddressRules, limit: number = MAX_CANDIDATES) {
    this.#rules = rules;
    this.#rng = rng;
    this.#limit = limit;
    this.#table = new EndpointTable(limit);
  }

  /** All that is known, connected or not. */
  get count(): number {
    return this.#table.count;
  }

  /** Known and not connected. */
  get candidateCount(): number {
    return this.count - this.connectedCount;
  }

  // ----------------------------------------------------------------------------------------------------- what we hear

  /**
   * An address was heard of. `ip`: text, or 4 or 16 bytes (borrowed). True: it is new here. False: known already (its
   * sources are joined), unusable, banned, our own, or worse than all of a full book. `teller`: which peer told of it.
   */
  add(ip: string | Uint8Array, port: number, source: CandidateSource, teller = 0): boolean {
    const bytes = typeof ip === 'string' ? parseIp(ip) : ip;
    if (bytes === null || !Number.isInteger(port) || !isUsablePeerAddress(bytes, port)) return false;
    const known = this.#table.find(bytes, port);
    if (known >= 0) {
      this.#setSources(known, this.#sources[known]! | source);
      if (teller !== 0 && this.teller(known) === 0) this.#setTeller(known, teller);
      if (source === CandidateSource.Manual && (this.#state[known]! & STATE) === IDLE) {
        this.#failures[known] = 0;
        this.#time[known] = 0;
        this.#quietUntil = 0;
      }
      return false;
    }
    if (this.#rules.blocks(bytes)) return false;
    if (this.#own.size > 0 && this.#own.has(ownKey(canonical(bytes), port))) return false;
    if ((source & BY_STRANGERS) !== 0 && this.#isCrowded(bytes)) return false;
    return this.#admit(bytes, port, source, teller) >= 0;
  }

  /**
   * A peer that came to us says that it listens on this port. Its index, connected now; -1: it is being dialed or is
   * connected there already, cannot be used, or there is no room.
   */
  addIncoming(ip: string, port: number, now: number): number {
    const bytes = parseIp(ip);
    if (bytes === null || !isUsablePeerAddress(bytes, port) || this.#rules.blocks(bytes)) return -1;
    let index = this.#table.find(bytes, port);
    if (index < 0) {
      if (this.#own.size > 0 && this.#own.has(ownKey(canonical(bytes), port))) return -1;
      index = this.#admit(bytes, port, CandidateSource.Incoming, 0);
    } else this.#setSources(index, this.#sources[index]! | CandidateSource.Incoming);
    if (index < 0 || (this.#state[index]! & STATE) !== IDLE) return -1;
    // it was not dialed: whether it can be is not proven
    this.#turn(index, CONNECTED, now);
    this.connectedCount++;
    return index;
  }

  /** Compact addresses (BEP 23, 7): 4 or 16 bytes and a port each; a rest is ignored. Returns how many were new. */
  addCompact(bytes: Uint8Array, ipBytes: 4 | 16, source: CandidateSource, teller = 0): number {
    let added = 0;
    for (let at = 0; at + ipBytes + 2 <= bytes.length; at += ipBytes + 2) {
      const port = (bytes[at + ipBytes]! << 8) | bytes[at + ipBytes + 1]!;
      if (this.add(bytes.subarray(at, at + ipBytes), port, source, teller)) added++;
    }
    return added;
  }

  /**
   * Forgets who is known by these sources alone (flags), and of the others that these named them too. One that is
   * connected or being dialed stays, with no source, until that ends. Returns how many were forgotten at once.
   */
  dropSources(flags: number): number {
    const before = this.count;
    for (let i = 0; i < this.#table.capacity; i++) {
      const state = this.#state[i]! & STATE;
      if (state === FREE || (this.#sources[i]! & flags) === 0) continue;
      this.#setSources(i, this.#sources[i]! & ~flags);
      if (this.#sources[i] === 0 && state === IDLE) this.#remove(i);
    }
    return before - this.count;
  }

  /** An endpoint that turned out to be ourselves: dropped, and refused from now on. */
  addOwn(ip: string, port: number): void {
    const bytes = parseIp(ip);
    if (bytes === null) return;
    this.#own.add(ownKey(canonical(bytes), port));
    if (this.#own.size > MAX_OWN) for (const oldest of this.#own) if (this.#own.delete(oldest)) break;
    const index = this.find(ip, port);
    if (index >= 0 && (this.#state[index]! & STATE) === IDLE) this.#remove(index);
  }

  /** How the world sees us, one address of each family, for the order of BEP 40. */
  setExternal(ip: string, port: number): void {
    const bytes = parseIp(ip);
    if (bytes === null || !isUsablePeerAddress(bytes, 1)) return;
    const known = bytes.length === 4 ? this.#own4 : this.#own6;
    if (port === this.#ownPort && known !== null && formatIp(known) === formatIp(bytes)) return;
    if (bytes.length === 4) this.#own4 = bytes;
    else this.#own6 = bytes;
    this.#ownPort = port;
    this.#lookAgain();
    for (let i = 0; i < this.#table.capacity; i++) {
      if ((this.#state[i]! & STATE) === FREE) continue;
      this.#priority[i] = this.#priorityOf(this.#table.ip(i), this.#table.port(i));
    }
  }

  // --------------------------------------------------------------------------------------------------------- dialing

  /** The candidate to dial now, or -1. It stays the answer until `dialed`. */
  next(now: number): number {
    if (now < this.#quietUntil || this.candidateCount === this.dialingCount) return -1;
    const tick = Math.floor(now / TICK_MS);
    let best = -1;
    let bestScore = Number.POSITIVE_INFINITY;
    let soonest = Number.POSITIVE_INFINITY;
    const turn = this.#dialCount % TURN_EVERY === TURN_EVERY - 1 ? Math.floor(this.#dialCount / TURN_EVERY) % RANKS : 0;
    for (let i = 0; i < this.#table.capacity; i++) {
      if ((this.#state[i]! & STATE) !== IDLE) continue;
      const time = this.#time[i]!;
      if (time > tick) {
        if (time < soonest) soonest = time;
        continue;
      }
      const score = this.#score(i, turn);
      if (score < bestScore) {
        best = i;
        bestScore = score;
      }
    }
    if (best === -1) this.#quietUntil = soonest * TICK_MS;
    return best;
  }

  /** When there is somebody to dial; Infinity: nobody is known. */
  nextAt(now: number): number {
    if (this.next(now) >= 0) return now;
    return this.candidateCount === this.dialingCount ? Number.POSITIVE_INFINITY : this.#quietUntil;
  }

  dialed(index: number, now: number): void {
    assert((this.#state[index]! & STATE) === IDLE, 'dialed a candidate that is not idle');
    this.#turn(index, DIALING, now);
    this.dialingCount++;
    this.#dialCount++;
    const teller = this.#state[index]! >> TELLER_SHIFT;
    if (teller === 0) return;
    this.#tellerBase = Math.max(this.#tellerBase, this.#tellerDials[teller]!);
    this.#tellerDials[teller] = this.#tellerBase + 1;
  }

  /** The handshake is complete: of a dialed candidate, or of an idle one that came to us. */
  connected(index: number, now: number): void {
    const state = this.#state[index]! & STATE;
    assert(state === DIALING || state === IDLE, 'connected twice');
    if (state === DIALING) this.dialingCount--;
    this.#turn(index, CONNECTED | PROVEN, now);
    this.connectedCount++;
  }

  /** The connect or the handshake of a dialed candidate failed. */
  failed(index: number, now: number): void {
    assert((this.#state[index]! & STATE) === DIALING, 'failure of a candidate that was not dialed');
    this.dialingCount--;
    this.#back(index, now, true, 0);
  }

  /** A dialed candidate was not even asked: what leads to all of them is away. */
  unasked(index: number, now: number): void {
    assert((this.#state[index]! & STATE) === DIALING, 'a candidate that was not dialed');
    this.dialingCount--;
    this.#back(index, now, false, UNASKED_MS);
  }

  /** A connected one is gone, and why. The index is not to be used after it. */
  disconnected(index: number, now: number, fault: PeerFault): void {
    assert((this.#state[index]! & STATE) === CONNECTED, 'disconnected without having been connected');
    this.connectedCount--;
    const long = now - this.#time[index]! * TICK_MS >= GOOD_MS;
    if (fault === PeerFault.Evicted) this.#back(index, now, false, 0);
    else if (fault === PeerFault.Redundant) this.#back(index, now, false, USELESS_MS);
    else if (long && (fault === PeerFault.Closed || fault === PeerFault.Timeout)) {
      this.#failures[index] = 0;
      this.#back(index, now, false, RECONNECT_MS);
    } else this.#back(index, now, true, 0);
  }

  /** More addresses are blocked than before: idle candidates there are dropped, the others once they are idle. */
  dropBlocked(): void {
    for (let i = 0; i < this.#table.capacity; i++) {
      if ((this.#state[i]! & STATE) === IDLE && this.#rules.blocks(this.#table.ip(i))) this.#remove(i);
    }
  }

  // -------------------------------------------------------------------------------------------------------- questions

  counts(): SourceCounts {
    const known = (flag: number): number => {
      let n = 0;
      for (let i = 0; i < this.#table.capacity; i++) {
        if ((this.#state[i]! & STATE) !== FREE && (this.#sources[i]! & flag) !== 0) n++;
      }
      return n;
    };
    return {
      tracker: known(CandidateSource.Tracker),
      dht: known(CandidateSource.Dht),
      pex: known(CandidateSource.Pex),
      lsd: known(CandidateSource.Lsd),
      magnet: known(BY_PERSON),
      incoming: known(CandidateSource.Incoming),
    };
  }

  /** Index of an endpoint, or -1. */
  find(ip: string, port: number): number {
    const bytes = parseIp(ip);
    return bytes === null ? -1 : this.#table.find(bytes, port);
  }

  endpoint(index: number): Endpoint {
    return { ip: formatIp(this.#table.ip(index)), port: this.#table.port(index) };
  }

  sources(index: number): number {
    return this.#sources[index]!;
  }

  /** Which peer told of it first; 0: none did. */
  teller(index: number): number {
    return this.#state[index]! >> TELLER_SHIFT;
  }

  failures(index: number): number {
    return this.#failures[index]!;
  }

  isConnected(index: number): boolean {
    return (this.#state[index]! & STATE) === CONNECTED;
  }

  isIdle(index: number): boolean {
    return (this.#state[index]! & STATE) === IDLE;
  }

  /** The BEP 40 priority (for whom to let go when full), or a random number while we do not know our address. */
  priority(index: number): number {
    return this.#priority[index]!;
  }

  /** Endpoints that were connected once, connected ones first, at most `limit`: what is worth remembering over a restart. */
  proven(limit: number): Endpoint[] {
    const list: Endpoint[] = [];
    for (const wanted of [CONNECTED, DIALING, IDLE]) {
      for (let i = 0; i < this.#table.capacity && list.length < limit; i++) {
        const state = this.#state[i]!;
        if ((state & STATE) === wanted && (state & PROVEN) !== 0) list.push(this.endpoint(i));
      }
    }
    return list;
  }

  // ---------------------------------------------------------------------------------------------------------- private

  /** Lower is dialed sooner. `turn`: the kind of source that comes first. */
  #score(index: number, turn: number): number {
    const sources = this.#sources[index]!;
    const teller = this.#state[index]! >> TELLER_SHIFT;
    return scoreOf(sources, this.#failures[index]!, this.#priority[index]!, turn, this.#lead(teller));
  }

  /** How many of this teller's were dialed more than of the others'. */
  #lead(teller: number): number {
    return teller === 0 ? 0 : Math.max(0, this.#tellerDials[teller]! - this.#tellerBase);
  }

  #lookAgain(): void {
    this.#cachedWorst.fill(Number.POSITIVE_INFINITY);
  }

  #setSources(index: number, sources: number): void {
    this.#rankCounts[sourceRank(this.#sources[index]!)]!--;
    this.#rankCounts[sourceRank(sources)]!++;
    this.#sources[index] = sources;
    this.#lookAgain();
  }

  #setTeller(index: number, teller: number): void {
    this.#tellerCounts[this.teller(index)]!--;
    this.#tellerCounts[teller]!++;
    this.#state[index] = (this.#state[index]! & (STATE | PROVEN)) | (teller << TELLER_SHIFT);
  }

  /** The address has as many ports here as one may have; machines of our own network are not counted. */
  #isCrowded(ip: Uint8Array): boolean {
    return !isLocal(ip) && this.#table.hasPorts(ip, MAX_PER_IP);
  }

  /** Its index, or -1: everybody here is worth more. */
  #admit(ip: Uint8Array, port: number, source: number, teller: number): number {
    const priority = this.#priorityOf(ip, port);
    const rank = sourceRank(source);
    const overShare = this.count > 0 && this.#rankCounts[rank]! >= Math.ceil(this.#limit * SHARES[rank]!);
    if (overShare || this.count === this.#limit) {
      if (!this.#makeRoom(source, priority, teller, overShare)) return -1;
    }
    return this.#insert(ip, port, source, priority, teller);
  }

  #turn(index: number, state: number, now: number): void {
    this.#lookAgain();
    this.#state[index] = (this.#state[index]! & ~STATE) | state;
    this.#time[index] = Math.floor(now / TICK_MS);
  }

  /** Idle again, after a failure for as long as the back-off says. */
  #back(index: number, now: number, failure: boolean, restMs: number): void {
    if (failure) {
      const failures = Math.min(this.#failures[index]! + 1, 255);
      this.#failures[index] = failures;
      const doubled = 2 ** Math.min(failures - 1, 16);
      const quick = (this.#sources[index]! & BY_PERSON) !== 0 || (this.connectedCount === 0 && this.count <= FEW);
      restMs = quick ? Math.min(QUICK_MS * doubled, QUICK_CAP_MS) : Math.min(RETRY_MS * doubled, RETRY_CAP_MS);
    }
    this.#turn(index, IDLE, now);
    this.#time[index] = Math.ceil((now + restMs) / TICK_MS);
    this.#quietUntil = 0;
    const hopeless = this.#failures[index]! >= FORGOTTEN && (this.#sources[index]! & ~UNVOUCHED) === 0;
    if (hopeless || this.#sources[index] === 0) return this.#remove(index);
    if (this.#rules.isEmpty && this.#own.size === 0) return;
    const { ip, port } = this.endpoint(index);
    if (this.#rules.blocks(ip) || this.#own.has(ownKey(ip, port))) this.#remove(index);
  }

  #priorityOf(ip: Uint8Array, port: number): number {
    const own = ip.length === 4 ? this.#own4 : this.#own6;
    return own === null ? this.#rng.u32() : peerPriority(own, this.#ownPort, ip, port);
  }

  /**
   * Drops the worst idle candidate if it is worse than a new one of that source and priority; of hearsay, those of the
   * teller who told most. `ofItsKind`: only one of the same rank makes way.
   */
  #makeRoom(source: number, priority: number, teller: number, ofItsKind: boolean): boolean {
    const rank = sourceRank(source);
    const score = scoreOf(source, 0, priority, 0, this.#tellerCounts[teller]! >> 3);
    if (score >= this.#cachedWorst[rank]!) return false;
    let worst = -1;
    let worstScore = -1;
    for (let i = 0; i < this.#table.capacity; i++) {
      if ((this.#state[i]! & STATE) !== IDLE) continue;
      const otherRank = sourceRank(this.#sources[i]!);
      if (ofItsKind ? otherRank !== rank : otherRank < rank && this.#failures[i]! < GIVEN_UP) continue;
      const told = this.#tellerCounts[this.#state[i]! >> TELLER_SHIFT]! >> 3;
      const other = scoreOf(this.#sources[i]!, this.#failures[i]!, this.#priority[i]!, 0, told);
      if (other <= worstScore) continue;
      worst = i;
      worstScore = other;
    }
    this.#cachedWorst[rank] = worstScore;
    if (score >= worstScore) return false;
    this.#remove(worst);
    return true;
  }

  #insert(ip: Uint8Array, port: number, source: number, priority: number, teller: number): number {
    const index = this.#table.insert(ip, port);
    if (index >= this.#state.length) this.#widen();
    this.#sources[index] = source;
    this.#failures[index] = 0;
    this.#state[index] = IDLE | (teller << TELLER_SHIFT);
    this.#time[index] = 0;
    this.#priority[index] = priority;
    this.#rankCounts[sourceRank(source)]!++;
    this.#tellerCounts[teller]!++;
    this.#quietUntil = 0;
    this.#lookAgain();
    return index;
  }

  #remove(index: number): void {
    this.#table.remove(index);
    this.#tellerCounts[this.#state[index]! >> TELLER_SHIFT]!--;
    this.#state[index] = FREE;
    this.#rankCounts[sourceRank(this.#sources[index]!)]!--;
    this.#lookAgain();
  }

  /** Makes the columns as long as the table. */
  #widen(): void {
    const to = this.#table.capacity;
    if (this.#state.length === 0) {
      this.#rankCounts = new Uint16Array(RANKS);
      this.#cachedWorst = new Float64Array(RANKS);
      this.#tellerDials = new Uint32Array(TELLERS + 1);
      this.#tellerCounts = new Uint16Array(TELLERS + 1);
    }
    this.#sources = widened(new Uint8Array(to), this.#sources);
    this.#failures = widened(new Uint8Array(to), this.#failures);
    this.#state = widened(new Uint8Array(to), this.#state);
    this.#time = widened(new Uint32Array(to), this.#time);
    this.#priority = widened(new Uint32Array(to), this.#priority);
  }
}

/** Text that is equal for equal addresses; v4-mapped ones become v4. */
function canonical(ip: string | Uint8Array): string {
  const bytes = parseIp(typeof ip === 'string' ? ip : formatIp(ip));
  return bytes === null ? String(ip) : formatIp(bytes);
}

function ownKey(ip: string, port: number): string {
  return `${ip} ${port}`;
}
