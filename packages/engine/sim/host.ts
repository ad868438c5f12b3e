/**
 * A machine on the virtual network: its address, its uplink and downlink with a rate each that all its connections
 * share, its listeners. The uplink serves connections in turn, a quantum each; the downlink lets bytes pass while it is
 * not in debt and queues them otherwise.
 */

import type { Endpoint, ListenSink } from '../src/base/ports.ts';
import { Ring } from '../src/base/ring.ts';
import { type Chunk, END, MAX_CHUNK_BYTES } from './chunks.ts';
import { ConnEvent, type SimConn } from './conn.ts';
import type { EventTarget } from './event-queue.ts';
import { Nat, type NatKind } from './nat.ts';
import type { SimNet } from './net.ts';
import { CLEAR_PATH, HostUdp, type UdpPath } from './udp.ts';

/** Sees all bytes that leave a host, as they leave. */
export interface WireTap {
  onLeft(conn: SimConn, bytes: Uint8Array, length: number): void;
}

export interface HostOptions {
  readonly ip?: string;
  /** Bytes per second; default no limit. */
  readonly upBps?: number;
  readonly downBps?: number;
  /** One way, this host's part; a pair's latency is the sum. */
  readonly latencyMs?: number;
  /** Connections from outside; default 'open', behind NAT 'dropped'. Within its LAN a host is always open. */
  readonly reach?: 'open' | 'dropped' | 'refused';
  /** What translates its UDP ports; default 'none', 'restricted' for one that is not open to connections. */
  readonly nat?: NatKind;
  /** An unused mapping of it lasts so long; default 60 s. */
  readonly natTimeoutMs?: number;
  /** Hosts of one label share a LAN: multicast, and no NAT between them. Default none. */
  readonly lan?: string;
  /** A second address, for IPv6. */
  readonly ip6?: string;
  /** Its router's address. Default: it knows none. */
  readonly gateway?: string;
  readonly udp?: Partial<UdpPath>;
}

const HostEvent = { Uplink: 1, Downlink: 2, Listening: 3 } as const;
/** A big send gives way to the next connection after so many milliseconds of uplink. */
const QUANTUM_MS = 20;
const NAT_TIMEOUT_MS = 60_000;
/** A block with its header fits, so that slow uplinks send blocks in one piece. */
const MIN_QUANTUM_BYTES = 16397;

export class NetHost implements EventTarget {
  readonly id: number;
  readonly net: SimNet;
  readonly ip: string;
  upBps: number;
  downBps: number;
  latencyMs: number;
  reach: 'open' | 'dropped' | 'refused';
  readonly ip6: string | null;
  readonly gateway: string | null;
  readonly lan: string | null;
  readonly nat: Nat;
  path: UdpPath;
  readonly udp: HostUdp;
  /** false: the machine is off. */
  powered = true;
  /** false: its network is down. */
  online = true;
  /** Hosts of different groups do not reach each other while the net is partitioned. */
  group = 0;
  readonly conns: Set<SimConn> = new Set();
  readonly listeners: Map<number, ListenSink> = new Map();
  tap: WireTap | null = null;
  leftBytes = 0;
  deliveredBytes = 0;
  #nextPort = 49152;
  readonly #ready: Ring<SimConn> = new Ring<SimConn>();
  #leaving: SimConn | null = null;
  #leavingBytes = 0;
  #upDebtMs = 0;
  readonly #arrivedConns: Ring<SimConn> = new Ring<SimConn>();
  readonly #arrivedChunks: Ring<Chunk> = new Ring<Chunk>();
  #downFreeAt = 0;
  #downBusy = false;
  #lost: SimConn[] = [];

  constructor(id: number, net: SimNet, options: HostOptions) {
    this.id = id;
    this.net = net;
    this.lan = options.lan ?? null;
    // spread over many networks, none of them private or special; a LAN is one of them
    this.ip =
      options.ip ??
      (this.lan === null
        ? `${20 + (id % 60)}.${(id * 7) % 250}.${(id * 13) % 250}.${1 + Math.floor(id / 60)}`
        : net.udp.nextLanIp(this.lan));
    this.ip6 = options.ip6 ?? null;
    this.gateway = options.gateway ?? null;
    this.upBps = options.upBps ?? Infinity;
    this.downBps = options.downBps ?? Infinity;
    this.latencyMs = options.latencyMs ?? 5;
    const isNatted = (options.nat ?? 'none') !== 'none';
    this.reach = options.reach ?? (isNatted ? 'dropped' : 'open');
    const kind = options.nat ?? (this.reach === 'open' ? 'none' : 'restricted');
    this.nat = new Nat(kind, options.natTimeoutMs ?? NAT_TIMEOUT_MS);
    this.path = { ...CLEAR_PATH, ...options.udp };
    this.udp = new HostUdp(this);
  }

  takePort(): number {
    do {
      this.#nextPort = this.#nextPort >= 65535 ? 49152 : this.#nextPort + 1;
    } while (this.listeners.has(this.#nextPort) || this.udp.isTaken(this.#nextPort));
    return this.#nextPort;
  }

  /** Its address of a family. */
  ipOf(isV6: boolean): string {
    return isV6 === this.ip.includes(':') ? this.ip : (this.ip6 ?? this.ip);
  }

  /** The process is killed: its connections are reset. Or the machine loses power: nobody is told. */
  crash(power: boolean): void {
    for (const conn of this.conns) {
      if (power) {
        conn.vanish();
        const other = conn.other;
        // a kernel with unanswered data gives up after about 15 minutes (Linux tcp_retries2)
        if (other !== null) this.net.world.after(924_000, other, ConnEvent.TimedOut, 0);
      } else {
        conn.killed();
      }
    }
    if (power) this.#lost = [...this.conns];
    this.conns.clear();
    this.listeners.clear();
    this.udp.clear();
    this.powered = !power;
  }

  /** Power is back: who still sends to the lost connections is told. */
  restored(): void {
    this.powered = true;
    for (const conn of this.#lost) {
      if (conn.other !== null && conn.other.windowUsed > 0) this.net.resetLater(conn.other, conn.latencyMs);
    }
    this.#lost = [];
  }

  // ---- uplink

  leaveAtOnce(conn: SimConn): void {
    const costMs = (conn.outLeft / this.upBps) * 1000;
    this.#upDebtMs += costMs;
    this.net.world.after(costMs, conn, ConnEvent.LeaveAtOnce, 0);
  }

  /** Datagrams took so much of the uplink. */
  chargeUp(costMs: number): void {
    if (this.#leaving !== null) this.#upDebtMs += costMs;
  }

  queueUp(conn: SimConn): void {
    this.#ready.push(conn);
    if (this.#leaving === null) this.#startNext();
  }

  #startNext(): void {
    const quantum = Math.min(MAX_CHUNK_BYTES, Math.max(MIN_QUANTUM_BYTES, Math.ceil((this.upBps * QUANTUM_MS) / 1000)));
    for (;;) {
      const conn = this.#ready.shift();
      if (conn === undefined) {
        this.#leaving = null;
        return;
      }
      const bytes = conn.takeable(quantum);
      if (bytes === 0) {
        conn.queued = false;
        continue;
      }
      this.#leaving = conn;
      this.#leavingBytes = bytes;
      const costMs = (bytes / this.upBps) * 1000 + this.#upDebtMs;
      this.#upDebtMs = 0;
      this.net.world.after(costMs, this, HostEvent.Uplink, 0);
      return;
    }
  }

  // ---- downlink

  chargeDown(costMs: number): void {
    this.#downFreeAt = Math.max(this.net.world.now, this.#downFreeAt) + costMs;
  }

  arrived(conn: SimConn): void {
    const chunk = conn.takeFromWire();
    const now = this.net.world.now;
    if (this.#arrivedChunks.length === 0 && (this.#downFreeAt <= now || chunk === END)) {
      this.#downFreeAt = Math.max(now, this.#downFreeAt) + this.#downCostMs(chunk);
      conn.pass(chunk);
      return;
    }
    this.#arrivedConns.push(conn);
    this.#arrivedChunks.push(chunk);
    this.#wantDownlink();
  }

  onEvent(kind: number, arg: number): void {
    if (kind === HostEvent.Uplink) {
      this.#leaving!.left(this.#leavingBytes);
      this.#startNext();
    } else if (kind === HostEvent.Downlink) {
      this.#downBusy = false;
      const chunk = this.#arrivedChunks.shift()!;
      this.#downFreeAt += this.#downCostMs(chunk);
      this.#arrivedConns.shift()!.pass(chunk);
      if (this.#arrivedChunks.length > 0) this.#wantDownlink();
    } else if (kind === HostEvent.Listening) {
      const sink = this.listeners.get(arg);
      const local: Endpoint = { ip: this.ip, port: arg };
      if (sink !== undefined) sink.onListening(local);
    }
  }

  listening(port: number): void {
    this.net.world.after(0, this, HostEvent.Listening, port);
  }

  #wantDownlink(): void {
    if (this.#downBusy) return;
    this.#downBusy = true;
    this.net.world.atTime(this.#downFreeAt, this, HostEvent.Downlink, 0);
  }

  #downCostMs(chunk: Chunk): number {
    return chunk === END ? 0 : (chunk.length / this.downBps) * 1000;
  }
}
