import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Heap } from './heap.ts';
import { IntRing, Ring } from './ring.ts';

describe('Ring and IntRing', () => {
  it('agree with an array', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat(1000)), { maxLength: 100 }), (steps) => {
        const ring = new Ring<number>(2);
        const ints = new IntRing(2);
        const model: number[] = [];
        for (const step of steps) {
          if (step === null) {
            const oldest = model.shift();
            expect(ring.shift()).toBe(oldest);
            expect(ints.shift()).toBe(oldest ?? -1);
          } else {
            ring.push(step);
            ints.push(step);
            model.push(step);
          }
          expect([ring.length, ints.length]).toEqual([model.length, model.length]);
          expect([ring.at(1), ints.at(0)]).toEqual([model[1], model[0] ?? -1]);
        }
        ring.clear();
        ints.clear();
        expect([ring.shift(), ints.shift()]).toEqual([undefined, -1]);
      }),
    );
  });
});

describe('Heap', () => {
  it('agrees with a sorted list, ties by id', () => {
    const steps = fc.array(fc.tuple(fc.constantFrom('set', 'set', 'remove', 'pop'), fc.nat(40), fc.nat(10)));
    fc.assert(
      fc.property(steps, (list) => {
        const heap = new Heap();
        const model = new Map<number, number>();
        const first = (): number => {
          let best = -1;
          for (const [id, key] of model) {
            const other = best < 0 ? Number.POSITIVE_INFINITY : model.get(best)!;
            if (key < other || (key === other && id < best)) best = id;
          }
          return best;
        };
        for (const [what, id, key] of list) {
          if (what === 'set') {
            heap.set(id, key);
            model.set(id, key);
          } else if (what === 'remove') {
            expect(heap.remove(id)).toBe(model.delete(id));
          } else {
            const wanted = first();
            expect(heap.pop()).toBe(wanted);
            model.delete(wanted);
          }
          expect(heap.length).toBe(model.size);
          expect(heap.minId).toBe(first());
          expect(heap.minKey).toBe(model.get(first()) ?? Number.POSITIVE_INFINITY);
          expect(heap.keyOf(id)).toBe(model.get(id) ?? Number.POSITIVE_INFINITY);
        }
      }),
    );
  });
});
