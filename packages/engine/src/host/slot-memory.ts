/**
 * The memory of the slot pool: shared with the workers, and with a copy that is fast at any alignment. `set` and
 * `copyWithin` on shared memory run at a seventh of the speed when source and target are not mutually aligned, which
 * the 13-byte headers of blocks make the rule; WebAssembly's memory.copy does not care. Between shared memory and plain,
 * where it cannot reach, Buffer's `fill` with the bytes to copy does not either.
 *
 * Limit: 4 GiB, what a 32-bit WebAssembly memory can address.
 */

import type { Move, SlotMemory } from '../base/slot-pool.ts';
import { makeRc4Kernel } from './rc4-kernel.ts';
import { instantiate, MAX_PAGES, PAGE_BYTES, sharedMemory } from './wasm.ts';

/** For RC4: its state, and batches that are enciphered and not gone yet, 64 of 160 KiB. */
const CIPHER_PAGES = 161;
/** Below this the call costs more than it spares. */
const LONG_BYTES = 256;

/**
 *     (module
 *       (import "host" "memory" (memory 0 65536 shared))
 *       (func (export "copy") (param i32 i32 i32)
 *         (memory.copy (local.get 0) (local.get 1) (local.get 2))))
 */
// biome-ignore format: one section a line
const COPY_MODULE: Uint8Array<ArrayBuffer> = Uint8Array.of(
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x07, 0x01, 0x60, 0x03, 0x7f, 0x7f, 0x7f, 0x00,
  0x02, 0x13, 0x01, 0x04, 0x68, 0x6f, 0x73, 0x74, 0x06, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 0x02, 0x03, 0x00, 0x80, 0x80, 0x04,
  0x03, 0x02, 0x01, 0x00,
  0x07, 0x08, 0x01, 0x04, 0x63, 0x6f, 0x70, 0x79, 0x00, 0x00,
  0x0a, 0x0e, 0x01, 0x0c, 0x00, 0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0xfc, 0x0a, 0x00, 0x00, 0x0b,
);

/** Shared memory of at least `bytes` bytes, and more for RC4 if there is. Throws RangeError when there is none. */
export function makeSlotMemory(bytes: number): SlotMemory {
  const pages = Math.max(1, Math.ceil(bytes / PAGE_BYTES));
  if (pages > MAX_PAGES) throw new RangeError(`slot memory of ${bytes} bytes is more than 4 GiB`);
  const more = Math.min(CIPHER_PAGES, MAX_PAGES - pages);
  const memory = sharedMemory(pages + more);
  const { buffer } = memory;
  const copy = instantiate(COPY_MODULE, memory)['copy'] as SlotMemory['copy'];
  if (more === 0) return { buffer, copy, move };
  return { buffer, copy, move, rc4: makeRc4Kernel(memory, pages * PAGE_BYTES, more * PAGE_BYTES) };
}

const { fill } = Buffer.prototype;

const move: Move = (target, at, source) => {
  if (source.length < LONG_BYTES) target.set(source, at);
  else if (at + source.length > target.length) throw new RangeError('past the end of the target');
  else fill.call(target, source, at, at + source.length);
};
