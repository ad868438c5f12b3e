// One node of the DHT under load, Shoal's and libtorrent's in turn, in one run: queries answered per second of its CPU
// time, lookups per second, and its memory before and after a million announces. Both may answer as much as they can
// (dht.uploadRate; dht_upload_rate_limit, dht_block_ratelimit); what both may store is the same: 2,000 info-hashes.
//
//   node bench/dht.mjs [--seconds 8] [--window 64] [--lookups 2000] [--announces 1000000] [--runs 3] [--only shoal]
//
// The load comes from dht-load.c, which gcc builds; it is a network of 1,000 nodes as well, and is not counted.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '8' },
    window: { type: 'string', default: '64' },
    lookups: { type: 'string', default: '2000' },
    concurrency: { type: 'string', default: '16' },
    announces: { type: 'string', default: '1000000' },
    runs: { type: 'string', default: '3' },
    only: { type: 'string', default: 'shoal,libtorrent' },
  },
});
const here = import.meta.dirname;
const SERVER_PORT = 46_881;
const LOAD_PORT = 46_882;
const NODES = 1000;
const BOOTSTRAP = `127.16.0.1:${LOAD_PORT}`;
const SERVERS = {
  shoal: [process.execPath, join(here, 'dht-server.mjs')],
  libtorrent: ['/usr/bin/python3', join(here, 'dht-server.py')],
};
const TICKS_PER_S = 100;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const work = mkdtempSync(join(tmpdir(), 'shoal-dht-'));
const loadProgram = join(work, 'dht-load');

/** A child that speaks JSON lines. */
class Lines {
  #waiting = [];
  #said = [];

  constructor(command, args) {
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.exited = new Promise((resolve) => this.child.once('exit', resolve));
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      const waiting = this.#waiting.shift();
      if (waiting === undefined) this.#said.push(JSON.parse(line));
      else waiting(JSON.parse(line));
    });
    this.child.once('exit', () => {
      for (const waiting of this.#waiting) waiting({});
    });
  }

  next() {
    const said = this.#said.shift();
    return said === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(said);
  }

  ask(fields) {
    this.child.stdin.write(`${JSON.stringify(fields)}\n`);
    return this.next();
  }

  async end() {
    this.child.stdin.end();
    setTimeout(() => this.child.kill('SIGKILL'), 3000).unref();
    await this.exited;
  }

  get cpuS() {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
  }

  get rssMiB() {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8'))[1]) / 1024;
  }
}

async function load(...args) {
  const program = new Lines(loadProgram, [SERVER_PORT, LOAD_PORT, NODES, ...args].map(String));
  const result = await program.next();
  await program.exited;
  return result;
}

async function measure(name) {
  const network = new Lines(loadProgram, [SERVER_PORT, LOAD_PORT, NODES, 'serve'].map(String));
  await network.next();
  const server = new Lines(SERVERS[name][0], [SERVERS[name][1], String(SERVER_PORT), BOOTSTRAP]);
  await server.next();
  await pause(6000);
  const result = { name, nodes: (await server.ask({ do: 'nodes' })).nodes };

  // once to warm up
  await server.ask({ do: 'lookups', count: Math.ceil(values.lookups / 4), concurrency: Number(values.concurrency) });
  let { served } = await network.ask({});
  let cpu = server.cpuS;
  const { done, seconds } = await server.ask({
    do: 'lookups',
    count: Number(values.lookups),
    concurrency: Number(values.concurrency),
  });
  result.lookupsPerS = done / seconds;
  result.lookupsPerCpuS = done / (server.cpuS - cpu);
  served = (await network.ask({})).served - served;
  result.queriesPerLookup = served / done;
  await network.end();

  await load('queries', 4, values.window);
  cpu = server.cpuS;
  const queries = await load('queries', values.seconds, values.window);
  result.answeredPerS = queries.answered / queries.seconds;
  result.answeredPerCpuS = queries.answered / (server.cpuS - cpu);
  result.lostPercent = (100 * queries.lost) / queries.asked;
  result.bytesPerReply = queries.replyBytes / queries.answered;

  // what a few leave is there already: full tables do not count as growth
  await load('announces', Math.ceil(values.announces / 50), values.window);
  await pause(1000);
  const before = server.rssMiB;
  cpu = server.cpuS;
  const announces = await load('announces', values.announces, values.window);
  result.announced = announces.announced;
  result.announceErrors = announces.errors;
  result.announcesPerCpuS = (announces.announced + announces.refused) / (server.cpuS - cpu);
  await pause(1000);
  result.rssBefore = before;
  result.rssAfter = server.rssMiB;
  await server.end();
  return result;
}

try {
  const built = spawnSync('gcc', ['-O2', '-o', loadProgram, join(here, 'dht-load.c')], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(built.stderr ?? 'gcc is not installed');
  const names = values.only.split(',');
  const rows = new Map(names.map((name) => [name, []]));
  for (let run = 0; run < Number(values.runs); run++) {
    for (const name of names) {
      const row = await measure(name);
      rows.get(name).push(row);
      console.log(JSON.stringify(row));
    }
  }
  const median = (name, key) => {
    const sorted = rows.get(name).map((row) => row[key]);
    sorted.sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)];
  };
  const measures = [
    ['queries answered per CPU-second', 'answeredPerCpuS', 0],
    ['queries answered per second', 'answeredPerS', 0],
    ['queries lost, %', 'lostPercent', 2],
    ['bytes per reply', 'bytesPerReply', 0],
    ['lookups per second', 'lookupsPerS', 0],
    ['lookups per CPU-second', 'lookupsPerCpuS', 0],
    ['queries per lookup', 'queriesPerLookup', 1],
    ['announces taken', 'announced', 0],
    ['announces tried per CPU-second', 'announcesPerCpuS', 0],
    ['RSS before them, MiB', 'rssBefore', 1],
    ['RSS after them, MiB', 'rssAfter', 1],
  ];
  const shown = [...names, ...(names.length === 2 ? [`${names[0]} / ${names[1]}`] : [])];
  console.log(`${''.padEnd(34)}${shown.map((name) => name.padStart(20)).join('')}`);
  for (const [label, key, digits] of measures) {
    const figures = names.map((name) => median(name, key));
    const cells = figures.map((figure) => figure.toFixed(digits).padStart(20));
    if (names.length === 2) cells.push((figures[0] / figures[1]).toFixed(2).padStart(20));
    console.log(`${label.padEnd(34)}${cells.join('')}`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
