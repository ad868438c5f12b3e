/**
 * Owns the session's UDP sockets, one for each address it is bound to, on the port its TCP listeners have. All that goes
 * by UDP shares them; the first byte of a datagram tells whose it is:
 *
 *     'd'                     DHT (BEP 5): the beginning of a bencoded dictionary
 *     version 1, a type 0..4  uTP (BEP 29)
 *     else a tracker's reply  (BEP 15), known by its transaction id and sender
 *
 * Through a proxy there is one socket for both families, which is bound whenever the proxy's relay is there. Trackers have
 * sockets of their own where they go another way than peers.
 *
 * Invariant: what leaves for an address leaves by a socket of its family, and without one it does not leave.
 */

import type { IoFault } from '../base/errors.ts';
import { formatEndpoint } from '../base/ip.ts';
import type { Conn, ConnSink, Endpoint, UdpSink, UdpSocket } from '../base/ports.ts';
import type { Way } from '../base/proxy.ts';
import { UtpMux } from '../transport/utp-mux.ts';
import type { SessionCore } from './core.ts';

/** Room for what comes in while a turn is busy; uTP at full speed fills less in no time (libtorrent asks for 1 MiB). */
const BUFFER_BYTES = 4 << 20;
const DICTIONARY = 0x64;

export class UdpHub {
  /** Families that can be sent to. */
  readonly families: { v4: boolean; v6: boolean } = { v4: false, v6: false };
  readonly #core: SessionCore;
  #sockets: BoundSocket[] = [];
  /** The DHT's own, where it has a port of its own. */
  #dhtSockets: BoundSocket[] = [];
  /** Of trackers, where they go another way than peers. */
  #trackerSockets: BoundSocket[] = [];
  readonly #trackerFamilies: { v4: boolean; v6: boolean } = { v4: false, v6: false };
  #opened = false;
  /** Addresses that wait for the port which the system picks for the first one, since peers are told one for all. */
  #later: readonly string[] = [];
  /** Null: the session is without uTP. */
  readonly utp: UtpMux | null;

  constructor(core: SessionCore) {
    this.#core = core;
    this.utp =
      core.options.transport === 'tcp'
        ? null
        : new UtpMux({
            random: core.ports.random,
            move: core.ports.slots.move,
            sink: {
              onUtpSend: (bytes, ip, port) => this.send(bytes, ip, port),
              onUtpAccept: (conn) => core.accept(conn, true),
            },
          });
  }

  /** Starts a uTP connection, or null where no socket leads there. */
  connectUtp(remote: Endpoint, sink: ConnSink): Conn | null {
    if (this.utp === null || !this.reaches(remote.ip)) return null;
    return this.utp.connect(this.#core.turn.now, remote, sink);
  }

  /** A socket leads there. */
  reaches(ip: string): boolean {
    return ip.includes(':') ? this.families.v6 : this.families.v4;
  }

  /** uTP's deadlines. */
  tick(now: number): void {
    if (this.utp !== null && this.utp.nextAt() <= now) this.utp.tick(now, micros(now));
  }

  /** Sends what uTP has; true: somebody was told something. */
  endTurn(now: number): boolean {
    if (this.utp === null || this.utp.nextAt() !== 0) return false;
    this.utp.endTurn(now, micros(this.#core.ports.clock.now()));
    return true;
  }

  nextAt(): number {
    return this.utp?.nextAt() ?? Infinity;
  }

  /** Opens the sockets, once it is clear which port TCP has (0: none, any will do). */
  open(tcpPort: number): void {
    if (this.#opened) return;
    this.#opened = true;
    const core = this.#core;
    const way = core.wayOf('peer-utp');
    const trackerWay = core.wayOf('udp-tracker');
    const { dht } = core.options;
    this.#sockets = this.#openFor('peers', way, tcpPort);
    if (way === 'direct' && dht !== null && dht.port !== null && dht.port !== tcpPort) {
      const { port } = dht;
      this.#dhtSockets = core.binding.addresses.map((ip) => new BoundSocket(core, this, ip, port, 'dht', false));
    }
    if (trackerWay !== way) this.#trackerSockets = this.#openFor('trackers', trackerWay, 0);
    const families = this.#trackerFamilies;
    const send = (bytes: Uint8Array, ip: string, port: number) => sendBy(this.#trackerSockets, bytes, ip, port);
    core.announces.udp = trackerWay === way ? this : { send, families };
  }

  #openFor(use: 'peers' | 'trackers', way: Way, port: number): BoundSocket[] {
    const core = this.#core;
    if (way === 'off') return [];
    if (way === 'proxy') return [new BoundSocket(core, this, '0.0.0.0', 0, use, true)];
    if (use === 'peers' && port === 0 && core.options.transport === 'utp') {
      const [first, ...others] = core.binding.addresses;
      this.#later = others;
      return first === undefined ? [] : [new BoundSocket(core, this, first, 0, use, false)];
    }
    return core.binding.addresses.map((ip) => new BoundSocket(core, this, ip, port, use, false));
  }

  /** Others can be told to dial us by uTP, and we to dial them. */
  get punches(): boolean {
    return this.utp !== null && this.#core.wayOf('peer-utp') === 'direct';
  }

  send(bytes: Uint8Array, ip: string, port: number): boolean {
    return sendBy(this.#sockets, bytes, ip, port);
  }

  sendDht(bytes: Uint8Array, ip: string, port: number): boolean {
    return sendBy(this.#dhtSockets.length > 0 ? this.#dhtSockets : this.#sockets, bytes, ip, port);
  }

  /** The port that a node at this address reaches ours at; 0: none yet, or through a proxy, or it is nobody's business. */
  dhtPortFor(ip: string): number {
    const core = this.#core;
    if (core.wayOf('dht') !== 'direct' || core.options.anonymous) return 0;
    const v6 = ip.includes(':');
    const sockets = this.#dhtSockets.length > 0 ? this.#dhtSockets : this.#sockets;
    const port = sockets.find((socket) => socket.v6 === v6 && socket.local !== null)?.local?.port ?? 0;
    return port === core.port ? core.portFor(ip) : port;
  }

  get addresses(): Endpoint[] {
    return [...this.#sockets, ...this.#dhtSockets].flatMap(({ local }) => (local === null ? [] : [local]));
  }

  /** Closes all; they may be opened again. */
  close(): void {
    this.utp?.closeAll();
    this.endTurn(this.#core.turn.now);
    for (const socket of [...this.#sockets, ...this.#dhtSockets, ...this.#trackerSockets]) socket.close();
    this.#sockets = [];
    this.#dhtSockets = [];
    this.#trackerSockets = [];
    this.#later = [];
    this.#opened = false;
    for (const families of [this.families, this.#trackerFamilies]) {
      families.v4 = false;
      families.v6 = false;
    }
  }

  /** A socket is bound. */
  bound(socket: BoundSocket, local: Endpoint): void {
    const families = socket.use === 'trackers' ? this.#trackerFamilies : this.families;
    if (socket.proxied || local.ip.includes(':')) families.v6 = true;
    if (socket.proxied || !local.ip.includes(':')) families.v4 = true;
    if (socket.use === 'trackers') return;
    if (socket.isMain) this.openLater(local.port);
    if (this.utp !== null && socket.use === 'peers') this.utp.local = local;
    this.#core.discovery.reachable();
  }

  /** The first address has its port, or none (0). */
  openLater(port: number): void {
    const later = this.#later;
    this.#later = [];
    for (const ip of later) this.#sockets.push(new BoundSocket(this.#core, this, ip, port, 'peers', false));
  }
}

/** One socket and where it is bound. */
class BoundSocket implements UdpSink {
  local: Endpoint | null = null;
  readonly v6: boolean;
  readonly use: 'peers' | 'dht' | 'trackers';
  /** It sends to either family. */
  readonly proxied: boolean;
  readonly #core: SessionCore;
  readonly #hub: UdpHub;
  readonly #ip: string;
  #socket: UdpSocket;
  #fellBack: boolean;
  #closed = false;

  constructor(
    core: SessionCore,
    hub: UdpHub,
    ip: string,
    port: number,
    use: 'peers' | 'dht' | 'trackers',
    proxied: boolean,
  ) {
    this.use = use;
    this.proxied = proxied;
    this.#core = core;
    this.#hub = hub;
    this.#ip = ip;
    this.v6 = ip.includes(':');
    this.#fellBack = port === 0;
    this.#socket = this.#open(port);
  }

  /** It is where peers reach us by uTP. */
  get isMain(): boolean {
    return this.use === 'peers' && !this.proxied;
  }

  send(bytes: Uint8Array, ip: string, port: number): boolean {
    return this.#socket.send(bytes, ip, port);
  }

  close(): void {
    this.#closed = true;
    this.local = null;
    this.#socket.close();
  }

  onUdpBound(local: Endpoint): void {
    if (this.#closed) return;
    this.#core.begin();
    this.local = local;
    if (this.isMain) this.#core.listeningByUdp(local, null);
    this.#hub.bound(this, local);
  }

  onDatagram(bytes: Uint8Array, ip: string, port: number): void {
    if (this.#closed || bytes.length === 0) return;
    const core = this.#core;
    core.begin();
    if (this.use === 'trackers') core.announces.datagram(core.turn.now, bytes, ip, port);
    else if (bytes[0] === DICTIONARY) core.discovery.datagram(core.turn.now, bytes, ip, port);
    else {
      const { utp } = this.#hub;
      if (utp?.datagram(core.turn.now, micros(core.ports.clock.now()), bytes, ip, port)) return;
      core.announces.datagram(core.turn.now, bytes, ip, port);
    }
  }

  onUdpFault(fault: IoFault): void {
    if (this.#closed) return;
    this.#core.begin();
    this.#core.trouble('udp', fault);
    this.local = null;
    // uTP alone is heard at this port or not at all
    if (this.#fellBack || this.proxied || (this.isMain && this.#core.options.transport === 'utp')) {
      if (!this.isMain) return;
      this.#core.listeningByUdp({ ip: this.#ip, port: 0 }, fault);
      return this.#hub.openLater(0);
    }
    // another program has this port for UDP: who is asked can answer to any
    this.#fellBack = true;
    this.#socket = this.#open(0);
  }

  #open(port: number): UdpSocket {
    const local = { ip: this.#ip, port };
    this.#core.options.log?.(`udp: binding ${formatEndpoint(this.#ip, port)}`, null);
    const use = this.use === 'trackers' ? 'trackers' : 'peers';
    return this.#core.ports.net.udp(local, { group: null, shared: false, bufferBytes: BUFFER_BYTES, use }, this);
  }
}

/** The clock as uTP writes it: microseconds modulo 2^32. */
function micros(nowMs: number): number {
  return Math.floor(nowMs * 1000) % 0x100000000;
}

function sendBy(sockets: readonly BoundSocket[], bytes: Uint8Array, ip: string, port: number): boolean {
  const v6 = ip.includes(':');
  for (const socket of sockets) {
    if ((socket.v6 === v6 || socket.proxied) && socket.local !== null) return socket.send(bytes, ip, port);
  }
  return false;
}
