/**
 * Real clients on our tracker: aria2 finds a transmission seed through it alone (DHT, LSD and PEX are off); what they
 * announced is checked in the counts. The other direction works too, but transmission takes 15 s to call, and says no
 * `stopped` when it is terminated, so it is not run here.
 * Prints `N passed, N failed, N skipped` at the end. Needs the built packages.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startTracker } from '../../packages/shoal/dist/tracker/index.js';

const SIZE = 3_000_001;
const PIECE = 65_536;
const DEADLINE_MS = 40_000;
const started = [];
let passed = 0;
let failed = 0;
let skipped = 0;

const has = (program) => spawnSync('which', [program]).status === 0;
const scratch = mkdtempSync(join(tmpdir(), 'shoal-tracker-'));

/** A torrent of one file of random bytes. */
function makeTorrent(name, announce) {
  const data = randomBytes(SIZE);
  const pieces = [];
  for (let at = 0; at < SIZE; at += PIECE)
    pieces.push(
      createHash('sha1')
        .update(data.subarray(at, at + PIECE))
        .digest(),
    );
  const info = Buffer.concat([
    Buffer.from(
      `d6:lengthi${SIZE}e4:name${name.length}:${name}12:piece lengthi${PIECE}e6:pieces${pieces.length * 20}:`,
    ),
    ...pieces,
    Buffer.from('e'),
  ]);
  const torrent = Buffer.concat([
    Buffer.from(`d8:announce${announce.length}:${announce}4:info`),
    info,
    Buffer.from('e'),
  ]);
  return { name, data, torrent, infoHash: createHash('sha1').update(info).digest() };
}

function freePort(host) {
  return new Promise((done, fail) => {
    const server = createServer();
    server.once('error', fail).listen(0, host, () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

function run(program, args) {
  const child = spawn(program, args, { stdio: 'ignore' });
  started.push(child);
  return child;
}

async function until(what, check) {
  const end = performance.now() + DEADLINE_MS;
  while (performance.now() < end) {
    if (await check()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`not within ${DEADLINE_MS / 1000} s: ${what}`);
}

async function aria2(torrentPath, folder, ip) {
  const port = await freePort(ip);
  const args = ['-q', '--no-conf', '--enable-dht=false', '--enable-dht6=false', '--bt-enable-lpd=false'];
  args.push('--enable-peer-exchange=false', '--seed-ratio=0', '--check-integrity=true', '--allow-overwrite=true');
  args.push(`--interface=${ip}`, `--listen-port=${port}`, '--disable-ipv6=true', '-d', folder, torrentPath);
  return run('aria2c', args);
}

async function transmission(torrentPath, folder, ip) {
  const home = mkdtempSync(join(scratch, 'tr-'));
  const settings = {
    'bind-address-ipv4': ip,
    'bind-address-ipv6': '::1',
    'dht-enabled': false,
    'lpd-enabled': false,
    'pex-enabled': false,
    'utp-enabled': false,
    'port-forwarding-enabled': false,
    'peer-port': await freePort(ip),
    'rpc-enabled': false,
    'watch-dir': join(home, 'watch'),
    'watch-dir-enabled': true,
    'download-dir': folder,
    'start-added-torrents': true,
  };
  mkdirSync(settings['watch-dir']);
  writeFileSync(join(home, 'settings.json'), JSON.stringify(settings));
  writeFileSync(join(settings['watch-dir'], 'it.torrent'), readFileSync(torrentPath));
  return run('transmission-daemon', ['-f', '-g', home]);
}

function stop(child, signal = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((done) => {
    child.once('exit', done);
    child.kill(signal);
  });
}

/** `seed` and `leech` start a client on (torrent file, folder, address). */
async function pair(label, seed, leech) {
  const tracker = await startTracker({ intervalS: 5, minIntervalS: 2 });
  try {
    const made = makeTorrent('payload.bin', tracker.url);
    const full = mkdtempSync(join(scratch, 'full-'));
    const empty = mkdtempSync(join(scratch, 'empty-'));
    const torrentPath = join(full, 'it.torrent');
    writeFileSync(torrentPath, made.torrent);
    writeFileSync(join(full, made.name), made.data);
    await seed(torrentPath, full, '127.0.0.41');
    await until('the seed is known as one', () => tracker.stats().seeders === 1);
    const leecher = await leech(torrentPath, empty, '127.0.0.42');
    await until('the leech is known', () => tracker.stats().peers === 2);
    await until('both are complete', () => tracker.stats().seeders === 2);
    assert.ok(readFileSync(join(empty, made.name)).equals(made.data), 'the copy is the original');
    const hash = Array.from(made.infoHash, (b) => `%${b.toString(16).padStart(2, '0')}`).join('');
    const scrape = await (await fetch(`${tracker.url.replace(/announce$/, 'scrape')}?info_hash=${hash}`)).text();
    assert.match(scrape, /8:completei2e10:downloadedi1e/, 'one completion was announced');
    await stop(leecher, 'SIGINT');
    await until('the leech said stopped', () => tracker.stats().peers === 1);
    assert.equal(tracker.stats().refused, 0);
    passed++;
    console.log(`ok   ${label}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${label}: ${error.message}; ${JSON.stringify(tracker.stats())}`);
  } finally {
    await Promise.all(started.splice(0).map((child) => stop(child)));
    await tracker.close();
  }
}

const missing = ['aria2c', 'transmission-daemon'].filter((program) => !has(program));
if (missing.length > 0) {
  skipped = 1;
  console.log(`skip real clients on our tracker: ${missing.join(' and ')} not installed`);
} else {
  await pair('transmission seeds, aria2 leeches', transmission, aria2);
}
rmSync(scratch, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed > 0 ? 1 : 0;
