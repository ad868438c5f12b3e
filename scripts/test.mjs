/**
 * `npm test`: everything, in order, from a fresh clone. Ends with one line, `N passed, N failed, N skipped`, summed over
 * all suites; exit code 1 if anything failed. A suite that fails does not stop the ones after it.
 *
 *     node scripts/test.mjs                  all of it
 *     node scripts/test.mjs unit test/host   only the suites whose names begin so (nothing is installed then)
 *
 * Suites: build (types), lint, layers: one test each. unit: vitest beside the code. Then every folder in test/ and
 * `examples`: its *.test.ts and *.test.mjs by vitest, and each *.suite.mjs as a program whose last line of the form
 * `N passed, N failed, N skipped` counts, and whose lines `skip NAME: REASON` are repeated at the end. Other files there
 * are parts of suites, or scripts with a name of their own that are not run here.
 */

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Real clients and tools that suites start; without them those tests are skipped, and say so. */
const DEBIAN_PACKAGES = [
  'transmission-daemon',
  'transmission-cli',
  'aria2',
  'rtorrent',
  'qbittorrent-nox',
  'python3-libtorrent',
  'opentracker',
  'mktorrent',
  'miniupnpd',
  'nftables',
  'dante-server',
  'microsocks',
  'squid',
  'dropbear-bin',
  'openssh-client',
  'iproute2',
  'faketime',
  'strace',
  'gcc',
];
/** A suite that hangs is ended, and counts as failed. */
const SUITE_TIMEOUT_MS = 12 * 60_000;
/** For dpkg-query. */
const STATUS_FORMAT = `-f=\${db:Status-Status}`;
const SUMMARY = /^(\d+) passed, (\d+) failed, (\d+) skipped$/;

const root = fileURLToPath(new URL('..', import.meta.url));
const only = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
const skips = [];
let running = null;

async function main() {
  process.chdir(root);
  if (only.length === 0) installClients();
  if (!existsSync('node_modules/.package-lock.json')) {
    title('npm ci');
    if ((await run('npm', ['ci', '--no-audit', '--no-fund'])) !== 0) return count('install', { failed: 1 });
  }
  await oneTest('build', 'scripts/build.mjs', []);
  await oneTest('lint', tool('@biomejs/biome', 'biome'), ['check', '.']);
  await oneTest('layers', 'scripts/check-layers.mjs', []);
  if (wanted('unit')) await vitest('unit', ['--config', 'vitest.config.ts']);
  for (const folder of suiteFolders()) await folderSuite(folder);
}

/** Installs what is missing where that is possible, and says what is left out where it is not. */
function installClients() {
  const missing = DEBIAN_PACKAGES.filter((name) => !installed(name));
  if (missing.length === 0) return;
  title(`Debian packages: ${missing.join(' ')}`);
  const may = process.getuid?.() === 0 && spawnSync('apt-get', ['--version']).status === 0;
  if (may) {
    const options = { stdio: 'inherit', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
    spawnSync('apt-get', ['update', '-qq'], options);
    // one by one if together fails, so that a package this release lacks takes no other with it
    const install = (names) =>
      spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names], options);
    if (install(missing).status !== 0) for (const name of missing) install([name]);
  }
  const left = missing.filter((name) => !installed(name));
  if (left.length === 0) return;
  const why = may ? 'apt-get could not install them' : 'they need root and apt-get';
  console.log(`Left out: ${left.join(' ')} (${why}). Tests against these programs are skipped.`);
}

function installed(name) {
  const found = spawnSync('dpkg-query', ['-W', STATUS_FORMAT, name], { encoding: 'utf8' });
  return found.status === 0 && found.stdout === 'installed';
}

/** The script behind a tool's command, so that no shell and no npx stand between. */
function tool(packageName, command) {
  const folder = join('node_modules', packageName);
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return join(folder, typeof bin === 'string' ? bin : bin[command]);
}

async function oneTest(name, script, args) {
  if (!wanted(name)) return;
  title(name);
  count(name, (await run(process.execPath, [script, ...args])) === 0 ? { passed: 1 } : { failed: 1 });
}

async function vitest(name, args) {
  title(name);
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-test-'));
  const file = join(scratch, 'counts.json');
  const reporters = ['--reporter=default', '--reporter=./scripts/vitest-counts.mjs'];
  const code = await run(process.execPath, [tool('vitest', 'vitest'), 'run', ...reporters, ...args], {
    SHOAL_TEST_COUNTS: file,
  });
  const counts = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { passed: 0, failed: 0, skips: [] };
  rmSync(scratch, { recursive: true, force: true });
  skips.push(...counts.skips);
  const failed = code !== 0 ? Math.max(1, counts.failed) : counts.failed;
  count(name, { passed: counts.passed, failed, skipped: counts.skips.length });
}

function suiteFolders() {
  const folders = existsSync('test')
    ? readdirSync('test', { withFileTypes: true }).filter((entry) => entry.isDirectory())
    : [];
  const order = ['host', 'sim', 'interop', 'e2e'];
  const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const names = folders.map((entry) => entry.name).sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  return [...names.map((name) => `test/${name}`), 'examples'].filter((folder) => existsSync(folder) && wanted(folder));
}

async function folderSuite(folder) {
  const files = readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => !name.includes('node_modules'))
    .sort();
  if (files.some((name) => /\.test\.(ts|mjs)$/.test(name))) {
    await vitest(folder, ['--config', 'scripts/vitest.suites.config.mjs', `${folder}/`]);
  }
  for (const name of files.filter((file) => file.endsWith('.suite.mjs'))) await program(`${folder}/${name}`);
}

async function program(path) {
  title(path);
  let summary = null;
  const code = await run(process.execPath, [path], {}, (line) => {
    const match = SUMMARY.exec(line.trim());
    if (match !== null) summary = { passed: Number(match[1]), failed: Number(match[2]), skipped: Number(match[3]) };
    else console.log(line);
    if (/^skip\b/i.test(line)) skips.push(`${path} > ${line.trim().replace(/^skip(ped)?:?\s*/i, '')}`);
  });
  if (summary === null) return count(path, { failed: 1 });
  if (code !== 0 && summary.failed === 0) summary.failed = 1;
  count(path, summary);
}

function wanted(name) {
  return only.length === 0 || only.some((start) => name.startsWith(start));
}

/** Runs to the end; the exit code, or 1. With `onLine`, its output comes line by line instead of straight through. */
function run(command, args, env = {}, onLine = null) {
  return new Promise((done) => {
    const child = spawn(command, args, {
      stdio: ['ignore', onLine === null ? 'inherit' : 'pipe', 'inherit'],
      env: { ...process.env, ...env },
      // a group of its own, so that what it started ends with it
      detached: true,
    });
    running = child;
    const timer = setTimeout(() => {
      console.log(`Not done within ${SUITE_TIMEOUT_MS / 60_000} minutes: ended.`);
      endGroup(child);
    }, SUITE_TIMEOUT_MS);
    let rest = '';
    child.stdout?.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) onLine(line);
    });
    child.on('error', (error) => {
      clearTimeout(timer);
      console.log(error.message);
      done(1);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      endGroup(child);
      running = null;
      if (rest !== '') onLine(rest);
      done(code ?? 1);
    });
  });
}

function endGroup(child) {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // nobody is left
  }
}

function title(text) {
  console.log(`\n=== ${text}`);
}

function count(name, { passed = 0, failed = 0, skipped = 0 }) {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
  if (failed > 0) failures.push(`${name}: ${failed}`);
  console.log(
    `--- ${name}: ${passed} passed${failed > 0 ? `, ${failed} FAILED` : ''}${skipped > 0 ? `, ${skipped} skipped` : ''}`,
  );
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (running !== null) endGroup(running);
    process.exit(130);
  });
}
try {
  await main();
} catch (error) {
  console.log(error);
  count('runner', { failed: 1 });
}
console.log('');
for (const line of skips) console.log(`skipped: ${line}`);
for (const line of failures) console.log(`FAILED: ${line}`);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;
