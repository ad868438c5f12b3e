/**
 * One uTP connection (BEP 29 as libutp runs it), sans-IO: packets in, packets out at the turn's end, deadlines.
 *
 *     dialing --STATE--> open --close() or FIN--> closing: FIN sent --acknowledged--> lingering --> gone
 *        |                 |                         |
 *        +----------- reset, timeout: told and gone at once
 *
 * The first number is random; SYN and FIN take one, STATE none. The sink is called from `packet`, `endTurn` and nowhere
 * else. What was given to `send` is copied into packets as the window opens, at the turn's end; `onSent` comes when the
 * last of it was. A connection that the other side ends is over, as with TCP.
 * Limits: see utp-sender and utp-inbox; 60 s to deliver what was sent before `close`; 1 s of lingering.
 */

import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import type { Conn, ConnSink, Endpoint } from '../base/ports.ts';
import { Arrival, UtpInbox } from './utp-inbox.ts';
import {
  EXTENSION_SACK,
  MAX_SACK_BYTES,
  PacketType,
  seqDiff,
  UTP_HEADER_BYTES,
  type UtpHeader,
  writeFixed,
  writeVarying,
} from './utp-packet.ts';
import type { PacketBuffer, PacketPool } from './utp-pool.ts';
import { TimedOut, type UtpLauncher, UtpSender } from './utp-sender.ts';
import type { UtpStats } from './utp-stats.ts';

/** What a socket needs of its mux. */
export interface UtpHost {
  readonly pool: PacketPool;
  readonly receiveWindow: number;
  readonly stats: UtpStats;
  /** For packets without payload; used up at once. */
  readonly scratch: PacketBuffer;
  /** False: not taken. */
  emit(socket: UtpSocket, bytes: Uint8Array): boolean;
  /** Has something to do at the turn's end. */
  touch(socket: UtpSocket): void;
  /** Is over; no packet is for it any more. */
  gone(socket: UtpSocket): void;
}

const STATE_DIALING = 0;
const STATE_OPEN = 1;
const STATE_GONE = 2;

/** libutp: most NATs keep a mapping for 30 s. */
const KEEP_ALIVE_MS = 29_000;
const MOST_ACK_DELAY_MS = 100;
const LEAST_ACK_DELAY_MS = 5;
/** The first packets are acknowledged one by one, so that the other side's window opens fast. */
const QUICK_ACKS = 16;
/** Connections that are over keep their place so long, to answer a FIN that comes again. */
const LINGER_MS = 1000;
const CLOSING_MOST_MS = 60_000;
/** What does not go out for want of room in the system's buffer is tried again so long. */
const RETRY_MS = 2;
/** An acknowledgement older than this many packets says nothing true. */
const OLD_ACKS = 1024;
const RESET_REACH = 64;

const nobody: ConnSink = { onConnected() {}, onData() {}, onSent() {}, onClosed() {} };

export class UtpSocket implements Conn, UtpLauncher {
  readonly remote: Endpoint;
  readonly local: Endpoint;
  readonly incoming: boolean;
  sink: ConnSink = nobody;
  /** Id of packets to us, and by us. */
  readonly recvId: number;
  readonly sendId: number;
  /** Name in the mux's heap and list. */
  readonly index: number;
  /** The next with the same key in the mux's table. */
  next: UtpSocket | null = null;
  /** In the mux's list for the turn's end. */
  touched = false;
  /** Why the other side closed, if it said so. */
  closeReason = 0;
  readonly #host: UtpHost;
  readonly #sender: UtpSender;
  #inbox: UtpInbox | null = null;
  #state: number = STATE_DIALING;

  // reading and acknowledging
  #paused = false;
  #ackCount = 0;
  /** Bytes that came since the last acknowledgement. */
  #unackedBytes = 0;
  #ackNow = false;
  #ackAtMs = Number.POSITIVE_INFINITY;
  #acksSent = 0;
  #advertised = 0;
  #replyMicros = 0;

  #sentMs = 0;
  #retryAtMs = Number.POSITIVE_INFINITY;

  // the end
  #closing = false;
  #dead = false;
  #finQueued = false;
  #told = false;
  #fault: IoFault | null = null;
  #closedMs = -1;
  #lingerAtMs = Number.POSITIVE_INFINITY;

  /** `recvId` and `sendId` as BEP 29 has them; `seq`: our first number, and `secret`: random; `most`: longest datagram to try. */
  constructor(
    host: UtpHost,
    index: number,
    remote: Endpoint,
    local: Endpoint,
    incoming: boolean,
    recvId: number,
    sendId: number,
    seq: number,
    secret: number,
    most: number,
  ) {
    this.#host = host;
    this.index = index;
    this.remote = remote;
    this.local = local;
    this.incoming = incoming;
    this.recvId = recvId;
    this.sendId = sendId;
    this.#sender = new UtpSender(this, host.pool, host.stats, sendId, seq, secret, most, !incoming);
  }

  // ---------------------------------------------------------------------------------------------------- what it is at

  get congestionWindow(): number {
    return this.#sender.ledbat.window;
  }

  /** Delay our packets add to the path, microseconds. */
  get delayMicros(): number {
    return this.#sender.ledbat.delayMicros;
  }

  /** Bytes of UDP payload of a full packet. */
  get datagramBytes(): number {
    return this.#sender.mtu.datagram;
  }

  get rttMs(): number {
    return this.#sender.trip.ms;
  }

  get flightBytes(): number {
    return this.#sender.outbox.flightBytes;
  }

  // -------------------------------------------------------------------------------------------------------- beginning

  /** Starts to connect. */
  dial(now: number): void {
    this.#sentMs = now;
    this.#sender.begin(now);
    const { outbox } = this.#sender;
    if (!outbox.open(PacketType.Syn, UTP_HEADER_BYTES))
      return this.#fail('ENOBUFS', `no memory to connect to ${name(this.remote)} over uTP`);
    // SYN alone carries the id of packets to us
    const { bytes } = outbox.buffer(outbox.una);
    bytes[2] = this.recvId >>> 8;
    bytes[3] = this.recvId;
    this.#host.touch(this);
  }

  /** The other side knew the number we had answered its SYN with. `seq`: of its first data; bytes so far. */
  accepted(now: number, seq: number, bytesIn: number, bytesOut: number): void {
    this.#sender.bytesIn = bytesIn;
    this.#sender.bytesOut = bytesOut;
    this.#open(now, seq);
  }

  #open(now: number, seq: number): void {
    this.#state = STATE_OPEN;
    this.#inbox = new UtpInbox(this.#host.pool, seq, this.#host.receiveWindow);
    this.#advertised = this.#host.receiveWindow;
    this.#sender.dialing = false;
    this.#sender.begin(now);
    this.#sentMs = now;
  }

  // ------------------------------------------------------------------------------------------------------------- conn

  send(views: readonly Uint8Array[], count: number): void {
    if (this.#closing || this.#state === STATE_GONE) return;
    assert(this.#state === STATE_OPEN, 'send before the connection is up');
    this.#sender.batch.give(views, count);
    this.#host.touch(this);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#host.touch(this);
  }

  close(): void {
    if (this.#closing || this.#state === STATE_GONE) return;
    this.#closing = true;
    this.#host.touch(this);
  }

  // ------------------------------------------------------------------------------------------------------ what came in

  /** A packet of this connection, but no SYN and no RESET. */
  packet(now: number, micros: number, h: UtpHeader, bytes: Uint8Array): void {
    const { stats } = this.#host;
    const { outbox } = this.#sender;
    this.#sender.bytesIn += bytes.length;
    // what was not sent cannot be acknowledged: forged, or a receiver that hopes for more than its share
    if (seqDiff(h.ack, outbox.unsent) >= 0 || seqDiff(h.ack, outbox.una) < -OLD_ACKS) {
      stats.badIn++;
      return;
    }
    if (this.#state === STATE_DIALING) {
      if (h.type !== PacketType.State || h.ack !== outbox.una || this.#closing) return;
      this.#acknowledged(now, micros, h, bytes);
      this.#open(now, h.seq);
      this.sink.onConnected();
      this.#host.touch(this);
      return;
    }
    if (this.#state !== STATE_OPEN) return;
    if (h.closeReason !== 0) this.closeReason = h.closeReason;
    this.#acknowledged(now, micros, h, bytes);
    if (this.#sender.cheated) return this.#fail('EPROTO', `${name(this.remote)} acknowledged what it never got`);
    if (h.type === PacketType.Data) {
      this.#data(h, bytes);
      this.#unackedBytes += bytes.length;
      // what one turn reads may be all that the window lets through: the sender goes on meanwhile
      if (this.#unackedBytes >= this.#host.receiveWindow >>> 2) this.#emitState(now, micros, this.#ackNumber());
    } else if (h.type === PacketType.Fin) this.#fin(h);
    this.#host.touch(this);
  }

  /** A RESET whose ids fit; `ack` is the number of the packet it answers. */
  reset(ack: number): void {
    const { outbox } = this.#sender;
    if (seqDiff(ack, outbox.unsent) > 0 || seqDiff(ack, outbox.una) < -RESET_REACH) {
      this.#host.stats.badIn++;
      return;
    }
    const dialing = this.#state === STATE_DIALING;
    const what = dialing ? 'connect to' : 'keep the connection to';
    this.#fail(dialing ? 'ECONNREFUSED' : 'ECONNRESET', `could not ${what} ${name(this.remote)} over uTP: reset`);
  }

  #acknowledged(now: number, micros: number, h: UtpHeader, bytes: Uint8Array): void {
    if (h.micros !== 0) {
      const delay = (micros - h.micros) >>> 0;
      this.#replyMicros = delay;
      this.#sender.ledbat.sampleTheirs(now, delay);
    }
    this.#sender.acknowledged(now, micros, h, bytes);
  }

  #data(h: UtpHeader, bytes: Uint8Array): void {
    const inbox = this.#inbox!;
    const { stats } = this.#host;
    const holes = inbox.aheadCount > 0;
    const arrival = inbox.arrived(h.seq, bytes, h.payloadAt, this.#paused && !this.#closing);
    if (arrival === Arrival.Deliver) {
      this.#ackCount++;
      if (h.payloadAt < bytes.length) {
        stats.payloadIn += bytes.length - h.payloadAt;
        if (!this.#closing) this.sink.onData(bytes.subarray(h.payloadAt));
      }
      inbox.advanced();
      if (holes) this.#readOn();
    } else if (arrival === Arrival.Kept) {
      this.#ackCount++;
    } else {
      stats.duplicatesIn++;
      this.#ackNow = true;
      this.#sender.repeat();
    }
    if (holes || inbox.aheadCount > 0) this.#ackNow = true;
    this.#testEnd();
  }

  #fin(h: UtpHeader): void {
    this.#inbox!.end(h.seq);
    this.#ackNow = true;
    this.#testEnd();
  }

  /** Delivers what waits. */
  #readOn(): void {
    const inbox = this.#inbox!;
    while (inbox.unreadCount > 0 && (!this.#paused || this.#closing)) {
      const payload = inbox.peek()!;
      if (payload.length > 0) {
        this.#host.stats.payloadIn += payload.length;
        if (!this.#closing) this.sink.onData(payload);
      }
      inbox.read();
    }
  }

  #testEnd(): void {
    if (this.#inbox!.ended) this.#closing = true;
  }

  // ------------------------------------------------------------------------------------------------------ turn's end

  /** Sends and tells all there is. */
  endTurn(now: number, micros: number): void {
    if (this.#state === STATE_GONE) return;
    this.#retryAtMs = Number.POSITIVE_INFINITY;
    if (this.#inbox !== null && this.#inbox.unreadCount > 0 && (!this.#paused || this.#closing)) {
      this.#readOn();
      this.#testEnd();
    }
    if (this.#closing) {
      this.#endClosing(now);
      if ((this.#state as number) === STATE_GONE) return;
    }
    this.#sender.beginFlush();
    while (this.#sender.flush(now, micros)) {
      if (!this.#tellSent()) break;
    }
    if (this.#inbox !== null) this.#acknowledge(now, micros);
  }

  /** Tells that a batch was taken over; true when there is a new one. */
  #tellSent(): boolean {
    this.#sender.batch.clear();
    this.sink.onSent();
    return this.#sender.batch.open && !this.#closing;
  }

  #endClosing(now: number): void {
    if (this.#closedMs < 0) {
      this.#closedMs = now;
      this.#sender.batch.clear();
      this.#sender.ending = true;
      if (this.#inbox !== null) this.#inbox.clear();
    }
    if (!this.#told) {
      this.#told = true;
      const { sink } = this;
      this.sink = nobody;
      sink.onClosed(this.#fault);
    }
    if (this.#dead || this.#state === STATE_DIALING) return this.#end();
    if (!this.#finQueued) this.#finQueued = this.#sender.outbox.open(PacketType.Fin, UTP_HEADER_BYTES);
    else if (this.#sender.outbox.count === 0 && this.#lingerAtMs === Number.POSITIVE_INFINITY) {
      this.#lingerAtMs = now + LINGER_MS;
    }
  }

  #end(): void {
    this.#state = STATE_GONE;
    this.#sender.outbox.clear();
    if (this.#inbox !== null) this.#inbox.clear();
    this.#host.gone(this);
  }

  #fail(code: string, message: string): void {
    if (this.#dead) return;
    this.#dead = true;
    // a connection that was closed on our side is over without a fault
    if (!this.#closing) this.#fault = { code, message };
    this.#closing = true;
    this.#host.touch(this);
  }

  // ---------------------------------------------------------------------------------------------------------- sending

  /** Of the sending half: a packet leaves, with what is new in each. It acknowledges what came. */
  launch(now: number, micros: number, buffer: PacketBuffer, length: number): boolean {
    writeVarying(buffer.bytes, micros, this.#replyMicros, this.#window(), this.#ackNumber());
    if (!this.#host.emit(this, buffer.view(length))) return false;
    // with holes a mask is owed, which only a packet of its own carries
    const holes = this.#ackNow && this.#inbox !== null && this.#inbox.aheadCount > 0;
    this.#left(now, length);
    this.#ackNow = holes;
    return true;
  }

  #left(now: number, length: number): void {
    this.#sender.bytesOut += length;
    this.#sentMs = now;
    this.#acksSent++;
    this.#ackCount = 0;
    this.#unackedBytes = 0;
    this.#ackNow = false;
    this.#ackAtMs = Number.POSITIVE_INFINITY;
  }

  /** What to advertise; remembered, to tell when it opens. */
  #window(): number {
    if (this.#inbox === null) return this.#host.receiveWindow;
    this.#advertised = this.#inbox.window;
    return this.#advertised;
  }

  #ackNumber(): number {
    const inbox = this.#inbox;
    if (inbox === null) return 0;
    return inbox.next === inbox.endSeq ? inbox.next : (inbox.next - 1) & 0xffff;
  }

  // ---------------------------------------------------------------------------------------------------- acknowledging

  #acknowledge(now: number, micros: number): void {
    const inbox = this.#inbox!;
    const opened = inbox.window - this.#advertised;
    if (opened > 0 && (this.#advertised < inbox.capacity >>> 2 || opened >= inbox.capacity >>> 1)) {
      if (opened >= Math.min(inbox.capacity >>> 2, 4 * this.#sender.mtu.datagram)) this.#ackNow = true;
    }
    if (this.#ackCount >= 2 || (this.#ackCount > 0 && this.#acksSent < QUICK_ACKS)) this.#ackNow = true;
    if (this.#ackNow) {
      if (!this.#emitState(now, micros, this.#ackNumber())) this.#retryAtMs = now + RETRY_MS;
    } else if (this.#ackCount > 0 && this.#ackAtMs === Number.POSITIVE_INFINITY) {
      this.#ackAtMs = now + Math.min(MOST_ACK_DELAY_MS, Math.max(LEAST_ACK_DELAY_MS, this.#sender.trip.ms / 2));
    }
  }

  #emitState(now: number, micros: number, ack: number): boolean {
    const inbox = this.#inbox!;
    const { scratch } = this.#host;
    const sack = inbox.sackBytes(MAX_SACK_BYTES);
    const length = UTP_HEADER_BYTES + (sack > 0 ? 2 + sack : 0);
    const { bytes } = scratch;
    writeFixed(bytes, PacketType.State, sack > 0 ? EXTENSION_SACK : 0, this.sendId, this.#sender.outbox.unsent);
    writeVarying(bytes, micros, this.#replyMicros, this.#window(), ack);
    if (sack > 0) {
      bytes[UTP_HEADER_BYTES] = 0;
      bytes[UTP_HEADER_BYTES + 1] = sack;
      inbox.writeSack(bytes, UTP_HEADER_BYTES + 2, sack);
    }
    if (!this.#host.emit(this, scratch.view(length))) return false;
    this.#left(now, length);
    return true;
  }

  // ----------------------------------------------------------------------------------------------------------- timers

  nextAt(): number {
    if (this.#state === STATE_GONE) return Number.POSITIVE_INFINITY;
    let at = Math.min(this.#sender.nextAt(), this.#ackAtMs, this.#retryAtMs);
    if (this.#closedMs >= 0) at = Math.min(at, this.#lingerAtMs, this.#closedMs + CLOSING_MOST_MS);
    else if (this.#state === STATE_OPEN) at = Math.min(at, this.#sentMs + KEEP_ALIVE_MS);
    return at;
  }

  /** A deadline may be due; what is to be sent leaves at the turn's end. */
  tick(now: number, micros: number): void {
    if (this.#state === STATE_GONE) return;
    if (this.#closedMs >= 0 && (now >= this.#lingerAtMs || now >= this.#closedMs + CLOSING_MOST_MS)) return this.#end();
    if (this.#sender.tick(now) === TimedOut.GivenUp) this.#gaveUp();
    if (now >= this.#ackAtMs) {
      this.#ackAtMs = Number.POSITIVE_INFINITY;
      this.#ackNow = true;
    }
    if (this.#state === STATE_OPEN && !this.#closing && now >= this.#sentMs + KEEP_ALIVE_MS) {
      // acknowledges one packet less than came (libutp), to count for nothing but a sign of life; a mask must be true
      this.#sentMs = now;
      const less = this.#inbox!.aheadCount > 0 ? 0 : 1;
      if (this.#sender.verified) this.#emitState(now, micros, (this.#ackNumber() - less) & 0xffff);
    }
    this.#host.touch(this);
  }

  #gaveUp(): void {
    const dialing = this.#state === STATE_DIALING;
    const what = dialing ? 'connect to' : 'keep the connection to';
    const time = dialing ? '15 s' : 'too long';
    this.#fail('ETIMEOUT', `could not ${what} ${name(this.remote)} over uTP: no answer for ${time}`);
  }
}

function name(endpoint: Endpoint): string {
  return endpoint.ip.includes(':') ? `[${endpoint.ip}]:${endpoint.port}` : `${endpoint.ip}:${endpoint.port}`;
}
