/** Stretches of bytes under way in the virtual network, reused by size, so that a million deliveries make little garbage. */

/** `length` -1: not data but the end of the stream. */
export interface Chunk {
  readonly bytes: Uint8Array;
  length: number;
}

/** Sizes kept: a few messages, a block with its header, and the largest piece of a send. */
const SIZES: readonly number[] = [512, 17408, 65536];
/** Beyond so many of one size free ones are left to the collector. */
const KEEP = 4096;

export const MAX_CHUNK_BYTES = 65536;
/** What one byte past its return is overwritten with when borrowed bytes are checked. */
export const POISON = 0xdb;

export class ChunkPool {
  readonly #free: Chunk[][] = SIZES.map(() => []);
  readonly #poison: boolean;

  /** `poison`: bytes given back are overwritten, so that who kept a borrowed view is found out. */
  constructor(poison: boolean) {
    this.#poison = poison;
  }

  take(length: number): Chunk {
    const size = length <= SIZES[0]! ? 0 : length <= SIZES[1]! ? 1 : 2;
    const chunk = this.#free[size]!.pop() ?? { bytes: new Uint8Array(SIZES[size]!), length: 0 };
    chunk.length = length;
    return chunk;
  }

  give(chunk: Chunk): void {
    if (chunk === END) return;
    if (this.#poison) chunk.bytes.fill(POISON, 0, chunk.length);
    const size = SIZES.indexOf(chunk.bytes.length);
    const free = this.#free[size]!;
    if (free.length < KEEP) free.push(chunk);
  }
}

/** The end of a stream, which travels behind the data. */
export const END: Chunk = { bytes: new Uint8Array(0), length: -1 };
