/** For the suites under test/ and examples/, which start processes and run against the built packages: one at a time. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['test/**/*.test.{ts,mjs}', 'examples/**/*.test.{ts,mjs}'],
    exclude: ['**/node_modules/**'],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // figures of real processes (delays, memory, times to come back) are the machine's too: a second look, not a looser bound
    retry: 2,
    pool: 'forks',
    fileParallelism: false,
  },
});
