import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dial, Pipe, type PipeOptions, UtpEnd, UtpMachine, UtpWorld } from './utp-link.ts';

function pair(seed: number, there: PipeOptions, back: PipeOptions = there) {
  const world = new UtpWorld(seed);
  const a = new UtpMachine(world, '10.0.0.1');
  const b = new UtpMachine(world, '10.0.0.2');
  const ab = new Pipe(world, there);
  const ba = new Pipe(world, back);
  a.route(b, ab);
  b.route(a, ba);
  return { world, a, b, ab, ba };
}

describe('uTP over a bad link', () => {
  it('carries bytes exactly once and in order, both ways', () => {
    const { world, a, b } = pair(1, { delayMs: 20 });
    const near = new UtpEnd(a, 300_000);
    const far = new UtpEnd(b, 200_000);
    dial(a, b, near, far);
    world.run(60_000, () => near.received === 200_000 && far.received === 300_000);
    expect([near.received, far.received, near.wrongAt, far.wrongAt]).toEqual([200_000, 300_000, -1, -1]);
    near.conn!.close();
    a.turn();
    world.run(world.now + 10_000);
    expect([near.closed, far.closed, near.fault, far.fault]).toEqual([true, true, null, null]);
    expect([a.mux.stats.socketCount, b.mux.stats.socketCount]).toEqual([0, 0]);
    expect([a.mux.pool.usedBytes, b.mux.pool.usedBytes]).toEqual([1536, 1536]);
  });

  it('is byte-exact whatever the link loses, doubles and reorders', () => {
    const knobs = fc.record({
      seed: fc.nat(),
      loss: fc.constantFrom(0, 0.01, 0.1, 0.3),
      duplicate: fc.constantFrom(0, 0.1),
      delayMs: fc.constantFrom(0, 5, 80),
      jitterMs: fc.constantFrom(0, 3, 60),
      batch: fc.constantFrom(1, 17, 1000, 16397, 200_000),
    });
    fc.assert(
      fc.property(knobs, ({ seed, batch, ...link }) => {
        const { world, a, b } = pair(seed, link);
        const bytes = Math.min(200_000, batch * 200);
        const near = new UtpEnd(a, bytes, batch);
        const far = new UtpEnd(b, bytes >> 1, batch);
        dial(a, b, near, far);
        world.run(3_600_000, () => (near.received === bytes >> 1 && far.received === bytes) || near.closed);
        if (near.fault?.message.includes('connect to')) return; // 5 SYNs lost
        expect([near.fault, near.wrongAt, far.wrongAt, near.received, far.received]).toEqual([
          null,
          -1,
          -1,
          bytes >> 1,
          bytes,
        ]);
      }),
      { numRuns: Number(process.env['UTP_RUNS'] ?? 100) },
    );
  });
});
