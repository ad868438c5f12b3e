/**
 * Our queries under way: transaction ids, timeouts, round-trip times, and who waits for the answer. An answer counts only
 * with the right transaction id from the very address and port that was asked.
 *
 *   sent --soft--> slow: the asker goes on with others --late--> the asker gives up hope --hard--> lost
 *
 * The soft timeout is 1 s and the hard one 15 s (libtorrent's) until enough answers have been timed; then both follow the
 * round-trip times measured. An answer is taken until the hard timeout.
 *
 * Limits: MAX_CALLS under way. Ports below 1024 of one address are asked at most 3 times a minute (DEMANDS H8), since a
 * poisoned list may name a victim's services.
 */

import { Heap } from '../base/heap.ts';
import type { Candidate, Lookup } from './dht-lookup.ts';
import type { KrpcMessage } from './krpc.ts';
import type { Filler } from './node-id.ts';

export const MAX_CALLS = 2048;
const SOFT_MAX_MS = 1000;
const SOFT_MIN_MS = 250;
const HARD_MAX_MS = 15_000;
const HARD_MIN_MS = 3_000;
/** Answers timed before the timeouts follow them. */
const ENOUGH_TIMED = 8;
const LOW_PORTS = 1024;
const LOW_PORT_ASKS = 3;
const MINUTE_MS = 60_000;
const MAX_VICTIMS = 4096;

/** Who waits for answers. Messages are borrowed. */
export interface CallOwner {
  onAnswer(now: number, call: Call, message: KrpcMessage): void;
  /** An error came instead. */
  onRefused(now: number, call: Call, message: KrpcMessage): void;
  onSlow(now: number, call: Call): void;
  onLate(now: number, call: Call): void;
  onLost(now: number, call: Call): void;
}

export class Call {
  tid = 0;
  ip = '';
  port = 0;
  sentAt = 0;
  /** 0: sent, 1: slow, 2: late. */
  stage = 0;
  owner: CallOwner | null = null;
  lookup: Lookup | null = null;
  candidate: Candidate | null = null;
  /** An announce or put, not a step of a lookup. */
  storing = false;
  /** A bootstrap node: no matter for the table. */
  router = false;
}

export class DhtRpc {
  /** Queries under way. */
  count = 0;
  readonly #random: Filler;
  readonly #drawn: Uint8Array = new Uint8Array(2);
  readonly #calls: (Call | null)[] = [];
  readonly #spare: Call[] = [];
  readonly #free: number[] = [];
  readonly #deadlines = new Heap();
  #timed = 0;
  #rttMs = 0;
  #spreadMs = 0;
  /** When low ports of an address were asked last, oldest first. */
  readonly #lowPorts = new Map<string, number[]>();

  /** `random`: what nobody can foretell from what we send; half of a transaction id keeps forged answers out. */
  constructor(random: Filler) {
    this.#random = random;
  }

  get softMs(): number {
    if (this.#timed < ENOUGH_TIMED) return SOFT_MAX_MS;
    return Math.min(SOFT_MAX_MS, Math.max(SOFT_MIN_MS, this.#rttMs + 4 * this.#spreadMs));
  }

  get hardMs(): number {
    if (this.#timed < ENOUGH_TIMED) return HARD_MAX_MS;
    return Math.min(HARD_MAX_MS, Math.max(HARD_MIN_MS, 8 * (this.#rttMs + 4 * this.#spreadMs)));
  }

  nextAt(): number {
    return this.#deadlines.minKey;
  }

  /** Opens a query that is about to be sent; null: it must not be. The caller fills in who waits. */
  open(now: number, ip: string, port: number): Call | null {
    if (this.count >= MAX_CALLS || (port < LOW_PORTS && !this.#mayAskLow(now, ip))) return null;
    const slot = this.#free.pop() ?? this.#calls.length;
    const call = this.#spare.pop() ?? new Call();
    this.#random.fill(this.#drawn);
    call.tid = ((slot << 16) | (this.#drawn[0]! << 8) | this.#drawn[1]!) >>> 0;
    call.ip = ip;
    call.port = port;
    call.sentAt = now;
    call.stage = 0;
    this.#calls[slot] = call;
    this.count++;
    this.#deadlines.set(slot, now + this.softMs);
    return call;
  }

  /** What was opened did not leave: nobody hears of it. */
  abandon(call: Call): void {
    this.#close(call.tid >>> 16);
    this.done(call);
  }

  /** The query this message answers; it is under way no more. Null: nothing we asked. Give it to `done` after use. */
  match(now: number, message: KrpcMessage, ip: string, port: number): Call | null {
    if (message.tidLength !== 4) return null;
    const at = message.tidAt;
    const bytes = message.bytes;
    const slot = (bytes[at]! << 8) | bytes[at + 1]!;
    const call = this.#calls[slot] ?? null;
    if (call === null || (call.tid & 0xffff) !== ((bytes[at + 2]! << 8) | bytes[at + 3]!)) return null;
    if (call.port !== port || call.ip !== ip) return null;
    this.#close(slot);
    this.#time(now - call.sentAt);
    return call;
  }

  /** The call object may be used again. */
  done(call: Call): void {
    call.owner = null;
    call.lookup = null;
    call.candidate = null;
    call.storing = false;
    call.router = false;
    if (this.#spare.length < 64) this.#spare.push(call);
  }

  /** The next call whose hard timeout has come, or null; slow and late ones are told on the way. Give it to `done`. */
  expire(now: number): Call | null {
    while (this.#deadlines.minKey <= now) {
      const slot = this.#deadlines.minId;
      const call = this.#calls[slot]!;
      const hardAt = call.sentAt + this.hardMs;
      call.stage++;
      if (call.stage > 2 || hardAt <= now) {
        this.#close(slot);
        return call;
      }
      const lateAt = Math.min(call.sentAt + 3 * this.softMs, hardAt);
      this.#deadlines.set(slot, call.stage === 1 ? Math.max(lateAt, now) : hardAt);
      if (call.stage === 1) call.owner?.onSlow(now, call);
      else call.owner?.onLate(now, call);
    }
    return null;
  }

  /** Nobody waits for what this owner asked any more; the answers still tell who is alive. */
  forget(owner: CallOwner): void {
    for (const call of this.#calls) {
      if (call?.owner !== owner) continue;
      call.owner = null;
      call.lookup = null;
      call.candidate = null;
    }
  }

  /** All calls end without a word. */
  clear(): void {
    for (let slot = 0; slot < this.#calls.length; slot++) if (this.#calls[slot] !== null) this.#close(slot);
  }

  #close(slot: number): void {
    this.#calls[slot] = null;
    this.#free.push(slot);
    this.#deadlines.remove(slot);
    this.count--;
  }

  #time(ms: number): void {
    if (this.#timed === 0) {
      this.#rttMs = ms;
      this.#spreadMs = ms / 2;
    } else {
      this.#spreadMs += (Math.abs(ms - this.#rttMs) - this.#spreadMs) / 8;
      this.#rttMs += (ms - this.#rttMs) / 8;
    }
    this.#timed++;
  }

  #mayAskLow(now: number, ip: string): boolean {
    let times = this.#lowPorts.get(ip);
    if (times === undefined) {
      if (this.#lowPorts.size >= MAX_VICTIMS) {
        for (const [other, asked] of this.#lowPorts) if (now - asked.at(-1)! >= MINUTE_MS) this.#lowPorts.delete(other);
        if (this.#lowPorts.size >= MAX_VICTIMS) return false;
      }
      times = [];
      this.#lowPorts.set(ip, times);
    }
    if (times.length === LOW_PORT_ASKS) {
      if (now - times[0]! < MINUTE_MS) return false;
      times.shift();
    }
    times.push(now);
    return true;
  }
}
