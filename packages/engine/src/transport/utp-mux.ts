/**
 * All uTP connections of one UDP socket (BEP 29): tells whose a packet is, lets new ones in, resets strangers, and runs
 * every connection's deadlines through one heap.
 *
 * A packet belongs to the connection with its id, address and port; one whose address changed belongs to nobody. A SYN
 * makes no connection, only a short record: the connection begins when its sender proves, with the number that our answer
 * carried to its address, that it is there. Nothing is sent to it before but that answer, of the SYN's own length.
 *
 * In a turn: `datagram` for what came, `tick` when `nextAt` is due, commands of the conns in any order, and at the end
 * `endTurn`, where everything is sent and most is told.
 *
 * Limits: 3,000 connections (libutp), 8,192 half-open ones for 30 s, 5 resets a second to one address and 1,024 addresses;
 * 64 MiB of packets; all of them settable.
 */

import { Heap } from '../base/heap.ts';
import type { Conn, ConnSink, Endpoint, Random } from '../base/ports.ts';
import type { Move } from '../base/slot-pool.ts';
import { HalfOpenTable } from './utp-half-open.ts';
import { isUtp, PacketType, seqDiff, UTP_HEADER_BYTES, UtpHeader, writeFixed, writeVarying } from './utp-packet.ts';
import { type PacketBuffer, PacketPool } from './utp-pool.ts';
import { type UtpHost, UtpSocket } from './utp-socket.ts';
import { UtpStats } from './utp-stats.ts';

export interface UtpSink {
  /** Send this datagram; its bytes are the mux's again on return. False: not taken, the system has no room now. */
  onUtpSend(bytes: Uint8Array, ip: string, port: number): boolean;
  /** A new incoming connection. The callee sets `conn.sink` before it returns, or closes it. */
  onUtpAccept(conn: Conn): void;
}

export interface UtpOptions {
  /** Ids and first numbers come from here: unpredictable, they are what keeps strangers out. */
  readonly random: Pick<Random, 'fill'>;
  readonly sink: UtpSink;
  /**
   * Longest UDP payload to try on the way to this address: what the interface carries without fragments. Default: 65,507
   * (65,487) on loopback, 1,372 over IPv4, 1,232 over IPv6.
   */
  readonly mtu?: (ip: string) => number;
  readonly maxSockets?: number;
  readonly maxHalfOpen?: number;
  /** Bytes each connection may have sent to us that were not read. */
  readonly receiveWindow?: number;
  /** Bytes of all packets kept. */
  readonly memoryBytes?: number;
  /** Copies what is to be sent into packets; default: as between plain memory. */
  readonly move?: Move;
  /** Take SYNs; may be changed later. */
  readonly accepting?: boolean;
}

/** A uTP connection, with what only uTP has to tell. */
export type UtpConn = UtpSocket;

const MAX_SOCKETS = 3000;
const MAX_HALF_OPEN = 8192;
/** Thirty datagrams of loopback's length: both sides work while those are under way. */
const RECEIVE_WINDOW = 2 << 20;
const MEMORY_BYTES = 64 << 20;
const RESETS_PER_SECOND = 5;
const RESET_ADDRESSES = 1024;
const DIAL_TRIES = 16;
const ROUNDS = 4;

export class UtpMux implements UtpHost {
  readonly pool: PacketPool;
  readonly scratch: PacketBuffer;
  readonly receiveWindow: number;
  readonly stats: UtpStats = new UtpStats();
  /** Address of our side, as conns show it. */
  local: Endpoint = { ip: '', port: 0 };
  accepting: boolean;
  readonly #sink: UtpSink;
  readonly #random: Pick<Random, 'fill'>;
  readonly #mtu: (ip: string) => number;
  readonly #maxSockets: number;
  readonly #header: UtpHeader = new UtpHeader();
  /** id * 65536 + port -> the first of those that share it, linked by `next`. */
  readonly #table = new Map<number, UtpSocket>();
  #last: UtpSocket | null = null;
  readonly #halfOpen: HalfOpenTable;
  readonly #heap: Heap = new Heap();
  readonly #sockets: (UtpSocket | null)[] = [];
  readonly #freeIndexes: number[] = [];
  #touched: UtpSocket[] = [];
  #spare: UtpSocket[] = [];
  readonly #resets = new Map<string, number>();
  #resetsAtMs = 0;
  readonly #drawn: Uint8Array = new Uint8Array(256);
  #drawnAt = 256;

  constructor(options: UtpOptions) {
    this.pool = new PacketPool(options.memoryBytes ?? MEMORY_BYTES, options.move);
    // for good: taken before anything else can be out
    this.scratch = this.pool.take(UTP_HEADER_BYTES)!;
    this.receiveWindow = options.receiveWindow ?? RECEIVE_WINDOW;
    this.accepting = options.accepting ?? true;
    this.#sink = options.sink;
    this.#random = options.random;
    this.#mtu = options.mtu ?? defaultMtu;
    this.#maxSockets = options.maxSockets ?? MAX_SOCKETS;
    this.#halfOpen = new HalfOpenTable(options.maxHalfOpen ?? MAX_HALF_OPEN);
  }

  // ----------------------------------------------------------------------------------------------------------- inputs

  /** `micros`: the clock at receipt, microseconds modulo 2^32. True: it was uTP, whatever became of it. */
  datagram(now: number, micros: number, bytes: Uint8Array, ip: string, port: number): boolean {
    if (!isUtp(bytes)) return false;
    const { stats } = this;
    stats.packetsIn++;
    stats.bytesIn += bytes.length;
    const h = this.#header;
    if (!h.read(bytes)) {
      stats.badIn++;
      return true;
    }
    if (h.type === PacketType.Syn) this.#syn(now, micros, h, ip, port);
    else if (h.type === PacketType.Reset) this.#reset(h, ip, port);
    else {
      const socket = this.#find(h.id, ip, port);
      if (socket !== null) socket.packet(now, micros, h, bytes);
      else if (!this.#admit(now, micros, h, bytes, ip, port)) this.#sendReset(now, micros, h, ip, port);
    }
    return true;
  }

  /** Starts to connect. `onConnected` or `onClosed` follows. */
  connect(now: number, remote: Endpoint, sink: ConnSink): Conn {
    let id = this.#draw16();
    for (let i = 0; i < DIAL_TRIES && this.#find(id, remote.ip, remote.port) !== null; i++) id = this.#draw16();
    const socket = this.#make(remote, false, id, (id + 1) & 0xffff, this.#draw16());
    socket.sink = sink;
    socket.dial(now);
    return socket;
  }

  /** Runs the deadlines that are due. */
  tick(now: number, micros: number): void {
    while (this.#heap.minKey <= now) {
      const index = this.#heap.pop();
      const socket = this.#sockets[index];
      if (socket === null || socket === undefined) continue;
      const at = socket.nextAt();
      if (at <= now) socket.tick(now, micros);
      else this.#heap.set(index, at);
    }
    this.#halfOpen.sweep(now);
    this.stats.halfOpenCount = this.#halfOpen.count;
  }

  /** When a turn with `tick` is to come at the latest. 0: at once. */
  nextAt(): number {
    return this.#touched.length > 0 ? 0 : Math.min(this.#heap.minKey, this.#halfOpen.nextAt());
  }

  /** Sends and tells what came of this turn. */
  endTurn(now: number, micros: number): void {
    // who is told something may command others; what they have to say comes in the next round
    for (let round = 0; round < ROUNDS && this.#touched.length > 0; round++) {
      const touched = this.#touched;
      this.#touched = this.#spare;
      for (let i = 0; i < touched.length; i++) {
        const socket = touched[i]!;
        socket.touched = false;
        socket.endTurn(now, micros);
        const at = socket.nextAt();
        // a deadline that moved away is looked at when it comes
        if (at < this.#heap.keyOf(socket.index)) this.#heap.set(socket.index, at);
      }
      touched.length = 0;
      this.#spare = touched;
    }
  }

  /** Closes all connections as `Conn.close` does. */
  closeAll(): void {
    for (const socket of this.#sockets) socket?.close();
  }

  // -------------------------------------------------------------------------------------------------------- for sockets

  emit(socket: UtpSocket, bytes: Uint8Array): boolean {
    const { remote } = socket;
    return this.#send(bytes, remote.ip, remote.port);
  }

  touch(socket: UtpSocket): void {
    if (socket.touched) return;
    socket.touched = true;
    this.#touched.push(socket);
  }

  gone(socket: UtpSocket): void {
    if (this.#sockets[socket.index] !== socket) return;
    this.#sockets[socket.index] = null;
    this.#freeIndexes.push(socket.index);
    this.#heap.remove(socket.index);
    this.stats.socketCount--;
    if (this.#last === socket) this.#last = null;
    const key = keyOf(socket.recvId, socket.remote.port);
    const first = this.#table.get(key)!;
    if (first === socket) {
      if (socket.next === null) this.#table.delete(key);
      else this.#table.set(key, socket.next);
      return;
    }
    for (let at = first; at.next !== null; at = at.next) {
      if (at.next !== socket) continue;
      at.next = socket.next;
      return;
    }
  }

  // ------------------------------------------------------------------------------------------------------------ inside

  #send(bytes: Uint8Array, ip: string, port: number): boolean {
    if (!this.#sink.onUtpSend(bytes, ip, port)) return false;
    this.stats.packetsOut++;
    this.stats.bytesOut += bytes.length;
    return true;
  }

  #find(id: number, ip: string, port: number): UtpSocket | null {
    const last = this.#last;
    if (last !== null && last.recvId === id && last.remote.port === port && last.remote.ip === ip) return last;
    let socket = this.#table.get(keyOf(id, port)) ?? null;
    while (socket !== null && socket.remote.ip !== ip) socket = socket.next;
    if (socket !== null) this.#last = socket;
    return socket;
  }

  #make(remote: Endpoint, incoming: boolean, recvId: number, sendId: number, seq: number): UtpSocket {
    const index = this.#freeIndexes.pop() ?? this.#sockets.length;
    const most = Math.min(this.#mtu(remote.ip), 65507);
    const secret = this.#draw16() * 65536 + this.#draw16();
    const socket = new UtpSocket(this, index, remote, this.local, incoming, recvId, sendId, seq, secret, most);
    this.#sockets[index] = socket;
    const key = keyOf(recvId, remote.port);
    socket.next = this.#table.get(key) ?? null;
    this.#table.set(key, socket);
    this.stats.socketCount++;
    return socket;
  }

  #syn(now: number, micros: number, h: UtpHeader, ip: string, port: number): void {
    const { stats } = this;
    stats.synsIn++;
    const recvId = (h.id + 1) & 0xffff;
    // of a connection there is already: our answer was lost, or it is forged
    const known = this.#find(recvId, ip, port);
    if (known !== null || !this.accepting || port === 0 || stats.socketCount >= this.#maxSockets) {
      if (known === null) stats.synsDropped++;
      return;
    }
    const half = this.#halfOpen.add(now, ip, port, recvId, h.seq, this.#draw16());
    stats.halfOpenCount = this.#halfOpen.count;
    if (half === null) {
      stats.synsDropped++;
      return;
    }
    const { bytes } = this.scratch;
    writeFixed(bytes, PacketType.State, 0, h.id, half.seq);
    writeVarying(bytes, micros, h.micros === 0 ? 0 : (micros - h.micros) >>> 0, this.receiveWindow, half.remoteSeq);
    this.#send(this.scratch.view(UTP_HEADER_BYTES), ip, port);
  }

  /** The first data of a half-open connection. False: there is none. */
  #admit(now: number, micros: number, h: UtpHeader, bytes: Uint8Array, ip: string, port: number): boolean {
    const half = this.#halfOpen.find(ip, port, h.id);
    if (half === null) return false;
    // he knows our number; the packet may be one of his first, come out of order
    const ahead = seqDiff(h.seq, half.remoteSeq);
    if (h.type !== PacketType.Data || h.ack !== ((half.seq - 1) & 0xffff) || ahead < 1 || ahead > 64) {
      this.stats.badIn++;
      // whoever guesses gets one guess
      if (h.ack !== ((half.seq - 1) & 0xffff)) this.#halfOpen.remove(half);
      return true;
    }
    this.#halfOpen.remove(half);
    this.stats.halfOpenCount = this.#halfOpen.count;
    if (this.stats.socketCount >= this.#maxSockets) {
      this.stats.synsDropped++;
      return true;
    }
    const socket = this.#make({ ip, port }, true, h.id, (h.id - 1) & 0xffff, half.seq);
    socket.accepted(now, (half.remoteSeq + 1) & 0xffff, UTP_HEADER_BYTES, UTP_HEADER_BYTES);
    this.#sink.onUtpAccept(socket);
    socket.packet(now, micros, h, bytes);
    return true;
  }

  /** A reset carries the id of the packet that it answers: ours to send, or (other implementations) to receive. */
  #reset(h: UtpHeader, ip: string, port: number): void {
    this.stats.resetsIn++;
    let socket = this.#find(h.id, ip, port);
    if (socket === null) socket = this.#find((h.id - 1) & 0xffff, ip, port);
    if (socket === null || (socket.recvId !== h.id && socket.sendId !== h.id)) {
      socket = this.#find((h.id + 1) & 0xffff, ip, port);
    }
    if (socket !== null && (socket.recvId === h.id || socket.sendId === h.id)) socket.reset(h.ack);
  }

  #sendReset(now: number, micros: number, h: UtpHeader, ip: string, port: number): void {
    if (now >= this.#resetsAtMs) {
      this.#resets.clear();
      this.#resetsAtMs = now + 1000;
    }
    const count = this.#resets.get(ip) ?? 0;
    if (count >= RESETS_PER_SECOND || (count === 0 && this.#resets.size >= RESET_ADDRESSES)) return;
    this.#resets.set(ip, count + 1);
    const { bytes } = this.scratch;
    writeFixed(bytes, PacketType.Reset, 0, h.id, this.#draw16());
    writeVarying(bytes, micros, 0, 0, h.seq);
    if (this.#send(this.scratch.view(UTP_HEADER_BYTES), ip, port)) this.stats.resetsOut++;
  }

  #draw16(): number {
    if (this.#drawnAt >= this.#drawn.length) {
      this.#random.fill(this.#drawn);
      this.#drawnAt = 0;
    }
    const at = this.#drawnAt;
    this.#drawnAt = at + 2;
    return (this.#drawn[at]! << 8) | this.#drawn[at + 1]!;
  }
}

function keyOf(id: number, port: number): number {
  return id * 65536 + port;
}

function defaultMtu(ip: string): number {
  if (ip.startsWith('127.')) return 65507;
  if (ip === '::1') return 65487;
  return ip.includes(':') ? 1232 : 1372;
}
