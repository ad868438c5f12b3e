// Many small seeding torrents in one Session: memory above the base, idle CPU, restart from state.
//
//   node --expose-gc bench/many.mjs [count=5000]

import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Session } from '../packages/engine/dist/src/index.js';

const PIECE = 16384;
const [mode = 'all', folder, countText = '5000'] = ['fill', 'restart'].includes(process.argv[2])
  ? process.argv.slice(2)
  : ['all', undefined, process.argv[2]];
const count = Number(countText);

/** Anonymous memory of this process, KiB. */
const anonKiB = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
const cpuS = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6;
const idle = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function torrentBytes(name, data) {
  const digest = createHash('sha1').update(data).digest();
  return Buffer.concat([
    Buffer.from(`d4:infod6:lengthi${data.length}e4:name${name.length}:${name}12:piece lengthi${PIECE}e6:pieces20:`),
    digest,
    Buffer.from('ee'),
  ]);
}

const session = (state) => new Session({ port: 0, bind: ['127.0.0.1'], dht: false, lsd: false, state });

async function fill() {
  const data = join(folder, 'data');
  mkdirSync(data, { recursive: true });
  const torrents = [];
  for (let i = 0; i < count; i++) {
    const name = `t${String(i).padStart(5, '0')}.bin`;
    const bytes = randomBytes(PIECE);
    writeFileSync(join(data, name), bytes);
    torrents.push(torrentBytes(name, bytes));
  }
  const s = session(join(folder, 'state'));
  await s.ready();
  // the base: a session that has its threads running
  await (await s.add(torrents.pop(), { folder: data })).done();
  await idle(1500);
  globalThis.gc?.();
  const before = anonKiB();
  const heapBefore = process.memoryUsage().heapUsed;
  const started = performance.now();
  await Promise.all(torrents.map(async (bytes) => (await s.add(bytes, { folder: data })).done()));
  const addS = (performance.now() - started) / 1000;
  torrents.length = 0;
  // the records are written first, two at a time
  await idle(15_000);
  globalThis.gc?.();
  await idle(500);
  const after = anonKiB();
  const heapKiB = (process.memoryUsage().heapUsed - heapBefore) / 1024 / count;
  const cpu = cpuS();
  await idle(20_000);
  const idlePercent = ((cpuS() - cpu) / 20) * 100;
  console.log(JSON.stringify({ addS, kibPerTorrent: (after - before) / count, heapKiB, idlePercent }));
  await s.close();
}

async function restart() {
  const s = session(join(folder, 'state'));
  const torrents = await s.restore();
  await Promise.all(torrents.map((torrent) => torrent.done()));
  // from the start of the process, as the other clients were measured
  console.log(JSON.stringify({ restartS: performance.now() / 1000, cpuS: cpuS(), torrents: torrents.length }));
  await s.close();
}

if (mode === 'fill') await fill();
else if (mode === 'restart') await restart();
else {
  const work = mkdtempSync(join(tmpdir(), 'shoal-many-'));
  try {
    for (const step of ['fill', 'restart']) {
      const argv = ['--expose-gc', import.meta.filename, step, work, String(count)];
      const { stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
      console.log(step, stdout.trim() || stderr);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
