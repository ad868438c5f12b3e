/**
 * A session that finds peers by nothing but what others tell: punch-session.mjs REQUEST (JSON: options of the session,
 * torrent, and how it is added). Says how it stands whenever that changes.
 */

import { Session } from '@shoal/engine';

const { options, torrent, add } = JSON.parse(process.argv[2]);
const log = (line) =>
  process.stderr.write(`${Math.round(performance.now())} ${line}
`);
const session = new Session({ lsd: false, dht: false, portMap: false, port: 6881, log, ...options });
await session.ready();
const startedMs = performance.now();
const handle = await session.add(torrent, add);
let said = '';
const look = () => {
  const { state, bytesDone, uploaded, candidates } = handle.stats();
  const peers = handle
    .peers()
    .map(({ address, transport, incoming, client }) => {
      return `${transport} ${address.ip}:${address.port} ${incoming ? 'in' : 'out'} ${client}`;
    })
    .sort();
  const line = { state, bytesDone, uploaded, known: candidates + peers.length, peers };
  const text = JSON.stringify(line);
  if (text !== said)
    process.stdout.write(`${JSON.stringify({ ms: Math.round(performance.now() - startedMs), ...line })}\n`);
  said = text;
};
setInterval(look, 20);
process.on('SIGTERM', async () => {
  await session.close();
  process.exit(0);
});
