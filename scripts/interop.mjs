/**
 * Runs test/interop: Shoal against real clients as processes. All of it happens in a network namespace with nothing but
 * a loopback device, so that no packet leaves, and in a process namespace, so that nothing outlives it. Where neither is
 * allowed the tests use 127/8, and those with transmission, which ignores such peers, are skipped with that reason.
 * Prints `N passed, N failed, N skipped` at the end.
 *
 *     node scripts/interop.mjs [vitest arguments: a file's name, -t 'part of a test's name']
 */

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const CONFIG = 'test/interop/vitest.config.ts';
/** All of 10/8 is the loopback device's. */
const ADDRESS = '10.77.0.1/8';
/** A local network of two machines: ours, and another namespace. */
const LAN_ADDRESS = '192.168.99.1/24';
const LAN_OTHER = '192.168.99.2/24';
const UNSHARE = ['--net', '--pid', '--fork', '--kill-child=SIGKILL', '--mount-proc'];

/** @returns the exit code; `env` is added to the tests' environment. */
export async function runInterop(vitestArgs, env = {}) {
  const noWebtorrent = installWebtorrent();
  const temp = mkdtempSync(join(tmpdir(), 'shoal-io-'));
  const counts = join(temp, 'counts.json');
  const script = fileURLToPath(import.meta.url);
  const namespace = namespaceCommand();
  const [command, ...args] = [...namespace, process.execPath, script, '--inside', ...vitestArgs];
  const child = spawn(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      ...env,
      SHOAL_INTEROP_NAMESPACE: namespace.length > 0 ? '1' : '0',
      SHOAL_INTEROP_TEMP: temp,
      SHOAL_INTEROP_NO_WEBTORRENT: noWebtorrent,
      SHOAL_TEST_COUNTS: counts,
    },
  });
  const stop = () => child.kill('SIGTERM');
  process.on('SIGINT', stop).on('SIGTERM', stop);
  const code = await new Promise((done) => {
    child.on('error', () => done(1));
    child.on('close', (exitCode) => done(exitCode ?? 1));
  });
  process.off('SIGINT', stop).off('SIGTERM', stop);
  const result = existsSync(counts) ? JSON.parse(readFileSync(counts, 'utf8')) : { passed: 0, failed: 1, skips: [] };
  rmSync(temp, { recursive: true, force: true });
  const failed = code !== 0 ? Math.max(1, result.failed) : result.failed;
  for (const line of result.skips) console.log(`skip ${line}`);
  console.log(`${result.passed} passed, ${failed} failed, ${result.skips.length} skipped`);
  return failed > 0 ? 1 : 0;
}

/** What to put before a command so that it runs alone; empty where that is not allowed. */
function namespaceCommand() {
  const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const command = ['unshare', ...asRoot, ...UNSHARE];
  const probe = spawnSync(command[0], [...command.slice(1), 'ip', 'link', 'set', 'lo', 'up'], { encoding: 'utf8' });
  if (probe.status === 0) return command;
  const reason = probe.error?.message ?? probe.stderr.trim();
  console.log(`No network namespace here (${reason}): the tests run on 127/8, without transmission.`);
  return [];
}

/** Installs webtorrent into its folder if it is not there. Returns why that failed, or ''. */
function installWebtorrent() {
  const folder = join(root, 'test/interop/webtorrent');
  if (existsSync(join(folder, 'node_modules/.package-lock.json'))) return '';
  console.log('Installing webtorrent for the interop tests');
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const { status, error } = spawnSync('npm', args, { cwd: folder, stdio: 'inherit', timeout: 180_000 });
  return status === 0 ? '' : (error?.message ?? `npm ci ended with ${status}`);
}

function ip(args, enter = []) {
  const [command, ...rest] = [...enter, 'ip', ...args];
  const { status, stderr } = spawnSync(command, rest, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

/**
 * A cable to another namespace, for peers found by multicast (BEP 14); some programs cannot be heard by others on the
 * machine they run on. Returns the id of a process there, which ends with this namespace; '' where it cannot be made.
 */
function makeLan() {
  const holder = spawn('unshare', ['--net', 'sleep', 'infinity'], { stdio: 'ignore' });
  const enter = ['nsenter', `--net=/proc/${holder.pid}/ns/net`];
  try {
    ip(['link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1']);
    waitForNamespace(holder.pid);
    ip(['link', 'set', 'lan1', 'netns', `${holder.pid}`]);
    for (const args of [
      ['addr', 'add', LAN_ADDRESS, 'dev', 'lan0'],
      ['link', 'set', 'lan0', 'up'],
      ['route', 'add', '224.0.0.0/4', 'dev', 'lan0'],
    ]) {
      ip(args);
    }
    for (const args of [
      ['link', 'set', 'lo', 'up'],
      ['addr', 'add', LAN_OTHER, 'dev', 'lan1'],
      ['link', 'set', 'lan1', 'up'],
      ['route', 'add', '224.0.0.0/4', 'dev', 'lan1'],
    ]) {
      ip(args, enter);
    }
    return `${holder.pid}`;
  } catch (error) {
    console.log(`No local network here (${error.message.trim()}): tests of multicast are skipped.`);
    return '';
  } finally {
    holder.unref();
  }
}

/** Until the process is in a network namespace of its own. */
function waitForNamespace(pid) {
  const own = readlinkSync('/proc/self/ns/net');
  for (let tries = 0; tries < 200 && readlinkSync(`/proc/${pid}/ns/net`) === own; tries++) spawnSync('sleep', ['0.02']);
}

/** The part that runs in the namespace. */
async function inside(vitestArgs) {
  const env = { ...process.env };
  if (process.env.SHOAL_INTEROP_NAMESPACE === '1') {
    for (const args of [
      ['link', 'set', 'lo', 'up'],
      ['addr', 'add', ADDRESS, 'dev', 'lo'],
    ]) {
      ip(args);
    }
    env.SHOAL_INTEROP_LAN = makeLan();
  }
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const args = ['run', '--config', CONFIG, '--reporter=verbose', '--reporter=./scripts/vitest-counts.mjs'];
  const child = spawn(process.execPath, [vitest, ...args, ...vitestArgs], { cwd: root, stdio: 'inherit', env });
  return await new Promise((done) => child.on('close', (code) => done(code ?? 1)));
}

const args = process.argv.slice(2);
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = args[0] === '--inside' ? await inside(args.slice(1)) : await runInterop(args);
}
