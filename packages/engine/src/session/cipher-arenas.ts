/**
 * Owns the memory that batches are enciphered into, for reuse: first what the host's RC4 works in, then plain memory.
 *
 * Limits: of the plain ones MAX_PLAIN are kept.
 */

import type { SlotPool } from '../base/slot-pool.ts';
import { CIPHER_ARENA_BYTES } from './link.ts';

const MAX_PLAIN = 16;

export class CipherArenas {
  readonly #slots: SlotPool;
  readonly #free: Uint8Array[] = [];

  constructor(slots: SlotPool) {
    this.#slots = slots;
    const room = slots.rc4?.room;
    // the first ones come out first, so that memory never needed is never touched
    for (let at = Math.floor((room?.length ?? 0) / CIPHER_ARENA_BYTES) - 1; at >= 0; at--) {
      this.#free.push(room!.subarray(at * CIPHER_ARENA_BYTES, (at + 1) * CIPHER_ARENA_BYTES));
    }
  }

  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(CIPHER_ARENA_BYTES);
  }

  give(arena: Uint8Array): void {
    if (this.#free.length < MAX_PLAIN || arena.buffer === this.#slots.buffer) this.#free.push(arena);
  }
}
