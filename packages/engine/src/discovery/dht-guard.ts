/**
 * Keeps others from spending what is ours: who sends too many packets is not heard for a while (libtorrent's figures), and
 * replies leave at a bounded rate.
 *
 * Invariant: what a visitor costs is one map entry, MAX_VISITORS in all. On loopback every port counts for itself and has
 * an entry of its own, since whole closed networks live on one address there, and nobody from outside can.
 */

import { isLoopback } from '../base/ip.ts';

/** Packets an address may send in a window. */
export const FLOOD_LIMIT = 50;
const WINDOW_MS = 10_000;
const SILENCE_MS = 5 * 60_000;
const MAX_VISITORS = 20_000;
/** Replies may come in bursts of this many seconds' worth. */
const BURST_S = 3;

class Visitor {
  count = 0;
  windowEnd = 0;
  silentUntil = 0;
  readonly ports: Map<number, Visitor> | null;

  constructor(loopback: boolean) {
    this.ports = loopback ? new Map() : null;
  }
}

export class FloodGuard {
  readonly #limit: number;
  readonly #visitors = new Map<string, Visitor>();
  #last: Visitor | null = null;

  /** `limit`: packets of one address in 10 s; Infinity: no guard. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Counts a packet; false: do not listen. */
  admit(now: number, ip: string, port: number): boolean {
    if (this.#limit === Number.POSITIVE_INFINITY) return true;
    let visitor = this.#visitors.get(ip);
    if (visitor === undefined) {
      if (this.#visitors.size >= MAX_VISITORS) this.#makeRoom();
      visitor = new Visitor(isLoopback(ip));
      this.#visitors.set(ip, visitor);
    }
    if (visitor.ports !== null) {
      let perPort = visitor.ports.get(port);
      if (perPort === undefined) {
        perPort = new Visitor(false);
        visitor.ports.set(port, perPort);
      }
      visitor = perPort;
    }
    this.#last = visitor;
    if (visitor.silentUntil > now) return false;
    if (visitor.windowEnd <= now) {
      visitor.windowEnd = now + WINDOW_MS;
      visitor.count = 0;
    }
    if (++visitor.count <= this.#limit) return true;
    visitor.silentUntil = now + SILENCE_MS;
    return false;
  }

  /** The packet admitted last was one we asked for. */
  forgive(): void {
    if (this.#last !== null) this.#last.count--;
    this.#last = null;
  }

  /** Forgets who is quiet. */
  sweep(now: number): void {
    for (const [ip, visitor] of this.#visitors) {
      if (visitor.ports === null) {
        if (visitor.windowEnd <= now && visitor.silentUntil <= now) this.#visitors.delete(ip);
        continue;
      }
      for (const [port, each] of visitor.ports) {
        if (each.windowEnd <= now && each.silentUntil <= now) visitor.ports.delete(port);
      }
      if (visitor.ports.size === 0) this.#visitors.delete(ip);
    }
  }

  /** The oldest tenth goes, silenced or not: a flood from so many addresses is not stopped by address. */
  #makeRoom(): void {
    let n = MAX_VISITORS / 10;
    for (const ip of this.#visitors.keys()) {
      if (n-- <= 0) return;
      this.#visitors.delete(ip);
    }
  }
}

/** What may be sent: so many bytes a second, and BURST_S seconds' worth at once. */
export class RateCap {
  readonly #bps: number;
  #left: number;
  /** Bytes of a reply there was no room for. */
  #refused = 0;
  #at = Number.NEGATIVE_INFINITY;

  constructor(bps: number) {
    this.#bps = bps;
    this.#left = bps * BURST_S;
  }

  /** Whether the last reply refused would still be: then it is not worth making another. */
  isSpent(now: number): boolean {
    if (now > this.#at) {
      const most = this.#bps * BURST_S;
      this.#left = this.#at === Number.NEGATIVE_INFINITY ? most : this.#left + ((now - this.#at) * this.#bps) / 1000;
      if (this.#left > most) this.#left = most;
      this.#at = now;
    }
    return this.#left < this.#refused;
  }

  /** False: not now. Ask `isSpent` before. */
  take(bytes: number): boolean {
    this.#refused = this.#left < bytes ? bytes : 0;
    if (this.#refused > 0) return false;
    this.#left -= bytes;
    return true;
  }
}
