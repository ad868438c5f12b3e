/**
 * Owns the session's UDP sockets, one for each address it is bound to, on the port its TCP listeners have. All that goes
 * by UDP shares them; the first byte of a datagram tells whose it is:
 *
 *     'd'                     DHT (BEP 5): the beginning of a bencoded dictionary
 *     else a tracker's reply  (BEP 15), known by its transaction id and sender
 *
 * Invariant: what leaves for an address leaves by a socket of its family, and without one it does not leave.
 */

import { formatEndpoint } from '../base/ip.ts';
import type { Endpoint, UdpSink, UdpSocket } from '../base/ports.ts';
import type { SessionCore } from './core.ts';

/** Room for what comes in while a turn is busy. */
const BUFFER_BYTES = 1 << 20;
const DICTIONARY = 0x64;

export class UdpHub {
  /** Families that can be sent to. */
  readonly families: { v4: boolean; v6: boolean } = { v4: false, v6: false };
  readonly #core: SessionCore;
  readonly #sockets: BoundSocket[] = [];
  /** The DHT's own, where it has a port of its own. */
  readonly #dhtSockets: BoundSocket[] = [];
  #opened = false;

  constructor(core: SessionCore) {
    this.#core = core;
  }

  /** Opens the sockets, once it is clear which port TCP has (0: none, any will do). */
  open(tcpPort: number): void {
    if (this.#opened) return;
    this.#opened = true;
    this.#core.announces.udp = this;
    const { bind, dht } = this.#core.options;
    for (const ip of bind) {
      this.#sockets.push(new BoundSocket(this.#core, this, ip, tcpPort));
      if (dht !== null && dht.port !== null && dht.port !== tcpPort) {
        this.#dhtSockets.push(new BoundSocket(this.#core, this, ip, dht.port));
      }
    }
  }

  send(bytes: Uint8Array, ip: string, port: number): boolean {
    return sendBy(this.#sockets, bytes, ip, port);
  }

  sendDht(bytes: Uint8Array, ip: string, port: number): boolean {
    return sendBy(this.#dhtSockets.length > 0 ? this.#dhtSockets : this.#sockets, bytes, ip, port);
  }

  /** The port that nodes of the DHT reach us at; 0: none yet. */
  get dhtPort(): number {
    const sockets = this.#dhtSockets.length > 0 ? this.#dhtSockets : this.#sockets;
    return sockets.find(({ local }) => local !== null)?.local?.port ?? 0;
  }

  get addresses(): Endpoint[] {
    return [...this.#sockets, ...this.#dhtSockets].flatMap(({ local }) => (local === null ? [] : [local]));
  }

  close(): void {
    for (const socket of [...this.#sockets, ...this.#dhtSockets]) socket.close();
    this.families.v4 = false;
    this.families.v6 = false;
  }

  /** A socket is bound. */
  bound(local: Endpoint): void {
    if (local.ip.includes(':')) this.families.v6 = true;
    else this.families.v4 = true;
    this.#core.discovery.reachable();
  }
}

/** One socket and where it is bound. */
class BoundSocket implements UdpSink {
  local: Endpoint | null = null;
  readonly v6: boolean;
  readonly #core: SessionCore;
  readonly #hub: UdpHub;
  readonly #ip: string;
  #socket: UdpSocket;
  #fellBack: boolean;
  #closed = false;

  constructor(core: SessionCore, hub: UdpHub, ip: string, port: number) {
    this.#core = core;
    this.#hub = hub;
    this.#ip = ip;
    this.v6 = ip.includes(':');
    this.#fellBack = port === 0;
    this.#socket = this.#open(port);
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
    this.#hub.bound(local);
  }

  onDatagram(bytes: Uint8Array, ip: string, port: number): void {
    if (this.#closed || bytes.length === 0) return;
    const core = this.#core;
    core.begin();
    if (bytes[0] === DICTIONARY) core.discovery.dht?.datagram(core.turn.now, bytes, ip, port);
    else core.announces.datagram(core.turn.now, bytes, ip, port);
  }

  onUdpFault(fault: { readonly message: string }): void {
    if (this.#closed) return;
    this.#core.begin();
    this.#core.options.log?.(`udp: ${fault.message}`);
    this.local = null;
    if (this.#fellBack) return;
    // another program has this port for UDP: who is asked can answer to any
    this.#fellBack = true;
    this.#socket = this.#open(0);
  }

  #open(port: number): UdpSocket {
    const local = { ip: this.#ip, port };
    this.#core.options.log?.(`udp: binding ${formatEndpoint(this.#ip, port)}`);
    return this.#core.ports.net.udp(local, { group: null, shared: false, bufferBytes: BUFFER_BYTES }, this);
  }
}

function sendBy(sockets: readonly BoundSocket[], bytes: Uint8Array, ip: string, port: number): boolean {
  const v6 = ip.includes(':');
  for (const socket of sockets) if (socket.v6 === v6 && socket.local !== null) return socket.send(bytes, ip, port);
  return false;
}
