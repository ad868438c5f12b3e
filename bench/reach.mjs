// What reaching peers by other ways costs, in one sitting, as ratios:
//   utp    Shoal -> Shoal over uTP beside libtorrent -> libtorrent over uTP with 4 MiB socket buffers, datagrams as long as
//          loopback carries
//   small  Shoal -> Shoal over uTP where datagrams have 1,400 bytes, beside a bare sender and receiver of such
//   rc4    Shoal -> Shoal, all of the stream enciphered, beside libtorrent -> rtorrent likewise
//
//   node bench/reach.mjs [--only utp,small,rc4] [--size 512MiB] [--runs 3]        build first
//
// utp and rc4 need the driver anchors.py (see transfer.mjs), small a network namespace.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const shoal = join(root, 'packages/shoal/bin/shoal.js');
const driver = join(process.env.ANCHORS ?? resolve(root, '../shared/bench'), 'anchors.py');
const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'utp,small,rc4' },
    size: { type: 'string', default: '512MiB' },
    runs: { type: 'string', default: '3' },
    dir: { type: 'string', default: '/tmp/btbench' },
    inside: { type: 'string' },
  },
});
const LOCAL = ['--no-dht', '--no-lsd', '--no-pex', '--no-port-map'];

/** Name -> arguments of the driver. */
const RUNS = {
  utp: {
    shoal: commands('--transport utp'),
    libtorrent: ['--utp', '--seed', 'libtorrent:udpbuf', '--leech', 'libtorrent:udpbuf'],
  },
  rc4: {
    shoal: commands('--transport tcp --encryption require'),
    'libtorrent -> rtorrent': ['--rc4', '--seed', 'libtorrent:tuned', '--leech', 'rtorrent'],
  },
};

function commands(how) {
  const common = `--port {port} --bind {ip} ${LOCAL.join(' ')} ${how}`;
  const wait = how.includes('utp') ? ['--seed-wait', '6'] : [];
  return [
    '--seed-cmd',
    `${process.execPath} ${shoal} seed {torrent} {dir} ${common}`,
    '--leech-cmd',
    `${process.execPath} ${shoal} get {torrent} -o {dir} ${common} --state ${values.dir}/shoal-state/{port}`,
    ...wait,
  ];
}

function drive(args) {
  mkdirSync(values.dir, { recursive: true });
  rmSync(join(values.dir, 'shoal-state'), { recursive: true, force: true });
  const all = [driver, ...args, '--runs', '1', '--size', values.size, '--dir', values.dir];
  const { stdout } = spawnSync('/usr/bin/python3', all, { encoding: 'utf8', maxBuffer: 1 << 24 });
  const rows = stdout.split('\n').filter((line) => line.startsWith('{'));
  return rows.length > 0 ? JSON.parse(rows.at(-1)) : { error: 'the driver printed nothing' };
}

function compare(what) {
  const results = new Map(Object.keys(RUNS[what]).map((name) => [name, []]));
  // interleaved, so that the drift of a shared machine meets all alike
  for (let i = 0; i < Number(values.runs); i++) {
    for (const [name, rows] of results) {
      const row = drive(RUNS[what][name]);
      if (row.error !== undefined) console.log(`${what}, ${name}: ${row.error}`);
      else rows.push(row);
    }
  }
  const base = median(results.get('shoal').map(({ MBps }) => MBps));
  for (const [name, rows] of results) {
    const f = (key, digits = 2) => median(rows.map((row) => row[key])).toFixed(digits);
    const exact = rows.every(({ ok }) => ok) ? '' : ', NOT exact';
    console.log(
      `${what}: ${name} ${f('MBps', 0)} MB/s (${rows.map(({ MBps }) => Math.round(MBps)).join(' ')}), Shoal / it ` +
        `${(base / Number(f('MBps', 6))).toFixed(2)}; CPU-s/GiB leech ${f('leech_cpu_per_GiB')}, seed ` +
        `${f('seed_cpu_per_GiB')}; by others ${f('other_cpu')} s${exact}`,
    );
  }
}

function median(list) {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN;
}

// ------------------------------------------------------------------------------------------------- datagrams of 1,400

/** In a network namespace, where addresses outside 127/8 are ours: there the engine keeps to 1,400 bytes. */
function small() {
  const script = 'ip link set lo up && ip addr add 10.77.0.1/8 dev lo && exec "$@"';
  const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const args = [...asRoot, '--net', 'sh', '-c', script, 'sh', process.execPath, fileURLToPath(import.meta.url)];
  for (const name of ['size', 'runs']) args.push(`--${name}`, values[name]);
  const { status, error } = spawnSync('unshare', [...args, '--inside', 'small'], { stdio: 'inherit' });
  if (status !== 0) console.log(`small: no network namespace here (${error?.message ?? status})`);
}

async function smallInside() {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'shoal-reach-'));
  try {
    const bytes = Number.parseInt(values.size, 10) << 20;
    spawnSync('sh', ['-c', `mkdir seed && head -c ${bytes} /dev/urandom > seed/data.bin`], { cwd: folder });
    run(['create', 'seed/data.bin', '-o', 'it.torrent', '--piece-size', '1M'], folder);
    const rates = [];
    const bare = [];
    for (let i = 0; i < Number(values.runs); i++) {
      bare.push(bareRate());
      rates.push(await smallOnce(folder, bytes, i));
    }
    console.log(
      `small: Shoal ${median(rates).toFixed(0)} MB/s (${rates.map(Math.round).join(' ')}), bare datagrams ` +
        `${median(bare).toFixed(0)} MB/s (${bare.map(Math.round).join(' ')}), Shoal / bare ${(median(rates) / median(bare)).toFixed(2)}`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(args, cwd) {
  const { status, stderr } = spawnSync(process.execPath, [shoal, ...args], { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`shoal ${args.join(' ')}: ${stderr}`);
}

/** What bench/utp.mjs says of bare datagrams. */
function bareRate() {
  const { stdout } = spawnSync(process.execPath, [join(root, 'bench/utp.mjs'), '64', '1372'], { encoding: 'utf8' });
  return Number(/bare (\d+) MB\/s/.exec(stdout)?.[1]);
}

async function smallOnce(folder, bytes, i) {
  const at = (ip, port) => ['--bind', ip, '--port', String(port), '--transport', 'utp', ...LOCAL, '--json'];
  const seed = start(['seed', 'it.torrent', 'seed', ...at('10.77.1.1', 4000 + i)], folder);
  await seed.line((line) => line.type === 'progress' && line.state === 'seeding');
  const args = ['get', 'it.torrent', '-o', `leech-${i}`, '--state', `state-${i}`, '--peer', `10.77.1.1:${4000 + i}`];
  const leech = start([...args, ...at('10.77.1.2', 5000 + i)], folder);
  const { atMs: from } = await leech.line((line) => line.type === 'progress' && line.peers > 0);
  const { atMs: to } = await leech.line((line) => line.type === 'done');
  await Promise.all([leech.stop(), seed.stop()]);
  const same = spawnSync('cmp', ['seed/data.bin', `leech-${i}/data.bin`], { cwd: folder });
  if (same.status !== 0) throw new Error('the copy differs');
  rmSync(join(folder, `leech-${i}`), { recursive: true });
  return bytes / 1e3 / (to - from);
}

function start(args, cwd) {
  const child = spawn(process.execPath, [shoal, ...args], { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((done) => child.on('close', done));
  const waiting = [];
  const said = [];
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = { ...JSON.parse(text), atMs: performance.now() };
    said.push(line);
    for (const one of [...waiting]) if (one.test(line)) one.done(line);
  });
  return {
    line: (test) =>
      new Promise((done) => {
        const found = said.find(test);
        if (found !== undefined) return done(found);
        waiting.push({ test, done });
      }),
    stop() {
      child.kill('SIGINT');
      return ended;
    },
  };
}

if (values.inside === 'small') await smallInside();
else {
  for (const what of values.only.split(',')) {
    if (what === 'small') small();
    else if (existsSync(driver)) compare(what);
    else console.log(`${what}: no driver at ${driver}: set ANCHORS to the folder that holds anchors.py`);
  }
}
