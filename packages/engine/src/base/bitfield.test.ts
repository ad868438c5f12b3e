import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bitfield } from './bitfield.ts';

describe('Bitfield', () => {
  it('is most significant bit first and keeps spare bits zero (BEP 3)', () => {
    const field = new Bitfield(10);
    field.set(0);
    field.set(9);
    expect([...field.bytes]).toEqual([0b10000000, 0b01000000]);
    field.setAll();
    expect([...field.bytes]).toEqual([255, 0b11000000]);
    expect(field.isFull).toBe(true);
  });

  it('refuses a wrong size and spare bits', () => {
    expect(Bitfield.from(Uint8Array.of(0), 9)).toBeNull();
    expect(Bitfield.from(Uint8Array.of(0, 0, 0), 9)).toBeNull();
    expect(Bitfield.from(Uint8Array.of(0, 0b01000000), 9)).toBeNull();
    expect(Bitfield.from(Uint8Array.of(0, 0b10000000), 9)!.count).toBe(1);
    expect(Bitfield.from(new Uint8Array(0), 0)!.isFull).toBe(true);
    expect(() => new Bitfield(8).set(8)).toThrow('shoal bug');
  });

  it('agrees with a set of numbers', () => {
    const edits = fc.array(fc.tuple(fc.boolean(), fc.nat(69)), { maxLength: 200 });
    fc.assert(
      fc.property(edits, (list) => {
        const field = new Bitfield(70);
        const model = new Set<number>();
        for (const [on, i] of list) {
          expect(on ? field.set(i) : field.clear(i)).toBe(on !== model.has(i));
          if (on) model.add(i);
          else model.delete(i);
        }
        expect(field.count).toBe(model.size);
        const walked: number[] = [];
        for (let i = field.nextSet(0); i >= 0; i = field.nextSet(i + 1)) walked.push(i);
        expect(walked).toEqual([...model].sort((a, b) => a - b));
        for (let i = 0; i < 70; i++) {
          expect(field.get(i)).toBe(model.has(i));
          let clear = i;
          while (model.has(clear)) clear++;
          expect(field.nextClear(i)).toBe(clear < 70 ? clear : -1);
        }
        expect(Bitfield.from(field.bytes, 70)!.count).toBe(model.size);
        expect(field.clone()).toEqual(field);
      }),
    );
  });
});
