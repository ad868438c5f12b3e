/** What a session tells a peer, a tracker and a node of the DHT, as it is and anonymous (BEP 37); and a proxy that comes later. */

import dgram from 'node:dgram';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createTorrent, Session } from '../../packages/engine/dist/src/index.js';
import { Log, tempFolder } from './support.ts';

/** A torrent, and all that a session would speak with about it; what they hear, as latin1. */
async function world(): Promise<{
  torrent: Uint8Array;
  folder: string;
  peer: Log<string>;
  tracker: Log<string>;
  node: Log<string>;
  peerAddress: string;
  nodeAddress: string;
}> {
  const folder = tempFolder();
  fs.writeFileSync(join(folder, 'it'), Buffer.alloc(50_000, 7));
  const [peer, tracker, node] = [new Log<string>(), new Log<string>(), new Log<string>()];
  const web = http.createServer((request, response) => {
    tracker.add(`${request.url} ${request.headers['user-agent']}`);
    response.end('d8:intervali1800e5:peers0:e');
  });
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(web.address() as net.AddressInfo).port}/announce`;
  const made = await createTorrent(join(folder, 'it'), { trackers: [url] });
  const sockets: net.Socket[] = [];
  const listening = net.createServer((socket) => {
    sockets.push(socket);
    let heard = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      const isFirst = heard.length < 68;
      heard = Buffer.concat([heard, bytes]);
      // its own handshake with another id, and the extension bit
      if (isFirst && heard.length >= 68) {
        const answer = Buffer.concat([heard.subarray(0, 48), Buffer.from('-XX0000-abcdefghijkl')]);
        answer[25] = 0x10;
        socket.write(answer);
      }
      peer.add(heard.toString('latin1'));
    });
  });
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const udp = dgram.createSocket('udp4');
  udp.on('message', (bytes) => node.add(bytes.toString('latin1')));
  await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    listening.close();
    web.closeAllConnections();
    web.close();
    udp.close();
  });
  return {
    torrent: made.bytes,
    folder,
    peer,
    tracker,
    node,
    peerAddress: `127.0.0.1:${(listening.address() as net.AddressInfo).port}`,
    nodeAddress: `127.0.0.1:${udp.address().port}`,
  };
}

for (const anonymous of [false, true]) {
  test(`a session that is ${anonymous ? 'anonymous tells little' : 'itself tells who it is'}`, async () => {
    const at = await world();
    const session = new Session({
      bind: ['127.0.0.1'],
      transport: 'tcp',
      lsd: false,
      anonymous,
      dht: { bootstrap: [at.nodeAddress] },
    });
    onTestFinished(() => session.close());
    await session.add(at.torrent, { folder: join(at.folder, 'to'), peers: [at.peerAddress] });
    await at.peer.until((all) => all.some((one) => one.includes('upload_only')));
    await at.tracker.until((all) => all.length > 0);
    await at.node.until((all) => all.length > 0);
    const said = at.peer.all.at(-1)!;
    const asked = at.tracker.all[0]!;
    const query = at.node.all[0]!;
    const port = session.addresses[0]!.port;
    const told = {
      peerId: said.slice(48).startsWith('-SL'),
      program: /1:v\d+:Shoal/.test(said),
      port: said.includes(`1:pi${port}e`),
      yourIp: said.includes('6:yourip4:'),
      dhtBit: (said.charCodeAt(27) & 1) === 1,
      trackerId: asked.includes('peer_id=-SL'),
      trackerKey: asked.includes('&key='),
      trackerAgent: asked.includes('Shoal'),
      version: query.includes('1:v4:SH'),
      answers: !query.includes('2:roi1e'),
    };
    for (const [what, is] of Object.entries(told)) expect([what, is]).toEqual([what, !anonymous]);
    expect(asked).not.toContain('&ip');
  });
}

test('a proxy that is set later takes everything over, under another id', async () => {
  const at = await world();
  const proxied = new Log<string>();
  const sockets: net.Socket[] = [];
  const proxy = net.createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write(Buffer.from([5, 0]));
      socket.once('data', (request) => {
        if (request[1] !== 1) return socket.end(Buffer.from([5, 7]));
        const to = `${[...request.subarray(4, 8)].join('.')}:${request.readUInt16BE(8)}`;
        proxied.add(to);
        const inner = net.connect(request.readUInt16BE(8), '127.0.0.1', () => {
          socket.write(Buffer.from('05000001000000000000', 'hex'));
          inner.pipe(socket).pipe(inner);
        });
        inner.on('error', () => socket.destroy());
      });
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const session = new Session({
    bind: ['127.0.0.1'],
    transport: 'tcp',
    lsd: false,
    dht: { bootstrap: [at.nodeAddress] },
  });
  onTestFinished(() => session.close());
  await session.add(at.torrent, { folder: join(at.folder, 'to'), peers: [at.peerAddress] });
  await at.peer.until((all) => all.some((one) => one.includes('upload_only')));
  await at.tracker.until((all) => all.length > 0);
  const before = at.peer.all.at(-1)!.slice(48, 68);
  const announces = at.tracker.all.length;
  expect(() => session.setProxy('socks5://secret@')).toThrow(/^(?!.*secret)/);
  session.setProxy(`socks5://127.0.0.1:${(proxy.address() as net.AddressInfo).port}`);
  expect(session.addresses).toEqual([]);
  await at.peer.until((all) => all.at(-1)!.length >= 68 && all.at(-1)!.slice(48, 68) !== before);
  await proxied.until((all) => all.includes(at.peerAddress));
  await at.tracker.until((all) => all.length > announces);
  const url = new URL(at.tracker.all.at(-1)!.split(' ')[0]!, 'http://x/');
  expect(url.searchParams.get('port')).toBe('0');
  await proxied.until((all) => all.length >= 2);
  // and back
  session.setProxy(null);
  await at.node.until((all) => all.length > 1);
  await session.listening();
  await new Promise<void>((resolve) => {
    const look = (): void => void (session.addresses.length > 0 ? resolve() : setTimeout(look, 20));
    look();
  });
}, 30_000);
