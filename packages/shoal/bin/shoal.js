#!/usr/bin/env node
// The command `shoal`. It only starts what `npm run build` made, so that it can be committed and linked before the build.
import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(main)) {
  const { start } = await import(main.href);
  await start(process.argv.slice(2));
} else {
  process.stderr.write('shoal: not built yet; run `npm ci && npm run build` in the checkout\n');
  process.exitCode = 1;
}
