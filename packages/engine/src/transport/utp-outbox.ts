/**
 * Owns what one uTP connection has sent and not heard of, and what waits to be sent: packets by sequence number in a ring.
 *
 *      una             unsent           nextSeq
 *       | under way, lost |   waiting      |
 *
 * Invariants: every number in [una, nextSeq) has a buffer unless it is acknowledged; `flightBytes` counts the payload of
 * packets sent, not acknowledged and not taken for lost; a packet's bytes are final once it was sent.
 * Now and then a number is held back (`holdBack`): it counts as sent and is not, until a later one is acknowledged. Who
 * acknowledges it acknowledges what he hopes for, not what he got (DEMANDS U4).
 * A packet is taken for lost when three sent after it are acknowledged, or, once sent again, when one is that left a
 * quarter round trip later (RACK); when an older one, sent again later, is acknowledged and it is not; or by the time-out,
 * all of them.
 * Limits: 950 packets (libtorrent keeps 953 out of order, libutp 1,023), and the pool's.
 */

import { assert } from '../base/assert.ts';
import { PacketType, seqDiff, UTP_HEADER_BYTES, writeFixed, writePadding } from './utp-packet.ts';
import type { PacketBuffer, PacketPool } from './utp-pool.ts';

export const MAX_PACKETS = 950;
const MOST_PLACES = 1024;
const SENT = 1;
const ACKED = 2;
const LOST = 4;
const PROBE = 8;
const HELD = 16;
/** Was held back: left after those that follow it. */
const LATE = 32;
const DUPLICATES = 3;

export class UtpOutbox {
  /** Oldest number not acknowledged. */
  una: number;
  /** First number never sent. */
  unsent: number;
  /** The number the next new packet gets. */
  nextSeq: number;
  flightBytes = 0;
  /** Payload in packets never sent. */
  waitingBytes = 0;
  lostCount = 0;
  /** Of the last `acknowledge`: payload, packets, least round trip, and the round trip of a packet sent once or -1. */
  ackedBytes = 0;
  ackedCount = 0;
  minRttMicros = 0;
  rttMicros = -1;
  /** Packets whose arrival out of order was told, in [una, unsent). */
  sackedCount = 0;
  /** Number of the probe (utp-mtu.ts) that was lost or passed with the last call, or -1. */
  probeLost = -1;
  probePassed = -1;
  /** A number that was held back was acknowledged. */
  gapAcked = false;
  /** A packet sent again was acknowledged, by its age not for its first sending, and hardly any other with it. */
  proved = false;
  /** The same, since what follows of it was looked for. */
  #proofDue = false;
  #leastRttMicros = Number.POSITIVE_INFINITY;
  #heldSeq = -1;
  readonly #pool: PacketPool;
  readonly #id: number;
  #mask = 15;
  #buffers: (PacketBuffer | null)[] = new Array(16).fill(null);
  /** Bytes of the packet and of its header. */
  #lengths: Int32Array = new Int32Array(16);
  #heads: Int32Array = new Int32Array(16);
  #flags: Uint8Array = new Uint8Array(16);
  #tries: Uint8Array = new Uint8Array(16);
  #sentMicros: Uint32Array = new Uint32Array(16);
  #highestSacked = 0;
  /** When the packet left that left last of those acknowledged. */
  #newestMicros = 0;
  #newestKnown = false;

  /** `id`: the connection id packets carry. */
  constructor(pool: PacketPool, id: number, firstSeq: number) {
    this.#pool = pool;
    this.#id = id;
    this.una = firstSeq;
    this.unsent = firstSeq;
    this.nextSeq = firstSeq;
  }

  /** Packets in the ring. */
  get count(): number {
    return (this.nextSeq - this.una) & 0xffff;
  }

  /** Packets sent at least once and not acknowledged in order. */
  get sentCount(): number {
    return (this.unsent - this.una) & 0xffff;
  }

  get waitingCount(): number {
    return (this.nextSeq - this.unsent) & 0xffff;
  }

  // -------------------------------------------------------------------------------------------------------- filling

  /** Bytes of payload that the last packet still takes; 0 when it was sent or is full. */
  room(datagram: number): number {
    if (this.nextSeq === this.unsent) return 0;
    const i = (this.nextSeq - 1) & this.#mask;
    if (this.#flags[i] !== 0 || this.#buffers[i]!.bytes[0]! >>> 4 !== PacketType.Data) return 0;
    return Math.max(0, Math.min(datagram, this.#buffers[i]!.bytes.length) - this.#lengths[i]!);
  }

  /** Appends to the last packet, which has the room. */
  append(bytes: Uint8Array): void {
    const i = (this.nextSeq - 1) & this.#mask;
    this.#pool.move(this.#buffers[i]!.bytes, this.#lengths[i]!, bytes);
    this.#lengths[i]! += bytes.length;
    this.waitingBytes += bytes.length;
  }

  /** A new packet without payload at the end; false: too many, or no memory. */
  open(type: PacketType, datagram: number): boolean {
    if (this.count >= MAX_PACKETS) return false;
    const buffer = this.#pool.take(type === PacketType.Data ? datagram : UTP_HEADER_BYTES);
    if (buffer === null) return false;
    this.#place(buffer, type, UTP_HEADER_BYTES, 0);
    return true;
  }

  /** A probe of `datagram` bytes that carries the one byte. */
  openProbe(datagram: number, byte: number): boolean {
    const buffer = this.count >= MAX_PACKETS ? null : this.#pool.take(datagram);
    if (buffer === null) return false;
    this.#place(buffer, PacketType.Data, datagram - 1, PROBE);
    writePadding(buffer.bytes, datagram - 1);
    buffer.bytes[datagram - 1] = byte;
    this.#lengths[(this.nextSeq - 1) & this.#mask] = datagram;
    this.waitingBytes++;
    return true;
  }

  #place(buffer: PacketBuffer, type: PacketType, head: number, flags: number): void {
    if (this.count > this.#mask - 1) this.#grow();
    const seq = this.nextSeq;
    const i = seq & this.#mask;
    writeFixed(buffer.bytes, type, 0, this.#id, seq);
    this.#buffers[i] = buffer;
    this.#lengths[i] = head;
    this.#heads[i] = head;
    this.#flags[i] = flags;
    this.#tries[i] = 0;
    this.nextSeq = (seq + 1) & 0xffff;
  }

  // -------------------------------------------------------------------------------------------------------- sending

  /** The first packet to send: the oldest lost one, else the oldest that waits; -1: none. */
  first(): number {
    if (this.lostCount > 0) {
      for (let seq = this.una; seq !== this.unsent; seq = (seq + 1) & 0xffff) {
        if ((this.#flags[seq & this.#mask]! & (LOST | ACKED)) === LOST) return seq;
      }
      assert(false, 'lost packets are under way');
    }
    return this.unsent === this.nextSeq ? -1 : this.unsent;
  }

  /** The lost packet after `seq`, or the first that waits; for going through them in order. */
  after(seq: number): number {
    if (this.lostCount > 0) {
      for (let s = (seq + 1) & 0xffff; seqDiff(this.unsent, s) > 0; s = (s + 1) & 0xffff) {
        if ((this.#flags[s & this.#mask]! & (LOST | ACKED)) === LOST) return s;
      }
    }
    return this.unsent === this.nextSeq ? -1 : this.unsent;
  }

  buffer(seq: number): PacketBuffer {
    return this.#buffers[seq & this.#mask]!;
  }

  /** Bytes of the packet. */
  length(seq: number): number {
    return this.#lengths[seq & this.#mask]!;
  }

  payload(seq: number): number {
    const i = seq & this.#mask;
    return this.#lengths[i]! - this.#heads[i]!;
  }

  tries(seq: number): number {
    return this.#tries[seq & this.#mask]!;
  }

  /** The packet left. Waiting ones leave in order. */
  sent(seq: number, micros: number): void {
    const i = seq & this.#mask;
    const payload = this.#lengths[i]! - this.#heads[i]!;
    if (seq === this.unsent) {
      this.unsent = (seq + 1) & 0xffff;
      this.waitingBytes -= payload;
    } else {
      assert((this.#flags[i]! & (LOST | ACKED)) === LOST, 'a packet under way is not sent again');
      this.lostCount--;
    }
    this.#flags[i] = (this.#flags[i]! & ~LOST) | SENT;
    if (this.#tries[i]! < 255) this.#tries[i]! += 1;
    this.#sentMicros[i] = micros;
    this.flightBytes += payload;
  }

  /** Passes over the first that waits as if it had left; false: one is held back already. */
  holdBack(): boolean {
    const i = this.unsent & this.#mask;
    if (this.#heldSeq >= 0 || this.sackedCount > 0 || this.#flags[i] !== 0) return false;
    this.#heldSeq = this.unsent;
    this.#flags[i] = HELD;
    this.waitingBytes -= this.#lengths[i]! - this.#heads[i]!;
    this.unsent = (this.unsent + 1) & 0xffff;
    return true;
  }

  /** Lets the one held back go, as if it had been lost: it leaves next. */
  #release(): void {
    const i = this.#heldSeq & this.#mask;
    this.#flags[i] = LOST | LATE;
    this.lostCount++;
    this.#heldSeq = -1;
  }

  // --------------------------------------------------------------------------------------------------- acknowledging

  /** Takes in an acknowledgement that is known to be of packets sent, and its mask. */
  acknowledge(micros: number, ack: number, bytes: Uint8Array, sackAt: number, sackBytes: number): void {
    this.ackedBytes = 0;
    this.ackedCount = 0;
    this.minRttMicros = Number.POSITIVE_INFINITY;
    this.rttMicros = -1;
    this.probePassed = -1;
    this.proved = false;
    while (seqDiff(ack, this.una) >= 0 && this.una !== this.unsent) this.#passUna(micros);
    for (let at = 0; at < sackBytes; at++) {
      const mask = bytes[sackAt + at]!;
      if (mask !== 0) this.#acknowledgeMask(micros, (ack + 2 + 8 * at) & 0xffff, mask);
    }
    while (this.una !== this.unsent && (this.#flags[this.una & this.#mask]! & ACKED) !== 0) this.#passUna(micros);
    if (this.#heldSeq >= 0 && this.sackedCount > 0) this.#release();
    if (this.ackedCount > 2) this.proved = false;
    if (this.proved) this.#proofDue = true;
  }

  #passUna(micros: number): void {
    const i = this.una & this.#mask;
    if ((this.#flags[i]! & ACKED) === 0) this.#acked(i, this.una, micros);
    else this.sackedCount--;
    this.una = (this.una + 1) & 0xffff;
  }

  #acknowledgeMask(micros: number, first: number, mask: number): void {
    for (let bit = 0; bit < 8; bit++) {
      if ((mask & (1 << bit)) === 0) continue;
      const seq = (first + bit) & 0xffff;
      if (seqDiff(seq, this.una) < 0 || seqDiff(seq, this.unsent) >= 0) continue;
      const i = seq & this.#mask;
      if ((this.#flags[i]! & ACKED) !== 0) continue;
      this.#acked(i, seq, micros);
      if (this.sackedCount++ === 0 || seqDiff(seq, this.#highestSacked) > 0) this.#highestSacked = seq;
    }
  }

  #acked(i: number, seq: number, micros: number): void {
    const flags = this.#flags[i]!;
    const payload = this.#lengths[i]! - this.#heads[i]!;
    if ((flags & HELD) !== 0) {
      this.gapAcked = true;
      this.#heldSeq = -1;
    } else if ((flags & LOST) !== 0) this.lostCount--;
    else this.flightBytes -= payload;
    this.ackedBytes += payload;
    this.ackedCount++;
    if ((flags & PROBE) !== 0) this.probePassed = seq;
    this.#pool.give(this.#buffers[i]!);
    this.#buffers[i] = null;
    this.#flags[i] = ACKED;
    const sent = this.#sentMicros[i]!;
    const rtt = (micros - sent) >>> 0;
    // what was taken for lost came long ago, and its acknowledgement was lost
    if ((flags & LOST) !== 0) return;
    if (this.#tries[i] !== 1) {
      if (rtt < 0.5 * this.#leastRttMicros || ((sent - this.#newestMicros) | 0) <= 0) return;
      this.#newestMicros = sent;
      this.proved = true;
      return;
    }
    if (rtt < this.minRttMicros) this.minRttMicros = rtt;
    if (rtt < this.#leastRttMicros) this.#leastRttMicros = rtt;
    this.rttMicros = rtt;
    if (!this.#newestKnown || ((sent - this.#newestMicros) | 0) > 0) {
      this.#newestKnown = true;
      this.#newestMicros = sent;
    }
  }

  /** Finds the lost among those under way. Returns the highest number lost that was no probe, or -1. */
  detectLost(rttMicros: number): number {
    this.probeLost = -1;
    if (this.sackedCount < 1) return -1;
    let last = this.#highestSacked;
    let above = 1;
    while (above < DUPLICATES && seqDiff(last, this.una) > 0) {
      last = (last - 1) & 0xffff;
      if ((this.#flags[last & this.#mask]! & ACKED) !== 0) above++;
    }
    if (above < DUPLICATES) return -1;
    let highest = -1;
    for (let seq = this.una; seqDiff(last, seq) > 0; seq = (seq + 1) & 0xffff) {
      const i = seq & this.#mask;
      if ((this.#flags[i]! & (ACKED | LOST | HELD)) !== 0) continue;
      const inTurn = this.#tries[i] === 1 && (this.#flags[i]! & LATE) === 0;
      if (!inTurn && ((this.#newestMicros - this.#sentMicros[i]!) | 0) < rttMicros / 4) continue;
      if (this.#lose(i, seq)) highest = seq;
    }
    return highest;
  }

  /**
   * Takes for lost what left a time-out ago, and after `proved` what left before the newest that came. Returns as
   * `detectLost`.
   */
  loseOlder(micros: number, rttMicros: number, timeoutMicros: number): number {
    let highest = -1;
    for (let seq = this.una; seq !== this.unsent; seq = (seq + 1) & 0xffff) {
      const i = seq & this.#mask;
      if ((this.#flags[i]! & (ACKED | LOST | HELD)) !== 0) continue;
      const sent = this.#sentMicros[i]!;
      const passed = this.#proofDue && ((this.#newestMicros - sent) | 0) > rttMicros / 4;
      if ((passed || (micros - sent) >>> 0 > timeoutMicros) && this.#lose(i, seq)) highest = seq;
    }
    this.#proofDue = false;
    return highest;
  }

  /** Takes the oldest for lost (duplicate acknowledgements without a mask). True: it was under way and no probe. */
  loseFirst(): boolean {
    this.probeLost = -1;
    const i = this.una & this.#mask;
    if (this.una === this.#heldSeq) this.#release();
    if (this.una === this.unsent || (this.#flags[i]! & (ACKED | LOST)) !== 0) return false;
    return this.#lose(i, this.una);
  }

  /** Takes all under way for lost. True when it was only a probe. */
  loseAll(): boolean {
    this.probeLost = -1;
    if (this.#heldSeq >= 0) this.#release();
    let others = 0;
    for (let seq = this.una; seq !== this.unsent; seq = (seq + 1) & 0xffff) {
      const i = seq & this.#mask;
      if ((this.#flags[i]! & (ACKED | LOST | HELD)) !== 0) continue;
      if (this.#lose(i, seq)) others++;
    }
    return others === 0 && this.probeLost >= 0;
  }

  /** True: an ordinary packet. */
  #lose(i: number, seq: number): boolean {
    this.#flags[i]! |= LOST;
    this.lostCount++;
    this.flightBytes -= this.#lengths[i]! - this.#heads[i]!;
    if ((this.#flags[i]! & PROBE) === 0) return true;
    // what it carried goes out in a packet of its own length
    const bytes = this.#buffers[i]!.bytes;
    bytes[UTP_HEADER_BYTES] = bytes[this.#heads[i]!]!;
    bytes[1] = 0;
    this.#heads[i] = UTP_HEADER_BYTES;
    this.#lengths[i] = UTP_HEADER_BYTES + 1;
    this.#flags[i]! &= ~PROBE;
    this.probeLost = seq;
    return false;
  }

  /** Gives all memory back. */
  clear(): void {
    for (let i = 0; i < this.#buffers.length; i++) {
      const buffer = this.#buffers[i]!;
      if (buffer !== null) this.#pool.give(buffer);
      this.#buffers[i] = null;
    }
    this.una = this.nextSeq;
    this.unsent = this.nextSeq;
    this.flightBytes = 0;
    this.waitingBytes = 0;
    this.lostCount = 0;
    this.sackedCount = 0;
    this.#heldSeq = -1;
  }

  #grow(): void {
    const places = 2 * (this.#mask + 1);
    assert(places <= MOST_PLACES, 'more packets than places');
    const mask = places - 1;
    const buffers: (PacketBuffer | null)[] = new Array(places).fill(null);
    const lengths = new Int32Array(places);
    const heads = new Int32Array(places);
    const flags = new Uint8Array(places);
    const tries = new Uint8Array(places);
    const sent = new Uint32Array(places);
    for (let seq = this.una; seq !== this.nextSeq; seq = (seq + 1) & 0xffff) {
      const from = seq & this.#mask;
      const to = seq & mask;
      buffers[to] = this.#buffers[from]!;
      lengths[to] = this.#lengths[from]!;
      heads[to] = this.#heads[from]!;
      flags[to] = this.#flags[from]!;
      tries[to] = this.#tries[from]!;
      sent[to] = this.#sentMicros[from]!;
    }
    this.#mask = mask;
    this.#buffers = buffers;
    this.#lengths = lengths;
    this.#heads = heads;
    this.#flags = flags;
    this.#tries = tries;
    this.#sentMicros = sent;
  }
}
