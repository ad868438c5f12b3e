/** Killed at random instants, a download goes on from what it had. scripts/kill.mjs does it 200 times. */

import { interop } from './harness/arena.ts';
import { killAgainAndAgain } from './harness/kill-run.ts';

const MiB = 1 << 20;
const long = process.env['SHOAL_KILLS'] !== undefined;
const kills = Number(process.env['SHOAL_KILLS'] ?? 10);
const seed = Number(process.env['SHOAL_KILL_SEED'] ?? Date.now() % 1_000_000);

interop(`${kills} kills, seed ${seed}`, ['libtorrent'], async (arena) => {
  const report = await killAgainAndAgain(arena, {
    kills,
    seed,
    bytes: (long ? 256 : 64) * MiB + 12_345,
    rateBps: 16 * MiB,
    // beside other tests two cores are soon busy
    readyLimitMs: long ? 2000 : 6000,
    say: (line) => console.log(line),
  });
  console.log(`kill seed ${seed}: ${JSON.stringify(report)}`);
});
