/**
 * UDP sockets on node:dgram.
 *
 * Node's own `send` takes a name look-up, a request object and an array for each datagram, and does not say when there was
 * no room. So the handle inside the socket is used directly where node has it as known (looked at once per socket): its
 * `send` tries the system call at once. Elsewhere `socket.send` does the same, for a third more. Receiving by 'message'
 * events costs no more than by the handle: what counts there is node's own allocation of a buffer for each datagram.
 *
 * Invariants: nothing throws; sinks are never called from inside a call, and not after `close` or a fault. Bytes to send
 * are copied first: libuv reads them later when the system has no room now.
 * Limits: 128 datagrams wait for room per socket; any more are not taken.
 */

import dgram from 'node:dgram';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { formatIp, parseIp } from '../base/ip.ts';
import type { Endpoint, NetInterface, UdpOptions, UdpSink, UdpSocket } from '../base/ports.ts';
import type { Traffic } from '../base/proxy.ts';
import { type Egress, noWay } from './egress.ts';
import { errorCode, fault, faultOf } from './fault.ts';
import type { ProxyServer } from './proxy-server.ts';
import { deadUdpSocket, type ProxyUdpHost, ProxyUdpSocket } from './proxy-udp.ts';

const MAX_WAITING = 128;
/** Datagrams up to this go without an allocation; all of uTP and the DHT are shorter. */
const SCRATCH_BYTES = 2048;
const MAX_BYTES = 65_507;
/** How far multicast goes: the site, as other clients have it (BEP 14 names none). */
const MULTICAST_TTL = 32;

/** The open UDP sockets of the host's Net. */
export class UdpSockets implements ProxyUdpHost {
  readonly egress: Egress;
  readonly server: ProxyServer;
  readonly #all = new Set<HostUdpSocket>();
  readonly #proxied = new Set<ProxyUdpSocket>();

  constructor(egress: Egress, server: ProxyServer) {
    this.egress = egress;
    this.server = server;
    egress.onChange(() => {
      for (const socket of [...this.#proxied]) socket.egressChanged();
      for (const socket of [...this.#all]) socket.egressChanged();
    });
  }

  open(local: Endpoint, options: UdpOptions, sink: UdpSink): UdpSocket {
    const traffic = trafficOf(options);
    const way = this.egress.wayOf(traffic);
    if (way === 'off') return deadUdpSocket(this.egress.closedBy('such datagrams'), sink);
    if (way === 'direct') return new HostUdpSocket(local, options, sink, this.#all, this.egress, traffic);
    const proxied = new ProxyUdpSocket(this, this.egress.proxy!, traffic, options, sink);
    this.#proxied.add(proxied);
    return proxied;
  }

  /** Of a proxy's relay. */
  openPlain(local: Endpoint, options: UdpOptions, sink: UdpSink): UdpSocket {
    return new HostUdpSocket(local, options, sink, this.#all, this.egress, null);
  }

  gone(socket: ProxyUdpSocket): void {
    this.#proxied.delete(socket);
  }

  get count(): number {
    return this.#all.size;
  }

  close(): void {
    for (const socket of [...this.#proxied]) socket.close();
    for (const socket of this.#all) socket.close();
  }
}

function trafficOf({ group, use }: UdpOptions): Traffic {
  if (group !== null) return 'lsd';
  if (use === 'local') return 'port-map';
  return use === 'trackers' ? 'udp-tracker' : 'peer-utp';
}

/** The addresses of this machine now. Link-local IPv6 addresses come without their zone. */
export function hostInterfaces(): NetInterface[] {
  const found: NetInterface[] = [];
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, cidr, internal } of addresses ?? []) {
      const prefix = Number(cidr?.split('/')[1] ?? (address.includes(':') ? 128 : 32));
      found.push({ name, ip: canonicalIp(address), prefix, loopback: internal });
    }
  }
  return found;
}

/** The request of one send: an object of node's own class, since a send that has to wait is hung upon it. */
interface SendRequest {
  oncomplete: ((error: number) => void) | null;
  list: readonly Uint8Array[] | null;
}

/** The part of node's internal handle that is used. */
interface UdpHandle {
  /** > 0: gone; 0: waits, `oncomplete` comes; < 0: errno. Aborts the process when an argument is of a wrong type. */
  send(
    request: object,
    list: readonly Uint8Array[],
    count: number,
    port: number,
    ip: string,
    callback: boolean,
  ): number;
}

/** Receiving goes on after these; what they tell is about one datagram or a passing state of the machine. */
const PASSING = new Set([
  'EAGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'EINTR',
  'EMSGSIZE',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'ENOBUFS',
  'ENOMEM',
  'EPERM',
]);

class HostUdpSocket implements UdpSocket {
  readonly #local: Endpoint;
  readonly #sink: UdpSink;
  readonly #all: Set<HostUdpSocket>;
  readonly #egress: Egress;
  /** Null: what a proxy relays; neither table nor block list are asked about it. */
  readonly #traffic: Traffic | null;
  #socket: dgram.Socket | null = null;
  #handle: UdpHandle | null = null;
  #bound = false;
  #closing = false;
  /** Sends that libuv holds because the system had no room. Free scratch memory only while none does. */
  #waitingCount = 0;
  #Request: (new () => SendRequest) | null = null;
  #request: SendRequest | null = null;
  readonly #scratch: Uint8Array = new Uint8Array(SCRATCH_BYTES);
  /** The same for longer ones, made when first needed. */
  #large: Uint8Array | null = null;
  /** Views of the scratch memory by length, made when first needed. */
  readonly #views: (Uint8Array | null)[] = new Array<Uint8Array | null>(SCRATCH_BYTES + 1).fill(null);
  readonly #list: [Uint8Array] = [this.#scratch];
  readonly #onSent: () => void = () => {
    this.#waitingCount -= 1;
  };

  constructor(
    local: Endpoint,
    options: UdpOptions,
    sink: UdpSink,
    all: Set<HostUdpSocket>,
    egress: Egress,
    traffic: Traffic | null,
  ) {
    this.#traffic = traffic;
    this.#local = local;
    this.#sink = sink;
    this.#all = all;
    this.#egress = egress;
    all.add(this);
    try {
      if (!egress.holds(local.ip)) throw noWay(local.ip);
      this.#open(options);
    } catch (error) {
      this.#faultSoon(error);
    }
  }

  send(bytes: Uint8Array, ip: string, port: number): boolean {
    if (!this.#bound || this.#closing) return false;
    // the handle aborts on a port that is no uint32; 0 is nobody's
    if (!(port >= 1 && port <= 65535) || (port | 0) !== port || typeof ip !== 'string') return false;
    if (bytes.length > MAX_BYTES || (this.#traffic !== null && this.#egress.blocks(ip))) return false;
    if (this.#handle === null) return this.#sendByNode(bytes, ip, port);
    if (this.#waitingCount > 0) return this.#sendCopy(bytes, ip, port);
    const view = this.#viewOf(bytes.length);
    view.set(bytes);
    this.#list[0] = view;
    const result = this.#handle.send(this.#request!, this.#list, 1, port, ip, true);
    if (result === 0) {
      this.#waitingCount += 1;
      this.#request = this.#newRequest();
    }
    return result >= 0;
  }

  /** Ends it when it should go another way now. */
  egressChanged(): void {
    if (this.#closing || this.#traffic === null || this.#egress.allows(this.#traffic, null)) return;
    this.close();
    setImmediate(() => this.#sink.onUdpFault(fault('ENETDOWN', 'datagrams go another way now')));
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    if (this.#socket === null) this.#all.delete(this);
    else this.#socket.close();
  }

  #open(options: UdpOptions): void {
    const { ip, port } = this.#local;
    const version = net.isIP(ip);
    if (version === 0) throw new TypeError(`${ip} is no IP address`);
    // node would bind to what is left of it after 16 bits
    if (!(port >= 0 && port <= 65535)) throw new RangeError(`${port} is no port`);
    const socket = dgram.createSocket({
      type: version === 6 ? 'udp6' : 'udp4',
      reuseAddr: options.shared,
      ipv6Only: version === 6,
      // addresses only: nothing is ever looked up, and nothing waits for it
      lookup: (host, _options, done) => done(null, host, version),
    });
    this.#socket = socket;
    socket.on('close', () => this.#all.delete(this));
    socket.on('error', (error) => this.#failed(error));
    socket.on('message', (bytes, from) => this.#datagram(bytes, from.address, from.port));
    socket.on('listening', () => {
      this.#up(socket, options);
    });
    // where the system can, a socket of a group is bound to it, so that nothing else comes in
    const address = options.group === null || process.platform === 'win32' ? ip : options.group;
    socket.bind({ address, port, exclusive: true });
  }

  /** Bound; still inside the constructor. */
  #up(socket: dgram.Socket, options: UdpOptions): void {
    try {
      if (options.bufferBytes > 0) growBuffers(socket, options.bufferBytes);
      if (options.group !== null) joinGroup(socket, options.group, this.#local.ip);
      this.#hook(socket);
    } catch (error) {
      this.#failed(error);
      return;
    }
    setImmediate(() => {
      if (this.#closing) return;
      this.#bound = true;
      this.#sink.onUdpBound({ ip: this.#local.ip, port: socket.address().port });
    });
  }

  /** Takes node's own handle, when it looks as expected. */
  #hook(socket: dgram.Socket): void {
    const handle = handleOf(socket);
    this.#Request = handle === null ? null : requestClass(socket, handle);
    if (this.#Request === null) return;
    this.#handle = handle;
    this.#request = this.#newRequest();
  }

  /** Scratch memory of that length. */
  #viewOf(length: number): Uint8Array {
    if (length > SCRATCH_BYTES) {
      this.#large ??= new Uint8Array(MAX_BYTES);
      return this.#large.subarray(0, length);
    }
    let view = this.#views[length]!;
    if (view === null) {
      view = this.#scratch.subarray(0, length);
      this.#views[length] = view;
    }
    return view;
  }

  #newRequest(): SendRequest {
    const request = new this.#Request!();
    request.oncomplete = this.#onSent;
    return request;
  }

  #datagram(bytes: Uint8Array, ip: string, port: number): void {
    if (this.#closing || !this.#bound) return;
    const from = ip.includes(':') ? canonicalIp(ip) : ip;
    if (this.#traffic === null || !this.#egress.blocks(from)) this.#sink.onDatagram(bytes, from, port);
  }

  /** Bytes of their own, which wait behind others. */
  #sendCopy(bytes: Uint8Array, ip: string, port: number): boolean {
    if (this.#waitingCount >= MAX_WAITING) return false;
    const request = this.#newRequest();
    const list = [bytes.slice()];
    request.list = list;
    const result = this.#handle!.send(request, list, 1, port, ip, true);
    if (result === 0) this.#waitingCount += 1;
    return result >= 0;
  }

  #sendByNode(bytes: Uint8Array, ip: string, port: number): boolean {
    const version = net.isIP(ip);
    if (version === 0 || (version === 6) !== this.#local.ip.includes(':')) return false;
    if (this.#waitingCount >= MAX_WAITING) return false;
    this.#waitingCount += 1;
    try {
      this.#socket!.send(bytes.slice(), port, ip, this.#onSent);
    } catch {
      this.#waitingCount -= 1;
      return false;
    }
    return true;
  }

  #failed(error: unknown): void {
    if (this.#closing || (this.#bound && PASSING.has(errorCode(error)))) return;
    this.#faultSoon(error);
  }

  #faultSoon(error: unknown): void {
    const { ip, port } = this.#local;
    const why = faultOf(error, `use UDP on ${ip.includes(':') ? `[${ip}]` : ip}:${port}`);
    const wasClosing = this.#closing;
    this.close();
    if (!wasClosing) setImmediate(() => this.#sink.onUdpFault(why));
  }
}

/** Asks for less until the system gives it; some refuse, most cap. */
function growBuffers(socket: dgram.Socket, bytes: number): void {
  for (const set of ['setRecvBufferSize', 'setSendBufferSize'] as const) {
    for (let ask = Math.floor(bytes); ask >= 4096; ask = ask >> 1) {
      try {
        socket[set](ask);
        break;
      } catch {
        // too much for this system
      }
    }
  }
}

/** Joins on the interface that has `ip`, or on all. Throws the last error when nowhere. */
function joinGroup(socket: dgram.Socket, group: string, ip: string): void {
  const isAll = ip === '0.0.0.0' || ip === '::';
  let failure: unknown = Object.assign(new Error('no interface has that address'), { code: 'EADDRNOTAVAIL' });
  let joined = 0;
  for (const where of placesOf(ip, isAll)) {
    try {
      socket.addMembership(group, where);
      if (!isAll) socket.setMulticastInterface(where);
      joined += 1;
    } catch (error) {
      failure = error;
    }
  }
  if (joined === 0) throw failure;
  socket.setMulticastTTL(MULTICAST_TTL);
}

/** Interfaces as multicast calls name them: IPv4 by one of their addresses, IPv6 by zone. */
function placesOf(ip: string, isAll: boolean): Set<string> {
  const isV6 = ip.includes(':');
  // any address of the machine will do, those that no interface lists (127.0.0.2) included
  if (!isV6 && !isAll) return new Set([ip]);
  const places = new Set<string>();
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const address of addresses ?? []) {
      if (address.address.includes(':') !== isV6 || (!isAll && canonicalIp(address.address) !== ip)) continue;
      const zone = process.platform === 'win32' && address.family === 'IPv6' ? address.scopeid : name;
      places.add(isV6 ? `::%${zone}` : address.address);
    }
  }
  return places;
}

function handleOf(socket: dgram.Socket): UdpHandle | null {
  const symbol = Object.getOwnPropertySymbols(socket).find((s) => s.description === 'state symbol');
  if (symbol === undefined) return null;
  const state: unknown = Reflect.get(socket, symbol);
  if (typeof state !== 'object' || state === null) return null;
  const handle: unknown = Reflect.get(state, 'handle');
  if (typeof handle !== 'object' || handle === null) return null;
  return Reflect.get(handle, 'send')?.length === 0 ? (handle as UdpHandle) : null;
}

/**
 * The class of node's send requests, which nothing exports: a send whose last step is caught shows one. Null when that
 * step is not what it was: no such call, other arguments.
 */
function requestClass(socket: dgram.Socket, handle: UdpHandle): (new () => SendRequest) | null {
  const real = handle.send;
  const hadOwn = Object.hasOwn(handle, 'send');
  let found: (new () => SendRequest) | null = null;
  const caught = (
    request: object,
    list: unknown,
    count: unknown,
    port: unknown,
    ip: unknown,
    back: unknown,
  ): number => {
    const isKnown = Array.isArray(list) && count === 1 && port === 9 && typeof ip === 'string' && back === false;
    if (isKnown && request?.constructor?.name === 'SendWrap') found = request.constructor as new () => SendRequest;
    return 1;
  };
  try {
    handle.send = caught;
    socket.send(new Uint8Array(0), 9, socket.address().family === 'IPv6' ? '::1' : '127.0.0.1');
  } catch {
    found = null;
  } finally {
    if (hadOwn) handle.send = real;
    else Reflect.deleteProperty(handle, 'send');
  }
  return found;
}

/** Without zone, IPv4-mapped as IPv4; the system's text is canonical but for IPv4 endings. */
function canonicalIp(ip: string): string {
  const zone = ip.indexOf('%');
  const bare = zone < 0 ? ip : ip.slice(0, zone);
  if (!bare.includes(':') || !bare.includes('.')) return bare;
  const bytes = parseIp(bare);
  return bytes === null ? bare : formatIp(bytes);
}
