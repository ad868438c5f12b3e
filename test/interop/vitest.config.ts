/** Tests against real clients. Run by scripts/interop.mjs, in a network of their own. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const large = process.env['SHOAL_INTEROP_LARGE'] === '1';

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  test: {
    // other clients announce and choke by their own clocks
    retry: 1,
    include: ['*.interop.ts'],
    globalSetup: ['./setup.ts'],
    pool: 'forks',
    // three files at a time and up to three tests in each keep two cores busy with processes that mostly wait
    maxWorkers: large ? 1 : 3,
    maxConcurrency: large ? 1 : 3,
    testTimeout: large ? 900_000 : 120_000,
    hookTimeout: 60_000,
    teardownTimeout: 60_000,
  },
});
