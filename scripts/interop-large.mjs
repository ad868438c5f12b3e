/**
 * The tests against real clients with a torrent of 1 GiB, one at a time.
 *
 *     node scripts/interop-large.mjs [vitest arguments]
 */

import { runInterop } from './interop.mjs';

const args = process.argv.slice(2);
process.exitCode = await runInterop(args.length > 0 ? args : ['transfer', 'swarm', 'magnet', 'private', 'created'], {
  SHOAL_INTEROP_LARGE: '1',
});
