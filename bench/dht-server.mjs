// A Session that is a node of the DHT, for bench/dht.mjs: dht-server.mjs PORT BOOTSTRAP. Commands and answers are JSON lines.

import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { Session } from '../packages/engine/dist/src/index.js';

const [port, bootstrap] = process.argv.slice(2);
const session = new Session({
  port: Number(port),
  bind: ['127.0.0.1'],
  pex: false,
  lsd: false,
  hashThreads: 1,
  dht: { bootstrap: [bootstrap], uploadRate: 1_000_000_000 },
});

async function lookups(count, concurrency) {
  const started = performance.now();
  let begun = 0;
  let done = 0;
  const one = async () => {
    while (begun < count) {
      begun++;
      await session.dht.get(randomBytes(20).toString('hex'));
      done++;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, one));
  return { done, seconds: (performance.now() - started) / 1000 };
}

const say = (fields) => process.stdout.write(`${JSON.stringify(fields)}\n`);
await session.ready();
const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit());
lines.on('line', async (line) => {
  const command = JSON.parse(line);
  if (command.do === 'lookups') say(await lookups(command.count, command.concurrency));
  else say({ nodes: session.dht.nodes().length, ...session.dht.stats() });
});
say({ ready: true });
