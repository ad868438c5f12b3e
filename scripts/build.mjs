/**
 * `npm run build`: compiles the packages (tsc -b), then puts the engine into a few files, packages/engine/dist/bundle.
 *
 * That is what `@shoal/engine` resolves to. Node opens every module of a graph at once: 200 of them cost twice the time of
 * a start, and more descriptors than a process with `ulimit -n 64` has.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const engine = join(root, 'packages/engine/dist');
/** The faces of the package, and what it starts as threads: those are looked for beside the file that starts them. */
const ENTRIES = {
  index: 'src/index.js',
  codec: 'src/codec/index.js',
  sim: 'sim/index.js',
  'file-worker': 'src/host/file-worker.js',
  'hash-worker': 'src/host/hash-worker.js',
};

process.exitCode = compile();
if (process.exitCode === 0) await bundle();

function compile() {
  const folder = join(root, 'node_modules/typescript');
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return spawnSync(process.execPath, [join(folder, bin.tsc), '-b'], { cwd: root, stdio: 'inherit' }).status ?? 1;
}

async function bundle() {
  const { build } = await import('rolldown');
  const folder = join(engine, 'bundle');
  rmSync(folder, { recursive: true, force: true });
  await build({
    input: Object.fromEntries(Object.entries(ENTRIES).map(([name, path]) => [name, join(engine, path)])),
    platform: 'node',
    logLevel: 'warn',
    output: { dir: folder, format: 'esm', chunkFileNames: 'shared-[name].js' },
  });
}
