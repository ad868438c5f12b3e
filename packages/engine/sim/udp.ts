/**
 * UDP on the virtual network, packet by packet: each datagram waits for the uplink, is lost, delayed, doubled or dropped
 * for its size by chance and by the hosts' knobs, passes the address translation of both sides, waits for the downlink,
 * and is delivered or falls to the ground. Hosts with the same `lan` label reach each other directly, and by multicast.
 *
 * Limits: datagrams go before the host's TCP bytes, whose links they slow down by their size; IPv6 is not translated;
 * a machine does not reach itself by its outer address and port behind a translation.
 */

import type { IoFault } from '../src/base/errors.ts';
import { isLoopback } from '../src/base/ip.ts';
import type { Endpoint, UdpOptions, UdpSink, UdpSocket } from '../src/base/ports.ts';
import type { Rng } from '../src/base/random.ts';
import { POISON } from './chunks.ts';
import type { EventTarget } from './event-queue.ts';
import type { NetHost } from './host.ts';
import type { SimNet } from './net.ts';
import type { World } from './world.ts';

/** What a host's path does to datagrams; those of both ends add up. Same-LAN traffic is spared all but size and rate. */
export interface UdpPath {
  /** Share that is lost, 0..1. */
  loss: number;
  /** Up to so much more latency, at random for each: order is not kept. */
  jitterMs: number;
  /** Share that comes twice. */
  duplicate: number;
  /** Largest IP packet; larger ones vanish. */
  mtuBytes: number;
  /** How long a datagram may wait for the uplink or downlink; who would wait longer is dropped. */
  queueMs: number;
}

export const CLEAR_PATH: UdpPath = { loss: 0, jitterMs: 0, duplicate: 0, mtuBytes: 1500, queueMs: 250 };

/** Sees every datagram as it leaves its process. */
export type UdpTap = (from: NetHost, ip: string, port: number, bytes: Uint8Array) => void;

const MAX_DATAGRAM_BYTES = 65507;
/** IP and UDP headers. */
const HEADER_V4 = 28;
const HEADER_V6 = 48;
const LAN_LATENCY_MS = 0.5;
/** Freed packets of one length that are kept. */
const KEEP = 256;
/** Longer ones are not kept. */
const KEEP_BYTES = 2048;
/** Ports of the families are apart. */
const V6_PORTS = 65536;

export class UdpNet {
  /** Datagrams sent, delivered, and dropped on the way for whatever reason. */
  sentCount = 0;
  deliveredCount = 0;
  droppedCount = 0;
  tap: UdpTap | null = null;
  readonly net: SimNet;
  readonly world: World;
  readonly rng: Rng;
  readonly #poison: boolean;
  readonly #free: (Packet[] | undefined)[] = new Array(KEEP_BYTES + 1);
  readonly #lans: Map<string, NetHost[]> = new Map();

  constructor(net: SimNet, poison: boolean) {
    this.net = net;
    this.world = net.world;
    this.rng = net.world.fork('udp');
    this.#poison = poison;
  }

  joinLan(host: NetHost): void {
    if (host.lan === null) return;
    const members = this.#lans.get(host.lan);
    if (members === undefined) this.#lans.set(host.lan, [host]);
    else members.push(host);
  }

  /** A free address of the LAN's own /24. */
  nextLanIp(lan: string): string {
    const number = this.#lans.has(lan) ? [...this.#lans.keys()].indexOf(lan) : this.#lans.size;
    return `${100 + (number % 20)}.${Math.floor(number / 20)}.0.${1 + (this.#lans.get(lan)?.length ?? 0)}`;
  }

  send(from: SimUdpSocket, bytes: Uint8Array, ip: string, port: number): boolean {
    const { host } = from;
    if (bytes.length > MAX_DATAGRAM_BYTES) return false;
    this.sentCount++;
    if (this.tap !== null) this.tap(host, ip, port, bytes);
    if (isMulticast(ip)) {
      const members = host.lan === null ? [host] : this.#lans.get(host.lan)!;
      for (const member of members) {
        for (const to of member.udp.at(port, from.isV6)) {
          if (to.group === ip) this.#leave(from, bytes, ip, port, member, to);
        }
      }
      return true;
    }
    const target = isLoopback(ip) ? host : this.net.hostAt(ip);
    if (target === null) this.droppedCount++;
    else this.#leave(from, bytes, ip, port, target, null);
    return true;
  }

  /** A packet is at the machine it was sent to, or has passed its downlink. */
  arrived(packet: Packet, atLink: boolean): void {
    const { world } = this;
    const { from, to } = packet;
    if (!to.powered || (from !== to && !this.net.reaches(from, to))) return this.#drop(packet);
    let port = packet.toPort;
    if (!packet.direct && to.nat.kind !== 'none' && !to.ip.includes(':')) {
      port = to.nat.in(world.now, port, packet.fromIp, packet.fromPort);
      if (port < 0) return this.#drop(packet);
    }
    if (atLink && from !== to) {
      const waitMs = to.udp.down(packet.bytes.length + headerOf(packet.isV6));
      if (waitMs < 0) return this.#drop(packet);
      if (waitMs > 0) return world.after(waitMs, packet, 1, 0);
    }
    // of several on one port, a datagram for this machine alone goes to the one bound last
    const socket = packet.toSocket ?? to.udp.at(port, packet.isV6).findLast(({ group }) => group === null);
    if (socket === undefined || !socket.isOpen) return this.#drop(packet);
    this.deliveredCount++;
    world.mix(7, to.id, packet.fromPort);
    world.mixBytes(packet.bytes, packet.bytes.length);
    socket.sink.onDatagram(packet.bytes, packet.fromIp, packet.fromPort);
    this.#give(packet);
  }

  /** `toSocket`: the member of a group that this copy is for. */
  #leave(
    from: SimUdpSocket,
    bytes: Uint8Array,
    ip: string,
    port: number,
    to: NetHost,
    toSocket: SimUdpSocket | null,
  ): void {
    const { host, isV6 } = from;
    const size = bytes.length + headerOf(isV6);
    const isLoop = to === host;
    const isLan = isLoop || (host.lan !== null && host.lan === to.lan);
    if (!isLoop && size > Math.min(host.path.mtuBytes, to.path.mtuBytes)) {
      this.droppedCount++;
      return;
    }
    const waitMs = isLoop ? 0 : host.udp.up(size);
    if (waitMs < 0) {
      this.droppedCount++;
      return;
    }
    const isNatted = !isLan && !isV6 && host.nat.kind !== 'none';
    const fromPort = isNatted ? host.nat.out(this.world.now, from.port, ip, port) : from.port;
    const { rng } = this;
    if (!isLan && rng.float() >= (1 - host.path.loss) * (1 - to.path.loss)) {
      this.droppedCount++;
      return;
    }
    const jitterMs = isLan ? 0 : host.path.jitterMs + to.path.jitterMs;
    const baseMs = waitMs + (isLoop ? 0 : isLan ? LAN_LATENCY_MS : host.latencyMs + to.latencyMs);
    const copies = !isLan && rng.float() < host.path.duplicate + to.path.duplicate ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const packet = this.#take(bytes);
      packet.from = host;
      packet.to = to;
      packet.fromIp = isLoopback(ip) ? ip : host.ipOf(isV6);
      packet.fromPort = fromPort;
      packet.toPort = port;
      packet.isV6 = isV6;
      packet.direct = isLan;
      packet.toSocket = toSocket;
      this.world.after(baseMs + (jitterMs > 0 ? jitterMs * rng.float() : 0), packet, 0, 0);
    }
  }

  #take(bytes: Uint8Array): Packet {
    const packet = this.#free[bytes.length]?.pop() ?? new Packet(this, bytes.length);
    packet.bytes.set(bytes);
    return packet;
  }

  #drop(packet: Packet): void {
    this.droppedCount++;
    this.#give(packet);
  }

  #give(packet: Packet): void {
    const { length } = packet.bytes;
    if (this.#poison) packet.bytes.fill(POISON);
    if (length > KEEP_BYTES) return;
    this.#free[length] ??= [];
    const free = this.#free[length];
    if (free.length < KEEP) free.push(packet);
  }
}

/** One datagram under way. */
class Packet implements EventTarget {
  readonly bytes: Uint8Array;
  from!: NetHost;
  to!: NetHost;
  fromIp = '';
  fromPort = 0;
  toPort = 0;
  isV6 = false;
  /** Within a machine or LAN: no translation. */
  direct = false;
  toSocket: SimUdpSocket | null = null;
  readonly #udp: UdpNet;

  constructor(udp: UdpNet, length: number) {
    this.#udp = udp;
    this.bytes = new Uint8Array(length);
  }

  onEvent(kind: number): void {
    this.#udp.arrived(this, kind === 0);
  }
}

/** The sockets of one host, and how busy its links are. */
export class HostUdp {
  readonly #host: NetHost;
  readonly #sockets: Map<number, SimUdpSocket[]> = new Map();
  #upFreeAt = 0;
  #downFreeAt = 0;

  constructor(host: NetHost) {
    this.#host = host;
  }

  at(port: number, isV6: boolean): readonly SimUdpSocket[] {
    return this.#sockets.get(isV6 ? port + V6_PORTS : port) ?? NONE;
  }

  isTaken(port: number): boolean {
    return this.#sockets.has(port) || this.#sockets.has(port + V6_PORTS);
  }

  /** False: the port is taken. */
  bind(socket: SimUdpSocket): boolean {
    const key = socket.isV6 ? socket.port + V6_PORTS : socket.port;
    const there = this.#sockets.get(key);
    if (there === undefined) this.#sockets.set(key, [socket]);
    else if (socket.shared && there.every(({ shared }) => shared)) there.push(socket);
    else return false;
    return true;
  }

  unbind(socket: SimUdpSocket): void {
    const key = socket.isV6 ? socket.port + V6_PORTS : socket.port;
    const rest = this.at(socket.port, socket.isV6).filter((s) => s !== socket);
    if (rest.length > 0) this.#sockets.set(key, rest);
    else this.#sockets.delete(key);
  }

  /** The process is gone. */
  clear(): void {
    this.#sockets.clear();
  }

  /** Milliseconds until so many bytes have left, -1: no room. */
  up(bytes: number): number {
    const host = this.#host;
    const costMs = (bytes / host.upBps) * 1000;
    const { now } = host.net.world;
    const waitMs = Math.max(0, this.#upFreeAt - now);
    if (waitMs > host.path.queueMs) return -1;
    this.#upFreeAt = now + waitMs + costMs;
    host.chargeUp(costMs);
    return waitMs + costMs;
  }

  down(bytes: number): number {
    const host = this.#host;
    const costMs = (bytes / host.downBps) * 1000;
    const { now } = host.net.world;
    const waitMs = Math.max(0, this.#downFreeAt - now);
    if (waitMs > host.path.queueMs) return -1;
    this.#downFreeAt = now + waitMs + costMs;
    host.chargeDown(costMs);
    return waitMs + costMs;
  }
}

const NONE: readonly SimUdpSocket[] = [];

/** What a process holds. */
export class SimUdpSocket implements UdpSocket {
  readonly host: NetHost;
  readonly isV6: boolean;
  readonly shared: boolean;
  readonly group: string | null;
  readonly sink: UdpSink;
  port: number;
  /** Bound, not closed, and its process lives. */
  isOpen = false;
  #ended = false;
  readonly #isAlive: () => boolean;

  /** `isAlive`: whether the process that holds it runs. */
  constructor(host: NetHost, local: Endpoint, options: UdpOptions, sink: UdpSink, isAlive: () => boolean) {
    this.host = host;
    this.isV6 = local.ip.includes(':');
    this.port = local.port;
    this.shared = options.shared;
    this.group = options.group;
    this.sink = sink;
    this.#isAlive = isAlive;
    const why = this.#bind(local);
    host.net.world.call(0, () => {
      if (this.#ended || !isAlive()) return;
      this.isOpen = why === null;
      if (why === null) sink.onUdpBound({ ip: local.ip, port: this.port });
      else sink.onUdpFault(why);
    });
  }

  send(bytes: Uint8Array, ip: string, port: number): boolean {
    const { host } = this;
    if (!this.isOpen || !this.#isAlive() || port < 1 || port > 65535 || ip.includes(':') !== this.isV6) return false;
    if (!host.online && !isLoopback(ip)) return false;
    return host.net.udp.send(this, bytes, ip, port);
  }

  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.isOpen = false;
    if (this.#isAlive()) this.host.udp.unbind(this);
  }

  #bind(local: Endpoint): IoFault | null {
    const { host } = this;
    const isAny = local.ip === '0.0.0.0' || local.ip === '::';
    const at = `${local.ip}:${local.port}`;
    if (!isAny && !isLoopback(local.ip) && local.ip !== host.ip && local.ip !== host.ip6) {
      return { code: 'EADDRNOTAVAIL', message: `${at}: address not available` };
    }
    if (this.port === 0) this.port = host.takePort();
    return host.udp.bind(this) ? null : { code: 'EADDRINUSE', message: `${at}: address already in use` };
  }
}

function headerOf(isV6: boolean): number {
  return isV6 ? HEADER_V6 : HEADER_V4;
}

function isMulticast(ip: string): boolean {
  if (ip.includes(':')) return /^ff[0-9a-f]{2}:/.test(ip);
  const first = Number.parseInt(ip, 10);
  return first >= 224 && first < 240;
}
