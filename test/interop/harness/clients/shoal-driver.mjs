/**
 * A Session for the interop tests: shoal-driver.mjs IP PORT FINDING. JSON objects a line: `add` requests in, state out, also
 * over which transports and under which encryption its peers were seen.
 */

import { createInterface } from 'node:readline';
import { Session } from '@shoal/engine';

const [ip, port, findingText] = process.argv.slice(2);
// {utp, encrypted, limits: {downloadLimit, uploadLimit}}, all of which may be absent
const finding = JSON.parse(findingText);
const say = (fields) => process.stdout.write(`${JSON.stringify(fields)}\n`);
const session = new Session({
  portMap: false,
  bind: [ip],
  port: Number(port),
  dht: false,
  lsd: false,
  pex: false,
  transport: finding.utp === true ? 'utp' : 'tcp',
  encryption: finding.encrypted === true ? 'require' : 'off',
  log: (error) => say({ error }),
  ...finding.limits,
});
await session.ready();
let torrent = null;
let checked = false;
const wires = new Set();
const requests = createInterface({ input: process.stdin });
requests.on('close', async () => {
  await session.close();
  process.exit();
});
requests.on('line', async (line) => {
  const { source, folder, peers, uploadLimit } = JSON.parse(line);
  try {
    torrent = await session.add(source, { folder, peers, ...(uploadLimit > 0 ? { uploadLimit } : {}) });
    await torrent.checked();
    checked = true;
  } catch (error) {
    say({ error: String(error?.stack ?? error) });
  }
});
setInterval(() => {
  if (torrent === null) return;
  const { state, bytesDone, bytesTotal, peers, uploaded, downloaded } = torrent.stats();
  for (const { transport, encryption } of torrent.peers()) wires.add(`${transport} ${encryption}`);
  const seeding = checked && state === 'seeding' && bytesDone === bytesTotal;
  const atMs = performance.now();
  say({ atMs, state, progress: bytesDone / bytesTotal, seeding, peers, uploaded, downloaded, wires: [...wires] });
}, 50);
say({ ready: true });
