/**
 * Datagrams through a SOCKS5 proxy (RFC 1928, UDP ASSOCIATE): each goes to the proxy's relay behind a header that names
 * whom it is for, and what the relay sends back is unwrapped. Names that only the proxy looks up are sent as names.
 *
 *     connect -> ask for a relay -> socket bound -> works
 *        ^            |                               | the connection ends: so does the relay
 *        |            '- refused: off for good        |
 *        '--------- 1 s, 2 s, 4 s ... a minute -------'
 *
 * Invariant: datagrams go to the relay and are taken from the relay alone; without one nothing is sent.
 */

import type net from 'node:net';
import type { IoFault } from '../base/errors.ts';
import { formatIp, isLocal, parseIp } from '../base/ip.ts';
import type { Endpoint, UdpOptions, UdpSink, UdpSocket } from '../base/ports.ts';
import { type ProxySettings, proxyLabel, type Traffic } from '../base/proxy.ts';
import { UdpOrigin, udpHeader } from '../transport/proxy-udp.ts';
import type { Egress } from './egress.ts';
import { fault, faultOf } from './fault.ts';
import type { ProxyServer } from './proxy-server.ts';
import { openTunnel, type Tunnel } from './proxy-tunnel.ts';

const RETRY_MS = 1000;
const RETRY_CAP_MS = 60_000;
/** A relay that lasted so long was no mishap. */
const STEADY_MS = 10_000;
/** Headers kept ready, by whom they are for. */
const MAX_HEADERS = 4096;
const MAX_BYTES = 65_507;

export interface ProxyUdpHost {
  readonly egress: Egress;
  readonly server: ProxyServer;
  /** Opens the socket that speaks with the relay; no block list applies to it. */
  openPlain(local: Endpoint, options: UdpOptions, sink: UdpSink): UdpSocket;
  /** It is closed. */
  gone(socket: ProxyUdpSocket): void;
}

export class ProxyUdpSocket implements UdpSocket, UdpSink {
  readonly #host: ProxyUdpHost;
  readonly #proxy: ProxySettings;
  readonly #traffic: Traffic;
  readonly #options: UdpOptions;
  readonly #sink: UdpSink;
  readonly #origin = new UdpOrigin();
  readonly #headers = new Map<string, Uint8Array>();
  #scratch: Uint8Array = new Uint8Array(2048);
  #giveUp: () => void = () => {};
  #control: net.Socket | null = null;
  #relay: Endpoint = { ip: '', port: 0 };
  #plain: UdpSocket | null = null;
  #bound = false;
  #timer: NodeJS.Timeout | null = null;
  #tries = 0;
  #sinceMs = 0;
  #closed = false;

  constructor(host: ProxyUdpHost, proxy: ProxySettings, traffic: Traffic, options: UdpOptions, sink: UdpSink) {
    this.#host = host;
    this.#proxy = proxy;
    this.#traffic = traffic;
    this.#options = options;
    this.#sink = sink;
    this.#start();
  }

  send(bytes: Uint8Array, ip: string, port: number): boolean {
    if (!this.#bound || this.#closed || !(port >= 1 && port <= 65535)) return false;
    const { egress, server } = this.#host;
    const name = server.names.nameOf(ip);
    if (name === null && egress.blocks(ip)) return false;
    const header = this.#headerFor(name ?? ip, port);
    const length = header.length + bytes.length;
    if (length > MAX_BYTES) return false;
    if (length > this.#scratch.length) this.#scratch = new Uint8Array(MAX_BYTES);
    this.#scratch.set(header);
    this.#scratch.set(bytes, header.length);
    return this.#plain!.send(this.#scratch.subarray(0, length), this.#relay.ip, this.#relay.port);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    this.#host.gone(this);
  }

  /** The addresses or the proxy are others now. */
  egressChanged(): void {
    if (this.#closed) return;
    const { egress } = this.#host;
    if (!egress.allows(this.#traffic, this.#proxy)) this.#die(fault('ENETDOWN', `${this.#label}: not used any more`));
    else if (this.#control !== null && !egress.holds(plainLocal(this.#control))) this.#lost();
  }

  // ------------------------------------------------------------------------------------------ of the socket inside

  onUdpBound(local: Endpoint): void {
    if (this.#closed || this.#plain === null) return;
    this.#bound = true;
    this.#sink.onUdpBound(local);
  }

  onDatagram(bytes: Uint8Array, ip: string, port: number): void {
    const origin = this.#origin;
    if (this.#closed || !this.#bound || ip !== this.#relay.ip || port !== this.#relay.port) return;
    if (!origin.read(bytes) || this.#host.egress.blocks(origin.ip)) return;
    this.#sink.onDatagram(bytes.subarray(origin.at), origin.ip, origin.port);
  }

  onUdpFault(): void {
    if (!this.#closed) this.#lost();
  }

  // -------------------------------------------------------------------------------------------------------- private

  get #label(): string {
    return proxyLabel(this.#proxy);
  }

  #start(): void {
    const { egress, server } = this.#host;
    this.#giveUp = openTunnel(this.#proxy, null, server, egress, (why, tunnel) => {
      if (tunnel !== null) this.#associated(tunnel);
      else if (why!.code === 'EPROXYDENIED' || why!.code === 'EPROXYAUTH') {
        this.#die(fault(why!.code, `no UDP: ${why!.message}`));
      } else this.#again();
    });
  }

  #associated({ socket, proxyIp, bound }: Tunnel): void {
    this.#control = socket;
    this.#sinceMs = performance.now();
    socket.on('close', () => {
      if (this.#control === socket) this.#lost();
    });
    // nothing is to come; it is read so that its end is seen
    socket.resume();
    const relay = relayOf(bound, proxyIp);
    const local = this.#host.egress.from(relay.ip);
    if (local === undefined || relay.port === 0) {
      this.#lost();
      return;
    }
    this.#relay = relay;
    const ip = local ?? (relay.ip.includes(':') ? '::' : '0.0.0.0');
    const options = { ...this.#options, group: null, shared: false };
    this.#plain = this.#host.openPlain({ ip, port: 0 }, options, this);
  }

  /** There is no relay any more. */
  #lost(): void {
    if (performance.now() - this.#sinceMs >= STEADY_MS) this.#tries = 0;
    this.#stop();
    this.#again();
  }

  #again(): void {
    if (this.#closed || this.#timer !== null) return;
    const afterMs = Math.min(RETRY_CAP_MS, RETRY_MS * 2 ** this.#tries++);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#start();
    }, afterMs);
  }

  #stop(): void {
    this.#giveUp();
    this.#bound = false;
    const control = this.#control;
    // so that its end is not taken for the relay's
    this.#control = null;
    control?.destroy();
    this.#plain?.close();
    this.#plain = null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #die(why: IoFault): void {
    this.close();
    setImmediate(() => this.#sink.onUdpFault(why));
  }

  #headerFor(host: string, port: number): Uint8Array {
    const key = `${host} ${port}`;
    let header = this.#headers.get(key);
    if (header === undefined) {
      if (this.#headers.size >= MAX_HEADERS) this.#headers.clear();
      header = udpHeader(host, port);
      this.#headers.set(key, header);
    }
    return header;
  }
}

/** A socket that has died at once, where datagrams are off. */
export function deadUdpSocket(error: Error, sink: UdpSink): UdpSocket {
  let closed = false;
  setImmediate(() => {
    if (!closed) sink.onUdpFault(faultOf(error, 'send datagrams'));
  });
  return {
    send: () => false,
    close: () => {
      closed = true;
    },
  };
}

/** Proxies behind a NAT, or on every address, do not know how we see them: they relay where they are. */
function relayOf(bound: Endpoint | null, proxyIp: string): Endpoint {
  const said = bound === null ? null : parseIp(bound.ip);
  const proxy = parseIp(proxyIp)!;
  const port = bound?.port ?? 0;
  const isAny = said === null || said.every((byte) => byte === 0);
  if (isAny || said.length !== proxy.length || (isLocal(said) && !isLocal(proxy))) return { ip: formatIp(proxy), port };
  return { ip: formatIp(said), port };
}

function plainLocal(socket: net.Socket): string {
  return socket.localAddress ?? '';
}
