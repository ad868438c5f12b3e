/**
 * A light packet network for DHT nodes: machines by address, one datagram an event, latency, loss, and NAT. It knows
 * nothing of sessions, so that ten thousand machines fit in one process.
 *
 * Invariant: what happens is a function of the seed and of the calls made; `digest` mixes in every delivery. Limits: a
 * machine has one IPv4 address and one port; a NAT remembers for two minutes whom was sent to (RFC 4787 asks for that much).
 */

import { Rng } from '../src/base/random.ts';
import { EventQueue, type EventTarget } from './event-queue.ts';
import type { NatKind } from './nat.ts';

/** As in nat.ts, but remembered in less: ten thousand of them must fit. */
export type DhtNatKind = Exclude<NatKind, 'cone'>;

/** Who sits at an address. */
export interface DhtHost {
  readonly ip: string;
  readonly port: number;
  readonly nat: DhtNatKind;
  /** One way, this machine's part. */
  readonly latencyMs: number;
  /** The bytes are the host's to keep. */
  receive(bytes: Uint8Array, ip: string, port: number): void;
}

export interface DhtNetOptions {
  readonly seed: number;
  /** Share of packets that are lost; default 0. */
  readonly loss?: number;
}

const NAT_MS = 120_000;
/** Past so many entries a NAT drops those that ran out. */
const NAT_SWEEP = 256;

/** What a NAT knows: whom its machine sent to until when, and through which outer port. */
class Nat {
  readonly until: Map<string, number> = new Map();
  readonly ports: Map<string, number> = new Map();
  readonly remotes: Map<number, string> = new Map();
  nextPort = 20_000;
}

interface Packet {
  readonly bytes: Uint8Array;
  readonly from: DhtHost;
  readonly fromPort: number;
  readonly to: DhtHost;
}

export class DhtNet implements EventTarget {
  /** Milliseconds since the start. */
  now = 0;
  readonly rng: Rng;
  readonly queue: EventQueue = new EventQueue();
  loss: number;
  sentCount = 0;
  sentBytes = 0;
  deliveredCount = 0;
  /** Sees each packet that leaves, before loss; for checkers. */
  tap: ((from: DhtHost, bytes: Uint8Array, ip: string, port: number) => void) | null = null;
  /** Open ones by endpoint, those behind NAT by address: a NAT is alone at its own. */
  readonly #hosts: Map<string, DhtHost> = new Map();
  readonly #nats: Map<DhtHost, Nat> = new Map();
  readonly #ips: Set<string> = new Set();
  readonly #gone: WeakSet<DhtHost> = new WeakSet();
  readonly #packets: (Packet | null)[] = [];
  readonly #free: number[] = [];
  #mix = 0x2545f491;

  constructor(options: DhtNetOptions) {
    this.rng = new Rng(Uint32Array.of(options.seed >>> 0, Math.floor(options.seed / 4294967296) >>> 0, 0xd47, 0x5e3d));
    for (let i = 0; i < 16; i++) this.rng.u32();
    this.loss = options.loss ?? 0;
  }

  add(host: DhtHost): void {
    const key = host.nat === 'none' ? `${host.ip}:${host.port}` : host.ip;
    if (this.#hosts.has(key)) throw new Error(`two machines at ${key}`);
    this.#hosts.set(key, host);
    if (host.nat !== 'none') this.#nats.set(host, new Nat());
  }

  /** What is under way to it is lost. */
  remove(host: DhtHost): void {
    this.#hosts.delete(host.nat === 'none' ? `${host.ip}:${host.port}` : host.ip);
    this.#nats.delete(host);
    this.#gone.add(host);
  }

  /** A random public address that was not given out before. */
  freshIp(): string {
    for (;;) {
      const a = 1 + this.rng.below(222);
      const ip = `${a}.${this.rng.below(256)}.${this.rng.below(256)}.${1 + this.rng.below(254)}`;
      if ([10, 100, 127, 169, 172, 192].includes(a) || this.#ips.has(ip)) continue;
      this.#ips.add(ip);
      return ip;
    }
  }

  send(from: DhtHost, bytes: Uint8Array, ip: string, port: number): void {
    this.sentCount++;
    this.sentBytes += bytes.length;
    if (this.tap !== null) this.tap(from, bytes, ip, port);
    let fromPort = from.port;
    const nat = this.#nats.get(from);
    const key = `${ip}:${port}`;
    if (nat !== undefined) fromPort = this.#outwards(nat, from, key);
    if (this.loss > 0 && this.rng.float() < this.loss) return;
    const to = this.#hosts.get(key) ?? this.#hosts.get(ip);
    if (to === undefined) return;
    if (to.nat !== 'none' && !this.#inwards(to, port, `${from.ip}:${fromPort}`)) return;
    const packet: Packet = { bytes: new Uint8Array(bytes), from, fromPort, to };
    const place = this.#free.pop() ?? this.#packets.length;
    this.#packets[place] = packet;
    this.queue.push(this.now + from.latencyMs + to.latencyMs + this.rng.below(8), this, 0, place);
  }

  /** A packet arrives. */
  onEvent(_kind: number, place: number): void {
    const { bytes, from, fromPort, to } = this.#packets[place]!;
    this.#packets[place] = null;
    this.#free.push(place);
    if (this.#gone.has(to)) return;
    this.deliveredCount++;
    this.#mix = Math.imul(this.#mix ^ bytes.length ^ (this.now * 16), 0x9e3779b1) ^ (this.#mix >>> 15);
    this.#mix ^= bytes[bytes.length >> 1]!;
    to.receive(bytes, from.ip, fromPort);
  }

  /** Lets `ms` pass. */
  run(ms: number): void {
    this.runUntil(() => false, ms);
  }

  /** Runs until `done` holds, or `limitMs` have passed. Returns whether it holds. */
  runUntil(done: () => boolean, limitMs: number): boolean {
    const end = this.now + limitMs;
    while (!done()) {
      if (this.queue.nextAt() > end) {
        this.now = end;
        return done();
      }
      this.queue.pop();
      this.now = this.queue.at;
      this.queue.target!.onEvent(this.queue.kind, this.queue.arg);
    }
    return true;
  }

  digest(): string {
    return (this.#mix >>> 0).toString(16).padStart(8, '0');
  }

  /** Notes that this remote may answer now; the port the packet leaves from. */
  #outwards(nat: Nat, host: DhtHost, remote: string): number {
    if (nat.until.size >= NAT_SWEEP && !nat.until.has(remote)) this.#forget(nat);
    nat.until.set(remote, this.now + NAT_MS);
    if (host.nat === 'restricted') return host.port;
    let port = nat.ports.get(remote);
    if (port === undefined) {
      port = nat.nextPort++;
      if (nat.nextPort > 60_000) nat.nextPort = 20_000;
      nat.ports.set(remote, port);
      nat.remotes.set(port, remote);
    }
    return port;
  }

  #inwards(host: DhtHost, port: number, remote: string): boolean {
    const nat = this.#nats.get(host)!;
    if (host.nat === 'restricted' ? port !== host.port : nat.remotes.get(port) !== remote) return false;
    return (nat.until.get(remote) ?? 0) >= this.now;
  }

  #forget(nat: Nat): void {
    for (const [remote, until] of nat.until) {
      if (until >= this.now) continue;
      nat.until.delete(remote);
      const port = nat.ports.get(remote);
      if (port === undefined) continue;
      nat.ports.delete(remote);
      nat.remotes.delete(port);
    }
  }
}
