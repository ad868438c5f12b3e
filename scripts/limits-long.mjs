// Rate limits over a minute each with qbittorrent as the other side: 1, 5 and 20 MiB/s, up and down, over TCP and uTP.
// One after the other, some 15 minutes.
//
//     npm run limits [-- -t 'part of a test's name']
import { runInterop } from './interop.mjs';

const args = ['limits.interop', '--maxConcurrency=1', '--maxWorkers=1', '--retry=0', ...process.argv.slice(2)];
process.exitCode = await runInterop(args, { SHOAL_LIMITS_LONG: '1' });
