/**
 * What is to be mapped on one router, and how far that is: a port for TCP and the same one for UDP. Owns when each is
 * asked for, renewed, asked for again and taken back; whoever speaks with the router takes a job at a time (`next`) and
 * says how it ended.
 *
 * Peers are told one port, for TCP and uTP. Where the router gives two, the first is given back and asked for where the
 * second one is, ROUNDS times at most; after that they stay apart, and TCP's is what peers are told.
 *
 * Invariant: `externalPort` is not 0 only while the router's promise lasts.
 */

import type { MapProtocol } from './port-map-packets.ts';

/** RFC 6887 leaves it to the client; short enough for a router that was not told of our end. */
export const LEASE_S = 3600;

export interface Mapping {
  readonly protocol: MapProtocol;
  /** As it was asked for. */
  internalPort: number;
  /** 0: there is none. */
  externalPort: number;
  /** Infinity: for good. */
  expiresAt: number;
  /** When it is to be asked for, or renewed. */
  dueAt: number;
  /** Why it is not, or not renewed. */
  error: string | null;
  /** The router forwards the external port as it is, whatever internal one was named (VPN gateways do). */
  whole: boolean;
  /** To be given back. */
  drop: boolean;
}

export interface MapJob {
  readonly mapping: Mapping;
  /** To be given back: `mapping` says what. */
  readonly unmap: boolean;
  readonly internalPort: number;
  /** The external port that would suit. */
  readonly externalPort: number;
}

const ROUNDS = 3;
/** RFC 6887, section 11.2.1. */
const MIN_RENEW_MS = 4_000;
/** A mapping for good is looked after too: routers are restarted. */
const MAX_RENEW_MS = 1_800_000;
/** A router that promises longer than that is not believed. */
const MAX_LEASE_S = 7 * 86_400;

export class MappingPair {
  readonly tcp: Mapping = none('tcp');
  readonly udp: Mapping = none('udp');
  readonly all: readonly Mapping[] = [this.tcp, this.udp];
  #port = 0;
  #wish = 0;
  #rounds = 0;

  /** The port that is to be reached; 0: all is given back. */
  setPort(now: number, port: number): void {
    if (port === this.#port) return;
    this.#port = port;
    this.#wish = 0;
    this.#rounds = 0;
    for (const mapping of this.all) {
      mapping.drop = mapping.externalPort !== 0 && !(mapping.whole && mapping.externalPort === port);
      if (mapping.externalPort === 0 || mapping.drop) mapping.dueAt = now;
    }
  }

  get port(): number {
    return this.#port;
  }

  /** What is to be done now, or null. */
  next(now: number): MapJob | null {
    for (const mapping of this.all) {
      if (mapping.externalPort !== 0 && now >= mapping.expiresAt) this.#lose(mapping, now);
      if (!mapping.drop) continue;
      return { mapping, unmap: true, internalPort: mapping.internalPort, externalPort: mapping.externalPort };
    }
    if (this.#port === 0) return null;
    for (const mapping of this.all) {
      if (now < mapping.dueAt) continue;
      const other = mapping === this.tcp ? this.udp : this.tcp;
      const externalPort = mapping.externalPort || other.externalPort || this.#wish || this.#port;
      return { mapping, unmap: false, internalPort: mapping.whole ? mapping.internalPort : this.#port, externalPort };
    }
    return null;
  }

  /** When there will be something to do. */
  nextAt(): number {
    let at = Infinity;
    for (const mapping of this.all) {
      if (mapping.drop) return 0;
      if (this.#port !== 0) at = Math.min(at, mapping.dueAt);
      if (mapping.externalPort !== 0) at = Math.min(at, mapping.expiresAt);
    }
    return at;
  }

  /** `lifetimeS` 0: for good. */
  mapped(now: number, job: MapJob, externalPort: number, lifetimeS: number, whole: boolean): void {
    const { mapping } = job;
    const leaseMs = lifetimeS === 0 ? Infinity : Math.max(2 * MIN_RENEW_MS, Math.min(lifetimeS, MAX_LEASE_S) * 1000);
    mapping.internalPort = job.internalPort;
    mapping.externalPort = externalPort;
    mapping.expiresAt = now + leaseMs;
    mapping.dueAt = now + Math.min(MAX_RENEW_MS, Math.max(MIN_RENEW_MS, leaseMs / 2));
    mapping.error = null;
    mapping.whole = whole;
    // the port to be reached became another one meanwhile
    mapping.drop = job.internalPort !== this.#port && !(whole && externalPort === this.#port);
    if (!mapping.drop) this.#join(mapping);
  }

  unmapped(now: number, job: MapJob): void {
    const { mapping } = job;
    mapping.drop = false;
    mapping.whole = false;
    mapping.externalPort = 0;
    mapping.dueAt = this.#port === 0 ? Infinity : now;
  }

  /** The router did not; it is asked again after so long, earlier if the promise ends. */
  failed(now: number, job: MapJob, error: string, againMs: number): void {
    const { mapping } = job;
    if (job.unmap) return this.unmapped(now, job);
    mapping.error = error;
    const leftMs = mapping.externalPort === 0 ? againMs : (mapping.expiresAt - now) / 2;
    mapping.dueAt = now + Math.max(MIN_RENEW_MS, Math.min(againMs, leftMs));
  }

  /** Somebody else has that port: another one is tried for both. */
  conflict(now: number, job: MapJob, otherPort: number): void {
    this.#wish = otherPort;
    for (const mapping of this.all) {
      mapping.drop = mapping.externalPort !== 0;
      mapping.dueAt = now;
    }
    job.mapping.drop = false;
    job.mapping.externalPort = 0;
  }

  /** The router has forgotten all: it is asked again for what it gave. */
  forgotten(now: number): void {
    for (const mapping of this.all) if (mapping.externalPort !== 0) mapping.dueAt = now;
  }

  /** Nothing is mapped any more, and nothing is wanted. */
  clear(): void {
    this.#port = 0;
    for (const mapping of this.all) {
      mapping.externalPort = 0;
      mapping.drop = false;
      mapping.whole = false;
    }
  }

  get isMapped(): boolean {
    return this.all.some(({ externalPort }) => externalPort !== 0);
  }

  #lose(mapping: Mapping, now: number): void {
    mapping.externalPort = 0;
    mapping.drop = false;
    mapping.whole = false;
    mapping.dueAt = Math.min(mapping.dueAt, now);
  }

  /** Both are there, but apart. */
  #join(latest: Mapping): void {
    const other = latest === this.tcp ? this.udp : this.tcp;
    if (other.externalPort === 0 || other.drop || other.externalPort === latest.externalPort) return;
    if (this.#rounds++ < ROUNDS) other.drop = true;
  }
}

function none(protocol: MapProtocol): Mapping {
  return {
    protocol,
    internalPort: 0,
    externalPort: 0,
    expiresAt: Infinity,
    dueAt: 0,
    error: null,
    whole: false,
    drop: false,
  };
}
