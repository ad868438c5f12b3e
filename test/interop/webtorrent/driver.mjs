/**
 * webtorrent for the interop tests: driver.mjs IP PORT FINDING. JSON objects a line: `add` requests in, state out. webtorrent
 * itself cannot be told which address to use, so that every listener and connection here is bound to IP.
 */

import { Socket as Datagrams } from 'node:dgram';
import { createRequire } from 'node:module';
import { Server, Socket } from 'node:net';
import { createInterface } from 'node:readline';

const [ip, port, findingText] = process.argv.slice(2);
// {dht: [host:port...], pex, lsd, utp}, all of which may be absent
const finding = JSON.parse(findingText);
const { connect } = Socket.prototype;
Socket.prototype.connect = function (...args) {
  const options = Array.isArray(args[0]) ? args[0][0] : args[0];
  if (options !== null && typeof options === 'object' && options.path === undefined) options.localAddress ??= ip;
  return connect.apply(this, args);
};
const { listen } = Server.prototype;
Server.prototype.listen = function (at, ...rest) {
  return typeof at === 'number' ? listen.call(this, at, ip, ...rest) : listen.call(this, at, ...rest);
};

const { bind } = Datagrams.prototype;
Datagrams.prototype.bind = function (at, ...rest) {
  return bind.call(this, typeof at === 'object' ? { ...at, address: ip } : { port: at ?? 0, address: ip }, ...rest);
};

if (finding.utp === true) {
  // libutp's own sockets
  const libutp = createRequire(import.meta.url)('utp-native').prototype;
  const { listen: listenUtp } = libutp;
  libutp.listen = function (at, ...rest) {
    return listenUtp.call(this, at, ip, ...rest);
  };
}

const say = (fields) => process.stdout.write(`${JSON.stringify(fields)}\n`);
const { default: WebTorrent } = await import('webtorrent');
const client = new WebTorrent({
  torrentPort: Number(port),
  dht: finding.dht === undefined ? false : { bootstrap: finding.dht },
  lsd: finding.lsd ?? false,
  utPex: finding.pex ?? false,
  natUpnp: false,
  natPmp: false,
  utp: finding.utp ?? false,
  // with it, it offers nothing but encrypted connections
  secure: false,
});
client.on('error', (error) => say({ error: String(error?.stack ?? error) }));
let torrent = null;
const requests = createInterface({ input: process.stdin });
requests.on('close', () => process.exit());
requests.on('line', (line) => {
  const { source, folder, peers, uploadLimit } = JSON.parse(line);
  if (uploadLimit > 0) client.throttleUpload(uploadLimit);
  torrent = client.add(source, { path: folder });
  torrent.on('warning', (error) => say({ error: String(error?.message ?? error) }));
  torrent.on('infoHash', () => {
    for (const peer of peers) torrent.addPeer(peer);
  });
});
setInterval(() => {
  if (torrent === null) return;
  say({
    metadata: torrent.metadata != null,
    progress: torrent.progress,
    seeding: torrent.done,
    peers: torrent.numPeers,
    uploaded: torrent.uploaded,
    downloaded: torrent.downloaded,
  });
}, 100);
say({ ready: true });
