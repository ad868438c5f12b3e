// Datagrams over loopback, one process a side, through the host's Net and through node:dgram as its documentation has it.
// Usage: node bench/host/udp.mjs [seconds a run=2] [length ...=100 1400 60000]
import { fork } from 'node:child_process';
import dgram from 'node:dgram';
import { HostNet } from '../../packages/engine/dist/src/host/net.js';

const seconds = Number(process.argv[2] ?? 2);
const lengths = process.argv.length > 3 ? process.argv.slice(3).map(Number) : [100, 1400, 60_000];
const BUFFER_BYTES = 4 << 20;
const BURST = 64;

/** Both ways to a socket: { port, send(bytes, port) }, and a count of what comes. */
function open(way, onBytes) {
  return new Promise((resolve, reject) => {
    if (way === 'host') {
      const net = new HostNet(new Uint8Array(1024));
      const socket = net.udp(
        { ip: '127.0.0.1', port: 0 },
        { group: null, shared: false, bufferBytes: BUFFER_BYTES },
        {
          onUdpBound: ({ port }) => resolve({ port, send: (bytes, to) => socket.send(bytes, '127.0.0.1', to) }),
          onUdpFault: reject,
          onDatagram: (bytes, ip, port) => onBytes(bytes.length, ip, port),
        },
      );
      return;
    }
    const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: BUFFER_BYTES, sendBufferSize: BUFFER_BYTES });
    socket.on('message', (bytes, from) => onBytes(bytes.length, from.address, from.port));
    socket.bind(0, '127.0.0.1', () => {
      const { port } = socket.address();
      resolve({ port, send: (bytes, to) => socket.send(bytes, to, '127.0.0.1') });
    });
  });
}

const cpuUs = (since) => {
  const { user, system } = process.cpuUsage(since);
  return user + system;
};

async function receiver(way) {
  let count = 0;
  let first = 0;
  let last = 0;
  let cpu;
  const { port } = await open(way, () => {
    last = performance.now();
    if (count++ === 0) {
      first = last;
      cpu = process.cpuUsage();
    }
  });
  process.send({ port });
  process.once('message', () => {
    const used = count === 0 ? 0 : cpuUs(cpu);
    process.send({ count, rate: count / ((last - first) / 1000), us: used / count }, () => process.exit());
  });
}

async function sender(way, length, port) {
  const { send } = await open(way, () => {});
  const bytes = new Uint8Array(length);
  const start = performance.now();
  const cpu = process.cpuUsage();
  let count = 0;
  let refused = 0;
  const step = () => {
    for (let i = 0; i < BURST; i++) {
      if (send(bytes, port) === false) refused++;
      else count++;
    }
    if (performance.now() - start < seconds * 1000) return setImmediate(step);
    const took = (performance.now() - start) / 1000;
    process.send({ count, refused, rate: count / took, us: cpuUs(cpu) / count }, () => process.exit());
  };
  step();
}

const [role, way, length, port] = (process.env.SHOAL_BENCH_UDP ?? '').split(' ');
const child = (env) => fork(process.argv[1], process.argv.slice(2), { env: { ...process.env, SHOAL_BENCH_UDP: env } });
const message = (from) => new Promise((resolve) => from.once('message', resolve));

if (role === 'receive') await receiver(way);
else if (role === 'send') await sender(way, Number(length), Number(port));
else {
  for (const size of lengths) {
    for (const kind of ['host', 'dgram']) {
      const to = child(`receive ${kind}`);
      const { port: at } = await message(to);
      const sent = await message(child(`send ${kind} ${size} ${at}`));
      await new Promise((resolve) => setTimeout(resolve, 200));
      to.send('stop');
      const got = await message(to);
      const figure = ({ rate, us }) =>
        `${(rate / 1000).toFixed(0).padStart(4)} k/s ${us.toFixed(1).padStart(5)} CPU-us`;
      console.log(
        `${String(size).padStart(5)} B ${kind.padEnd(5)}  sent ${figure(sent)}  received ${figure(got)}  lost ${(100 - (100 * got.count) / sent.count).toFixed(0)} %`,
      );
    }
  }
}
