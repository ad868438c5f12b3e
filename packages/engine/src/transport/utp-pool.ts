/**
 * Owns the memory of uTP packets that wait: sent and not acknowledged, come out of order, or not yet read. Buffers of a few
 * sizes, for the packets of the internet, of jumbo frames and of loopback, are used again and again.
 *
 * Limits: `limitBytes` for all that are out (64 MiB unless said); past it `take` gives null and the caller waits or drops.
 * Of those given back up to 4 MiB of each size are kept.
 */

import { assert } from '../base/assert.ts';
import { type Move, plainMove } from '../base/slot-pool.ts';

/** What a full packet of each usual length takes (utp-mtu.ts); the last holds the largest UDP payload there is. */
const SIZES: readonly number[] = [1536, 4096, 9216, 16_640, 33_024, 65_536];
const KEPT_BYTES = 4 << 20;

/** One packet's memory. */
export class PacketBuffer {
  readonly bytes: Uint8Array;
  #view: Uint8Array;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = this.bytes;
  }

  /** The first `length` bytes; the view made last is used again when it fits. */
  view(length: number): Uint8Array {
    if (this.#view.length !== length) this.#view = this.bytes.subarray(0, length);
    return this.#view;
  }
}

export class PacketPool {
  /** Bytes of memory that are out. */
  usedBytes = 0;
  readonly limitBytes: number;
  /** How payload comes into the buffers. */
  readonly move: Move;
  /** Those that wait to be used again, by size. */
  readonly #kept: readonly PacketBuffer[][] = SIZES.map(() => []);

  constructor(limitBytes: number, move: Move = plainMove) {
    this.limitBytes = limitBytes;
    this.move = move;
  }

  /** A buffer of at least `size` bytes, or null when too much is out. */
  take(size: number): PacketBuffer | null {
    let i = 0;
    while (SIZES[i]! < size) i++;
    assert(i < SIZES.length, 'no datagram is that long');
    const bytes = SIZES[i]!;
    if (this.usedBytes + bytes > this.limitBytes) return null;
    this.usedBytes += bytes;
    return this.#kept[i]!.pop() ?? new PacketBuffer(bytes);
  }

  give(buffer: PacketBuffer): void {
    const bytes = buffer.bytes.length;
    this.usedBytes -= bytes;
    const kept = this.#kept[SIZES.indexOf(bytes)]!;
    if (kept.length * bytes < KEPT_BYTES) kept.push(buffer);
  }
}
