/**
 * Kills a download of 256 MiB from a real seed (libtorrent, 16 MiB/s) at random instants and checks what is claimed
 * after each: no false byte, little lost, little hashed again, ready at once. Prints the seed of the instants.
 *
 *     node scripts/kill.mjs [kills = 200] [seed]
 */

import { runInterop } from './interop.mjs';

const [kills = '200', seed = String(Date.now() % 1_000_000)] = process.argv.slice(2);
console.log(`${kills} kills, seed ${seed}`);
process.exitCode = await runInterop(['kill', '--testTimeout', '3600000'], {
  SHOAL_KILLS: kills,
  SHOAL_KILL_SEED: seed,
});
