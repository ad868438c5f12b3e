/**
 * What lies behind a proxy: proxy-world.mjs JSON. Sessions that are nodes of a DHT of their own, of which the first seeds a
 * torrent; a JSON line {"ready": true} once all of it works.
 */

import { Session } from '@shoal/engine';

const { addresses, port, torrent, folder, transport } = JSON.parse(process.argv[2]);
const bootstrap = addresses.map((ip) => `${ip}:${port}`);
const sessions = addresses.map((ip) => {
  return new Session({ bind: [ip], port, lsd: false, pex: false, portMap: false, dht: { bootstrap }, transport });
});
await Promise.all(sessions.map((session) => session.ready()));
const seed = await sessions[0].add(torrent, { folder });
await seed.done();
const known = () => sessions.every((session) => session.dht.stats().nodes4 > 0);
while (!known()) await new Promise((resolve) => setTimeout(resolve, 50));
process.stdout.write('{"ready":true}\n');
process.on('SIGTERM', async () => {
  await Promise.all(sessions.map((session) => session.close()));
  process.exit();
});
