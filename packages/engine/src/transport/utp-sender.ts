/**
 * The sending half of one uTP connection: puts what was given to send into packets, lets them leave as both windows
 * allow, and learns from what is acknowledged. How packets reach the wire is the socket's business (`UtpLauncher`).
 *
 * Invariants: nothing leaves that the congestion window does not cover, but for one packet when nothing is under way; data
 * sent for the first time is also covered by the other side's window, but for one packet now and then when that is closed.
 * Limits: unsent payload of one window, 64 KiB to 512 KiB; 5 tries to connect; 24 time-outs in a row or 90 s without an
 * acknowledgement to give up; until the other side acknowledged data, 3 times its bytes (DEMANDS U1).
 */

import { Ledbat } from './ledbat.ts';
import { UtpBatch } from './utp-batch.ts';
import { LEAST_DATAGRAM, MtuSearch } from './utp-mtu.ts';
import { UtpOutbox } from './utp-outbox.ts';
import { PacketType, seqDiff, UTP_HEADER_BYTES, type UtpHeader } from './utp-packet.ts';
import type { PacketBuffer, PacketPool } from './utp-pool.ts';
import { RoundTrip } from './utp-round-trip.ts';
import type { UtpStats } from './utp-stats.ts';

export interface UtpLauncher {
  /** Fills in what is new in each packet and sends it; false: not taken. */
  launch(now: number, micros: number, buffer: PacketBuffer, length: number): boolean;
}

export const TimedOut = { Not: 0, Retry: 1, GivenUp: 2 } as const;
export type TimedOut = (typeof TimedOut)[keyof typeof TimedOut];

/** 1 + 2 + 4 + 4 + 4 s: as long as TCP is given. */
const SYN_TRIES = 5;
const MOST_SYN_RTO_MS = 4000;
const DEAD_MS = 90_000;
const MOST_TIMEOUTS = 24;
const CLOSING_TIMEOUTS = 12;
/** How long a short packet waits for more while another short one is under way. */
const HOLD_MS = 10;
/** Least waits before the oldest is sent again unasked; a lone packet may be acknowledged with a delay. */
const NUDGE_MS = 20;
const LONE_NUDGE_MS = 120;
const ZERO_WINDOW_MOST_MS = 15_000;
const MOST_UNSENT_BYTES = 1 << 19;
const LEAST_UNSENT_BYTES = 1 << 16;
/** What does not go out for want of room in the system's buffer is tried again so long. */
const RETRY_MS = 2;
/**
 * Packets that leave in one turn. At first fewer than a usual socket buffer holds (208 KiB, of which each takes 2.3); what
 * arrives raises it, a loss halves it.
 */
const FIRST_BURST = 64;
const LEAST_BURST = 32;
const MOST_BURST = 512;
const BURST_GROWTH = 1 / 16;
/** Time to the next such burst, when no acknowledgement comes first. */
const BURST_MS = 1;
/** Packets between two that are held back, at least, and at most as many more: a gap that only a liar does not see. */
const GAP_LEAST = 2048;
const GAP_MOST = 4096;

export class UtpSender {
  readonly outbox: UtpOutbox;
  readonly batch: UtpBatch = new UtpBatch();
  readonly ledbat: Ledbat = new Ledbat(LEAST_DATAGRAM - UTP_HEADER_BYTES);
  readonly mtu: MtuSearch;
  readonly trip: RoundTrip = new RoundTrip();
  /** No data follows: nothing waits for more. */
  ending = false;
  dialing: boolean;
  /** The other side acknowledged what it was never sent. */
  cheated = false;
  bytesIn = 0;
  bytesOut = 0;
  readonly #launcher: UtpLauncher;
  readonly #stats: UtpStats;
  #verified: boolean;
  #peerWindow = 1 << 20;
  #heardMs = 0;
  #rtoAtMs = Number.POSITIVE_INFINITY;
  #timeouts = 0;
  #progressMs = 0;
  #duplicateAcks = 0;
  /** Losses of numbers before this one were answered with a smaller window. */
  #recoverSeq: number;
  #lossCheck = false;
  #olderLost = false;
  /** Lost packets that may leave beyond the window: one for two that were acknowledged (as TCP's recovery has it). */
  #resendLeft = 0;
  /** When the oldest under way is sent again although nothing says that it is lost; once until something is heard. */
  #nudgeAtMs = Number.POSITIVE_INFINITY;
  #fullAtMs = Number.NEGATIVE_INFINITY;
  #probeAtMs = Number.POSITIVE_INFINITY;
  #probeMs = 0;
  #probeNow = false;
  #holdAtMs = Number.POSITIVE_INFINITY;
  #shortSeq = -1;
  #retryAtMs = Number.POSITIVE_INFINITY;
  #burst: number = FIRST_BURST;
  #burstLeft = 0;
  /** Decides which packets are held back, which nobody is to guess; and packets to go to the next. */
  #gapSeed: number;
  #gapLeft: number;

  constructor(
    launcher: UtpLauncher,
    pool: PacketPool,
    stats: UtpStats,
    sendId: number,
    seq: number,
    secret: number,
    mostDatagram: number,
    dialing: boolean,
  ) {
    this.#launcher = launcher;
    this.#stats = stats;
    this.outbox = new UtpOutbox(pool, sendId, seq);
    this.mtu = new MtuSearch(mostDatagram);
    this.dialing = dialing;
    this.#verified = dialing;
    this.#recoverSeq = seq;
    this.#gapSeed = secret;
    this.#gapLeft = this.#drawGap();
  }

  /** The connection is up, or is begun. */
  begin(now: number): void {
    this.#progressMs = now;
    this.#heardMs = now;
  }

  /** The other side acknowledged data: its address is its own. */
  get verified(): boolean {
    return this.#verified;
  }

  get fullPayload(): number {
    return this.mtu.datagram - UTP_HEADER_BYTES;
  }

  // ------------------------------------------------------------------------------------------------------ what came in

  /** Takes in what a packet acknowledges, which is known to be of packets sent. */
  acknowledged(now: number, micros: number, h: UtpHeader, bytes: Uint8Array): void {
    const { outbox, ledbat, trip } = this;
    this.#heardMs = now;
    const ahead = seqDiff(h.ack, outbox.una);
    if (ahead >= -1) {
      this.#peerWindow = h.window;
      if (h.window > 0) this.#probeMs = 0;
    }
    outbox.acknowledge(micros, h.ack, bytes, h.sackAt, h.sackBytes);
    if (outbox.gapAcked) this.cheated = true;
    // short packets take less time on the wire: no base for long ones
    if (h.diff !== 0 && outbox.ackedBytes > 0) ledbat.sampleOurs(now, h.diff, outbox.minRttMicros);
    if (outbox.sackedCount > 0) this.#lossCheck = true;
    if (outbox.proved) this.#olderLost = true;
    this.#resendLeft = Math.min(LEAST_BURST, this.#resendLeft + Math.ceil(outbox.ackedCount / 2));
    if (outbox.ackedCount === 0) {
      if (ahead === -1 && h.type === PacketType.State && h.sackBytes === 0) this.#duplicate(now);
      return;
    }
    if (ahead >= 0) this.#duplicateAcks = 0;
    this.#verified = true;
    this.#progressMs = now;
    this.#timeouts = 0;
    if (outbox.rttMicros >= 0) trip.measured(outbox.rttMicros / 1000);
    else trip.progressed();
    this.#rtoAtMs = outbox.sentCount > 0 ? now + trip.timeoutMs : Number.POSITIVE_INFINITY;
    this.#nudgeAtMs = outbox.sentCount > 0 ? now + this.#nudgeMs() : Number.POSITIVE_INFINITY;
    this.#burst = Math.min(MOST_BURST, this.#burst + outbox.ackedCount * BURST_GROWTH);
    if (outbox.probePassed >= 0) this.mtu.passed(now);
    else this.mtu.acknowledged(outbox.ackedCount);
    if (outbox.ackedBytes > 0) ledbat.acknowledged(now, outbox.ackedBytes, trip.ms, this.#fullAtMs, this.fullPayload);
  }

  /** The same number again, from one that sends no masks: three say that the next packet is lost. */
  #duplicate(now: number): void {
    if (this.outbox.sentCount === 0 || ++this.#duplicateAcks !== 3) return;
    this.#resendLeft = Math.max(1, this.#resendLeft);
    if (this.outbox.loseFirst()) this.#lost(now, this.outbox.una);
    this.#probeSettled(now);
  }

  /** What was acknowledged came again: our answer was lost, and a bare acknowledgement would silence a stranger. */
  repeat(): void {
    if (!this.#verified && this.outbox.sentCount > 0) this.outbox.loseFirst();
  }

  /** A lost end of a burst is found in two round trips so, not in a time-out (the tail loss probe of TCP). */
  #nudgeMs(): number {
    return Math.max(2 * this.trip.ms, this.outbox.sentCount > 1 ? NUDGE_MS : LONE_NUDGE_MS);
  }

  #probeSettled(now: number): void {
    if (this.outbox.probeLost >= 0) this.mtu.failed(now);
    this.outbox.probeLost = -1;
  }

  /** The window answers once to all that was lost of one round trip. */
  #lost(now: number, seq: number): void {
    if (seqDiff(seq, this.#recoverSeq) < 0) return;
    this.#recoverSeq = this.outbox.unsent;
    this.#burst = Math.max(LEAST_BURST, this.#burst / 2);
    this.ledbat.lost(now, this.fullPayload);
  }

  // ------------------------------------------------------------------------------------------------------- turn's end

  /** A turn ends; `flush` follows, once or more. */
  beginFlush(): void {
    this.#burstLeft = this.#burst | 0;
  }

  /** Sends what may leave. True: the whole batch was taken over. */
  flush(now: number, micros: number): boolean {
    const { outbox, batch } = this;
    this.#retryAtMs = Number.POSITIVE_INFINITY;
    if (this.#lossCheck) {
      this.#lossCheck = false;
      const lost = outbox.detectLost(this.trip.ms * 1000);
      if (lost >= 0) this.#lost(now, lost);
      this.#probeSettled(now);
    }
    if (this.#olderLost) {
      this.#olderLost = false;
      const lost = outbox.loseOlder(micros, this.trip.ms * 1000, this.trip.restingMs * 1000);
      if (lost >= 0) this.#lost(now, lost);
      this.#probeSettled(now);
    }
    for (;;) {
      const before = batch.left;
      this.#fill(now);
      if (!this.#transmit(now, micros)) return false;
      if (batch.left === 0) return batch.open;
      if (outbox.waitingBytes > 0 || batch.left === before) return false;
    }
  }

  /** Copies what was given to send into packets, as much as may wait. */
  #fill(now: number): void {
    const { batch, outbox } = this;
    if (batch.left === 0) return;
    // packets are no longer than a quarter of what the other side takes
    let datagram = Math.min(this.mtu.datagram, Math.max(LEAST_DATAGRAM, this.#peerWindow >>> 2));
    // and the first one to a stranger no longer than may leave twice, since it may be lost and nothing more come in
    if (!this.#verified) datagram = Math.min(datagram, Math.floor((3 * this.bytesIn - this.bytesOut) / 2));
    const most = Math.min(Math.max(this.ledbat.window, LEAST_UNSENT_BYTES, 2 * datagram), MOST_UNSENT_BYTES);
    while (batch.left > 0 && outbox.waitingBytes < most) {
      let room = outbox.room(datagram);
      if (room === 0) {
        if (!this.#verified && (outbox.count > 0 || datagram <= UTP_HEADER_BYTES)) return;
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
    const length = this.mtu.wanted(now);
    if (length === 0 || !this.#verified || this.#peerWindow < 4 * length) return false;
    const seq = this.outbox.nextSeq;
    if (!this.outbox.openProbe(length, this.batch.peek())) return false;
    this.mtu.sent(seq);
    this.batch.takeOne();
    return true;
  }

  /** Sends what the windows let through. False: the system takes no more. */
  #transmit(now: number, micros: number): boolean {
    const { outbox } = this;
    let seq = outbox.first();
    while (seq >= 0) {
      if (!this.#mayLeave(now, seq)) return true;
      if (this.#burstLeft-- <= 0) {
        this.#retryAtMs = now + BURST_MS;
        return false;
      }
      if (seq === outbox.unsent && --this.#gapLeft <= 0 && outbox.waitingCount > 4 && outbox.holdBack()) {
        this.#gapLeft = this.#drawGap();
      } else if (!this.#emit(now, micros, seq)) {
        this.#retryAtMs = now + RETRY_MS;
        return false;
      }
      seq = outbox.after(seq);
    }
    return true;
  }

  #mayLeave(now: number, seq: number): boolean {
    const { outbox } = this;
    const payload = outbox.payload(seq);
    const flight = outbox.flightBytes;
    if (flight > 0 && flight + payload > this.ledbat.window) {
      this.#fullAtMs = now;
      // what was lost goes out while the window shrinks: else nothing might be acknowledged any more
      if (seq === outbox.unsent || this.#resendLeft <= 0) return false;
    }
    if (!this.#verified && this.bytesOut + outbox.length(seq) > 3 * this.bytesIn) return false;
    if (seq !== outbox.unsent || payload === 0) return true;
    if (flight + payload > this.#peerWindow) return this.#closedWindow(now, flight);
    this.#probeAtMs = Number.POSITIVE_INFINITY;
    return this.#longEnough(now, seq);
  }

  /** With a closed window one packet goes out now and then, so that its opening is not missed. */
  #closedWindow(now: number, flight: number): boolean {
    if (flight > 0 || this.outbox.lostCount > 0) return false;
    if (this.#probeNow) {
      this.#probeNow = false;
      return true;
    }
    if (this.#probeAtMs === Number.POSITIVE_INFINITY) {
      this.#probeMs = Math.min(this.#probeMs === 0 ? this.trip.restingMs : 2 * this.#probeMs, ZERO_WINDOW_MOST_MS);
      this.#probeAtMs = now + this.#probeMs;
    }
    return false;
  }

  /** A short packet waits a little for more, if another short one is under way (Minshall's rule). */
  #longEnough(now: number, seq: number): boolean {
    const { outbox } = this;
    const last = ((seq + 1) & 0xffff) === outbox.nextSeq;
    if (!last || this.ending || outbox.room(this.mtu.datagram) === 0) return true;
    if (this.#shortSeq < 0 || seqDiff(this.#shortSeq, outbox.una) < 0) {
      this.#holdAtMs = Number.POSITIVE_INFINITY;
      this.#shortSeq = seq;
      return true;
    }
    if (this.#holdAtMs === Number.POSITIVE_INFINITY) this.#holdAtMs = now + HOLD_MS;
    return false;
  }

  #emit(now: number, micros: number, seq: number): boolean {
    const { outbox } = this;
    const length = outbox.length(seq);
    if (!this.#launcher.launch(now, micros, outbox.buffer(seq), length)) {
      // a probe that the system itself refuses is too long; a SYN counts as sent, so that it is given up some day
      if (seq !== this.mtu.probeSeq && !this.dialing) return false;
    }
    if (outbox.tries(seq) > 0) this.#stats.resent++;
    else this.#stats.payloadOut += outbox.payload(seq);
    if (seq !== outbox.unsent) this.#resendLeft--;
    outbox.sent(seq, micros);
    if (this.#rtoAtMs === Number.POSITIVE_INFINITY) {
      this.#rtoAtMs = now + this.trip.timeoutMs;
      if (this.trip.ms > 0 && this.#timeouts === 0) this.#nudgeAtMs = now + this.#nudgeMs();
    }
    return true;
  }

  #drawGap(): number {
    this.#gapSeed = (Math.imul(this.#gapSeed, 1664525) + 1013904223) >>> 0;
    return GAP_LEAST + ((this.#gapSeed >>> 16) % (GAP_MOST - GAP_LEAST));
  }

  // ----------------------------------------------------------------------------------------------------------- timers

  nextAt(): number {
    return Math.min(this.#rtoAtMs, this.#nudgeAtMs, this.#probeAtMs, this.#holdAtMs, this.#retryAtMs);
  }

  /** What is to be sent now leaves with the next `flush`. */
  tick(now: number): TimedOut {
    if (now >= this.#holdAtMs) {
      this.#holdAtMs = Number.POSITIVE_INFINITY;
      this.#shortSeq = -1;
    }
    if (now >= this.#probeAtMs) {
      this.#probeAtMs = Number.POSITIVE_INFINITY;
      this.#probeNow = true;
    }
    if (now >= this.#rtoAtMs) return this.#timedOut(now);
    if (now >= this.#nudgeAtMs) {
      this.#nudgeAtMs = Number.POSITIVE_INFINITY;
      this.outbox.loseFirst();
      this.#olderLost = true;
      this.#resendLeft = Math.max(1, this.#resendLeft);
      this.#probeSettled(now);
    }
    return TimedOut.Not;
  }

  #timedOut(now: number): TimedOut {
    const { outbox, trip } = this;
    this.#rtoAtMs = Number.POSITIVE_INFINITY;
    this.#nudgeAtMs = Number.POSITIVE_INFINITY;
    if (outbox.sentCount === 0) return TimedOut.Not;
    const probeOnly = outbox.loseAll();
    this.#probeSettled(now);
    this.#stats.timeouts++;
    this.#timeouts++;
    if (this.dialing) {
      trip.doubled(MOST_SYN_RTO_MS);
      return this.#timeouts >= SYN_TRIES ? TimedOut.GivenUp : TimedOut.Retry;
    }
    if (probeOnly) return TimedOut.Retry;
    // a window that closed upon a packet: the other side answers, it has only no room
    if (this.#peerWindow < outbox.payload(outbox.una) && now - this.#heardMs < 2 * trip.timeoutMs) {
      trip.doubled(ZERO_WINDOW_MOST_MS);
      this.#timeouts = 0;
      this.#progressMs = now;
      return TimedOut.Retry;
    }
    trip.doubled();
    this.#burst = LEAST_BURST;
    this.ledbat.timedOut(this.fullPayload);
    this.#recoverSeq = outbox.unsent;
    this.#duplicateAcks = 0;
    const most = this.ending ? CLOSING_TIMEOUTS : MOST_TIMEOUTS;
    return this.#timeouts >= most || now - this.#progressMs >= DEAD_MS ? TimedOut.GivenUp : TimedOut.Retry;
  }
}
