import { expect, test } from 'vitest';
import { BlockState, Partials } from './partials.ts';

test('a block that is revoked while another peer is sending it stays asked for, and is missing when that fails', () => {
  const partials = new Partials();
  const partial = partials.open(3, 4, 0, false, 0);
  partials.ask(partial, 1, 10);
  // endgame: asked of two, whose payloads come at the same time; the first is in
  partials.ask(partial, 1, -1);
  partials.arrived(partial, 1, 10, 0, 5);
  expect(partials.revoke(partial, 1)).toBe(10);
  expect([partial.state[1], partial.askers[1], partial.slots[1]]).toEqual([BlockState.Asked, 1, -1]);
  expect([partial.missingCount, partial.arrivedCount, partials.needCount]).toEqual([3, 0, 3]);
  expect(partials.unask(partial, 1)).toBe(-1);
  expect([partial.state[1], partial.missingCount, partials.needCount]).toEqual([BlockState.Missing, 4, 4]);
});

test('a block that is revoked with nobody else at it is missing', () => {
  const partials = new Partials();
  const partial = partials.open(3, 4, 0, false, 0);
  expect(partial.nextMissing()).toBe(0);
  partials.ask(partial, 0, 7);
  expect(partial.nextMissing()).toBe(1);
  partials.arrived(partial, 0, 7, 0, 5);
  expect(partials.revoke(partial, 0)).toBe(7);
  expect([partial.state[0], partial.nextMissing(), partials.needCount]).toEqual([BlockState.Missing, 0, 4]);
});
