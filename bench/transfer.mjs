// One seed, one leech (or several) over loopback, Shoal beside real clients in the same sitting, as ratios.
//
//   node bench/transfer.mjs                      2 GiB on tmpfs: Shoal, and the fastest pairs of other clients
//   node bench/transfer.mjs --piece 256KiB       other piece lengths; likewise --size, --files, --leeches, --dir, --runs
//   node bench/transfer.mjs --only shoal,rtorrent:aria2
//
// The driver that starts the clients and counts their CPU is anchors.py of the measurements that the targets come from:
// ANCHORS=<its folder> (default ../shared/bench); its setup.sh installs the clients and mounts a tmpfs on /tmp/btbench.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const driver = join(process.env.ANCHORS ?? resolve(root, '../shared/bench'), 'anchors.py');
const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '2GiB' },
    piece: { type: 'string', default: '1MiB' },
    files: { type: 'string', default: '1' },
    leeches: { type: 'string', default: '1' },
    dir: { type: 'string', default: '/tmp/btbench' },
    runs: { type: 'string', default: '3' },
    only: { type: 'string', default: 'shoal,rtorrent:aria2,rtorrent,aria2,libtorrent:tuned' },
  },
});
if (!existsSync(driver)) {
  console.error(`no driver at ${driver}: set ANCHORS to the folder that holds anchors.py`);
  process.exit(1);
}

const shoal = join(root, 'packages/shoal/bin/shoal.js');
/** One for each leech: two processes may not have the same torrent. */
const state = join(values.dir, 'shoal-state');
const local = '--bind {ip} --no-dht --no-lsd';
const COMMANDS = {
  seed: `${process.execPath} ${shoal} seed {torrent} {dir} --port {port} ${local}`,
  leech: `${process.execPath} ${shoal} get {torrent} -o {dir} --port {port} ${local} --state ${state}/{port}`,
};

/** 'shoal', 'rtorrent', 'rtorrent:aria2', 'libtorrent:tuned', 'shoal:aria2' -> arguments of the driver. */
function clients(pair) {
  const profiled = pair === 'libtorrent:tuned' || pair === 'libtorrent:hiperf';
  const [seed, leech] = profiled ? [pair, pair] : [pair.split(':')[0], pair.split(':')[1] ?? pair.split(':')[0]];
  return [
    ...(seed === 'shoal' ? ['--seed-cmd', COMMANDS.seed] : ['--seed', seed]),
    ...(leech === 'shoal' ? ['--leech-cmd', COMMANDS.leech] : ['--leech', leech]),
  ];
}

function run(pair) {
  mkdirSync(values.dir, { recursive: true });
  rmSync(state, { recursive: true, force: true });
  const args = [driver, ...clients(pair), '--runs', '1'];
  for (const name of ['size', 'piece', 'files', 'leeches', 'dir']) args.push(`--${name}`, values[name]);
  const { stdout } = spawnSync('/usr/bin/python3', args, { encoding: 'utf8', maxBuffer: 1 << 24 });
  const rows = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
  const row = rows.find((r) => !r.noisy) ?? rows.at(-1);
  return row ?? { error: 'the driver printed nothing' };
}

const pairs = values.only.split(',');
const results = new Map(pairs.map((pair) => [pair, []]));
// interleaved, so that the drift of a shared machine meets all alike
for (let i = 0; i < Number(values.runs); i++) {
  for (const pair of pairs) {
    const row = run(pair);
    if (row.error !== undefined) console.log(`${pair}: ${row.error}`);
    else results.get(pair).push(row);
  }
}

const median = (rows, key) => rows.map((r) => r[key]).sort((a, b) => a - b)[Math.floor(rows.length / 2)] ?? Number.NaN;
const base = results.get('shoal') ?? [];
console.log(
  `${values.size}, pieces of ${values.piece}, ${values.files} file(s), ${values.leeches} leech(es), ${values.dir}`,
);
console.log(
  'pair                    MB/s  Shoal/it   wall s  leech CPU-s/GiB  seed CPU-s/GiB  RSS leech/seed MiB  exact noisy',
);
for (const [pair, rows] of results) {
  if (rows.length === 0) continue;
  const f = (key, digits = 2) => median(rows, key).toFixed(digits);
  console.log(
    [
      pair.padEnd(20),
      f('MBps', 0).padStart(7),
      (median(base, 'MBps') / median(rows, 'MBps')).toFixed(2).padStart(9),
      f('wall').padStart(8),
      f('leech_cpu_per_GiB').padStart(16),
      f('seed_cpu_per_GiB').padStart(15),
      `${f('leech_hwm_MiB', 0)}/${f('seed_hwm_MiB', 0)}`.padStart(19),
      String(rows.every((r) => r.ok)).padStart(6),
      String(rows.filter((r) => r.noisy).length).padStart(5),
    ].join(' '),
  );
}
