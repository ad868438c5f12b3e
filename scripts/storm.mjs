/**
 * Runs storms of the simulation (packages/engine/sim/storm.ts) and says how they went. Build first (`npm run build`).
 *
 *     node scripts/storm.mjs                        1,000 peers x 16 MiB, a random seed
 *     node scripts/storm.mjs --seed 7 --peers 100   the same storm again, smaller
 *     options: --seed N  --count N (storms, seeds N, N+1, ...)  --peers N  --mib N  --piece KIB  --hostile SHARE
 *              --calm (no faults)  --twice (each seed twice, the digests compared)  --log (what every session logs)
 *
 * Ends with exit code 1 if anything happened that must not.
 */

import { parseArgs } from 'node:util';
import { runStorm } from '../packages/engine/dist/sim/index.js';
import { measured, runSeeds, SEED_OPTIONS } from './seeds.mjs';

const { values } = parseArgs({
  options: {
    ...SEED_OPTIONS,
    peers: { type: 'string', default: '1000' },
    mib: { type: 'string', default: '16' },
    piece: { type: 'string', default: '128' },
    hostile: { type: 'string' },
    calm: { type: 'boolean', default: false },
    log: { type: 'boolean', default: false },
  },
});

runSeeds(values, storm);

function storm(seed) {
  const { report, wallS, rssMiB } = measured(() =>
    runStorm({
      seed,
      peers: Number(values.peers),
      bytes: Number(values.mib) * 1048576,
      pieceLength: Number(values.piece) * 1024,
      faults: !values.calm,
      // recounting everything is quadratic in peers: less often in large storms
      checkMs: Math.max(5000, Number(values.peers) * 30),
      ...(values.hostile === undefined ? {} : { hostileShare: Number(values.hostile) }),
      ...(values.log ? { log: (line) => console.log(line) } : {}),
    }),
  );
  console.log(
    `seed ${seed}: ${values.peers} peers, digest ${report.digest}, ${wallS.toFixed(1)} s, peak RSS ${rssMiB.toFixed(0)} MiB, ` +
      `${report.events} events, ${report.turns} turns, ${(report.deliveredBytes / 2 ** 30).toFixed(2)} GiB delivered, ` +
      `all done after ${(report.doneMs / 1000).toFixed(0)} s of its time, ${report.faults} faults, ${report.restarts} restarts, ` +
      `${report.hashFails} pieces failed, ${(report.wastedBytes / 2 ** 20).toFixed(0)} MiB wasted`,
  );
  for (const what of report.violations) console.log(`  ${what}`);
  return { digest: report.digest, failed: report.violations.length > 0 };
}
