/**
 * One end of a virtual connection: what was given to send and has not left, what travels towards it, what waits to be
 * read. The host (host.ts) decides when bytes leave and arrive. Bytes are copied once, when they leave, and delivered
 * exactly once and in order.
 *
 * Invariant: bytes left = bytes delivered + bytes under way + bytes dropped by a close; `windowUsed` of a sender is
 * what is under way or unread at the other end and is at most the window.
 */

import { assert } from '../src/base/assert.ts';
import type { IoFault } from '../src/base/errors.ts';
import type { Conn, ConnSink, Endpoint } from '../src/base/ports.ts';
import { Ring } from '../src/base/ring.ts';
import { type Chunk, END, MAX_CHUNK_BYTES } from './chunks.ts';
import type { EventTarget } from './event-queue.ts';
import type { NetHost } from './host.ts';

export const ConnEvent = {
  Arrive: 1,
  LeaveAtOnce: 2,
  Drain: 3,
  Closed: 4,
  Syn: 5,
  Connected: 6,
  Refused: 7,
  Reset: 8,
  TimedOut: 9,
} as const;

const STATE_CONNECTING = 0;
const STATE_OPEN = 1;
/** close() was called, or the end came; onClosed is on its way. */
const STATE_CLOSING = 2;
const STATE_CLOSED = 3;
/** Its machine lost power: nobody is told. */
const STATE_GONE = 4;

/** A send of up to one packet does not wait behind the big ones, as a fair queue on a real uplink lets it. */
const SMALL_BYTES = 1400;

export class SimConn implements Conn, EventTarget {
  readonly id: number;
  readonly host: NetHost;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  readonly incoming: boolean;
  sink: ConnSink;
  /** The other end; null until the connection is made. */
  other: SimConn | null = null;
  latencyMs = 0;
  /** Statistics for the checkers: of what this end sent. */
  leftBytes = 0;
  deliveredBytes = 0;
  droppedBytes = 0;
  /** Bytes this end has under way or unread at the other end. */
  windowUsed = 0;
  /** In the uplink's queue, or leaving. */
  queued = false;
  synTries = 0;
  #state: number = STATE_CONNECTING;
  #fault: IoFault | null = null;
  readonly #views: Uint8Array[] = [];
  #view = 0;
  #viewAt = 0;
  #outLeft = 0;
  readonly #wire: Ring<Chunk> = new Ring<Chunk>();
  readonly #unread: Ring<Chunk> = new Ring<Chunk>();
  #paused = false;
  #draining = false;

  constructor(id: number, host: NetHost, local: Endpoint, remote: Endpoint, incoming: boolean, sink: ConnSink) {
    this.id = id;
    this.host = host;
    this.local = local;
    this.remote = remote;
    this.incoming = incoming;
    this.sink = sink;
  }

  get isOpen(): boolean {
    return this.#state === STATE_OPEN;
  }

  get isGone(): boolean {
    return this.#state === STATE_GONE;
  }

  get outLeft(): number {
    return this.#outLeft;
  }

  // ---- the port

  send(views: readonly Uint8Array[], count: number): void {
    assert(this.#outLeft === 0 && this.#views.length === 0, 'a send while one is under way');
    assert(count > 0 && count <= views.length, 'a send of no views');
    if (this.#state !== STATE_OPEN) {
      assert(this.#state !== STATE_CONNECTING, 'a send before the connection is up');
      return;
    }
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const view = views[i]!;
      bytes += view.length;
      this.#views.push(view);
    }
    assert(bytes > 0, 'a send of no bytes');
    this.#outLeft = bytes;
    this.kick();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wantDrain();
  }

  close(): void {
    if (this.#state >= STATE_CLOSING) return;
    this.#end(null);
    if (this.other !== null) this.#dispatch(END);
  }

  // ---- for the host

  opened(): void {
    this.#state = STATE_OPEN;
  }

  /** Lets bytes leave if there are any and the other end has room. */
  kick(): void {
    if (this.#state !== STATE_OPEN || this.queued || this.#outLeft === 0 || this.#room() === 0) return;
    this.queued = true;
    if (this.#outLeft <= SMALL_BYTES && this.#outLeft <= this.#room()) this.host.leaveAtOnce(this);
    else this.host.queueUp(this);
  }

  /** Bytes the uplink may take from here now. */
  takeable(most: number): number {
    if (this.#state !== STATE_OPEN) return 0;
    return Math.min(most, this.#outLeft, this.#room(), MAX_CHUNK_BYTES);
  }

  /** `bytes` have left: copies them out, tells the sink at the end of a send. */
  left(bytes: number): void {
    this.queued = false;
    if (this.#state !== STATE_OPEN) return;
    const chunk = this.host.net.chunks.take(bytes);
    this.#copyOut(chunk.bytes, bytes);
    this.#outLeft -= bytes;
    this.leftBytes += bytes;
    this.windowUsed += bytes;
    this.host.leftBytes += bytes;
    if (this.host.tap !== null) this.host.tap.onLeft(this, chunk.bytes, bytes);
    this.#dispatch(chunk);
    if (this.#outLeft === 0) {
      this.#views.length = 0;
      this.#view = 0;
      this.#viewAt = 0;
      this.sink.onSent();
    } else {
      this.kick();
    }
  }

  /** A chunk has come through the downlink. */
  pass(chunk: Chunk): void {
    if (this.#state === STATE_GONE) {
      this.#hitGone(chunk);
    } else if (this.#state !== STATE_OPEN) {
      this.#drop(chunk);
    } else if (this.#paused || this.#unread.length > 0 || this.host.net.isCut(this)) {
      this.#unread.push(chunk);
    } else {
      this.#deliver(chunk);
    }
  }

  takeFromWire(): Chunk {
    const chunk = this.#wire.shift();
    assert(chunk !== undefined, 'an arrival of nothing');
    return chunk;
  }

  /** The path works again. */
  healed(): void {
    this.#wantDrain();
  }

  /** The process was killed: the system resets its connections. */
  killed(): void {
    if (this.#state === STATE_OPEN && this.other !== null) this.host.net.resetLater(this.other, this.latencyMs);
    this.vanish();
  }

  /** The machine lost power. */
  vanish(): void {
    this.#forget();
    this.#state = STATE_GONE;
  }

  /** The other end is no more, and said so. */
  reset(code: string, what: string): void {
    if (this.#state !== STATE_OPEN && this.#state !== STATE_CONNECTING) return;
    this.#end({ code, message: `${this.remote.ip}:${this.remote.port}: ${what}` });
  }

  onEvent(kind: number): void {
    if (kind === ConnEvent.Arrive) this.host.arrived(this);
    else if (kind === ConnEvent.LeaveAtOnce) this.left(this.#outLeft);
    else if (kind === ConnEvent.Drain) this.#drain();
    else if (kind === ConnEvent.Closed) this.#closed();
    else if (kind === ConnEvent.Reset) this.reset('ECONNRESET', 'connection reset');
    else if (kind === ConnEvent.TimedOut) {
      // the kernel gives up only when something it sent stays unanswered
      if (this.windowUsed > 0) this.reset('ETIMEDOUT', 'connection timed out');
    } else if (this.#state === STATE_CONNECTING) {
      if (kind === ConnEvent.Syn) this.host.net.synArrived(this);
      else if (kind === ConnEvent.Refused) this.reset('ECONNREFUSED', 'connection refused');
      else if (kind === ConnEvent.Connected) this.#connected();
    }
  }

  // ---- inside

  #connected(): void {
    if (this.other === null || this.other.#state === STATE_GONE) {
      this.reset('ECONNRESET', 'connection reset');
      return;
    }
    this.#state = STATE_OPEN;
    this.host.net.world.mix(1, this.id, this.host.id);
    this.sink.onConnected();
  }

  #room(): number {
    return Math.max(0, this.host.net.windowBytes - this.windowUsed);
  }

  #copyOut(target: Uint8Array, bytes: number): void {
    let done = 0;
    while (done < bytes) {
      const view = this.#views[this.#view]!;
      const take = Math.min(view.length - this.#viewAt, bytes - done);
      if (take === view.length) target.set(view, done);
      else target.set(view.subarray(this.#viewAt, this.#viewAt + take), done);
      done += take;
      this.#viewAt += take;
      if (this.#viewAt === view.length) {
        this.#view++;
        this.#viewAt = 0;
      }
    }
  }

  #dispatch(chunk: Chunk): void {
    const other = this.other!;
    other.#wire.push(chunk);
    this.host.net.world.after(this.latencyMs, other, ConnEvent.Arrive, 0);
  }

  #deliver(chunk: Chunk): void {
    const sender = this.other!;
    const net = this.host.net;
    if (chunk === END) {
      this.#end(null);
      return;
    }
    const length = chunk.length;
    net.world.mix(2, this.id, length);
    net.world.mixBytes(chunk.bytes, length);
    sender.deliveredBytes += length;
    this.host.deliveredBytes += length;
    this.sink.onData(chunk.bytes.length === length ? chunk.bytes : chunk.bytes.subarray(0, length));
    net.chunks.give(chunk);
    sender.windowUsed -= length;
    sender.kick();
  }

  /** The end at our side, and onClosed a moment later. */
  #end(fault: IoFault | null): void {
    this.#state = STATE_CLOSING;
    this.#fault = fault;
    this.#forget();
    this.host.net.world.after(0, this, ConnEvent.Closed, 0);
  }

  #closed(): void {
    if (this.#state !== STATE_CLOSING) return;
    this.#state = STATE_CLOSED;
    this.host.conns.delete(this);
    this.host.net.world.mix(3, this.id, this.#fault === null ? 0 : 1);
    this.sink.onClosed(this.#fault);
  }

  #forget(): void {
    this.#views.length = 0;
    this.#outLeft = 0;
    for (let chunk = this.#unread.shift(); chunk !== undefined; chunk = this.#unread.shift()) this.#drop(chunk);
  }

  #drop(chunk: Chunk): void {
    if (chunk === END) return;
    const sender = this.other!;
    sender.droppedBytes += chunk.length;
    sender.windowUsed -= chunk.length;
    this.host.net.chunks.give(chunk);
  }

  /** Bytes for an end that lost its memory: unanswered while the machine is down, refused once it is up again. */
  #hitGone(chunk: Chunk): void {
    if (chunk === END) return;
    this.other!.droppedBytes += chunk.length;
    this.host.net.chunks.give(chunk);
    if (this.host.powered) this.host.net.resetLater(this.other!, this.latencyMs);
  }

  #wantDrain(): void {
    if (this.#draining || this.#unread.length === 0 || this.#state !== STATE_OPEN) return;
    this.#draining = true;
    this.host.net.world.after(0, this, ConnEvent.Drain, 0);
  }

  #drain(): void {
    this.#draining = false;
    while (this.#state === STATE_OPEN && !this.#paused && this.#unread.length > 0 && !this.host.net.isCut(this)) {
      this.#deliver(this.#unread.shift()!);
    }
  }
}
