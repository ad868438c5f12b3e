/** The uTP machine by itself against libtorrent and libutp, in both roles, on a good line and on a bad one. */

import assert from 'node:assert/strict';
import { createHash, randomFillSync } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { PYTHON, WEBTORRENT } from './harness/available.ts';
import { Program } from './harness/program.ts';
import { makeTorrent } from './harness/torrent.ts';
import { UdpRelay } from './harness/udp-relay.ts';
import { UtpNode, UtpPeer } from './harness/utp-peer.ts';
import { until } from './harness/wait.ts';

const PIECE = 1 << 18;
const SCRIPT = fileURLToPath(new URL('./harness/utp-libtorrent.py', import.meta.url));
const BAD = { loss: 0.03, delayMs: 20, jitterMs: 10 };

describe('the uTP machine', () => {
  for (const bad of [false, true]) {
    const where = bad ? ' through 3 % loss, 40 ms and reordering' : '';
    const bytes = bad ? (2 << 20) + 12_345 : (64 << 20) + 12_345;

    interop(`fetches from libtorrent${where}`, ['libtorrent'], async (arena) => {
      const { torrent, place, data } = await setUp(arena, bytes);
      const seed = await libtorrent(arena, [place.ip, `${place.port}`, torrent.path, torrent.payload.folder]);
      const remote = { ip: place.ip, port: bad ? await relay(arena, place) : place.port };
      const node = new UtpNode(place.ip, (conn) => conn.close());
      arena.keep({ name: 'uTP', stop: async () => node.close(), tail: () => JSON.stringify(node.stats) });
      await node.open();
      const peer = new UtpPeer(node, { ...torrent, data }, true);
      const started = performance.now();
      peer.conn = node.connect(remote, peer);
      await until('all is fetched', () => peer.complete || peer.closed, { timeoutMs: 90_000, detail: seed.detail });
      assert.deepEqual([peer.closed, peer.fault], [false, null]);
      assert.equal(peer.sha1, createHash('sha1').update(data).digest('hex'));
      say(`fetched from libtorrent${where}`, bytes, started, node);
      peer.conn.close();
      node.soon();
      await until('the connection ends', () => peer.closed && node.stats.socketCount === 0, { timeoutMs: 10_000 });
      assert.equal(peer.fault, null);
    });

    interop(`seeds to libtorrent${where}`, ['libtorrent'], async (arena) => {
      const { torrent, place, data } = await setUp(arena, bytes);
      const peers: UtpPeer[] = [];
      const node = new UtpNode(place.ip, (conn) => {
        const peer = new UtpPeer(node, { ...torrent, data }, false);
        peer.conn = conn;
        conn.sink = peer;
        peers.push(peer);
      });
      arena.keep({ name: 'uTP', stop: async () => node.close(), tail: () => JSON.stringify(node.stats) });
      const local = await node.open();
      const target = `${place.ip}:${bad ? await relay(arena, local) : local.port}`;
      const folder = arena.makeFolder('leech');
      const started = performance.now();
      const leech = await libtorrent(arena, [place.ip, `${place.port}`, torrent.path, folder, target]);
      await until('libtorrent has all', () => leech.lines.includes('done'), {
        timeoutMs: 90_000,
        detail: leech.detail,
      });
      say(`seeded to libtorrent${where}`, bytes, started, node);
      assert.ok(readFileSync(join(folder, torrent.payload.name)).equals(data), 'every byte is the same');
      await leech.program.stop();
      // its word of farewell may be lost, and it does not stay to repeat it
      if (!bad) await until('it closed', () => peers.every((peer) => peer.closed), { timeoutMs: 10_000 });
    });
  }
});

/** libutp by webtorrent's binding to it. */
interface NativeUtp {
  createServer(onConnection: (stream: Duplex) => void): {
    listen(port: number, ip: string, done: () => void): void;
    address(): AddressInfo;
    close(): void;
  };
  connect(port: number, ip: string): Duplex;
}

describe('the uTP machine and libutp', () => {
  for (const bad of [false, true]) {
    const where = bad ? ' through 3 % loss, 40 ms and reordering' : '';
    const bytes = bad ? 1 << 20 : 16 << 20;
    const sha1 = (data: Uint8Array): string => createHash('sha1').update(data).digest('hex');

    interop(`carry bytes to it and end${where}`, ['webtorrent'], async (arena) => {
      const data = randomFillSync(new Uint8Array(bytes));
      const { ip } = await arena.place('utp');
      const hash = createHash('sha1');
      let ended = false;
      const server = nativeUtp().createServer((stream) => {
        stream.on('data', (part) => hash.update(part));
        stream.on('end', () => {
          ended = true;
          stream.end();
        });
      });
      await new Promise<void>((resolve) => server.listen(0, ip, resolve));
      arena.keep({ name: 'libutp', stop: async () => server.close(), tail: () => '' });
      const node = new UtpNode(ip, (conn) => conn.close());
      arena.keep({ name: 'uTP', stop: async () => node.close(), tail: () => JSON.stringify(node.stats) });
      await node.open();
      const { port } = server.address();
      let closed = false;
      let at = 0;
      const sendOn = (): void => {
        const part = data.subarray(at, at + (1 << 18));
        at += part.length;
        if (part.length === 0) conn.close();
        else conn.send([part], 1);
        node.soon();
      };
      const started = performance.now();
      const conn = node.connect(
        { ip, port: bad ? await relay(arena, { ip, port }) : port },
        {
          onConnected: sendOn,
          onSent: sendOn,
          onData() {},
          onClosed(fault) {
            assert.equal(fault, null);
            closed = true;
          },
        },
      );
      await until('it has all', () => ended && closed, { timeoutMs: 60_000 });
      assert.equal(hash.digest('hex'), sha1(data));
      say(`sent to libutp${where}`, bytes, started, node);
    });

    interop(`carry bytes from it to their end${where}`, ['webtorrent'], async (arena) => {
      const data = randomFillSync(Buffer.alloc(bytes));
      const { ip } = await arena.place('utp');
      const hash = createHash('sha1');
      let closed = false;
      const node = new UtpNode(ip, (conn) => {
        conn.sink = {
          onConnected() {},
          onSent() {},
          onData: (part) => void hash.update(part),
          onClosed(fault) {
            assert.equal(fault, null);
            closed = true;
          },
        };
      });
      arena.keep({ name: 'uTP', stop: async () => node.close(), tail: () => JSON.stringify(node.stats) });
      const local = await node.open();
      const started = performance.now();
      const stream = nativeUtp().connect(bad ? await relay(arena, local) : local.port, ip);
      stream.on('data', () => {});
      stream.end(data);
      await until('all has come', () => closed, { timeoutMs: 60_000 });
      assert.equal(hash.digest('hex'), sha1(data));
      say(`got from libutp${where}`, bytes, started, node);
      await until('nothing is left of it', () => node.stats.socketCount === 0, { timeoutMs: 20_000 });
    });
  }
});

function nativeUtp(): NativeUtp {
  return createRequire(join(WEBTORRENT, 'driver.mjs'))('utp-native') as NativeUtp;
}

async function setUp(arena: Arena, bytes: number) {
  const place = await arena.place('utp');
  const data = randomFillSync(new Uint8Array(bytes));
  const folder = join(place.home, 'seed');
  mkdirSync(folder);
  writeFileSync(join(folder, 'data.bin'), data);
  const sha256 = createHash('sha256').update(data).digest('hex');
  const payload = { name: 'data.bin', folder, files: [{ path: [], length: bytes, sha256 }], bytes };
  return { torrent: makeTorrent(payload, join(place.home, 'it.torrent'), { pieceLength: PIECE }), place, data };
}

async function libtorrent(arena: Arena, args: readonly string[]) {
  const lines: string[] = [];
  const program = new Program(PYTHON, [SCRIPT, ...args], {
    home: arena.makeFolder('libtorrent'),
    onLine: (line) => lines.push(line),
  });
  arena.keep({ name: 'libtorrent', stop: () => program.stop(), tail: () => program.tail() });
  const detail = (): string => program.tail();
  await until('libtorrent is up', () => lines.includes('ready'), { timeoutMs: 30_000, detail });
  return { lines, program, detail };
}

async function relay(arena: Arena, server: { readonly ip: string; readonly port: number }): Promise<number> {
  const line = new UdpRelay(server, BAD);
  arena.keep({ name: 'relay', stop: async () => line.close(), tail: () => `${line.passed} passed, ${line.lost} lost` });
  return await line.open(server.ip);
}

function say(what: string, bytes: number, started: number, node: UtpNode): void {
  const rate = bytes / 1e3 / (performance.now() - started);
  const { resent, timeouts } = node.stats;
  console.log(`${what}: ${rate.toFixed(1)} MB/s, ${resent} sent again, ${timeouts} time-outs`);
}
