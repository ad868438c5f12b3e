/**
 * A peer driven by hand, speaking raw bytes: for one-sided protocol tests and for hostile peers in storms. It has its
 * own framing, apart from the engine's, so that each tests the other.
 *
 * One FakePeer is one connection; a FakeHost is a machine that dials and accepts, with a script for every connection.
 */

import { concat, latin1, readU32, utf8Encode, writeU32 } from '../src/base/bytes.ts';
import type { IoFault } from '../src/base/errors.ts';
import { formatIp, parseIp } from '../src/base/ip.ts';
import type { Conn, ConnSink, Endpoint } from '../src/base/ports.ts';
import { bencode } from './bencode.ts';
import type { HostOptions, NetHost } from './host.ts';
import type { SimTorrent } from './torrent.ts';
import type { World } from './world.ts';

/** Message numbers (BEP 3, 5, 6, 10). */
export const Msg = {
  Choke: 0,
  Unchoke: 1,
  Interested: 2,
  NotInterested: 3,
  Have: 4,
  Bitfield: 5,
  Request: 6,
  Piece: 7,
  Cancel: 8,
  Port: 9,
  Suggest: 13,
  HaveAll: 14,
  HaveNone: 15,
  Reject: 16,
  AllowedFast: 17,
  Extended: 20,
} as const;

export interface FakeMessage {
  /** -1: keep-alive. */
  readonly id: number;
  readonly payload: Uint8Array;
}

/** What a fake peer does by itself. */
export interface Script {
  /** The connection is up (either way). */
  onUp?(peer: FakePeer): void;
  /** The other side's handshake is in. */
  onHandshake?(peer: FakePeer): void;
  onMessage?(peer: FakePeer, message: FakeMessage): void;
  onClosed?(peer: FakePeer): void;
  /** Every second while the connection is open. */
  onSecond?(peer: FakePeer): void;
}

export class FakePeer implements ConnSink {
  readonly world: World;
  readonly script: Script;
  conn: Conn | null = null;
  up = false;
  closed = false;
  /** How it ended. */
  fault: IoFault | null = null;
  /** The 68 bytes of the other side. */
  handshake: Uint8Array | null = null;
  /** Messages that nobody has expected yet; only kept when the script has no onMessage. */
  readonly messages: FakeMessage[] = [];
  receivedBytes = 0;
  /** Under which number the other side takes ut_pex (BEP 11); 0: it did not offer it. */
  pexNumber = 0;
  #input: Uint8Array = new Uint8Array(0);
  #output: Uint8Array[] = [];
  #sending = false;

  constructor(world: World, script: Script = {}) {
    this.world = world;
    this.script = script;
  }

  /** Takes over a connection, accepted or being made. */
  carry(conn: Conn): void {
    this.conn = conn;
    if (conn.incoming) this.onConnected();
  }

  // ---- conn sink

  onConnected(): void {
    this.up = true;
    this.script.onUp?.(this);
    this.#flush();
    if (this.script.onSecond !== undefined) this.world.call(1000, () => this.#second());
  }

  onData(bytes: Uint8Array): void {
    this.receivedBytes += bytes.length;
    this.#input = this.#input.length === 0 ? bytes.slice() : concat([this.#input, bytes]);
    this.#parse();
  }

  onSent(): void {
    this.#sending = false;
    this.#flush();
  }

  onClosed(fault: IoFault | null): void {
    this.closed = true;
    this.fault = fault;
    this.script.onClosed?.(this);
  }

  // ---- commands

  sendRaw(bytes: Uint8Array): void {
    if (this.closed || bytes.length === 0) return;
    this.#output.push(bytes);
    this.#flush();
  }

  /** fast, extended: the reserved bits of BEP 6 and BEP 10. */
  sendHandshake(torrent: SimTorrent, options: { fast?: boolean; extended?: boolean; peerId?: Uint8Array } = {}): void {
    const bytes = new Uint8Array(68);
    bytes[0] = 19;
    bytes.set(utf8Encode('BitTorrent protocol'), 1);
    if (options.extended ?? true) bytes[25]! |= 0x10;
    if (options.fast ?? true) bytes[27]! |= 0x04;
    bytes.set(torrent.infoHash, 28);
    if (options.peerId !== undefined) bytes.set(options.peerId, 48);
    else {
      bytes.set(utf8Encode('-FK0001-'), 48);
      this.world.rng.fill(bytes.subarray(56));
    }
    this.sendRaw(bytes);
  }

  send(id: number, ...parts: (number | Uint8Array)[]): void {
    const body: Uint8Array[] = [];
    for (const part of parts) body.push(typeof part === 'number' ? u32(part) : part);
    const joined = concat(body);
    const head = new Uint8Array(5);
    writeU32(head, 0, joined.length + 1);
    head[4] = id;
    this.sendRaw(concat([head, joined]));
  }

  sendExtended(handshake: Parameters<typeof bencode>[0]): void {
    this.send(Msg.Extended, Uint8Array.from([0]), bencode(handshake));
  }

  /** A PEX message (IPv4 only), in whatever number and order; nothing to one that does not take it. */
  sendPex(added: readonly Endpoint[], dropped: readonly Endpoint[] = [], flags = 0): void {
    if (this.pexNumber === 0) return;
    const body = bencode({
      added: concat(added.map(compact)),
      'added.f': new Uint8Array(added.length).fill(flags),
      dropped: concat(dropped.map(compact)),
    });
    this.send(Msg.Extended, Uint8Array.of(this.pexNumber), body);
  }

  /** A `mark` of 1..255 makes it wrong, each in its own way; true is one of them. */
  sendBlock(torrent: SimTorrent, piece: number, begin: number, length: number, mark: number | boolean = 0): void {
    const bytes = torrent.read(piece * torrent.pieceLength + begin, length);
    // a changed mark keeps the content compact; short blocks have none
    bytes[Math.min(16, length - 1)]! ^= Number(mark);
    this.send(Msg.Piece, piece, begin, bytes);
  }

  pause(): void {
    this.conn?.pause();
  }

  resume(): void {
    this.conn?.resume();
  }

  close(): void {
    this.conn?.close();
  }

  // ---- for tests: run the world until something comes

  expectUp(limitMs = 10_000): void {
    this.#until(() => this.up, limitMs, 'a connection');
  }

  expectHandshake(limitMs = 10_000): Uint8Array {
    this.#until(() => this.handshake !== null, limitMs, 'a handshake');
    return this.handshake!;
  }

  /** The next message of this kind; others before it are skipped. */
  expect(id: number, limitMs = 10_000): FakeMessage {
    let found: FakeMessage | undefined;
    const look = (): boolean => {
      while (found === undefined && this.messages.length > 0) {
        const message = this.messages.shift()!;
        if (message.id === id) found = message;
      }
      return found !== undefined;
    };
    this.#until(look, limitMs, `message ${id}`);
    return found!;
  }

  expectClosed(limitMs = 10_000): void {
    this.world.runUntil(() => this.closed, limitMs);
    if (!this.closed) throw new Error('the connection was expected to be closed');
  }

  // ---- inside

  #until(done: () => boolean, limitMs: number, what: string): void {
    this.world.runUntil(() => done() || this.closed, limitMs);
    if (!done()) throw new Error(`${what} was expected, ${this.closed ? 'the connection ended' : 'nothing came'}`);
  }

  #flush(): void {
    if (this.#sending || this.#output.length === 0 || !this.up || this.closed || this.conn === null) return;
    const views = this.#output.splice(0, 64);
    this.#sending = true;
    this.conn.send(views, views.length);
  }

  #second(): void {
    if (this.closed) return;
    this.script.onSecond!(this);
    this.world.call(1000, () => this.#second());
  }

  #parse(): void {
    let at = 0;
    const input = this.#input;
    if (this.handshake === null) {
      if (input.length < 68) return;
      this.handshake = input.slice(0, 68);
      at = 68;
      this.script.onHandshake?.(this);
    }
    while (input.length - at >= 4) {
      const length = readU32(input, at);
      if (input.length - at < 4 + length) break;
      const id = length === 0 ? -1 : input[at + 4]!;
      const message = { id, payload: input.slice(at + 5, at + 4 + length) };
      if (id === Msg.Extended && message.payload[0] === 0) {
        this.pexNumber = Number(/6:ut_pexi(\d+)e/.exec(latin1(message.payload))?.[1] ?? 0);
      }
      at += 4 + length;
      if (this.script.onMessage !== undefined) this.script.onMessage(this, message);
      else this.messages.push(message);
    }
    this.#input = input.subarray(at);
  }
}

/** A machine of fake peers. */
export class FakeHost {
  readonly world: World;
  readonly host: NetHost;
  readonly peers: FakePeer[] = [];
  readonly #makeScript: () => Script;

  /** `makeScript`: one for each connection. */
  constructor(world: World, options: HostOptions = {}, makeScript: () => Script = () => ({})) {
    this.world = world;
    this.host = world.net.addHost(options);
    this.#makeScript = makeScript;
  }

  get endpoint(): Endpoint {
    return { ip: this.host.ip, port: [...this.host.listeners.keys()][0] ?? 0 };
  }

  listen(port = 6881): void {
    this.host.listeners.set(port, {
      onListening: () => {},
      onAccept: (conn) => {
        const peer = this.#made();
        conn.sink = peer;
        peer.carry(conn);
      },
      onListenFault: () => {},
    });
  }

  dial(remote: Endpoint): FakePeer {
    const peer = this.#made();
    peer.carry(this.world.net.connect(this.host, remote, peer));
    return peer;
  }

  #made(): FakePeer {
    const peer = new FakePeer(this.world, this.#makeScript());
    this.peers.push(peer);
    return peer;
  }
}

/** Whom a PEX message that came under our number `under` adds and drops (IPv4 only); null: it is another message. */
export function readPex(message: FakeMessage, under: number): { added: string[]; dropped: string[] } | null {
  if (message.id !== Msg.Extended || message.payload[0] !== under) return null;
  const list = (key: string): string[] => {
    const text = latin1(message.payload);
    const found = new RegExp(`${key.length}:${key}(\\d+):`).exec(text);
    if (found === null) return [];
    const from = found.index + found[0].length;
    const bytes = message.payload.subarray(from, from + Number(found[1]));
    const ips: string[] = [];
    for (let at = 0; at < bytes.length; at += 6) {
      ips.push(`${formatIp(bytes.subarray(at, at + 4))}:${(bytes[at + 4]! << 8) | bytes[at + 5]!}`);
    }
    return ips;
  };
  return { added: list('added'), dropped: list('dropped') };
}

function compact({ ip, port }: Endpoint): Uint8Array {
  return concat([parseIp(ip)!, Uint8Array.of(port >> 8, port)]);
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, value);
  return bytes;
}
