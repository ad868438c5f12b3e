/**
 * The virtual network: hosts by address, connections between them, partitions, and the Net port of one process on a
 * host. Names are resolved from a table.
 *
 * Limits: one address per host and family; a connection's path keeps its latency for life, so bytes stay in order.
 */

import type { IoFault } from '../src/base/errors.ts';
import { parseIp } from '../src/base/ip.ts';
import type {
  Conn,
  ConnSink,
  Endpoint,
  Listener,
  ListenSink,
  Net,
  NetGateway,
  NetInterface,
  UdpOptions,
  UdpSink,
  UdpSocket,
} from '../src/base/ports.ts';
import { ChunkPool } from './chunks.ts';
import { ConnEvent, SimConn } from './conn.ts';
import { type HostOptions, NetHost } from './host.ts';
import { SimUdpSocket, UdpNet } from './udp.ts';
import type { World } from './world.ts';

/** Bytes under way and unread per direction of a connection. */
const WINDOW_BYTES = 262144;
/** A SYN is sent again after 1, 2, 4 and 8 s; then the connect is given up, after 15 s as in host/tcp. */
const SYN_TRIES = 5;

export class SimNet {
  readonly world: World;
  readonly hosts: NetHost[] = [];
  readonly chunks: ChunkPool;
  readonly udp: UdpNet;
  /** What host names resolve to. */
  readonly names: Map<string, readonly string[]> = new Map();
  windowBytes: number = WINDOW_BYTES;
  /** Whether `group` of hosts counts. */
  partitioned = false;
  /** All connections ever made, in order; for the checkers. */
  connCount = 0;
  onConnMade: ((conn: SimConn) => void) | null = null;
  readonly #byIp: Map<string, NetHost> = new Map();

  constructor(world: World, poison: boolean) {
    this.world = world;
    this.chunks = new ChunkPool(poison);
    this.udp = new UdpNet(this, poison);
  }

  addHost(options: HostOptions): NetHost {
    const host = new NetHost(this.hosts.length, this, options);
    for (const ip of host.ip6 === null ? [host.ip] : [host.ip, host.ip6]) {
      if (this.#byIp.has(ip)) throw new Error(`two hosts at ${ip}`);
      this.#byIp.set(ip, host);
    }
    this.hosts.push(host);
    this.udp.joinLan(host);
    return host;
  }

  hostAt(ip: string): NetHost | null {
    return this.#byIp.get(ip) ?? null;
  }

  reaches(a: NetHost, b: NetHost): boolean {
    return a.online && b.online && !(this.partitioned && a.group !== b.group);
  }

  isCut(conn: SimConn): boolean {
    return conn.other !== null && !this.reaches(conn.host, conn.other.host);
  }

  /** Call after `online`, `group` or `partitioned` changed for the better: what was held up moves on. */
  healed(): void {
    for (const host of this.hosts) for (const conn of host.conns) conn.healed();
  }

  connect(host: NetHost, remote: Endpoint, sink: ConnSink): SimConn {
    const conn = this.#made(host, { ip: host.ip, port: host.takePort() }, remote, false, sink);
    if (!host.online) {
      this.world.call(0, () => conn.reset('ENETUNREACH', 'network is unreachable'));
      return conn;
    }
    const target = this.hostAt(remote.ip);
    conn.latencyMs = host.latencyMs + (target?.latencyMs ?? 50);
    this.world.after(conn.latencyMs, conn, ConnEvent.Syn, 0);
    return conn;
  }

  /** A connection attempt is at the other machine. */
  synArrived(conn: SimConn): void {
    const target = this.hostAt(conn.remote.ip);
    const isLan = target !== null && target.lan !== null && target.lan === conn.host.lan;
    const isDropped = target?.reach === 'dropped' && !isLan;
    if (target === null || !target.powered || !this.reaches(conn.host, target) || isDropped) {
      conn.synTries++;
      if (conn.synTries >= SYN_TRIES) conn.reset('ETIMEDOUT', 'connection timed out');
      else this.world.after(1000 * 2 ** (conn.synTries - 1), conn, ConnEvent.Syn, 0);
      return;
    }
    const listener = target.listeners.get(conn.remote.port);
    if (listener === undefined || (target.reach === 'refused' && !isLan)) {
      this.world.after(conn.latencyMs, conn, ConnEvent.Refused, 0);
      return;
    }
    const accepted = this.#made(target, conn.remote, conn.local, true, NO_SINK);
    accepted.latencyMs = conn.latencyMs;
    accepted.other = conn;
    conn.other = accepted;
    accepted.opened();
    this.world.after(conn.latencyMs, conn, ConnEvent.Connected, 0);
    listener.onAccept(accepted);
  }

  resetLater(conn: SimConn, latencyMs: number): void {
    this.world.after(latencyMs, conn, ConnEvent.Reset, 0);
  }

  #made(host: NetHost, local: Endpoint, remote: Endpoint, incoming: boolean, sink: ConnSink): SimConn {
    const conn = new SimConn(this.connCount++, host, local, remote, incoming, sink);
    host.conns.add(conn);
    if (this.onConnMade !== null) this.onConnMade(conn);
    return conn;
  }
}

/** The Net port of one process. */
export class ProcessNet implements Net {
  readonly host: NetHost;
  /** false once the process is dead. */
  alive = true;
  readonly #world: World;
  readonly #names: Map<string, readonly string[]>;

  constructor(host: NetHost) {
    this.host = host;
    this.#world = host.net.world;
    this.#names = host.net.names;
  }

  listen(local: Endpoint, sink: ListenSink): Listener {
    const host = this.host;
    const fail = (code: string, what: string): Listener => {
      const fault: IoFault = { code, message: `${local.ip}:${local.port}: ${what}` };
      this.#world.call(0, () => {
        if (this.alive) sink.onListenFault(fault);
      });
      return { close: () => {} };
    };
    const isOurs = ['0.0.0.0', '::', host.ip, host.ip6].includes(local.ip);
    if (!isOurs) return fail('EADDRNOTAVAIL', 'address not available');
    const port = local.port === 0 ? host.takePort() : local.port;
    if (host.listeners.has(port)) return fail('EADDRINUSE', 'address already in use');
    host.listeners.set(port, sink);
    host.listening(port);
    return {
      close: (): void => {
        if (host.listeners.get(port) === sink) host.listeners.delete(port);
      },
    };
  }

  /** A machine of the simulation has one address. */
  setEgress(): void {}

  /** Its sessions ask their filter themselves. */
  setFilter(): void {}

  /** There are no proxies here; what a session keeps off beside one stays off by itself. */
  setProxy(): void {}

  connect(remote: Endpoint, sink: ConnSink): Conn {
    return this.host.net.connect(this.host, remote, sink);
  }

  udp(local: Endpoint, options: UdpOptions, sink: UdpSink): UdpSocket {
    return new SimUdpSocket(this.host, local, options, sink, () => this.alive);
  }

  interfaces(): readonly NetInterface[] {
    const { host } = this;
    const found: NetInterface[] = [
      { name: 'lo', ip: '127.0.0.1', prefix: 8, loopback: true },
      { name: 'eth0', ip: host.ip, prefix: host.ip.includes(':') ? 64 : 24, loopback: false },
    ];
    if (host.ip6 !== null) found.push({ name: 'eth0', ip: host.ip6, prefix: 64, loopback: false });
    return found;
  }

  gateways(): readonly NetGateway[] {
    const { gateway } = this.host;
    return gateway === null ? [] : [{ ip: gateway, interfaceName: 'eth0' }];
  }

  resolve(name: string, done: (fault: IoFault | null, ips: readonly string[]) => void): void {
    const ips = parseIp(name) !== null ? [name] : this.#names.get(name);
    const latencyMs = parseIp(name) !== null ? 0 : 20;
    this.#world.call(latencyMs, () => {
      if (!this.alive) return;
      if (ips === undefined || !this.host.online) done({ code: 'ENOTFOUND', message: `${name}: no such host` }, []);
      else done(null, ips);
    });
  }
}

/** Until the listener sets its own, as the contract of onAccept asks. */
const NO_SINK: ConnSink = {
  onConnected: (): void => {
    throw new Error('onAccept left the connection without a sink');
  },
  onData: (): void => {
    throw new Error('onAccept left the connection without a sink');
  },
  onSent: (): void => {},
  onClosed: (): void => {},
};
