/** A DHT of 500 real nodes, by the built engine; scripts/dht-storm.mjs runs 10,000, or a seed that failed here again. */

import { expect, test } from 'vitest';
import { runDhtStorm } from '../../packages/engine/dist/sim/index.js';

const fresh = Math.floor(Math.random() * 1e9);

for (const seed of [fresh]) {
  test(`announces are found in a DHT of 500 nodes, half of them gone in an hour, seed ${seed}`, () => {
    const report = runDhtStorm({ seed, nodes: 500, announces: 100, measureMs: 600_000 });
    console.log(
      `seed ${seed}: announced ${report.announced}, found ${report.found} of ${report.searches}, hops median ` +
        `${report.hopsMedian} p99 ${report.hopsP99}, ${report.queriesMean.toFixed(1)} queries, ${report.msMedian} ms`,
    );
    expect([seed, report.searches]).toEqual([seed, 100]);
    expect(report.found, `seed ${seed}`).toBeGreaterThanOrEqual(99);
    expect(report.closestShare, `seed ${seed}`).toBeGreaterThan(0.6);
    expect(report.queriesMean, `seed ${seed}`).toBeLessThan(60);
  });
}
