import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_BYTES, PIECE_HEADER_BYTES, type SlotMemory, SlotPool } from './slot-pool.ts';

const RECEIVE = 100;

function pool(count: number): SlotPool {
  const buffer = new ArrayBuffer(SlotPool.bytesFor(RECEIVE, count));
  const bytes = new Uint8Array(buffer);
  const memory: SlotMemory = { buffer, copy: (to, from, length) => void bytes.copyWithin(to, from, from + length) };
  return new SlotPool(memory, RECEIVE, count);
}

describe('SlotPool', () => {
  it('gives each slot to one taker, lowest first, and frees it with its last holder', () => {
    const slots = pool(3);
    expect([slots.take(), slots.take(), slots.take(), slots.take()]).toEqual([0, 1, 2, -1]);
    slots.retain(1);
    slots.release(1);
    expect([slots.holders(1), slots.freeCount]).toEqual([1, 0]);
    slots.release(1);
    expect([slots.holders(1), slots.freeCount, slots.take()]).toEqual([0, 1, 1]);
  });

  it('never lends a slot twice nor loses one', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('take', 'retain', 'release'), fc.nat(9))), (steps) => {
        const slots = pool(4);
        const held: number[] = [];
        for (const [what, pick] of steps) {
          const slot = held[pick % Math.max(1, held.length)];
          if (what === 'take') {
            const taken = slots.take();
            expect(taken >= 0).toBe(new Set(held).size < 4);
            expect(held).not.toContain(taken);
            if (taken >= 0) held.push(taken);
          } else if (slot !== undefined && what === 'retain') {
            slots.retain(slot);
            held.push(slot);
          } else if (slot !== undefined) {
            slots.release(slot);
            held.splice(held.indexOf(slot), 1);
          }
          expect(slots.freeCount).toBe(4 - new Set(held).size);
        }
      }),
    );
  });

  it('asserts against use of free slots and writes past the end', () => {
    const slots = pool(1);
    expect(() => slots.release(0)).toThrow('shoal bug');
    expect(() => slots.retain(0)).toThrow('shoal bug');
    slots.take();
    expect(() => slots.write(0, BLOCK_BYTES - 1, new Uint8Array(2), 0, 2)).toThrow('shoal bug');
  });

  it('copies from the receive buffer and from elsewhere, and stays inside the slot', () => {
    const slots = pool(3);
    for (let i = 0; i < 3; i++) slots.payload(slots.take()).fill(i + 1);
    slots.receive.set([10, 11, 12, 13], 7);
    slots.write(1, 0, slots.receive, 8, 2);
    slots.write(1, BLOCK_BYTES - 3, Uint8Array.of(20, 21, 22, 23), 1, 3);
    slots.zero(1, 100, 50);
    const payload = slots.payload(1);
    expect([payload[0], payload[1], payload[2]]).toEqual([11, 12, 2]);
    expect([...payload.subarray(BLOCK_BYTES - 4)]).toEqual([2, 21, 22, 23]);
    expect([payload[99], payload[100], payload[149], payload[150]]).toEqual([2, 0, 0, 2]);
    expect(slots.payload(0).every((b) => b === 1) && slots.payload(2).every((b) => b === 3)).toBe(true);
    expect(slots.offset(1) % 64).toBe(0);
  });

  it('makes a block wire-ready without touching payloads', () => {
    const slots = pool(2);
    slots.payload(slots.take()).fill(7);
    slots.payload(slots.take()).fill(8);
    const wire = slots.wireBlock(1, 0x01020304, 0x00c08000);
    const header = [0, 0, 0x40, 9, 7, 1, 2, 3, 4, 0, 0xc0, 0x80, 0];
    expect([...wire.subarray(0, PIECE_HEADER_BYTES)]).toEqual(header);
    expect(wire.length).toBe(PIECE_HEADER_BYTES + BLOCK_BYTES);
    expect(wire.subarray(PIECE_HEADER_BYTES).every((b) => b === 8)).toBe(true);
    expect(slots.payload(0).every((b) => b === 7)).toBe(true);
    expect(slots.wireBlock(1, 1, 0)).toBe(wire);
  });
});
