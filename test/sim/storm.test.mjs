/** Storms of 100 peers, by the built engine: see packages/engine/sim/storm.ts. A seed that fails is run again by scripts/storm.mjs. */

import { expect, test } from 'vitest';
import { runStorm } from '../../packages/engine/dist/sim/index.js';

/** One that is new each time, so that every run of the tests looks somewhere else. */
const fresh = Math.floor(Math.random() * 1e9);

for (const seed of [3, 5, fresh]) {
  test(`a storm of 100 peers, seed ${seed}`, { timeout: 180_000 }, () => {
    const report = runStorm({ seed, peers: 100, bytes: 2 ** 21 });
    console.log(
      `seed ${seed}: ${report.events} events, ${report.faults} faults, ${report.restarts} restarts, ` +
        `${report.hashFails} pieces failed, all done after ${(report.doneMs / 1000).toFixed(0)} s, digest ${report.digest}`,
    );
    expect(report.violations, `seed ${seed}`).toEqual([]);
  });
}

test('the same seed gives the same storm', { timeout: 60_000 }, () => {
  const run = () => runStorm({ seed: 11, peers: 20, bytes: 2 ** 20 }).digest;
  expect(run()).toBe(run());
  expect(runStorm({ seed: 12, peers: 20, bytes: 2 ** 20 }).digest).not.toBe(run());
});
