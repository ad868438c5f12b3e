/**
 * Connections through a proxy as node's own sockets, for HTTP and for the connection that keeps a relay of datagrams.
 *
 * Invariant: `done` is called once, later, unless it was aborted; a socket that is given out is paused and has what came
 * behind the proxy's answer in front.
 * Limit: 30 s for all of it.
 */

import net from 'node:net';
import type { IoFault } from '../base/errors.ts';
import type { Endpoint } from '../base/ports.ts';
import { type ProxySettings, proxyLabel } from '../base/proxy.ts';
import { dialogueWith, udpDialogueWith } from '../transport/proxy.ts';
import type { ProxyDialogue, ProxyTarget } from '../transport/proxy-dialogue.ts';
import { type Egress, noWay } from './egress.ts';
import { fault, faultOf } from './fault.ts';
import type { ProxyServer } from './proxy-server.ts';

export const PROXY_TIMEOUT_MS = 30_000;

export interface Tunnel {
  readonly socket: net.Socket;
  /** The address of the proxy, and what we left from. */
  readonly proxyIp: string;
  readonly localIp: string;
  /** Where it says that it relays. */
  readonly bound: Endpoint | null;
}

type Done = (fault: IoFault | null, tunnel: Tunnel | null) => void;

/** To `target`, or (null) a SOCKS5 relay for datagrams. Returns how to give up. */
export function openTunnel(
  proxy: ProxySettings,
  target: ProxyTarget | null,
  server: ProxyServer,
  egress: Egress,
  done: Done,
): () => void {
  const attempt = new Attempt(proxy, target, server, egress, done);
  return () => attempt.end();
}

class Attempt {
  readonly #proxy: ProxySettings;
  readonly #server: ProxyServer;
  readonly #egress: Egress;
  readonly #dialogue: ProxyDialogue;
  readonly #done: Done;
  readonly #label: string;
  readonly #timer: NodeJS.Timeout;
  #socket: net.Socket | null = null;
  #over = false;

  constructor(proxy: ProxySettings, target: ProxyTarget | null, server: ProxyServer, egress: Egress, done: Done) {
    this.#proxy = proxy;
    this.#server = server;
    this.#egress = egress;
    this.#done = done;
    this.#label = proxyLabel(proxy);
    this.#dialogue = target === null ? udpDialogueWith(proxy) : dialogueWith(proxy, target);
    this.#timer = setTimeout(
      () => this.#fail(fault('ETIMEOUT', `${this.#label}: no answer for 30 s`)),
      PROXY_TIMEOUT_MS,
    );
    server.find(proxy, (why, ip) => {
      if (this.#over) return;
      if (why !== null) this.#fail(why);
      else this.#connect(ip);
    });
  }

  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#socket?.on('error', () => {});
    this.#socket?.destroy();
  }

  #connect(ip: string): void {
    const local = this.#egress.from(ip);
    if (local === undefined) {
      this.#fail(faultOf(noWay(ip), `reach ${this.#label}`));
      return;
    }
    const socket = net.connect({
      host: ip,
      port: this.#proxy.port,
      noDelay: true,
      ...(local === null ? {} : { localAddress: local }),
    });
    this.#socket = socket;
    let isUp = false;
    socket.on('connect', () => {
      isUp = true;
      this.#talk();
    });
    socket.on('data', (bytes) => {
      this.#dialogue.receive(bytes);
      this.#talk();
      if (this.#dialogue.state === 'open') this.#open(socket, ip);
    });
    socket.on('error', (error) => {
      if (!isUp) this.#server.failed(ip);
      this.#fail({ ...faultOf(error, `reach ${this.#label}`), code: isUp ? 'EPROXY' : 'EPROXYDOWN' });
    });
    socket.on('close', () => this.#fail(fault('EPROXY', `${this.#label} hung up`)));
  }

  #talk(): void {
    const { fault: why } = this.#dialogue;
    if (why !== null) {
      this.#fail(fault(why.code, `${this.#label} ${why.message}`));
      return;
    }
    const out = this.#dialogue.takeOut();
    if (out !== null) this.#socket!.write(out);
  }

  #open(socket: net.Socket, proxyIp: string): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    socket.pause();
    socket.removeAllListeners('data');
    socket.removeAllListeners('error');
    socket.removeAllListeners('close');
    // until whoever takes it over listens
    socket.on('error', () => {});
    const { rest, bound } = this.#dialogue;
    if (rest.length > 0) socket.unshift(rest);
    this.#done(null, { socket, proxyIp, localIp: socket.localAddress ?? '', bound });
  }

  #fail(why: IoFault): void {
    if (this.#over) return;
    this.end();
    this.#done(why, null);
  }
}
