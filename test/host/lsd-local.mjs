// Run by udp.test.ts in a network namespace: local discovery over real multicast, each side with sockets of its own.
import { Rng } from '../../packages/engine/dist/src/base/random.js';
import { createHostPorts } from '../../packages/engine/dist/src/host/index.js';
import { LsdSockets } from '../../packages/engine/dist/src/session/lsd-sockets.js';

const HASH = new Uint8Array(20).fill(7);
const all = [];

function start(port, bind) {
  const ports = createHostPorts({ memory: 1 << 20, hashThreads: 1 });
  const heard = [];
  const seed = new Uint32Array(4);
  ports.random.fill(new Uint8Array(seed.buffer));
  const lsd = new LsdSockets(ports, bind, new Rng(seed), {
    onLsdPeer: (_hash, ip, from) => heard.push(`${ip} ${from}`),
    onLsdLog: (line) => heard.push(line),
  });
  ports.loop.run = () => {
    lsd.tick(ports.clock.now());
    ports.loop.wakeAt(lsd.nextAt());
  };
  lsd.port = port;
  lsd.add(ports.clock.now(), HASH);
  lsd.start(ports.clock.now());
  ports.loop.soon();
  all.push({ port, bind, ports, lsd, heard });
}

start(7001, ['127.0.0.1']);
start(7002, ['127.3.0.1']);
start(7003, ['0.0.0.0', '::']);
start(7004, ['10.9.1.1']);
start(7005, ['::']);
// an announce that came before the other had bound is repeated after 2 s
const limit = performance.now() + 8000;
const isEarly = () => all.reduce((sum, { heard }) => sum + new Set(heard).size, 0) < 6;
while (isEarly() && performance.now() < limit) await new Promise((resolve) => setTimeout(resolve, 20));
await new Promise((resolve) => setTimeout(resolve, 100));
const result = {};
for (const { port, lsd, heard, ports } of all) {
  result[port] = { from: lsd.addresses.sort(), heard: [...new Set(heard)].sort() };
  lsd.stop();
  ports.close(() => {});
}
process.stdout.write(JSON.stringify(result));
