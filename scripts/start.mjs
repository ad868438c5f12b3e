/**
 * `npm start`: brings a fresh clone to life. Installs what the lock file names and builds where that is missing or out of
 * date, then runs the command line: the demo, or what stands after `--` (`npm start -- get ...`). Only Node built-ins.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = join(root, 'packages/shoal/bin/shoal.js');
const PACKAGES = ['engine', 'shoal'];

checkNode();
if (modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
  step('Installing', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}
if (buildIsOld()) {
  step('Building', process.execPath, [join(root, 'scripts/build.mjs')]);
}

// paths in arguments are meant from where npm was called
const from = process.env.INIT_CWD;
if (from !== undefined && existsSync(from)) process.chdir(from);
const args = process.argv.slice(2);
process.argv = [process.execPath, bin, ...(args.length > 0 ? args : ['demo'])];
await import(pathToFileURL(bin).href);

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  fail(`Node.js 20.19 or newer is needed; this is ${process.versions.node}.`);
}

/** Milliseconds; 0 where nothing is, so that missing is older than anything. */
function modified(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function buildIsOld() {
  if (modified('packages/engine/dist/bundle/index.js') < modified('packages/engine/dist/.tsbuildinfo')) return true;
  return PACKAGES.some((name) => {
    const built = modified(`packages/${name}/dist/.tsbuildinfo`);
    return built === 0 || newest(`packages/${name}`) > built || modified('tsconfig.base.json') > built;
  });
}

/** The latest change among a package's sources. */
function newest(folder) {
  let latest = modified(`${folder}/tsconfig.json`);
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    if (entry.name === 'dist' || entry.name === 'node_modules') continue;
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) latest = Math.max(latest, newest(path));
    else if (entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts')) latest = Math.max(latest, modified(path));
  }
  return latest;
}

/** What the tools say goes to stderr: stdout belongs to the command. */
function step(what, command, args) {
  process.stderr.write(`${what} ...\n`);
  const done = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (done.status !== 0) fail(`${what} failed.`);
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
