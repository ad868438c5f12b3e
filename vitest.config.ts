import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['packages/**/*.test.ts', 'scripts/*.test.mjs'],
    exclude: ['**/dist/**', '**/node_modules/**'],
    testTimeout: 30_000,
    pool: 'threads',
  },
});
