import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['packages/**/*.test.ts', 'scripts/*.test.mjs'],
    exclude: ['**/dist/**', '**/node_modules/**'],
    testTimeout: 30_000,
    pool: 'threads',
    // vitest leaves a core free, of two as well
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});
