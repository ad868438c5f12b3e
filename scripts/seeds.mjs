/** What storms of every kind share: a series of seeds, each run again where digests are to be compared, and what a run costs. */

import { performance } from 'node:perf_hooks';

/** Options of `parseArgs` that `runSeeds` reads. */
export const SEED_OPTIONS = {
  seed: { type: 'string' },
  count: { type: 'string', default: '1' },
  twice: { type: 'boolean', default: false },
};

/** Calls `storm(seed)`, which gives `{ digest, failed }`, for each seed. The process ends with 1 if anything failed. */
export function runSeeds({ seed: from, count, twice }, storm) {
  const first = from === undefined ? Math.floor(Math.random() * 1e9) : Number(from);
  let failed = false;
  for (let seed = first; seed < first + Number(count); seed++) {
    const run = storm(seed);
    failed ||= run.failed;
    if (twice && storm(seed).digest !== run.digest) {
      failed = true;
      console.log(`seed ${seed}: two runs gave two digests`);
    }
  }
  process.exitCode = failed ? 1 : 0;
}

/** What `run` gives, and what it took of this machine. */
export function measured(run) {
  const started = performance.now();
  const report = run();
  const wallS = (performance.now() - started) / 1000;
  return { report, wallS, rssMiB: process.resourceUsage().maxRSS / 1024 };
}
