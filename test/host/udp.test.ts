import { spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import type { IoFault } from '../../packages/engine/dist/src/base/errors.js';
import type { Endpoint, UdpOptions, UdpSink, UdpSocket } from '../../packages/engine/dist/src/base/ports.js';
import { HostNet } from '../../packages/engine/dist/src/host/net.js';
import { inNamespace, NAMESPACE_REASON } from './namespace.ts';
import { Log } from './support.ts';

const net = new HostNet(new Uint8Array(1024));
afterAll(() => new Promise<void>((done) => net.close(done)));

const PLAIN: UdpOptions = { group: null, shared: false, bufferBytes: 0 };

interface Datagram {
  bytes: Buffer;
  ip: string;
  port: number;
}

class Ear implements UdpSink {
  readonly got = new Log<Datagram>();
  readonly told = new Log<Endpoint | IoFault>();
  inside = false;

  onUdpBound(local: Endpoint): void {
    expect(this.inside).toBe(false);
    this.told.add(local);
  }

  onDatagram(bytes: Uint8Array, ip: string, port: number): void {
    expect(this.inside).toBe(false);
    this.got.add({ bytes: Buffer.from(bytes), ip, port });
  }

  onUdpFault(fault: IoFault): void {
    expect(this.inside).toBe(false);
    this.told.add(fault);
  }
}

interface Bound {
  socket: UdpSocket;
  ear: Ear;
  port: number;
}

function open(ip: string, port: number, options: UdpOptions = PLAIN): { socket: UdpSocket; ear: Ear } {
  const ear = new Ear();
  ear.inside = true;
  const socket = net.udp({ ip, port }, options, ear);
  expect(socket.send(Buffer.from('early'), ip, 9)).toBe(false);
  ear.inside = false;
  return { socket, ear };
}

async function bound(ip: string, options: UdpOptions = PLAIN): Promise<Bound> {
  const { socket, ear } = open(ip, 0, options);
  await ear.told.until((all) => all.length > 0);
  expect(ear.told.all[0]).toMatchObject({ ip });
  return { socket, ear, port: (ear.told.all[0] as Endpoint).port };
}

async function refused(ip: string, port: number, options: UdpOptions = PLAIN): Promise<string> {
  const { socket, ear } = open(ip, port, options);
  await ear.told.until((all) => all.length > 0);
  expect(socket.send(Buffer.from('x'), '127.0.0.1', 9)).toBe(false);
  return (ear.told.all[0] as IoFault).code;
}

/** Sends, with the rule checked that no sink is called from inside. */
function send(from: Bound, bytes: Uint8Array, ip: string, port: number): boolean {
  from.ear.inside = true;
  const taken = from.socket.send(bytes, ip, port);
  from.ear.inside = false;
  return taken;
}

for (const [family, ip] of [
  ['IPv4', '127.0.0.1'],
  ['IPv6', '::1'],
] as const) {
  test(`${family}: datagrams of all lengths arrive whole, in order, with their sender`, async () => {
    const a = await bound(ip, { ...PLAIN, bufferBytes: 1 << 20 });
    const b = await bound(ip, { ...PLAIN, bufferBytes: 1 << 20 });
    const lengths = [0, 1, 100, 1400, 2047, 2048, 2049, 60_000, 65_507 - (ip === '::1' ? 20 : 0), 3];
    const scratch = new Uint8Array(new SharedArrayBuffer(65_536));
    for (const [i, length] of lengths.entries()) {
      scratch.fill(i + 1);
      expect(send(a, scratch.subarray(0, length), ip, b.port)).toBe(true);
      // the bytes are the caller's again
      scratch.fill(0xff);
      await b.ear.got.until((all) => all.length > i);
    }
    expect(b.ear.got.all.map(({ bytes }) => bytes.length)).toEqual(lengths);
    for (const [i, { bytes, ip: from, port }] of b.ear.got.all.entries()) {
      expect(bytes.every((byte) => byte === i + 1)).toBe(true);
      expect([from, port]).toEqual([ip, a.port]);
    }
    expect(send(b, Buffer.from('back'), ip, a.port)).toBe(true);
    await a.ear.got.until((all) => all.length > 0);
    expect(a.ear.got.all[0]!.bytes.toString()).toBe('back');
    a.socket.close();
    b.socket.close();
  });
}

test('what cannot be sent is not taken, and is no fault', async () => {
  const a = await bound('127.0.0.1');
  const six = await bound('::1');
  const bytes = Buffer.from('x');
  expect(send(a, new Uint8Array(65_508), '127.0.0.1', 9)).toBe(false);
  for (const port of [0, -1, 65_536, 1.5, Number.NaN, 2 ** 32 + 9])
    expect(send(a, bytes, '127.0.0.1', port)).toBe(false);
  for (const ip of ['', 'localhost', '::1', '1.2.3', '127.0.0.1 ', '256.0.0.1', '240.0.0.1']) {
    expect(send(a, bytes, ip, 9), ip).toBe(false);
  }
  expect(send(six, bytes, '127.0.0.1', 9)).toBe(false);
  // nobody listens there: the system says so by ICMP
  const gone = await bound('127.0.0.1');
  gone.socket.close();
  for (let i = 0; i < 3; i++) {
    expect(send(a, bytes, '127.0.0.1', gone.port)).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(send(a, bytes, '127.0.0.1', a.port)).toBe(true);
  await a.ear.got.until((all) => all.length > 0);
  expect(a.ear.told.all.length).toBe(1);
  a.socket.close();
  six.socket.close();
});

test('without room datagrams wait, whole and in order, and past a limit are refused', () => {
  const script = fileURLToPath(new URL('./udp-waiting.mjs', import.meta.url));
  // node then hands every datagram to libuv's queue, as it does when the system has no room
  const run = spawnSync(process.execPath, ['--test-udp-no-try-send', script], { encoding: 'utf8', timeout: 20_000 });
  expect(run.stderr).toBe('');
  expect(JSON.parse(run.stdout)).toEqual({ taken: 128, wrong: 0, again: 128, wrongAgain: 0 });
});

test('a port that is taken, an address that is not ours and no address at all are faults, told later', async () => {
  const a = await bound('127.0.0.1');
  expect(await refused('127.0.0.1', a.port)).toBe('EADDRINUSE');
  expect(await refused('192.0.2.77', 0)).toBe('EADDRNOTAVAIL');
  for (const ip of ['', 'localhost', '1.2.3']) expect(await refused(ip, 0)).toBe('EIO');
  for (const port of [-1, 65_536, 70_000, Number.NaN]) expect(await refused('127.0.0.1', port)).toBe('EIO');
  a.socket.close();
});

test('one port for both families, and for TCP', async () => {
  const four = await bound('0.0.0.0');
  const { ear, socket } = open('::', four.port);
  await ear.told.until((all) => all.length > 0);
  expect(ear.told.all[0]).toEqual({ ip: '::', port: four.port });
  // a v4 sender reaches the v4 socket alone
  const from = await bound('127.0.0.1');
  send(from, Buffer.from('4'), '127.0.0.1', four.port);
  await four.ear.got.until((all) => all.length === 1);
  expect(ear.got.all.length).toBe(0);
  for (const s of [four.socket, socket, from.socket]) s.close();
});

test('after close nothing is told, nothing is sent, and the port is free', async () => {
  const a = await bound('127.0.0.1');
  const b = await bound('127.0.0.1');
  send(a, Buffer.from('x'), '127.0.0.1', b.port);
  b.socket.close();
  b.socket.close();
  expect(send(b, Buffer.from('x'), '127.0.0.1', a.port)).toBe(false);
  const again = open('127.0.0.1', b.port);
  await again.ear.told.until((all) => all.length > 0);
  expect(again.ear.told.all[0]).toEqual({ ip: '127.0.0.1', port: b.port });
  expect(b.ear.got.all.length).toBe(0);
  a.socket.close();
  again.socket.close();
});

test('where node has no handle as known, plain dgram does the same', async () => {
  // as if another version: the state behind this symbol is what the fast way looks for
  const symbols = Object.getOwnPropertySymbols;
  Object.getOwnPropertySymbols = (o: object): symbol[] => (o instanceof dgram.Socket ? [] : symbols(o));
  try {
    const a = await bound('127.0.0.1');
    const b = await bound('127.0.0.1');
    for (let i = 0; i < 5; i++) {
      const bytes = Buffer.alloc(1000 * i, i);
      expect(send(a, bytes, '127.0.0.1', b.port)).toBe(true);
      bytes.fill(0xff);
    }
    await b.ear.got.until((all) => all.length === 5);
    for (const [i, { bytes }] of b.ear.got.all.entries()) expect(bytes.equals(Buffer.alloc(1000 * i, i))).toBe(true);
    expect(send(a, Buffer.from('x'), 'localhost', b.port)).toBe(false);
    expect(send(a, Buffer.from('x'), '::1', b.port)).toBe(false);
    expect(send(a, Buffer.from('x'), '127.0.0.1', 0)).toBe(false);
    a.socket.close();
    b.socket.close();
  } finally {
    Object.getOwnPropertySymbols = symbols;
  }
});

test('names the addresses of this machine', () => {
  const lo = net.interfaces().find(({ ip }) => ip === '127.0.0.1');
  expect(lo).toEqual({ name: 'lo', ip: '127.0.0.1', prefix: 8, loopback: true });
  for (const { ip } of net.interfaces()) expect(ip).not.toContain('%');
});

if (NAMESPACE_REASON !== '') console.log(`multicast is not tested: no network namespace here (${NAMESPACE_REASON})`);

describe.skipIf(NAMESPACE_REASON !== '')('multicast', () => {
  test('a socket of a group hears it on its interface and sends to it from there', () => {
    expect(inNamespace('./udp-multicast.mjs')).toEqual({
      // Linux gives a group's datagrams to all its sockets, whichever interface they joined on; each is sent from its own
      one: ['10.9.1.1 from one', '10.9.2.1 from two'],
      two: ['10.9.1.1 from one', '10.9.2.1 from two'],
      six: ['fd09:1::1 from six'],
      nobody: 'ENODEV',
      all: ['10.9.1.1 from one', '10.9.2.1 from two'],
      // bound to the group: what is sent to the port alone does not come
      port: 'not heard',
    });
  });

  test('local discovery hears by the right interface, loopback apart, each sender dialable', () => {
    const heardBy = (from: string[], heard: string[]): unknown => ({ from, heard });
    expect(inNamespace('./lsd-local.mjs')).toEqual({
      7001: heardBy(['127.0.0.1'], ['127.3.0.1 7002']),
      7002: heardBy(['127.3.0.1'], ['127.0.0.1 7001']),
      7003: heardBy(['10.9.1.1', '10.9.2.1', 'fd09:1::1'], ['10.9.1.1 7004', 'fd09:1::1 7005']),
      7004: heardBy(['10.9.1.1'], ['10.9.1.1 7003']),
      7005: heardBy(['fd09:1::1'], ['fd09:1::1 7003']),
    });
  });
});
