/** What a session keeps to at its beginning and end, and where two hashes or two families stand for one thing. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createTorrent, Session, type SessionOptions } from '../../packages/engine/dist/src/index.js';
import { tempFolder } from './support.ts';

const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === '::1'));

function make(options: SessionOptions = {}): Session {
  const quiet = { dht: false, lsd: false, pex: false, portMap: false, memory: 2 << 20, hashThreads: 1 };
  const session = new Session({ bind: ['127.0.0.1'], ...quiet, ...options });
  onTestFinished(() => session.close());
  return session;
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'resolved',
    (error) => error.code,
  );

test.skipIf(!hasIpv6)('uTP alone listens at one port, over IPv4 and IPv6', async () => {
  const session = make({ transport: 'utp', bind: ['127.0.0.1', '::1'] });
  await session.ready();
  const [four, six] = session.addresses;
  expect([four!.ip, six!.ip]).toEqual(['127.0.0.1', '::1']);
  expect(six!.port).toBe(four!.port);
});

test('who waits until it listens hears that it was closed', async () => {
  const session = make({ listen: 'when-checked' });
  await session.ready();
  const listening = codeOf(session.listening());
  await session.close();
  expect(await listening).toBe('closed');
});

test('an add whose server says nothing ends with the session, or with its signal', async () => {
  const server = await new Promise<Server>((resolve) => {
    const made = createServer().listen(0, '127.0.0.1', () => resolve(made));
  });
  onTestFinished(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/a.torrent`;
  const session = make();
  const folder = tempFolder();
  const abort = new AbortController();
  const adds = [session.add(url, { folder }), session.add(url, { folder, signal: abort.signal })].map(codeOf);
  const arrived = new Promise<void>((resolve) => {
    let count = 0;
    server.on('connection', (socket) => {
      socket.on('error', () => {});
      if (++count === 2) resolve();
    });
  });
  await arrived;
  abort.abort();
  expect(await adds[1]).toBe('aborted');
  expect(await codeOf(session.add(url, { folder, signal: abort.signal }))).toBe('aborted');
  await session.close();
  expect(await adds[0]).toBe('closed');
});

test.each([false, true])('a torrent that is removed while the session closes stays so (data: %s)', async (data) => {
  const folder = tempFolder();
  fs.writeFileSync(join(folder, 'f'), randomBytes(300_000));
  const { bytes } = await createTorrent(join(folder, 'f'), { pieceLength: 16384 });
  const state = tempFolder();
  const session = make({ state });
  const torrent = await session.add(bytes, { folder });
  await torrent.done();
  await Promise.all([torrent.remove({ data }), session.close()]);
  expect(torrent.state).toBe('stopped');
  expect(session.torrents).toEqual([]);
  expect(fs.existsSync(join(folder, 'f'))).toBe(!data);
  expect(await codeOf(torrent.remove({ data }))).toBe('closed');
  expect(await make({ state }).restore()).toEqual([]);
});

test('a hybrid torrent found under one hash is announced under both', async () => {
  const folder = tempFolder();
  fs.mkdirSync(join(folder, 't'));
  for (const name of ['a', 'b']) fs.writeFileSync(join(folder, 't', name), randomBytes(60_000));
  const { meta, bytes } = await createTorrent(join(folder, 't'), { version: 'hybrid', pieceLength: 65536 });
  const node = make({ bind: ['127.0.70.1'], dht: { bootstrap: [] } });
  const seed = make({ bind: ['127.0.70.2'] });
  await Promise.all([node.ready(), seed.ready()]);
  await (await seed.add(bytes, { folder })).done();
  const leech = make({ bind: ['127.0.70.3'], dht: { bootstrap: [`127.0.70.1:${node.addresses[0]!.port}`] } });
  expect(await leech.dht.ready()).toBe(true);
  const link = `magnet:?xt=urn:btih:${Buffer.from(meta.infoHash!).toString('hex')}`;
  const torrent = await leech.add(link, { folder: tempFolder() });
  const stored = (hash: Uint8Array): boolean => node.core.discovery.dht!.storesPeersOf(hash.subarray(0, 20));
  // the first announce is over before the metadata comes, so that it is of one hash
  await expect.poll(() => stored(meta.infoHash!), { timeout: 20_000 }).toBe(true);
  torrent.addPeer(`127.0.70.2:${seed.addresses[0]!.port}`);
  await torrent.done();
  await expect.poll(() => stored(meta.infoHashV2!), { timeout: 20_000 }).toBe(true);
});
