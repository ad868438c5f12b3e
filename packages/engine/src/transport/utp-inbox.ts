/**
 * Owns what one uTP connection has received: which number comes next, packets that came before their turn, and packets in
 * their turn that nobody reads now.
 *
 *      unread           next                     next + places
 *       | in order, not   | out of order, with      |
 *       | yet delivered   | holes                   |
 *
 * Invariants: bytes are delivered exactly once and in order; nothing after the end mark (FIN) is. What comes in order while
 * nobody is paused is delivered from where it lies, without a copy.
 * What lies beyond a hole does not narrow the window: real senders hold back even the packet that would close the hole
 * when the window has no room for it, and would wait for ever (libtorrent; libutp counts as we do).
 * Limits: 2,048 numbers ahead of what was read; `capacity` bytes unread and twice that in all, by the memory they take;
 * the pool's, and once half of that is out an eighth of both.
 */

import { seqDiff } from './utp-packet.ts';
import type { PacketBuffer, PacketPool } from './utp-pool.ts';

const MOST_PLACES = 2048;
/** While memory is short, 1 / 2^this of the capacity counts. */
const SHORT_SHIFT = 3;

export const Arrival = {
  /** In order: deliver the payload now, then `advanced`. */
  Deliver: 0,
  /** Kept. */
  Kept: 1,
  /** Had already. */
  Duplicate: 2,
  /** Outside of what may come, or no room. */
  Dropped: 3,
} as const;
export type Arrival = (typeof Arrival)[keyof typeof Arrival];

export class UtpInbox {
  /** The number that comes next in order; the one before it is acknowledged. */
  next: number;
  /** Packets beyond a hole. */
  aheadCount = 0;
  /** Number of the end mark, or -1. */
  endSeq = -1;
  readonly capacity: number;
  readonly #pool: PacketPool;
  /** First number not delivered: `next`, or less while paused. */
  #unread: number;
  #heldBytes = 0;
  /** Of these, in order. */
  #unreadBytes = 0;
  #mask = 15;
  #buffers: (PacketBuffer | null)[] = new Array(16).fill(null);
  #lengths: Int32Array = new Int32Array(16);
  #highest = 0;

  constructor(pool: PacketPool, next: number, capacity: number) {
    this.#pool = pool;
    this.next = next;
    this.#unread = next;
    this.capacity = capacity;
  }

  /** Bytes the other side may have under way. */
  get window(): number {
    return Math.max(0, this.#share - this.#unreadBytes);
  }

  /** The capacity, or what there is of it while memory is short. */
  get #share(): number {
    const { usedBytes, limitBytes } = this.#pool;
    return usedBytes > limitBytes / 2 ? this.capacity >>> SHORT_SHIFT : this.capacity;
  }

  /** Packets in order that wait to be read. */
  get unreadCount(): number {
    return (this.next - this.#unread) & 0xffff;
  }

  /** Everything before the end mark was delivered. */
  get ended(): boolean {
    return this.endSeq >= 0 && this.#unread === this.endSeq;
  }

  /** A packet with payload or end mark came. `paused`: it may not be delivered now. */
  arrived(seq: number, bytes: Uint8Array, at: number, paused: boolean): Arrival {
    const ahead = seqDiff(seq, this.next);
    if (ahead < 0) return Arrival.Duplicate;
    if (this.endSeq >= 0 && seqDiff(seq, this.endSeq) >= 0) return Arrival.Dropped;
    if (ahead === 0 && !paused && this.#unread === this.next) return Arrival.Deliver;
    return this.#keep(seq, bytes, at);
  }

  /** The end mark came; false: it is not where the one before was. */
  end(seq: number): boolean {
    if (this.endSeq >= 0) return this.endSeq === seq;
    if (seqDiff(seq, this.next) < 0) return false;
    this.endSeq = seq;
    return true;
  }

  /** The packet in order was delivered; goes on over those kept behind it. */
  advanced(): void {
    this.#unread = (this.#unread + 1) & 0xffff;
    this.next = this.#unread;
    this.#pull();
  }

  /** The oldest packet that waits to be read, as its payload, or null. `read` follows. */
  peek(): Uint8Array | null {
    if (this.#unread === this.next) return null;
    const i = this.#unread & this.#mask;
    return this.#buffers[i]!.view(this.#lengths[i]!);
  }

  /** The one from `peek` was used up. */
  read(): void {
    const i = this.#unread & this.#mask;
    const buffer = this.#buffers[i]!;
    this.#buffers[i] = null;
    this.#heldBytes -= buffer.bytes.length;
    this.#unreadBytes -= buffer.bytes.length;
    this.#pool.give(buffer);
    this.#unread = (this.#unread + 1) & 0xffff;
  }

  /** Bytes of mask that tell of all packets beyond the hole: a multiple of 4, at most `most`. */
  sackBytes(most: number): number {
    if (this.aheadCount === 0) return 0;
    const bits = seqDiff(this.#highest, this.next);
    return Math.min(most, 4 * Math.ceil(bits / 32));
  }

  /** Writes the mask; its first bit stands for `next` + 1. */
  writeSack(target: Uint8Array, at: number, count: number): void {
    for (let byte = 0; byte < count; byte++) {
      let mask = 0;
      for (let bit = 0; bit < 8; bit++) {
        const ahead = 1 + 8 * byte + bit;
        if (ahead > this.#mask - this.unreadCount) break;
        if (this.#buffers[(this.next + ahead) & this.#mask] !== null) mask |= 1 << bit;
      }
      target[at + byte] = mask;
    }
  }

  clear(): void {
    for (let i = 0; i < this.#buffers.length; i++) {
      const buffer = this.#buffers[i]!;
      if (buffer !== null) this.#pool.give(buffer);
      this.#buffers[i] = null;
    }
    this.#unread = this.next;
    this.#heldBytes = 0;
    this.#unreadBytes = 0;
    this.aheadCount = 0;
  }

  #keep(seq: number, bytes: Uint8Array, at: number): Arrival {
    const distance = seqDiff(seq, this.#unread);
    if (distance >= MOST_PLACES - 1) return Arrival.Dropped;
    while (distance >= this.#mask) this.#grow();
    const i = seq & this.#mask;
    if (this.#buffers[i] !== null) return Arrival.Duplicate;
    const length = bytes.length - at;
    if (this.#heldBytes + length > 2 * this.#share && (seq !== this.next || this.#unreadBytes > this.capacity)) {
      return Arrival.Dropped;
    }
    const buffer = this.#pool.take(length);
    if (buffer === null) return Arrival.Dropped;
    if (at === 0) buffer.bytes.set(bytes);
    else buffer.bytes.set(bytes.subarray(at));
    this.#buffers[i] = buffer;
    this.#lengths[i] = length;
    this.#heldBytes += buffer.bytes.length;
    if (seq === this.next) {
      this.#unreadBytes += buffer.bytes.length;
      this.next = (seq + 1) & 0xffff;
      this.#pull();
    } else if (this.aheadCount++ === 0 || seqDiff(seq, this.#highest) > 0) this.#highest = seq;
    return Arrival.Kept;
  }

  /** Moves `next` over what is there behind it. */
  #pull(): void {
    while (this.aheadCount > 0) {
      const buffer = this.#buffers[this.next & this.#mask]!;
      if (buffer === null) return;
      this.#unreadBytes += buffer.bytes.length;
      this.next = (this.next + 1) & 0xffff;
      this.aheadCount--;
    }
  }

  #grow(): void {
    const mask = 2 * this.#mask + 1;
    const buffers: (PacketBuffer | null)[] = new Array(mask + 1).fill(null);
    const lengths = new Int32Array(mask + 1);
    for (let k = 0; k <= this.#mask; k++) {
      const seq = (this.#unread + k) & 0xffff;
      buffers[seq & mask] = this.#buffers[seq & this.#mask]!;
      lengths[seq & mask] = this.#lengths[seq & this.#mask]!;
    }
    this.#mask = mask;
    this.#buffers = buffers;
    this.#lengths = lengths;
  }
}
