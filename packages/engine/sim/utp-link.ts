/**
 * A small packet-level network for uTP alone: machines with clocks of their own, one-way pipes with rate, drop-tail queue,
 * delay, loss, reordering and length limits, and a TCP flow to compete with. One seed decides everything.
 */

import type { IoFault } from '../src/base/errors.ts';
import type { Conn, ConnSink } from '../src/base/ports.ts';
import { Rng } from '../src/base/random.ts';
import { UtpMux, type UtpOptions } from '../src/transport/utp-mux.ts';

export interface PipeOptions {
  /** Bytes per second; 0: no limit. */
  readonly rateBps?: number;
  /** What the queue before it holds. */
  readonly queueBytes?: number;
  readonly delayMs?: number;
  /** Shares of packets, 0 .. 1. */
  readonly loss?: number;
  readonly duplicate?: number;
  /** Extra delay of each packet, drawn up to this: reorders. */
  readonly jitterMs?: number;
  /** Longer datagrams vanish. */
  readonly mtu?: number;
  /** Longer datagrams come cut to this, as with a receiver whose buffer is short. */
  readonly cutTo?: number;
}

/** IP and UDP headers. */
const OVERHEAD_BYTES = 28;

export class UtpWorld {
  now = 1000;
  readonly rng: Rng;
  readonly #heap: { at: number; order: number; run: () => void }[] = [];
  #order = 0;

  constructor(seed: number) {
    this.rng = new Rng(Uint32Array.of(seed, 2, 3, 4));
  }

  at(at: number, run: () => void): void {
    const heap = this.#heap;
    const entry = { at, order: this.#order++, run };
    let i = heap.length;
    heap.push(entry);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(entry, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = entry;
  }

  /** Runs until `done` says so, or the time; true: it did. */
  run(untilMs: number, done: () => boolean = () => false): boolean {
    while (!done()) {
      const first = this.#heap[0];
      if (first === undefined || first.at > untilMs) {
        this.now = untilMs;
        return done();
      }
      this.#pop();
      this.now = Math.max(this.now, first.at);
      first.run();
    }
    return true;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (before(last, heap[child]!)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

/** One way; several flows may share it. */
export class Pipe {
  options: PipeOptions;
  passedBytes = 0;
  droppedCount = 0;
  /** Queueing delays of packets that passed: sum, count, most. */
  delaySum = 0;
  delayCount = 0;
  delayMost = 0;
  readonly #world: UtpWorld;
  #freeAt = 0;

  constructor(world: UtpWorld, options: PipeOptions) {
    this.#world = world;
    this.options = options;
  }

  /** Forgets what was measured. */
  reset(): void {
    this.passedBytes = 0;
    this.delaySum = 0;
    this.delayCount = 0;
    this.delayMost = 0;
  }

  /** `length` without headers; `arrive` is called for each copy that comes out. */
  send(length: number, arrive: () => void): void {
    const { rateBps = 0, queueBytes = 1 << 30, delayMs = 0, loss = 0, duplicate = 0, jitterMs = 0 } = this.options;
    const world = this.#world;
    if (this.options.mtu !== undefined && length > this.options.mtu) return;
    let out = world.now;
    if (rateBps > 0) {
      const waitMs = Math.max(0, this.#freeAt - world.now);
      if ((waitMs / 1000) * rateBps + length > queueBytes) {
        this.droppedCount++;
        return;
      }
      this.#freeAt = Math.max(this.#freeAt, world.now) + ((length + OVERHEAD_BYTES) / rateBps) * 1000;
      out = this.#freeAt;
      this.delaySum += waitMs;
      this.delayCount++;
      this.delayMost = Math.max(this.delayMost, waitMs);
    }
    this.passedBytes += length + OVERHEAD_BYTES;
    if (loss > 0 && world.rng.float() < loss) return;
    const copies = duplicate > 0 && world.rng.float() < duplicate ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const jitter = jitterMs > 0 ? world.rng.float() * jitterMs : 0;
      world.at(out + delayMs + jitter, arrive);
    }
  }
}

/** A machine with one UDP socket. */
export class UtpMachine {
  readonly world: UtpWorld;
  readonly ip: string;
  readonly mux: UtpMux;
  readonly port = 6881;
  /** Clock: its offset, and how much it runs fast (microseconds per second). */
  offsetMicros: number;
  driftPpm = 0;
  /** Who is told of new connections; closes them when null. */
  accept: ((conn: Conn) => void) | null = null;
  /** Sees what leaves; false: it is lost. */
  tap: ((bytes: Uint8Array, to: UtpMachine | undefined) => boolean) | null = null;
  readonly #routes = new Map<string, { to: UtpMachine; pipes: readonly Pipe[] }>();
  #wakeAt = Infinity;

  constructor(world: UtpWorld, ip: string, options: Partial<UtpOptions> = {}) {
    this.world = world;
    this.ip = ip;
    this.offsetMicros = world.rng.u32();
    const sink = {
      onUtpSend: (bytes: Uint8Array, to: string): boolean => this.#send(bytes, to),
      onUtpAccept: (conn: Conn): void => (this.accept === null ? conn.close() : this.accept(conn)),
    };
    this.mux = new UtpMux({ random: world.rng, sink, mtu: () => 1372, ...options });
  }

  get micros(): number {
    const { now } = this.world;
    return Math.floor(now * 1000 + (now * this.driftPpm) / 1000 + this.offsetMicros) >>> 0;
  }

  route(to: UtpMachine, ...pipes: readonly Pipe[]): void {
    this.#routes.set(to.ip, { to, pipes });
  }

  connect(to: UtpMachine, sink: ConnSink): Conn {
    const conn = this.mux.connect(this.world.now, { ip: to.ip, port: to.port }, sink);
    this.turn();
    return conn;
  }

  /** Ends a turn; call it after commands. */
  turn(): void {
    const { now } = this.world;
    this.mux.endTurn(now, this.micros);
    const at = this.mux.nextAt();
    if (at >= this.#wakeAt) return;
    this.#wakeAt = at;
    this.world.at(Math.max(at, now), () => {
      if (this.world.now < this.#wakeAt) return;
      this.#wakeAt = Infinity;
      this.mux.tick(this.world.now, this.micros);
      this.turn();
    });
  }

  receive(bytes: Uint8Array, from: string): void {
    this.mux.datagram(this.world.now, this.micros, bytes, from, this.port);
    this.turn();
  }

  #send(bytes: Uint8Array, toIp: string): boolean {
    const route = this.#routes.get(toIp);
    const copy = bytes.slice();
    if (this.tap !== null && !this.tap(copy, route?.to)) return true;
    if (route !== undefined) passThrough(route.pipes, 0, copy, (cut) => route.to.receive(cut, this.ip));
    return true;
  }
}

function passThrough(pipes: readonly Pipe[], i: number, bytes: Uint8Array, arrive: (cut: Uint8Array) => void): void {
  const pipe = pipes[i];
  if (pipe === undefined) return arrive(bytes);
  const { cutTo } = pipe.options;
  pipe.send(bytes.length, () => {
    const cut = cutTo !== undefined && bytes.length > cutTo ? bytes.subarray(0, cutTo) : bytes;
    passThrough(pipes, i + 1, cut, arrive);
  });
}

/** One end of a connection in a test: sends a pattern, checks the one that comes, remembers what it was told. */
export class UtpEnd implements ConnSink {
  conn: Conn | null = null;
  connected = false;
  closed = false;
  fault: IoFault | null = null;
  sent = 0;
  received = 0;
  receivedAtMs = 0;
  /** Where the pattern was not what it should be; -1: nowhere. */
  wrongAt = -1;
  /** Ends after so many bytes were taken over. */
  closeAfterSending = false;
  readonly #machine: UtpMachine;
  readonly #toSend: number;
  readonly #batch: number;
  readonly #buffer: Uint8Array;

  /** `toSend` bytes in all, `batch` at once. */
  constructor(machine: UtpMachine, toSend: number, batch: number = 1 << 16) {
    this.#machine = machine;
    this.#toSend = toSend;
    this.#batch = batch;
    this.#buffer = new Uint8Array(Math.min(batch, toSend));
  }

  /** Takes a connection over and starts to send. */
  carry(conn: Conn): void {
    this.conn = conn;
    conn.sink = this;
    this.connected = true;
    this.#sendOn();
  }

  onConnected(): void {
    this.connected = true;
    this.#sendOn();
  }

  onData(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) {
      if (bytes[i] !== patternAt(this.received + i) && this.wrongAt < 0) this.wrongAt = this.received + i;
    }
    this.received += bytes.length;
    this.receivedAtMs = this.#machine.world.now;
  }

  onSent(): void {
    this.#buffer.fill(0xee);
    this.#sendOn();
  }

  onClosed(fault: IoFault | null): void {
    this.closed = true;
    this.fault = fault;
  }

  #sendOn(): void {
    const take = Math.min(this.#batch, this.#toSend - this.sent);
    if (take <= 0) {
      if (this.closeAfterSending) this.conn!.close();
      return;
    }
    for (let i = 0; i < take; i++) this.#buffer[i] = patternAt(this.sent + i);
    this.sent += take;
    const cut = take >> 1;
    const views =
      cut > 0 ? [this.#buffer.subarray(0, cut), this.#buffer.subarray(cut, take)] : [this.#buffer.subarray(0, take)];
    this.conn!.send(views, views.length);
  }
}

/** Two machines with a pipe each way, and a connection from the first to the second. */
export function dial(from: UtpMachine, to: UtpMachine, near: UtpEnd, far: UtpEnd): void {
  to.accept = (conn) => far.carry(conn);
  near.conn = from.connect(to, near);
  from.turn();
}

/** A TCP flow that always has something to send (Reno: slow start, additive growth, halving, fast retransmit). */
export class RenoFlow {
  deliveredBytes = 0;
  stopped = false;
  readonly #world: UtpWorld;
  readonly #there: Pipe;
  readonly #back: Pipe;
  #window = 10;
  #threshold = 1e9;
  #next = 0;
  #acked = 0;
  #duplicates = 0;
  #recover = -1;
  #epoch = 0;
  readonly #got = new Set<number>();
  #expected = 0;

  constructor(world: UtpWorld, there: Pipe, back: Pipe) {
    this.#world = world;
    this.#there = there;
    this.#back = back;
    this.#pump();
    this.#arm();
  }

  #pump(): void {
    while (!this.stopped && this.#next < this.#acked + Math.floor(this.#window)) this.#transmit(this.#next++);
  }

  #transmit(number: number): void {
    this.#there.send(1432, () => {
      if (number >= this.#expected) this.#got.add(number);
      while (this.#got.delete(this.#expected)) {
        this.#expected++;
        this.deliveredBytes += 1460;
      }
      const ack = this.#expected;
      this.#back.send(12, () => this.#onAck(ack));
    });
  }

  #onAck(ack: number): void {
    if (ack > this.#acked) {
      this.#acked = ack;
      this.#next = Math.max(this.#next, ack);
      this.#duplicates = 0;
      this.#epoch++;
      this.#arm();
      if (ack <= this.#recover) this.#transmit(ack);
      else if (this.#window < this.#threshold) this.#window++;
      else this.#window += 1 / this.#window;
    } else if (++this.#duplicates === 3 && ack > this.#recover) {
      this.#threshold = Math.max(2, this.#window / 2);
      this.#window = this.#threshold;
      this.#recover = this.#next;
      this.#transmit(ack);
    }
    this.#pump();
  }

  #arm(): void {
    const epoch = this.#epoch;
    this.#world.at(this.#world.now + 1000, () => {
      if (epoch !== this.#epoch || this.stopped) return;
      this.#threshold = Math.max(2, this.#window / 2);
      this.#window = 1;
      this.#recover = -1;
      this.#next = this.#acked;
      this.#pump();
      this.#arm();
    });
  }
}

function patternAt(at: number): number {
  return (Math.imul(at, 0x9e3779b1) >>> 24) ^ ((at >>> 8) & 0xff);
}

function before(a: { at: number; order: number }, b: { at: number; order: number }): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
