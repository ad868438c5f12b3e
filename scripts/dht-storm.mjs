/**
 * Runs a DHT of many real nodes in one process (packages/engine/sim/dht-storm.ts) and says how it went. Build first
 * (`npm run build`).
 *
 *     node scripts/dht-storm.mjs                        10,000 nodes, half of them gone in an hour, a random seed
 *     node scripts/dht-storm.mjs --seed 7 --nodes 500   the same network again, smaller
 *     options: --seed N  --count N (seeds N, N+1, ...)  --nodes N  --announces N  --churn SHARE  --loss SHARE  --nat SHARE
 *              --minutes N (of announcing)  --twice (each seed twice, the digests compared)  --log
 *
 * Ends with exit code 1 unless 99 % of what was announced was found.
 */

import { parseArgs } from 'node:util';
import { runDhtStorm } from '../packages/engine/dist/sim/index.js';
import { measured, runSeeds, SEED_OPTIONS } from './seeds.mjs';

const DEMANDED = 0.99;

const { values } = parseArgs({
  options: {
    ...SEED_OPTIONS,
    nodes: { type: 'string', default: '10000' },
    announces: { type: 'string', default: '200' },
    churn: { type: 'string', default: '0.5' },
    loss: { type: 'string', default: '0.02' },
    nat: { type: 'string', default: '0.4' },
    minutes: { type: 'string', default: '20' },
    log: { type: 'boolean', default: false },
  },
});

runSeeds(values, storm);

function storm(seed) {
  const { report, wallS, rssMiB } = measured(() =>
    runDhtStorm({
      seed,
      nodes: Number(values.nodes),
      announces: Number(values.announces),
      churnPerHour: Number(values.churn),
      loss: Number(values.loss),
      natShare: Number(values.nat),
      measureMs: Number(values.minutes) * 60_000,
      ...(values.log ? { log: (line) => console.log(line) } : {}),
    }),
  );
  const share = report.found / report.searches;
  console.log(
    `seed ${seed}: ${values.nodes} nodes, ${report.left} left, digest ${report.digest}, ${wallS.toFixed(1)} s for ` +
      `${(report.simulatedMs / 60_000).toFixed(0)} min, peak RSS ${rssMiB.toFixed(0)} MiB, ${report.packets} packets, ` +
      `${report.bytesPerNodeS.toFixed(0)} B/s a node, ${report.tableMean.toFixed(0)} nodes in a table`,
  );
  console.log(
    `  announced ${report.announced} of ${report.announces} (${report.storedMean.toFixed(1)} nodes each, ` +
      `${(100 * report.closestShare).toFixed(0)} % of the closest eight), found ${report.found} of ${report.searches} ` +
      `(${(100 * share).toFixed(1)} %); hops median ${report.hopsMedian} p99 ${report.hopsP99}, ` +
      `${report.queriesMean.toFixed(1)} queries a lookup, ${report.msMedian} ms median ${report.msP99} ms p99`,
  );
  const failed = report.searches < report.announces || !(share >= DEMANDED);
  if (failed) console.log(`  less than ${100 * DEMANDED} % found`);
  return { digest: report.digest, failed };
}
