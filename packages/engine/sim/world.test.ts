import { expect, test } from 'vitest';
import { EventQueue } from './event-queue.ts';
import { World } from './world.ts';

test('events come by time, then in the order they were asked for', () => {
  const queue = new EventQueue();
  const world = new World({ seed: 1 });
  const target = { onEvent: (): void => {} };
  const asked: [number, number][] = [];
  for (let i = 0; i < 5000; i++) {
    const at = world.rng.below(50);
    asked.push([at, i]);
    queue.push(at, target, 0, i);
    // some come out in between, so that records are reused
    if (i % 7 === 0) {
      asked.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      queue.pop();
      expect([queue.at, queue.arg]).toEqual(asked.shift());
    }
  }
  asked.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  for (const expected of asked) {
    expect(queue.nextAt()).toBe(expected[0]);
    expect(queue.pop()).toBe(true);
    expect([queue.at, queue.arg]).toEqual(expected);
  }
  expect(queue.pop()).toBe(false);
});

test('a loop wakes at its deadline by its own clock, once, and the last deadline counts', () => {
  const world = new World({ seed: 2 });
  const ports = world.addNode().boot();
  const start = ports.clock.now();
  expect(start).not.toBe(world.now);
  const ran: number[] = [];
  ports.loop.run = (): void => {
    ran.push(ports.clock.now() - start);
  };
  ports.loop.wakeAt(start + 100.3);
  ports.loop.wakeAt(start + 50.7);
  ports.loop.wakeAt(start + 200.1);
  world.run(150);
  expect(ran).toEqual([]);
  world.run(100);
  expect(ran.length).toBe(1);
  expect(ran[0]).toBeGreaterThanOrEqual(200.1);
  expect(ran[0]).toBeLessThan(200.2);
  ports.loop.soon();
  ports.loop.soon();
  world.run(0);
  expect(ran.length).toBe(2);
});

test('a process that never rests is found', () => {
  const world = new World({ seed: 3 });
  const ports = world.addNode().boot();
  ports.loop.run = (): void => ports.loop.soon();
  ports.loop.soon();
  expect(() => world.run(1)).toThrow('does not come to rest');
});

test('a process that asks to be woken in the past, in vain, is found', () => {
  const world = new World({ seed: 4 });
  const ports = world.addNode().boot();
  ports.loop.run = (): void => ports.loop.wakeAt(ports.clock.now());
  ports.loop.soon();
  expect(() => world.run(1)).toThrow('time stands still');
});

test('generators of different parts and seeds differ, of the same agree', () => {
  const draw = (seed: number, label: string): number => new World({ seed }).fork(label).u32();
  expect(draw(7, 'a')).toBe(draw(7, 'a'));
  expect(new Set([draw(7, 'a'), draw(7, 'b'), draw(8, 'a'), draw(7 + 2 ** 32, 'a')]).size).toBe(4);
});
