/**
 * TCP: connections and listeners, on node:net.
 *
 * Bytes are read into the one receive buffer of the slot pool (`onread`), so that the engine's only copy is the one into
 * a slot. Accepted sockets do not take `onread`; their handle is wrapped anew, and where that is not possible they fall
 * back to 'data' events. A send is one gathered write past the stream machinery, which would make a Buffer and a queue
 * entry of each view.
 *
 * Invariants: nothing throws; sinks are never called from inside a call; after `onClosed` no sink is called and the
 * handle is gone. A connection that the other side half-closes is over. One through a proxy is up when the proxy says so.
 * Limits: 15 s to connect, 30 s through a proxy; 511 connections waiting to be accepted.
 */

import net from 'node:net';
import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import type { Conn, ConnSink, Endpoint, Listener, ListenSink } from '../base/ports.ts';
import { type ProxySettings, proxyLabel } from '../base/proxy.ts';
import { dialogueWith } from '../transport/proxy.ts';
import type { ProxyDialogue } from '../transport/proxy-dialogue.ts';
import { type Egress, noWay } from './egress.ts';
import { fault, faultOf } from './fault.ts';
import { nobodyKnows, ProxyServer } from './proxy-server.ts';
import { PROXY_TIMEOUT_MS } from './proxy-tunnel.ts';

const CONNECT_TIMEOUT_MS = 15_000;
const BACKLOG = 511;

export class TcpNet {
  readonly #receive: Uint8Array;
  readonly #conns = new Set<TcpConn>();
  readonly #listeners = new Set<TcpListener>();

  readonly #maxIncoming: number;
  readonly #egress: Egress;
  readonly #server: ProxyServer;

  /** `receive`: where all connections read into. `maxIncoming`: no more are taken than let the total be this. */
  constructor(
    receive: Uint8Array,
    egress: Egress,
    maxIncoming: number = Number.POSITIVE_INFINITY,
    server: ProxyServer = new ProxyServer(nobodyKnows),
  ) {
    this.#receive = receive;
    this.#egress = egress;
    this.#server = server;
    egress.onChange(() => {
      for (const conn of [...this.#conns]) {
        const may = egress.allows(conn.incoming ? 'incoming' : 'peer-tcp', conn.proxy);
        if (!may || !egress.holds(conn.local.ip)) conn.cut();
      }
      if (egress.wayOf('incoming') === 'direct') return;
      for (const listener of [...this.#listeners]) listener.cut(egress.closedBy('incoming connections'));
    });
    this.#maxIncoming = maxIncoming;
  }

  listen(local: Endpoint, sink: ListenSink): Listener {
    const why = this.#egress.wayOf('incoming') === 'direct' ? null : this.#egress.closedBy('incoming connections');
    return new TcpListener(local, sink, this.#receive, this.#conns, this.#listeners, this.#maxIncoming, why);
  }

  connect(remote: Endpoint, sink: ConnSink): Conn {
    const proxy = this.#egress.wayOf('peer-tcp') === 'proxy' ? this.#egress.proxy : null;
    const name = this.#server.names.nameOf(remote.ip);
    // what stands for a name is nobody's address
    const isClosed = name === null ? this.#egress.blocks(remote.ip) : proxy === null;
    const bindIp = isClosed ? undefined : this.#egress.from(remote.ip);
    const local = { ip: proxy === null ? (bindIp ?? '') : '', port: 0 };
    const conn = new TcpConn(false, remote, local, this.#receive, this.#conns, proxy);
    conn.sink = sink;
    if (proxy === null || isClosed) conn.dial(bindIp);
    else conn.dialThrough(proxy, name ?? remote.ip, this.#server, this.#egress);
    return conn;
  }

  /** Open connections. */
  get connCount(): number {
    return this.#conns.size;
  }

  /** Ends all connections and listeners; done after the last handle is gone. */
  close(done: () => void): void {
    for (const listener of this.#listeners) listener.close();
    for (const conn of this.#conns) conn.close();
    const wait = (): void => {
      if (this.#conns.size === 0 && this.#listeners.size === 0) done();
      else setImmediate(wait);
    };
    setImmediate(wait);
  }
}

/** What one entry of a gathered write looks like to node's Socket. */
interface Chunk {
  chunk: Uint8Array;
  encoding: 'buffer';
}

type Chunks = Chunk[] & { allBuffers?: boolean };

/** Node's own socket, with the parts of it that are used beyond the documented ones. */
type RawSocket = net.Socket & {
  _handle: object | null;
  _writev?: (chunks: Chunks, done: (error?: Error | null) => void) => void;
};

const nowhere: ConnSink = { onConnected() {}, onData() {}, onSent() {}, onClosed() {} };

class TcpConn implements Conn {
  readonly incoming: boolean;
  readonly remote: Endpoint;
  local: Endpoint;
  sink: ConnSink = nowhere;
  /** What it goes through, or null. */
  readonly proxy: ProxySettings | null;
  readonly #receive: Uint8Array;
  readonly #all: Set<TcpConn>;
  /** With the proxy, until it has connected. */
  #dialogue: ProxyDialogue | null = null;
  #socket: RawSocket | null = null;
  #fault: IoFault | null = null;
  #closing = false;
  #up: boolean;
  #sending = false;
  #timer: NodeJS.Timeout | null = null;
  readonly #onWritten: (error?: Error | null) => void = (error) => {
    if (this.#closing) return;
    if (error) this.#fail(error);
    else sentQueue.add(this);
  };

  constructor(
    incoming: boolean,
    remote: Endpoint,
    local: Endpoint,
    receive: Uint8Array,
    all: Set<TcpConn>,
    proxy: ProxySettings | null,
  ) {
    this.proxy = proxy;
    this.incoming = incoming;
    this.remote = remote;
    this.local = local;
    this.#up = incoming;
    this.#receive = receive;
    this.#all = all;
    all.add(this);
  }

  /** undefined: there is no way there. */
  dial(bindIp: string | null | undefined): void {
    try {
      if (bindIp === undefined) throw noWay(this.remote.ip);
      if (net.isIP(this.remote.ip) === 0) throw new TypeError(`${this.remote.ip} is no IP address`);
      this.#connect(this.remote, bindIp, CONNECT_TIMEOUT_MS, (socket) => this.#opened(socket));
    } catch (error) {
      this.#failSoon(faultOf(error, `connect to ${name(this.remote)}`));
    }
  }

  /** `host`: the peer's address, or the name that stands for it. */
  dialThrough(proxy: ProxySettings, host: string, server: ProxyServer, egress: Egress): void {
    server.find(proxy, (why, ip) => {
      if (this.#closing) return;
      const bindIp = egress.from(ip);
      try {
        if (why === null && bindIp === undefined) throw noWay(ip);
        if (why !== null) this.#end(why);
        else {
          this.#dialogue = dialogueWith(proxy, { host, port: this.remote.port });
          this.#connect({ ip, port: proxy.port }, bindIp!, PROXY_TIMEOUT_MS, (socket) => {
            this.local = { ip: plainIp(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
            this.#talk();
          });
          this.#socket!.once('error', () => server.failed(ip));
        }
      } catch (error) {
        this.#end({ ...faultOf(error, `reach ${proxyLabel(proxy)}`), code: 'EPROXYDOWN' });
      }
    });
  }

  #connect(to: Endpoint, bindIp: string | null, timeoutMs: number, opened: (socket: RawSocket) => void): void {
    const socket = net.connect({
      host: to.ip,
      port: to.port,
      ...(bindIp === null ? {} : { localAddress: bindIp }),
      noDelay: true,
      allowHalfOpen: true,
      onread: { buffer: this.#receive, callback: this.onRead },
    }) as RawSocket;
    this.#timer = setTimeout(() => {
      this.#end(fault('ETIMEOUT', `could not connect to ${name(this.remote)}: no answer for ${timeoutMs / 1000} s`));
    }, timeoutMs);
    socket.once('connect', () => {
      if (!this.#closing) opened(socket);
    });
    this.attach(socket);
  }

  /** It is up. */
  #opened(socket: RawSocket): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#up = true;
    this.local = { ip: plainIp(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
    this.sink.onConnected();
  }

  /** Goes on with the proxy. */
  #talk(): void {
    const dialogue = this.#dialogue!;
    const out = dialogue.takeOut();
    if (out !== null) this.#socket!.write(out);
    if (dialogue.fault !== null) {
      const { code, message } = dialogue.fault;
      this.#end(fault(code, `${proxyLabel(this.proxy!)} ${message} (${name(this.remote)})`));
    } else if (dialogue.state === 'open') {
      this.#dialogue = null;
      this.#opened(this.#socket!);
      if (dialogue.rest.length > 0 && !this.#closing) this.sink.onData(dialogue.rest);
    }
  }

  #failSoon(why: IoFault): void {
    this.#closing = true;
    this.#fault = why;
    setImmediate(() => this.#closed());
  }

  /** Takes a socket over and listens to it. */
  attach(socket: RawSocket): void {
    this.#socket = socket;
    socket.on('error', (error) => this.#fail(error));
    socket.on('end', () => this.#end(this.#dialogue === null ? null : this.#hungUp()));
    socket.on('close', () => this.#closed());
  }

  /** Node calls this for each read that landed in the receive buffer. */
  readonly onRead: (length: number) => boolean = (length) => {
    if (!this.#closing) {
      const all = this.#receive;
      const bytes = length === all.length ? all : all.subarray(0, length);
      if (this.#dialogue === null) this.sink.onData(bytes);
      else {
        this.#dialogue.receive(bytes);
        this.#talk();
      }
    }
    return true;
  };

  /** The fallback: bytes in node's own buffer. */
  readonly onChunk: (bytes: Uint8Array) => void = (bytes) => {
    if (!this.#closing) this.sink.onData(bytes);
  };

  send(views: readonly Uint8Array[], count: number): void {
    if (this.#closing) return;
    assert(this.#up, 'send before the connection is up');
    assert(!this.#sending, 'two sends at once');
    const socket = this.#socket!;
    this.#sending = true;
    if (socket._writev === undefined || socket._writev === null) {
      this.#sendBySteps(socket, views, count);
      return;
    }
    const chunks: Chunks = new Array<Chunk>(count);
    for (let i = 0; i < count; i++) chunks[i] = { chunk: views[i]!, encoding: 'buffer' };
    chunks.allBuffers = true;
    socket._writev(chunks, this.#onWritten);
  }

  /** Called from the queue of finished sends. */
  sent(): void {
    if (this.#closing) return;
    this.#sending = false;
    this.sink.onSent();
  }

  pause(): void {
    if (!this.#closing) this.#socket?.pause();
  }

  resume(): void {
    if (!this.#closing) this.#socket?.resume();
  }

  close(): void {
    this.#end(null);
  }

  /** The way it goes may not be used any more. */
  cut(): void {
    this.#end(fault('ENETDOWN', `the way that ${name(this.remote)} was reached by is closed`));
  }

  #sendBySteps(socket: RawSocket, views: readonly Uint8Array[], count: number): void {
    socket.cork();
    for (let i = 0; i < count - 1; i++) socket.write(views[i]!);
    socket.write(views[count - 1] ?? new Uint8Array(0), this.#onWritten);
    socket.uncork();
  }

  #hungUp(): IoFault {
    return fault('EPROXY', `${proxyLabel(this.proxy!)} hung up (${name(this.remote)})`);
  }

  #fail(error: unknown): void {
    if (this.proxy !== null && !this.#up) {
      // one that has not been heard of yet is perhaps not there at all
      const isThere = this.local.ip !== '';
      const why = faultOf(error, `reach ${proxyLabel(this.proxy)}`);
      this.#end({ code: isThere ? 'EPROXY' : 'EPROXYDOWN', message: why.message });
      return;
    }
    const what = this.#up ? `keep the connection to ${name(this.remote)}` : `connect to ${name(this.remote)}`;
    this.#end(faultOf(error, what));
  }

  #end(why: IoFault | null): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#fault = why;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#socket !== null) this.#socket.destroy();
    else setImmediate(() => this.#closed());
  }

  #closed(): void {
    this.#closing = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (!this.#all.delete(this)) return;
    this.#socket = null;
    const sink = this.sink;
    this.sink = nowhere;
    sink.onClosed(this.#fault);
  }
}

/** Finished sends, told after the call that finished them has returned: most writes end inside `send`. */
class SentQueue {
  #conns: TcpConn[] = [];
  #spare: TcpConn[] = [];
  readonly #drain: () => void = () => {
    const conns = this.#conns;
    this.#conns = this.#spare;
    for (let i = 0; i < conns.length; i++) conns[i]!.sent();
    conns.length = 0;
    this.#spare = conns;
  };

  add(conn: TcpConn): void {
    if (this.#conns.length === 0) process.nextTick(this.#drain);
    this.#conns.push(conn);
  }
}

const sentQueue: SentQueue = new SentQueue();

class TcpListener implements Listener {
  readonly #server: net.Server;
  readonly #sink: ListenSink;
  readonly #receive: Uint8Array;
  readonly #conns: Set<TcpConn>;
  readonly #all: Set<TcpListener>;
  readonly #maxIncoming: number;
  #closing = false;

  constructor(
    local: Endpoint,
    sink: ListenSink,
    receive: Uint8Array,
    conns: Set<TcpConn>,
    all: Set<TcpListener>,
    maxIncoming: number,
    closedBy: Error | null,
  ) {
    this.#maxIncoming = maxIncoming;
    this.#sink = sink;
    this.#receive = receive;
    this.#conns = conns;
    this.#all = all;
    all.add(this);
    this.#server = net.createServer({ pauseOnConnect: true, noDelay: true, allowHalfOpen: true });
    this.#server.on('connection', (socket) => this.#accept(socket as RawSocket));
    this.#server.on('close', () => all.delete(this));
    this.#server.on('error', (error: Error & { syscall?: string }) => {
      // out of descriptors: the connection is lost, the listener is not
      if (error.syscall === 'accept') return;
      this.#fail(faultOf(error, `listen on ${name(local)}`));
    });
    try {
      // without ipv6Only, '::' would take the port of '0.0.0.0' too
      const options = { host: local.ip, port: local.port, backlog: BACKLOG, exclusive: true, ipv6Only: true };
      if (net.isIP(local.ip) === 0) throw new TypeError(`${local.ip} is no IP address`);
      if (closedBy !== null) throw closedBy;
      this.#server.listen(options, () => {
        const address = this.#server.address() as net.AddressInfo | null;
        if (address !== null && !this.#closing) sink.onListening({ ip: plainIp(address.address), port: address.port });
      });
    } catch (error) {
      setImmediate(() => this.#fail(faultOf(error, `listen on ${name(local)}`)));
    }
  }

  close(): void {
    this.#closing = true;
    if (this.#server.listening) this.#server.close();
    else {
      this.#server.once('listening', () => this.#server.close());
      this.#all.delete(this);
    }
  }

  /** Nothing comes in any more. */
  cut(why: Error): void {
    setImmediate(() => this.#fail(faultOf(why, 'listen')));
    if (!this.#closing && this.#server.listening) this.#server.close();
  }

  #fail(why: IoFault): void {
    this.#all.delete(this);
    if (this.#closing) return;
    this.#closing = true;
    if (this.#server.listening) this.#server.close();
    this.#sink.onListenFault(why);
  }

  #accept(socket: RawSocket): void {
    const remote = { ip: plainIp(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    const local = { ip: plainIp(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
    if (this.#closing || remote.ip === '' || this.#conns.size >= this.#maxIncoming) {
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    const conn = new TcpConn(true, remote, local, this.#receive, this.#conns, null);
    const rewrapped = rewrap(socket, this.#receive, conn.onRead);
    if (rewrapped === null) socket.on('data', conn.onChunk);
    conn.attach(rewrapped ?? socket);
    this.#sink.onAccept(conn);
    if (rewrapped === null && !socket.destroyed) socket.resume();
  }
}

/** The same connection as a socket that reads into `buffer`, or null where node has no such handle. */
function rewrap(socket: RawSocket, buffer: Uint8Array, callback: (length: number) => boolean): RawSocket | null {
  const handle = socket._handle;
  if (handle === null || typeof handle !== 'object') return null;
  if (!('useUserBuffer' in handle) || typeof handle.useUserBuffer !== 'function') return null;
  socket._handle = null;
  socket.destroy();
  const options = { handle, allowHalfOpen: true, onread: { buffer, callback } };
  return new net.Socket(options as net.SocketConstructorOpts) as RawSocket;
}

/** Without the v4-mapped prefix that dual-stack sockets show. */
export function plainIp(ip: string): string {
  return ip.startsWith('::ffff:') && ip.includes('.') ? ip.slice(7) : ip;
}

function name(endpoint: Endpoint): string {
  return endpoint.ip.includes(':') ? `[${endpoint.ip}]:${endpoint.port}` : `${endpoint.ip}:${endpoint.port}`;
}
