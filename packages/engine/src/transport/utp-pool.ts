/**
 * Owns the memory of uTP packets that wait: sent and not acknowledged, come out of order, or not yet read. Buffers of two
 * sizes, for packets of the internet and of a loopback or jumbo path, are used again and again.
 *
 * Limits: `limitBytes` for all that are out (64 MiB unless said); past it `take` gives null and the caller waits or drops.
 * Of those given back some are kept: 3 MiB of the small, 8 MiB of the large.
 */

import { assert } from '../base/assert.ts';

const SMALL_BYTES = 1536;
/** Largest UDP payload there is, rounded up. */
const LARGE_BYTES = 65536;
const SMALL_KEPT = 2048;
const LARGE_KEPT = 128;

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
  readonly #small: PacketBuffer[] = [];
  readonly #large: PacketBuffer[] = [];

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** A buffer of at least `size` bytes, or null when too much is out. */
  take(size: number): PacketBuffer | null {
    assert(size <= LARGE_BYTES, 'no datagram is that long');
    const bytes = size <= SMALL_BYTES ? SMALL_BYTES : LARGE_BYTES;
    if (this.usedBytes + bytes > this.limitBytes) return null;
    this.usedBytes += bytes;
    const kept = bytes === SMALL_BYTES ? this.#small.pop() : this.#large.pop();
    return kept ?? new PacketBuffer(bytes);
  }

  give(buffer: PacketBuffer): void {
    const bytes = buffer.bytes.length;
    this.usedBytes -= bytes;
    if (bytes === SMALL_BYTES) {
      if (this.#small.length < SMALL_KEPT) this.#small.push(buffer);
    } else if (this.#large.length < LARGE_KEPT) this.#large.push(buffer);
  }
}
