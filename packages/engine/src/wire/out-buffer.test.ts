import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makePool } from '../../test/wire-kit.ts';
import { concat } from '../base/bytes.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { MAX_BATCH_VIEWS, MAX_CONTROL_BYTES, OutBuffer } from './out-buffer.ts';

function write(out: OutBuffer, n: number, value: number): void {
  const at = out.reserve(n);
  out.arena.fill(value, at, at + n);
}

describe('OutBuffer', () => {
  it('merges control bytes, lends blocks as they are, and keeps the order', () => {
    const slots = makePool();
    const out = new OutBuffer(slots);
    const slot = slots.take();
    write(out, 3, 1);
    write(out, 2, 2);
    out.pushSlot(slot, slots.payload(slot));
    write(out, 1, 3);
    const batch = out.takeOut(1 << 20)!;
    expect([batch.count, batch.bytes]).toEqual([3, 6 + BLOCK_BYTES]);
    expect([...batch.views[0]!]).toEqual([1, 1, 1, 2, 2]);
    expect(batch.views[1]).toBe(slots.payload(slot));
    expect([...batch.views[2]!]).toEqual([3]);
    expect(slots.freeCount).toBe(slots.count - 1);
    out.sentOut();
    expect(slots.freeCount).toBe(slots.count);
    expect(out.takeOut(100)).toBe(null);
  });

  it('never writes what is out, however much is said meanwhile', () => {
    const out = new OutBuffer(makePool());
    write(out, 100, 1);
    const batch = out.takeOut(60)!;
    for (let i = 0; i < 1000; i++) write(out, 17, 2);
    expect(concat(batch.views.slice(0, batch.count))).toEqual(new Uint8Array(60).fill(1));
    out.sentOut();
    const rest = out.takeOut(1 << 20)!;
    expect(rest.views[0]!.subarray(0, 41)).toEqual(Uint8Array.of(...new Array(40).fill(1), 2));
    expect(rest.bytes).toBe(17040);
  });

  it('gives a first block whole, and no more than the bound else', () => {
    const slots = makePool();
    const out = new OutBuffer(slots);
    for (let i = 0; i < 3; i++) {
      const slot = slots.take();
      out.pushSlot(slot, slots.payload(slot));
    }
    expect(out.takeOut(1)!.bytes).toBe(BLOCK_BYTES);
    out.sentOut();
    expect(out.takeOut(2 * BLOCK_BYTES - 1)!.bytes).toBe(BLOCK_BYTES);
    out.sentOut();
    expect(out.takeOut(0)).toBe(null);
    out.close();
    expect(slots.freeCount).toBe(slots.count);
  });

  it('bounds control bytes, and the views of a batch', () => {
    const slots = makePool();
    const out = new OutBuffer(slots);
    const slot = slots.take();
    for (let i = 0; i < MAX_BATCH_VIEWS + 10; i++) {
      slots.retain(slot);
      out.pushSlot(slot, slots.payload(slot).subarray(0, 1));
    }
    expect(out.takeOut(1 << 20)!.count).toBe(MAX_BATCH_VIEWS);
    out.sentOut();
    while (!out.overflowed) write(out, 1000, 7);
    expect(out.queuedBytes).toBeLessThanOrEqual(MAX_CONTROL_BYTES + 10);
    expect(out.queuedBytes).toBeGreaterThan(MAX_CONTROL_BYTES - 1000);
    expect(slots.holders(slot)).toBe(11);
    // a hold handed in too late goes straight back
    slots.retain(slot);
    out.pushSlot(slot, slots.payload(slot));
    expect(slots.holders(slot)).toBe(11);
    out.close();
    expect(slots.holders(slot)).toBe(1);
  });

  it('is a queue, with holds that balance wherever it is closed', () => {
    const step = fc.oneof(
      fc.record({ say: fc.integer({ min: 1, max: 300 }) }),
      fc.record({ lend: fc.integer({ min: 1, max: 500 }) }),
      fc.record({ take: fc.integer({ min: 1, max: 2000 }) }),
      fc.record({ sent: fc.constant(true) }),
      fc.record({ trim: fc.constant(true) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100, size: 'max' }), (steps) => {
        const slots = makePool(24);
        const out = new OutBuffer(slots);
        const said: number[] = [];
        const heard: number[] = [];
        let lent: Uint8Array | null = null;
        let serial = 0;
        for (const s of steps) {
          serial = (serial + 1) & 255;
          if ('say' in s) {
            write(out, s.say, serial);
            said.push(...new Array(s.say).fill(serial));
          } else if ('lend' in s && slots.freeCount > 0) {
            const slot = slots.take();
            slots.payload(slot).fill(serial);
            out.pushSlot(slot, slots.payload(slot).subarray(0, s.lend));
            said.push(...new Array(s.lend).fill(serial));
          } else if ('take' in s && lent === null) {
            const batch = out.takeOut(s.take);
            if (batch === null) continue;
            lent = concat(batch.views.slice(0, batch.count));
            heard.push(...lent);
          } else if ('sent' in s && lent !== null) {
            out.sentOut();
            lent = null;
          } else if ('trim' in s) out.trim();
          expect(out.queuedBytes).toBe(said.length - heard.length);
        }
        expect(heard).toEqual(said.slice(0, heard.length));
        out.close();
        expect(slots.freeCount).toBe(24);
      }),
      { numRuns: 300 },
    );
  });
});
