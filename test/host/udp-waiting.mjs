// Run by udp.test.ts with node's --test-udp-no-try-send: no send is over at once. Prints how many were taken, and how many came wrong.
import { HostNet } from '../../packages/engine/dist/src/host/net.js';

const ROUNDS = 400;
const net = new HostNet(new Uint8Array(1024));
const seen = [];

function open(onDatagram) {
  return new Promise((resolve) => {
    const socket = net.udp(
      { ip: '127.0.0.1', port: 0 },
      { group: null, shared: false, bufferBytes: 1 << 20 },
      { onUdpBound: ({ port }) => resolve({ socket, port }), onUdpFault: () => resolve(null), onDatagram },
    );
  });
}

const to = await open((bytes) => seen.push(bytes.slice()));
const from = await open(() => {});
const result = { taken: 0, wrong: 0, again: 0, wrongAgain: 0 };

async function round(takenName, wrongName) {
  seen.length = 0;
  const bytes = new Uint8Array(1000);
  for (let i = 0; i < ROUNDS; i++) {
    bytes.fill(i & 0xff);
    if (from.socket.send(bytes, '127.0.0.1', to.port)) result[takenName]++;
    bytes.fill(0xee);
  }
  const limit = performance.now() + 5000;
  while (seen.length < result[takenName] && performance.now() < limit) await new Promise((r) => setImmediate(r));
  for (let i = 0; i < result[takenName]; i++) {
    if (seen[i]?.length !== 1000 || seen[i].some((byte) => byte !== (i & 0xff))) result[wrongName]++;
  }
}

await round('taken', 'wrong');
await round('again', 'wrongAgain');
process.stdout.write(JSON.stringify(result));
net.close(() => {});
