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
 * Limits: see utp-outbox and utp-inbox; unsent payload of one window, 64 KiB to 512 KiB; 5 tries to connect; 90 s without
 * an acknowledgement to give up; until the other side acknowledged data, 3 times its bytes (DEMANDS U1).
 */

import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import type { Conn, ConnSink, Endpoint } from '../base/ports.ts';
import { Ledbat } from './ledbat.ts';
import { UtpBatch } from './utp-batch.ts';
import { Arrival, UtpInbox } from './utp-inbox.ts';
import { LEAST_DATAGRAM, MtuSearch } from './utp-mtu.ts';
import { UtpOutbox } from './utp-outbox.ts';
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
import { RoundTrip } from './utp-round-trip.ts';
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

/** 1 + 2 + 4 + 4 + 4 s: as long as TCP is given. */
const SYN_TRIES = 5;
const MOST_SYN_RTO_MS = 4000;
const DEAD_MS = 90_000;
const MOST_TIMEOUTS = 24;
/** libutp: most NATs keep a mapping for 30 s. */
const KEEP_ALIVE_MS = 29_000;
const MOST_ACK_DELAY_MS = 100;
const LEAST_ACK_DELAY_MS = 5;
/** The first packets are acknowledged one by one, so that the other side's window opens fast. */
const QUICK_ACKS = 16;
/** How long a short packet waits for more while another short one is under way. */
const HOLD_MS = 10;
const ZERO_WINDOW_MOST_MS = 15_000;
/** Connections that are over keep their place so long, to answer a FIN that comes again. */
const LINGER_MS = 1000;
const CLOSING_MOST_MS = 60_000;
const CLOSING_TIMEOUTS = 4;
const MOST_UNSENT_BYTES = 1 << 19;
const LEAST_UNSENT_BYTES = 1 << 16;
/** What does not go out for want of room in the system's buffer is tried again so long. */
const RETRY_MS = 2;
/** An acknowledgement older than this many packets says nothing true. */
const OLD_ACKS = 1024;
const RESET_REACH = 64;

const nobody: ConnSink = { onConnected() {}, onData() {}, onSent() {}, onClosed() {} };

export class UtpSocket implements Conn {
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
  readonly #outbox: UtpOutbox;
  #inbox: UtpInbox | null = null;
  readonly #ledbat: Ledbat = new Ledbat(LEAST_DATAGRAM - UTP_HEADER_BYTES);
  readonly #mtu: MtuSearch;
  #state: number = STATE_DIALING;

  readonly #batch: UtpBatch = new UtpBatch();

  // reading and acknowledging
  #paused = false;
  #ackCount = 0;
  #ackNow = false;
  #ackAtMs = Number.POSITIVE_INFINITY;
  #acksSent = 0;
  #advertised = 0;
  #replyMicros = 0;

  // the other side
  #peerWindow = 1 << 20;
  #heardMs = 0;
  #verified: boolean;
  #bytesIn = 0;
  #bytesOut = 0;

  // timing
  readonly #trip: RoundTrip = new RoundTrip();
  #rtoAtMs = Number.POSITIVE_INFINITY;
  #timeouts = 0;
  #progressMs = 0;
  #duplicateAcks = 0;
  /** Losses of numbers before this one were answered with a smaller window. */
  #recoverSeq: number;
  #lossCheck = false;
  #fullAtMs = Number.NEGATIVE_INFINITY;
  #probeAtMs = Number.POSITIVE_INFINITY;
  #probeMs = 0;
  #probeNow = false;
  #holdAtMs = Number.POSITIVE_INFINITY;
  #shortSeq = -1;
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

  /** `recvId` and `sendId` as BEP 29 has them; `seq`: our first number, random; `most`: longest datagram to try. */
  constructor(
    host: UtpHost,
    index: number,
    remote: Endpoint,
    local: Endpoint,
    incoming: boolean,
    recvId: number,
    sendId: number,
    seq: number,
    most: number,
  ) {
    this.#host = host;
    this.index = index;
    this.remote = remote;
    this.local = local;
    this.incoming = incoming;
    this.recvId = recvId;
    this.sendId = sendId;
    this.#verified = !incoming;
    this.#outbox = new UtpOutbox(host.pool, sendId, seq);
    this.#recoverSeq = seq;
    this.#mtu = new MtuSearch(most);
  }

  // ---------------------------------------------------------------------------------------------------- what it is at

  get congestionWindow(): number {
    return this.#ledbat.window;
  }

  /** Delay our packets add to the path, microseconds. */
  get delayMicros(): number {
    return this.#ledbat.delayMicros;
  }

  /** Bytes of UDP payload of a full packet. */
  get datagramBytes(): number {
    return this.#mtu.datagram;
  }

  get rttMs(): number {
    return this.#trip.ms;
  }

  get flightBytes(): number {
    return this.#outbox.flightBytes;
  }

  // -------------------------------------------------------------------------------------------------------- beginning

  /** Starts to connect. */
  dial(now: number): void {
    this.#progressMs = now;
    this.#sentMs = now;
    const outbox = this.#outbox;
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
    this.#state = STATE_OPEN;
    this.#bytesIn = bytesIn;
    this.#bytesOut = bytesOut;
    this.#open(now, seq);
  }

  #open(now: number, seq: number): void {
    this.#state = STATE_OPEN;
    this.#inbox = new UtpInbox(this.#host.pool, seq, this.#host.receiveWindow);
    this.#advertised = this.#host.receiveWindow;
    this.#progressMs = now;
    this.#heardMs = now;
    this.#sentMs = now;
  }

  // ------------------------------------------------------------------------------------------------------------- conn

  send(views: readonly Uint8Array[], count: number): void {
    if (this.#closing || this.#state === STATE_GONE) return;
    assert(this.#state === STATE_OPEN, 'send before the connection is up');
    this.#batch.give(views, count);
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
    this.#bytesIn += bytes.length;
    const outbox = this.#outbox;
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
    this.#heardMs = now;
    if (h.closeReason !== 0) this.closeReason = h.closeReason;
    this.#acknowledged(now, micros, h, bytes);
    if (h.type === PacketType.Data) this.#data(h, bytes);
    else if (h.type === PacketType.Fin) this.#fin(h);
    this.#host.touch(this);
  }

  /** A RESET whose ids fit; `ack` is the number of the packet it answers. */
  reset(ack: number): void {
    const outbox = this.#outbox;
    if (seqDiff(ack, outbox.unsent) > 0 || seqDiff(ack, outbox.una) < -RESET_REACH) {
      this.#host.stats.badIn++;
      return;
    }
    const dialing = this.#state === STATE_DIALING;
    const what = dialing ? 'connect to' : 'keep the connection to';
    this.#fail(dialing ? 'ECONNREFUSED' : 'ECONNRESET', `could not ${what} ${name(this.remote)} over uTP: reset`);
  }

  #acknowledged(now: number, micros: number, h: UtpHeader, bytes: Uint8Array): void {
    const outbox = this.#outbox;
    const ledbat = this.#ledbat;
    if (h.micros !== 0) {
      const delay = (micros - h.micros) >>> 0;
      this.#replyMicros = delay;
      ledbat.sampleTheirs(now, delay);
    }
    const ahead = seqDiff(h.ack, outbox.una);
    if (ahead >= -1) {
      this.#peerWindow = h.window;
      if (h.window > 0) this.#probeMs = 0;
    }
    outbox.acknowledge(micros, h.ack, bytes, h.sackAt, h.sackBytes);
    if (h.diff !== 0) ledbat.sampleOurs(now, h.diff, outbox.minRttMicros);
    if (outbox.sackedCount > 0) this.#lossCheck = true;
    if (outbox.ackedCount === 0) {
      if (ahead === -1 && h.type === PacketType.State && h.sackBytes === 0 && outbox.sentCount > 0) {
        if (++this.#duplicateAcks === 3 && outbox.loseFirst()) this.#lost(now, outbox.una);
        this.#probeSettled(now);
      }
      return;
    }
    if (ahead >= 0) this.#duplicateAcks = 0;
    this.#verified = true;
    this.#progressMs = now;
    this.#timeouts = 0;
    const trip = this.#trip;
    if (outbox.rttMicros >= 0) trip.measured(outbox.rttMicros / 1000);
    else trip.progressed();
    this.#rtoAtMs = outbox.sentCount > 0 ? now + trip.timeoutMs : Number.POSITIVE_INFINITY;
    if (outbox.probePassed >= 0) this.#mtu.passed(now);
    else this.#mtu.acknowledged(outbox.ackedCount);
    if (outbox.ackedBytes > 0)
      ledbat.acknowledged(now, outbox.ackedBytes, this.#trip.ms, this.#fullAtMs, this.#fullPayload());
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
    if (this.#lossCheck) this.#detectLost(now);
    for (;;) {
      const before = this.#batch.left;
      this.#fill(now);
      if (!this.#transmit(now, micros)) break;
      if (this.#batch.left === 0) {
        if (!this.#batch.open || !this.#tellSent()) break;
      } else if (this.#outbox.waitingBytes > 0 || this.#batch.left === before) break;
    }
    if (this.#inbox !== null) this.#acknowledge(now, micros);
  }

  /** Tells that a batch was taken over; true when there is a new one. */
  #tellSent(): boolean {
    this.#batch.clear();
    this.sink.onSent();
    return this.#batch.open && !this.#closing;
  }

  #endClosing(now: number): void {
    if (this.#closedMs < 0) {
      this.#closedMs = now;
      this.#batch.clear();
      if (this.#inbox !== null) this.#inbox.clear();
    }
    if (!this.#told) {
      this.#told = true;
      const { sink } = this;
      this.sink = nobody;
      sink.onClosed(this.#fault);
    }
    if (this.#dead || this.#state === STATE_DIALING) return this.#end();
    if (!this.#finQueued) this.#finQueued = this.#outbox.open(PacketType.Fin, UTP_HEADER_BYTES);
    else if (this.#outbox.count === 0 && this.#lingerAtMs === Number.POSITIVE_INFINITY) {
      this.#lingerAtMs = now + LINGER_MS;
    }
  }

  #end(): void {
    this.#state = STATE_GONE;
    this.#outbox.clear();
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

  #detectLost(now: number): void {
    this.#lossCheck = false;
    const lost = this.#outbox.detectLost(this.#trip.ms * 1000);
    if (lost >= 0) this.#lost(now, lost);
    this.#probeSettled(now);
  }

  #probeSettled(now: number): void {
    if (this.#outbox.probeLost >= 0) this.#mtu.failed(now);
    this.#outbox.probeLost = -1;
  }

  /** The window answers once to all that was lost of one round trip. */
  #lost(now: number, seq: number): void {
    if (seqDiff(seq, this.#recoverSeq) < 0) return;
    this.#recoverSeq = this.#outbox.unsent;
    this.#ledbat.lost(now, this.#fullPayload());
  }

  // ---------------------------------------------------------------------------------------------------------- filling

  #fullPayload(): number {
    return this.#mtu.datagram - UTP_HEADER_BYTES;
  }

  /** Copies what was given to send into packets, as much as may wait. */
  #fill(now: number): void {
    const batch = this.#batch;
    if (batch.left === 0) return;
    const outbox = this.#outbox;
    // packets are no longer than a quarter of what the other side takes
    let datagram = Math.max(LEAST_DATAGRAM, Math.min(this.#mtu.datagram, this.#peerWindow >>> 2));
    // before he has shown that he hears us a packet must fit into what he may get, or nothing would ever leave
    if (!this.#verified) datagram = Math.min(datagram, 3 * this.#bytesIn - this.#bytesOut - outbox.waitingBytes);
    if (datagram <= UTP_HEADER_BYTES) return;
    const most = Math.min(Math.max(this.#ledbat.window, LEAST_UNSENT_BYTES, 2 * datagram), MOST_UNSENT_BYTES);
    while (batch.left > 0 && outbox.waitingBytes < most) {
      let room = outbox.room(datagram);
      if (room === 0) {
        if (this.#probe(now)) continue;
        if (!outbox.open(PacketType.Data, datagram)) {
          if (outbox.count === 0) this.#retryAtMs = now + RETRY_MS;
          return;
        }
        room = datagram - UTP_HEADER_BYTES;
      }
      batch.moveTo(outbox, room);
    }
  }

  /** Puts a probe of the path before the next data, if one is due. */
  #probe(now: number): boolean {
    const length = this.#mtu.wanted(now);
    if (length === 0 || !this.#verified || this.#peerWindow < 4 * length) return false;
    const seq = this.#outbox.nextSeq;
    if (!this.#outbox.openProbe(length, this.#batch.peek())) return false;
    this.#mtu.sent(seq);
    this.#batch.takeOne();
    return true;
  }

  // ---------------------------------------------------------------------------------------------------------- sending

  /** Sends what the windows let through. False: the system takes no more. */
  #transmit(now: number, micros: number): boolean {
    const outbox = this.#outbox;
    let seq = outbox.first();
    while (seq >= 0) {
      if (!this.#mayLeave(now, seq)) return true;
      if (!this.#emit(now, micros, seq)) {
        this.#retryAtMs = now + RETRY_MS;
        return false;
      }
      seq = outbox.after(seq);
    }
    return true;
  }

  #mayLeave(now: number, seq: number): boolean {
    const outbox = this.#outbox;
    const payload = outbox.payload(seq);
    const flight = outbox.flightBytes;
    if (flight > 0 && flight + payload > this.#ledbat.window) {
      this.#fullAtMs = now;
      return false;
    }
    if (!this.#verified && this.#bytesOut + outbox.length(seq) > 3 * this.#bytesIn) return false;
    if (seq !== outbox.unsent || payload === 0) return true;
    if (flight + payload > this.#peerWindow) return this.#zeroWindow(now, flight);
    this.#probeAtMs = Number.POSITIVE_INFINITY;
    return this.#longEnough(now, seq);
  }

  /** With a closed window one packet goes out now and then, so that its opening is not missed. */
  #zeroWindow(now: number, flight: number): boolean {
    if (flight > 0 || this.#outbox.lostCount > 0) return false;
    if (this.#probeNow) {
      this.#probeNow = false;
      return true;
    }
    if (this.#probeAtMs === Number.POSITIVE_INFINITY) {
      this.#probeMs = Math.min(this.#probeMs === 0 ? this.#trip.restingMs : 2 * this.#probeMs, ZERO_WINDOW_MOST_MS);
      this.#probeAtMs = now + this.#probeMs;
    }
    return false;
  }

  /** A short packet waits a little for more, if another short one is under way (Minshall's rule). */
  #longEnough(now: number, seq: number): boolean {
    const outbox = this.#outbox;
    const last = ((seq + 1) & 0xffff) === outbox.nextSeq;
    if (!last || this.#closing || outbox.room(this.#mtu.datagram) === 0) return true;
    const shortOut = this.#shortSeq >= 0 && seqDiff(this.#shortSeq, outbox.una) >= 0;
    if (!shortOut) {
      this.#holdAtMs = Number.POSITIVE_INFINITY;
      this.#shortSeq = seq;
      return true;
    }
    if (this.#holdAtMs === Number.POSITIVE_INFINITY) this.#holdAtMs = now + HOLD_MS;
    return false;
  }

  #emit(now: number, micros: number, seq: number): boolean {
    const outbox = this.#outbox;
    const { stats } = this.#host;
    const buffer = outbox.buffer(seq);
    const length = outbox.length(seq);
    writeVarying(buffer.bytes, micros, this.#replyMicros, this.#window(), this.#ackNumber());
    if (!this.#host.emit(this, buffer.view(length))) {
      // a probe that the system itself refuses is too long; SYN counts as sent, so that it is given up some day
      if (seq !== this.#mtu.probeSeq && this.#state !== STATE_DIALING) return false;
    }
    if (outbox.tries(seq) > 0) stats.resent++;
    else stats.payloadOut += outbox.payload(seq);
    outbox.sent(seq, micros);
    this.#bytesOut += length;
    this.#sentMs = now;
    this.#acksSent++;
    this.#ackCount = 0;
    this.#ackAtMs = Number.POSITIVE_INFINITY;
    if (this.#inbox !== null && this.#inbox.aheadCount === 0) this.#ackNow = false;
    if (this.#rtoAtMs === Number.POSITIVE_INFINITY) this.#rtoAtMs = now + this.#trip.timeoutMs;
    return true;
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
      if (opened >= Math.min(inbox.capacity >>> 2, 4 * this.#mtu.datagram)) this.#ackNow = true;
    }
    if (this.#ackCount >= 2 || (this.#ackCount > 0 && this.#acksSent < QUICK_ACKS)) this.#ackNow = true;
    if (this.#ackNow) {
      if (!this.#emitState(now, micros, this.#ackNumber())) this.#retryAtMs = now + RETRY_MS;
    } else if (this.#ackCount > 0 && this.#ackAtMs === Number.POSITIVE_INFINITY) {
      this.#ackAtMs = now + Math.min(MOST_ACK_DELAY_MS, Math.max(LEAST_ACK_DELAY_MS, this.#trip.ms / 2));
    }
  }

  #emitState(now: number, micros: number, ack: number): boolean {
    const inbox = this.#inbox!;
    const { scratch } = this.#host;
    const sack = inbox.sackBytes(MAX_SACK_BYTES);
    const length = UTP_HEADER_BYTES + (sack > 0 ? 2 + sack : 0);
    const { bytes } = scratch;
    writeFixed(bytes, PacketType.State, sack > 0 ? EXTENSION_SACK : 0, this.sendId, this.#outbox.unsent);
    writeVarying(bytes, micros, this.#replyMicros, this.#window(), ack);
    if (sack > 0) {
      bytes[UTP_HEADER_BYTES] = 0;
      bytes[UTP_HEADER_BYTES + 1] = sack;
      inbox.writeSack(bytes, UTP_HEADER_BYTES + 2, sack);
    }
    if (!this.#host.emit(this, scratch.view(length))) return false;
    this.#bytesOut += length;
    this.#sentMs = now;
    this.#acksSent++;
    this.#ackCount = 0;
    this.#ackNow = false;
    this.#ackAtMs = Number.POSITIVE_INFINITY;
    return true;
  }

  // ----------------------------------------------------------------------------------------------------------- timers

  nextAt(): number {
    if (this.#state === STATE_GONE) return Number.POSITIVE_INFINITY;
    let at = Math.min(this.#rtoAtMs, this.#ackAtMs, this.#probeAtMs, this.#holdAtMs, this.#retryAtMs);
    if (this.#closedMs >= 0) at = Math.min(at, this.#lingerAtMs, this.#closedMs + CLOSING_MOST_MS);
    else if (this.#state === STATE_OPEN) at = Math.min(at, this.#sentMs + KEEP_ALIVE_MS);
    return at;
  }

  /** A deadline may be due; what is to be sent leaves at the turn's end. */
  tick(now: number, micros: number): void {
    if (this.#state === STATE_GONE) return;
    if (this.#closedMs >= 0 && (now >= this.#lingerAtMs || now >= this.#closedMs + CLOSING_MOST_MS)) return this.#end();
    if (now >= this.#rtoAtMs) this.#timedOut(now);
    if (now >= this.#ackAtMs) {
      this.#ackAtMs = Number.POSITIVE_INFINITY;
      this.#ackNow = true;
    }
    if (now >= this.#holdAtMs) {
      this.#holdAtMs = Number.POSITIVE_INFINITY;
      this.#shortSeq = -1;
    }
    if (now >= this.#probeAtMs) {
      this.#probeAtMs = Number.POSITIVE_INFINITY;
      this.#probeNow = true;
    }
    if (this.#state === STATE_OPEN && !this.#closing && now >= this.#sentMs + KEEP_ALIVE_MS) {
      // acknowledges one packet less than came (libutp), to count for nothing but a sign of life; a mask must be true
      this.#sentMs = now;
      const less = this.#inbox!.aheadCount > 0 ? 0 : 1;
      this.#emitState(now, micros, (this.#ackNumber() - less) & 0xffff);
    }
    this.#host.touch(this);
  }

  #timedOut(now: number): void {
    const outbox = this.#outbox;
    this.#rtoAtMs = Number.POSITIVE_INFINITY;
    if (outbox.sentCount === 0) return;
    const probeOnly = outbox.loseAll();
    this.#probeSettled(now);
    this.#host.stats.timeouts++;
    this.#timeouts++;
    if (this.#state === STATE_DIALING) {
      if (this.#timeouts >= SYN_TRIES) {
        const text = `could not connect to ${name(this.remote)} over uTP: no answer for 15 s`;
        return this.#fail('ETIMEOUT', text);
      }
      this.#trip.doubled(MOST_SYN_RTO_MS);
      return;
    }
    if (probeOnly) return;
    // a window that closed upon a packet: the other side answers, it has only no room
    const closed = this.#peerWindow < outbox.payload(outbox.una) && now - this.#heardMs < 2 * this.#trip.timeoutMs;
    if (closed) this.#trip.doubled(ZERO_WINDOW_MOST_MS);
    else this.#trip.doubled();
    if (closed) {
      this.#timeouts = 0;
      this.#progressMs = now;
      return;
    }
    this.#ledbat.timedOut(this.#fullPayload());
    this.#recoverSeq = outbox.unsent;
    this.#duplicateAcks = 0;
    const dead = this.#timeouts >= MOST_TIMEOUTS || now - this.#progressMs >= DEAD_MS;
    if (dead || (this.#closing && this.#timeouts >= CLOSING_TIMEOUTS)) {
      this.#fail('ETIMEOUT', `could not keep the connection to ${name(this.remote)} over uTP: no answer for 90 s`);
    }
  }
}

function name(endpoint: Endpoint): string {
  return endpoint.ip.includes(':') ? `[${endpoint.ip}]:${endpoint.port}` : `${endpoint.ip}:${endpoint.port}`;
}
