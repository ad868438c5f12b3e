import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { afterAll, expect, test } from 'vitest';
import type { IoFault } from '../../packages/engine/dist/src/base/errors.js';
import type { Conn, ConnSink, Endpoint, Listener } from '../../packages/engine/dist/src/base/ports.js';
import { Egress } from '../../packages/engine/dist/src/host/egress.js';
import { NameResolver } from '../../packages/engine/dist/src/host/resolver.js';
import { TcpNet } from '../../packages/engine/dist/src/host/tcp.js';
import { Log } from './support.ts';

const egress = new Egress();
const tcp = new TcpNet(new Uint8Array(new SharedArrayBuffer(65536)), egress);
afterAll(() => new Promise<void>((done) => tcp.close(done)));

type Event = 'connected' | 'sent' | 'closed';

class Ear implements ConnSink {
  readonly log = new Log<Event>();
  readonly chunks: Buffer[] = [];
  readonly data = new Log<number>();
  bytes = 0;
  /** Bytes came in the shared receive buffer. */
  shared = false;
  fault: IoFault | null = null;
  /** Set while a call into the conn runs; a sink called then breaks the contract. */
  inside = false;

  onConnected(): void {
    this.#note('connected');
  }

  onData(bytes: Uint8Array): void {
    expect(this.log.all).not.toContain('closed');
    this.chunks.push(Buffer.from(bytes));
    this.bytes += bytes.length;
    this.shared = bytes.buffer instanceof SharedArrayBuffer;
    this.data.add(bytes.length);
  }

  onSent(): void {
    this.#note('sent');
  }

  onClosed(fault: IoFault | null): void {
    this.fault = fault;
    this.#note('closed');
  }

  until(event: Event): Promise<void> {
    return this.log.until((all) => all.includes(event));
  }

  #note(event: Event): void {
    expect(this.inside).toBe(false);
    expect(this.log.all).not.toContain('closed');
    this.log.add(event);
  }
}

interface Pair {
  near: Conn;
  far: Conn;
  nearEar: Ear;
  farEar: Ear;
  listener: Listener;
}

function listen(ip: string, onAccept: (conn: Conn) => void): Promise<{ listener: Listener; local: Endpoint }> {
  return new Promise((resolve, reject) => {
    const listener = tcp.listen(
      { ip, port: 0 },
      {
        onListening: (local) => resolve({ listener, local }),
        onAccept,
        onListenFault: (fault) => reject(new Error(fault.message)),
      },
    );
  });
}

async function pair(ip = '127.0.0.1'): Promise<Pair> {
  const farEar = new Ear();
  const accepted = new Log<Conn>();
  const { listener, local } = await listen(ip, (conn) => {
    conn.sink = accepted.all.length === 0 ? farEar : new Ear();
    accepted.add(conn);
  });
  const nearEar = new Ear();
  const near = tcp.connect(local, nearEar);
  await nearEar.until('connected');
  await accepted.until((all) => all.length === 1);
  return { near, far: accepted.all[0]!, nearEar, farEar, listener };
}

function send(conn: Conn, ear: Ear, views: Uint8Array[]): Promise<void> {
  const before = ear.log.all.filter((e) => e === 'sent').length;
  ear.inside = true;
  conn.send(views, views.length);
  ear.inside = false;
  return ear.log.until((all) => all.filter((e) => e === 'sent').length > before || all.includes('closed'));
}

test('carries bytes both ways, whatever their cut, and says once that they are sent', async () => {
  const p = await pair();
  expect(p.near.incoming).toBe(false);
  expect(p.far.incoming).toBe(true);
  expect(p.far.remote).toEqual(p.near.local);
  for (const [from, ear, to] of [
    [p.near, p.nearEar, p.farEar],
    [p.far, p.farEar, p.nearEar],
  ] as const) {
    const shared = new Uint8Array(new SharedArrayBuffer(2_000_000));
    shared.set(randomBytes(shared.length));
    const views: Uint8Array[] = [];
    for (let at = 0; at < shared.length; ) {
      const n = Math.min(1 + Math.floor(Math.random() * 4000), shared.length - at);
      views.push(shared.subarray(at, at + n));
      at += n;
    }
    let sends = 0;
    for (let i = 0; i < views.length; i += 700) {
      await send(from, ear, views.slice(i, i + 700));
      sends += 1;
    }
    await to.data.until(() => to.bytes === shared.length);
    expect(to.shared).toBe(true);
    expect(Buffer.concat(to.chunks).equals(Buffer.from(shared))).toBe(true);
    expect(ear.log.all.filter((e) => e === 'sent').length).toBe(sends);
  }
  p.near.close();
  await Promise.all([p.nearEar.until('closed'), p.farEar.until('closed')]);
  expect([p.nearEar.fault, p.farEar.fault]).toEqual([null, null]);
  p.listener.close();
});

test('works over IPv6, beside IPv4 on the same port', async () => {
  const p = await pair('::1');
  const faults: IoFault[] = [];
  const four = new Log<Endpoint>();
  const other = tcp.listen(
    { ip: '127.0.0.1', port: p.near.remote.port },
    { onListening: (local) => four.add(local), onAccept() {}, onListenFault: (fault) => faults.push(fault) },
  );
  await four.until((all) => all.length === 1);
  expect(p.far.remote.ip).toBe('::1');
  p.far.close();
  await p.nearEar.until('closed');
  p.listener.close();
  other.close();
});

test('a paused connection is silent until it is resumed', async () => {
  const p = await pair();
  for (const [quiet, ear, from, fromEar] of [
    [p.far, p.farEar, p.near, p.nearEar],
    [p.near, p.nearEar, p.far, p.farEar],
  ] as const) {
    quiet.pause();
    await send(from, fromEar, [new Uint8Array(1000)]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ear.bytes).toBe(0);
    quiet.resume();
    await ear.data.until(() => ear.bytes === 1000);
  }
  p.near.close();
  await p.farEar.until('closed');
  p.listener.close();
});

test('accepted connections work where node cannot read into a given buffer', async () => {
  const farEar = new Ear();
  const accepted = new Log<Conn>();
  const { listener, local } = await listen('127.0.0.1', (conn) => {
    conn.sink = farEar;
    accepted.add(conn);
  });
  const socket = net.connect(local.port, '127.0.0.1');
  // the handles' common prototype is the one that has the method
  let proto = (socket as unknown as { _handle: object })._handle;
  while (!Object.hasOwn(proto, 'useUserBuffer')) proto = Object.getPrototypeOf(proto) as object;
  const method = Object.getOwnPropertyDescriptor(proto, 'useUserBuffer')!;
  Object.defineProperty(proto, 'useUserBuffer', { ...method, value: undefined });
  try {
    await accepted.until((all) => all.length === 1);
  } finally {
    Object.defineProperty(proto, 'useUserBuffer', method);
  }
  let back = 0;
  socket.on('data', (chunk) => {
    back += chunk.length;
  });
  const bytes = randomBytes(300_000);
  socket.write(bytes);
  await farEar.data.until(() => farEar.bytes === bytes.length);
  expect(Buffer.concat(farEar.chunks).equals(bytes)).toBe(true);
  expect(farEar.shared).toBe(false);
  await send(accepted.all[0]!, farEar, [bytes, bytes]);
  while (back < 600_000) await new Promise((resolve) => socket.once('data', resolve));
  socket.end();
  await farEar.until('closed');
  listener.close();
});

test('closing in the middle of a send that nobody reads frees everything', async () => {
  const p = await pair();
  p.far.pause();
  const big = new Uint8Array(1 << 20);
  const views = Array.from({ length: 64 }, () => big);
  p.nearEar.inside = true;
  p.near.send(views, views.length);
  p.near.close();
  p.near.close();
  p.nearEar.inside = false;
  await p.nearEar.until('closed');
  expect(p.nearEar.log.all).not.toContain('sent');
  p.far.close();
  await p.farEar.until('closed');
  p.listener.close();
  // calls on what is over do nothing
  p.near.send(views, 1);
  p.near.pause();
  p.near.resume();
  await new Promise((resolve) => setImmediate(resolve));
  expect(tcp.connCount).toBe(0);
});

test('a refused, impossible or unroutable connection ends with a fault that names it', async () => {
  const { listener, local } = await listen('127.0.0.1', () => {});
  listener.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  for (const [remote, bind, code] of [
    [local, null, 'ECONNREFUSED'],
    [{ ip: 'example.invalid', port: 80 }, null, null],
    [{ ip: '127.0.0.1', port: 70000 }, null, null],
    [{ ip: '127.0.0.1', port: local.port }, '203.0.113.9', 'EADDRNOTAVAIL'],
    [{ ip: '127.0.0.1', port: local.port }, '::1', 'ENETUNREACH'],
  ] as const) {
    const ear = new Ear();
    ear.inside = true;
    egress.set(bind === null ? ['0.0.0.0'] : [bind]);
    tcp.connect(remote, ear);
    ear.inside = false;
    await ear.until('closed');
    expect(ear.log.all).toEqual(['closed']);
    expect(ear.fault?.message).toContain(String(remote.port));
    if (code !== null) expect(ear.fault?.code).toBe(code);
  }
});

test('a connection ends when the address it left from may not be used any more', async () => {
  egress.set(['127.0.0.1']);
  const p = await pair();
  egress.set(['127.0.0.9']);
  await p.nearEar.until('closed');
  expect(p.nearEar.fault?.code).toBe('ENETDOWN');
  await p.farEar.until('closed');
  egress.set(['0.0.0.0', '::']);
  p.listener.close();
});

test('the other side ending its half, or resetting, is the end', async () => {
  const p = await pair();
  for (const how of ['end', 'reset'] as const) {
    const socket = net.connect(p.near.remote.port, '127.0.0.1');
    const before = tcp.connCount;
    await new Promise((resolve) => socket.once('connect', resolve));
    while (tcp.connCount <= before) await new Promise((resolve) => setImmediate(resolve));
    if (how === 'end') socket.end();
    else socket.resetAndDestroy();
    while (tcp.connCount > before) await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
  }
  p.near.close();
  await p.farEar.until('closed');
  p.listener.close();
});

test('a port in use is a fault, and a closed listener gives its port back', async () => {
  const first = await listen('127.0.0.1', () => {});
  const attempt = (): Promise<string> =>
    new Promise((resolve) => {
      const listener = tcp.listen(first.local, {
        onListening: () => {
          listener.close();
          resolve('listening');
        },
        onAccept() {},
        onListenFault: (fault) => resolve(fault.code),
      });
    });
  expect(await attempt()).toBe('EADDRINUSE');
  first.listener.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await attempt()).toBe('listening');
});

test('resolves addresses, localhost, and says what does not resolve', async () => {
  const names = new NameResolver(new Egress());
  const resolve = (host: string): Promise<[string | null, readonly string[]]> =>
    new Promise((done) => names.resolve(host, (fault, ips) => done([fault?.code ?? null, ips])));
  expect(await resolve('192.0.2.7')).toEqual([null, ['192.0.2.7']]);
  expect(await resolve('[::1]')).toEqual([null, ['::1']]);
  expect((await resolve('localhost'))[1]).toContain('127.0.0.1');
  expect((await resolve('a.localhost.'))[1]).toContain('127.0.0.1');
  for (const bad of ['', 'no such', 'x'.repeat(300), 'a\0b']) expect((await resolve(bad))[0]).toBe('ENOTFOUND');
  names.close();
});
