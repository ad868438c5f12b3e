/**
 * Owns the sockets of local discovery (BEP 14): one for each interface address that the session's `bind` list covers,
 * each joined to the group, so that an announce leaves by every interface and with the right sender.
 *
 * Invariants: nothing is opened before there is a torrent to speak of, and all is closed when there is none any more.
 * Loopback is used only by a session bound to nothing else. Systems hand a group's datagrams to each socket that joined it
 * anywhere: one counts where its sender is of the socket's own IPv4 network. IPv6 goes by interface, and link-local
 * senders do not count, since nobody could dial them without knowing the interface.
 * Limits: 16 sockets; interfaces are looked at once a minute, a failed one again after ten.
 */

import type { IoFault } from '../base/errors.ts';
import { isLoopback, parseIp } from '../base/ip.ts';
import type { Endpoint, NetInterface, Ports, UdpSink, UdpSocket } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import { LSD_GROUP_V4, LSD_GROUP_V6, LSD_PORT, Lsd, type LsdSink } from '../discovery/lsd.ts';

export interface LsdSocketsSink {
  /** Called outside of a turn. The hash is one that was added. */
  onLsdPeer(infoHash: Uint8Array, ip: string, port: number): void;
  onLsdLog(line: string): void;
}

const MAX_SOCKETS = 16;
const LOOK_MS = 60_000;
const RETRY_MS = 600_000;

export class LsdSockets implements LsdSink {
  readonly #ports: Pick<Ports, 'clock' | 'loop' | 'net'>;
  readonly #bind: readonly string[];
  readonly #sink: LsdSocketsSink;
  readonly #lsd: Lsd;
  readonly #sockets: Map<string, GroupSocket> = new Map();
  /** When an interface that failed is tried again. */
  readonly #failed: Map<string, number> = new Map();
  #port = 0;
  #started = false;
  #lookAtMs = -Infinity;

  /** `bind`: the addresses the session listens at; unspecified ones stand for all of their family. */
  constructor(ports: Pick<Ports, 'clock' | 'loop' | 'net'>, bind: readonly string[], rng: Rng, sink: LsdSocketsSink) {
    this.#ports = ports;
    this.#bind = bind;
    this.#sink = sink;
    this.#lsd = new Lsd({ rng, sink: this });
  }

  /** Where peers reach us; 0: nothing is announced. */
  get port(): number {
    return this.#port;
  }

  set port(port: number) {
    this.#port = port;
    this.#ready();
  }

  /** Again and again is fine: the addresses of `bind` may be others now. */
  start(now: number): void {
    this.#started = true;
    this.#lookAtMs = -Infinity;
    this.tick(now);
  }

  stop(): void {
    this.#started = false;
    this.#closeAll();
  }

  add(now: number, infoHash: Uint8Array): void {
    this.#lsd.add(now, infoHash);
  }

  remove(infoHash: Uint8Array): void {
    this.#lsd.remove(infoHash);
    if (this.#lsd.count === 0) this.#closeAll();
  }

  /** The addresses that are announced from. */
  get addresses(): string[] {
    return [...this.#sockets.values()].filter(({ isBound }) => isBound).map(({ ip }) => ip);
  }

  tick(now: number): void {
    if (!this.#started || this.#lsd.count === 0) return;
    if (now >= this.#lookAtMs) {
      this.#lookAtMs = now + LOOK_MS;
      this.#look(now);
    }
    this.#lsd.tick(now);
  }

  nextAt(): number {
    if (!this.#started || this.#lsd.count === 0) return Infinity;
    return Math.min(this.#lookAtMs, this.#lsd.nextAt());
  }

  onLsdSend(bytes: Uint8Array, family: 4 | 6): void {
    const group = family === 4 ? LSD_GROUP_V4 : LSD_GROUP_V6;
    for (const socket of this.#sockets.values()) if (socket.group === group) socket.send(bytes);
  }

  onLsdPeer(infoHash: Uint8Array, ip: string, port: number): void {
    this.#sink.onLsdPeer(infoHash, ip, port);
  }

  // ---- of the sockets

  /** A socket is bound. */
  bound(): void {
    this.#ready();
    this.#lsd.again(this.#ports.clock.now());
    this.#ports.loop.soon();
  }

  datagram(bytes: Uint8Array, ip: string): void {
    this.#lsd.datagram(this.#ports.clock.now(), bytes, ip);
  }

  failed(socket: GroupSocket, fault: IoFault): void {
    this.#sockets.delete(socket.key);
    if (!this.#failed.has(socket.key)) this.#sink.onLsdLog(`lsd: not on ${socket.ip}: ${fault.message}`);
    this.#failed.set(socket.key, this.#ports.clock.now() + RETRY_MS);
    this.#ready();
  }

  // ---- private

  /** Announces wait until there is a socket to send them by. */
  #ready(): void {
    const isReady = [...this.#sockets.values()].some(({ isBound }) => isBound);
    this.#lsd.port = isReady ? this.#port : 0;
  }

  #look(now: number): void {
    const wanted = interfacesFor(this.#bind, this.#ports.net.interfaces());
    for (const [key, socket] of this.#sockets) {
      if (wanted.has(key)) continue;
      this.#sockets.delete(key);
      socket.close();
    }
    for (const key of this.#failed.keys()) if (!wanted.has(key)) this.#failed.delete(key);
    for (const [key, at] of wanted) {
      if (this.#sockets.has(key) || now < (this.#failed.get(key) ?? -Infinity)) continue;
      if (this.#sockets.size >= MAX_SOCKETS) break;
      this.#sockets.set(key, new GroupSocket(this, this.#ports, key, at));
    }
    this.#ready();
  }

  #closeAll(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
    this.#failed.clear();
    this.#lookAtMs = -Infinity;
    this.#ready();
  }
}

class GroupSocket implements UdpSink {
  readonly key: string;
  readonly ip: string;
  readonly group: string;
  isBound = false;
  readonly #owner: LsdSockets;
  readonly #network: Uint8Array;
  readonly #prefix: number;
  readonly #socket: UdpSocket;

  constructor(owner: LsdSockets, ports: Pick<Ports, 'net'>, key: string, at: NetInterface) {
    this.#owner = owner;
    this.key = key;
    this.ip = at.ip;
    this.#network = parseIp(at.ip)!;
    this.#prefix = at.prefix;
    this.group = at.ip.includes(':') ? LSD_GROUP_V6 : LSD_GROUP_V4;
    const options = { group: this.group, shared: true, bufferBytes: 0 };
    this.#socket = ports.net.udp({ ip: at.ip, port: LSD_PORT }, options, this);
  }

  send(bytes: Uint8Array): void {
    if (this.isBound) this.#socket.send(bytes, this.group, LSD_PORT);
  }

  close(): void {
    this.isBound = false;
    this.#socket.close();
  }

  onUdpBound(_local: Endpoint): void {
    this.isBound = true;
    this.#owner.bound();
  }

  onDatagram(bytes: Uint8Array, ip: string): void {
    const from = parseIp(ip);
    if (from === null || from.length !== this.#network.length) return;
    const counts = from.length === 4 ? isWithin(from, this.#network, this.#prefix) : !isLinkLocal(from);
    if (counts) this.#owner.datagram(bytes, ip);
  }

  onUdpFault(fault: IoFault): void {
    this.isBound = false;
    this.#owner.failed(this, fault);
  }
}

/** By key: for IPv4 each network of each interface, for IPv6 each interface, by its first address that others can dial. */
function interfacesFor(bind: readonly string[], all: readonly NetInterface[]): Map<string, NetInterface> {
  const isLocalOnly = bind.every(isLoopback);
  const wanted = new Map<string, NetInterface>();
  for (const at of all) {
    const bytes = parseIp(at.ip);
    if (bytes === null || at.loopback !== isLocalOnly) continue;
    const isV6 = bytes.length === 16;
    if (isV6 && isLinkLocal(bytes)) continue;
    // all of 127/8 is this machine's, though its interface names one address
    const found = bind.find(
      (ip) => ip === at.ip || ip === (isV6 ? '::' : '0.0.0.0') || (isLocalOnly && isNear(ip, at)),
    );
    if (found === undefined) continue;
    const key = `${at.name} ${isV6 ? 6 : networkOf(bytes, at.prefix)}`;
    if (!wanted.has(key)) wanted.set(key, isNear(found, at) ? { ...at, ip: found } : at);
  }
  return wanted;
}

/** Whether an address is in the network of an interface. */
function isNear(ip: string, at: NetInterface): boolean {
  const bytes = parseIp(ip);
  return bytes !== null && isWithin(bytes, parseIp(at.ip)!, at.prefix);
}

function isWithin(ip: Uint8Array, network: Uint8Array, prefix: number): boolean {
  if (ip.length !== network.length) return false;
  for (let i = 0, left = prefix; left > 0; i++, left -= 8) {
    const mask = left >= 8 ? 0xff : 0xff << (8 - left);
    if (((ip[i]! ^ network[i]!) & mask & 0xff) !== 0) return false;
  }
  return true;
}

function networkOf(ip: Uint8Array, prefix: number): string {
  return Array.from(ip, (byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * i))) & 0xff).join('.');
}

function isLinkLocal(ip: Uint8Array): boolean {
  return ip.length === 16 && ip[0] === 0xfe && (ip[1]! & 0xc0) === 0x80;
}
