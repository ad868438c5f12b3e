/** For the suites under test/ and examples/, which start processes and run against the built packages. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** It measures how long an event loop is held up, so nothing runs beside it. */
const ALONE = 'test/demands/peers/floods.test.ts';

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // figures of real processes (delays, memory, times to come back) are the machine's too: a second look, not a looser bound
    retry: 2,
    pool: 'forks',
    projects: [
      {
        extends: true,
        test: {
          name: 'beside',
          include: ['test/**/*.test.{ts,mjs}', 'examples/**/*.test.{ts,mjs}'],
          exclude: ['**/node_modules/**', ALONE],
          // most of them wait, for clocks and for each other
          maxWorkers: 3,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: [ALONE],
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
