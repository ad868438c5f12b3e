/** Through proxies of our own making, which see and answer what real ones might: test/interop has the real ones. */

import { execFileSync } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import type { IoFault } from '../../packages/engine/dist/src/base/errors.js';
import type { ConnSink, HttpResponse, UdpSink, UdpSocket } from '../../packages/engine/dist/src/base/ports.js';
import type { ProxySettings } from '../../packages/engine/dist/src/base/proxy.js';
import { HostHttp } from '../../packages/engine/dist/src/host/http.js';
import { HostNet } from '../../packages/engine/dist/src/host/net.js';
import { isPrivateAddress } from '../../packages/engine/dist/src/host/private-address.js';
import { Log, tempFolder } from './support.ts';

const nets: HostNet[] = [];
afterEach(() => Promise.all(nets.splice(0).map((one) => new Promise<void>((done) => one.close(done)))));

function hostNet(proxy: ProxySettings | null): HostNet {
  const made = new HostNet(new Uint8Array(65536));
  nets.push(made);
  made.setProxy(proxy);
  return made;
}

/** What a client of ours hears, in order. */
class Ear implements ConnSink {
  readonly log = new Log<string>();
  fault: IoFault | null = null;

  onConnected(): void {
    this.log.add('connected');
  }

  onData(bytes: Uint8Array): void {
    this.log.add(`data ${Buffer.from(bytes)}`);
  }

  onSent(): void {
    this.log.add('sent');
  }

  onClosed(fault: IoFault | null): void {
    this.fault = fault;
    this.log.add('closed');
  }

  until(event: string): Promise<void> {
    return this.log.until((all) => all.includes(event));
  }
}

/** A TCP server; `talk` is called with each piece that comes. */
async function server(
  talk: (socket: net.Socket, bytes: Buffer) => void,
): Promise<{ port: number; sockets: net.Socket[] }> {
  const sockets: net.Socket[] = [];
  const listening = net.createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', (bytes) => talk(socket, bytes));
  });
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    listening.close();
  });
  return { port: (listening.address() as net.AddressInfo).port, sockets };
}

function settings(kind: ProxySettings['kind'], port: number, more: Partial<ProxySettings> = {}): ProxySettings {
  return { kind, host: '127.0.0.1', port, user: null, password: null, peers: true, trackers: true, ...more };
}

const SOCKS5_YES = Buffer.from('05000001000000000000', 'hex');

/** A SOCKS5 proxy that leads every CONNECT to one place, or (null) speaks for it. */
async function socks5(to: number | null, asked: string[] = []): Promise<number> {
  const { port } = await server((socket, bytes) => {
    if (socket.listenerCount('data') > 1) return;
    if (bytes[0] === 5 && bytes.length === 3) {
      socket.write(Buffer.from([5, 0]));
      return;
    }
    const name = bytes[3] === 3 ? bytes.subarray(5, 5 + bytes[4]!).toString() : [...bytes.subarray(4, 8)].join('.');
    asked.push(`${name}:${bytes.readUInt16BE(bytes.length - 2)}`);
    if (to === null) {
      socket.write(Buffer.concat([SOCKS5_YES, Buffer.from('behind')]));
      socket.on('data', (more) => socket.write(Buffer.from(`heard ${more}`)));
      return;
    }
    const inner = net.connect(to, '127.0.0.1', () => {
      socket.write(SOCKS5_YES);
      inner.on('data', (more) => socket.write(more));
      socket.on('data', (more) => inner.write(more));
    });
    inner.on('close', () => socket.end());
    inner.on('error', () => socket.destroy());
    socket.on('close', () => inner.destroy());
  });
  return port;
}

test('a connection is up when the proxy says so, and loses nothing of what came with that', async () => {
  const asked: string[] = [];
  const host = hostNet(settings('socks5', await socks5(null, asked)));
  const ear = new Ear();
  const conn = host.connect({ ip: '203.0.113.7', port: 6881 }, ear);
  await ear.until('data behind');
  expect(ear.log.all).toEqual(['connected', 'data behind']);
  expect(conn.remote).toEqual({ ip: '203.0.113.7', port: 6881 });
  conn.send([Buffer.from('a'), Buffer.from('b')], 2);
  await ear.until('data heard ab');
  conn.close();
  await ear.until('closed');
  expect(ear.fault).toBe(null);
  expect(asked).toEqual(['203.0.113.7:6881']);
});

test('names are looked up by the proxy: an address stands for one on the way there', async () => {
  const asked: string[] = [];
  const host = hostNet(settings('socks5', await socks5(null, asked)));
  const resolve = (name: string, use: 'peers' | 'trackers'): Promise<readonly string[]> =>
    new Promise((done) => host.resolve(name, (_fault, ips) => done(ips), use));
  const [ip] = await resolve('Peer.Example.', 'peers');
  expect(ip).toMatch(/^198\.1[89]\./);
  expect(await resolve('peer.example', 'trackers')).toEqual([ip]);
  expect(await resolve('other.example', 'peers')).not.toEqual([ip]);
  expect(await resolve('192.0.2.1', 'peers')).toEqual(['192.0.2.1']);
  const ear = new Ear();
  host.connect({ ip: ip!, port: 7 }, ear);
  await ear.until('connected');
  expect(asked).toEqual(['peer.example:7']);
  // without the proxy it is nobody
  host.setProxy(null);
  await ear.until('closed');
  const direct = new Ear();
  host.connect({ ip: ip!, port: 7 }, direct);
  await direct.until('closed');
  expect(direct.fault?.code).toBe('ENETUNREACH');
});

test('each end of a proxy has its fault, which names it and no password', async () => {
  const refuses = await server((socket, bytes) => {
    socket.write(Buffer.from(bytes[1] === 2 ? [5, 2] : bytes[0] === 1 ? [1, 1] : [5, 5]));
  });
  const hangsUp = await server((socket) => socket.destroy());
  const ends = await server((socket) => socket.end());
  const connect = await server((socket) => socket.end('HTTP/1.1 407 No\r\n\r\n'));
  const login = { user: 'fred', password: 'secret' };
  const gone = (await server(() => {})).port;
  const cases: [ProxySettings, string][] = [
    [settings('socks5', refuses.port, login), 'EPROXYAUTH'],
    [settings('socks5', hangsUp.port, login), 'EPROXY'],
    [settings('socks4', ends.port), 'EPROXY'],
    [settings('http', connect.port, login), 'EPROXYAUTH'],
    [settings('socks5', 1, { ...login }), 'EPROXYDOWN'],
    [settings('socks5', gone, { ...login, host: 'nobody.invalid' }), 'EPROXYDOWN'],
  ];
  for (const [proxy, code] of cases) {
    const ear = new Ear();
    hostNet(proxy).connect({ ip: '203.0.113.7', port: 6881 }, ear);
    await ear.until('closed');
    expect(ear.log.all).toEqual(['closed']);
    expect(ear.fault!.code).toBe(code);
    expect(ear.fault!.message).toContain(`proxy ${proxy.host}:${proxy.port}`);
    expect(ear.fault!.message).not.toContain('secret');
  }
}, 40_000);

test('a block list keeps us from peers and not from the proxy', async () => {
  const host = hostNet(settings('socks5', await socks5(null)));
  host.setFilter({ isEmpty: false, blocks: (ip) => ip === '203.0.113.7' || ip.startsWith('127.') });
  const [bad, good] = [new Ear(), new Ear()];
  host.connect({ ip: '203.0.113.7', port: 1 }, bad);
  host.connect({ ip: '203.0.113.8', port: 1 }, good);
  await Promise.all([bad.until('closed'), good.until('connected')]);
});

test('what went directly ends when a proxy comes, and nothing comes in beside it', async () => {
  const other = await server(() => {});
  const host = hostNet(null);
  const ear = new Ear();
  host.connect({ ip: '127.0.0.1', port: other.port }, ear);
  await ear.until('connected');
  const log = new Log<string>();
  const listening = {
    onListening: () => log.add('listening'),
    onAccept: () => log.add('accepted'),
    onListenFault: (fault: IoFault) => log.add(fault.code),
  };
  host.listen({ ip: '127.0.0.1', port: 0 }, listening);
  const udp = listen(host);
  await log.until((all) => all.includes('listening'));
  await udp.log.until((all) => all.length > 0);
  host.setProxy(settings('http', 9));
  await ear.until('closed');
  expect(ear.fault?.code).toBe('ENETDOWN');
  await log.until((all) => all.includes('EPROXYDENIED'));
  await udp.log.until((all) => all.includes('ENETDOWN'));
  expect(udp.socket.send(Buffer.from('x'), '127.0.0.1', 9)).toBe(false);
  // nor are such begun
  host.listen({ ip: '127.0.0.1', port: 0 }, listening);
  const dead = listen(host);
  await dead.log.until((all) => all.includes('EPROXYDENIED'));
  await log.until((all) => all.filter((one) => one === 'EPROXYDENIED').length === 2);
  expect(log.all).not.toContain('accepted');
});

function listen(host: HostNet, use: 'peers' | 'trackers' = 'peers'): { socket: UdpSocket; log: Log<string> } {
  const log = new Log<string>();
  const sink: UdpSink = {
    onUdpBound: () => log.add('bound'),
    onDatagram: (bytes, ip, port) => log.add(`${ip}:${port} ${Buffer.from(bytes)}`),
    onUdpFault: (fault) => log.add(fault.code),
  };
  return {
    log,
    socket: host.udp({ ip: '0.0.0.0', port: 0 }, { group: null, shared: false, bufferBytes: 0, use }, sink),
  };
}

test('datagrams go to the relay and come from it alone; it is asked for again when it goes', async () => {
  const relay = dgram.createSocket('udp4');
  const stranger = dgram.createSocket('udp4');
  onTestFinished(() => {
    relay.close();
    stranger.close();
  });
  for (const socket of [relay, stranger]) await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  const heard = new Log<string>();
  let from = 0;
  relay.on('message', (bytes, sender) => {
    from = sender.port;
    heard.add(bytes.toString('latin1').slice(0, 40));
    // to and fro, a fragment and rubbish before it
    relay.send(Buffer.from('00000101cb00710700ff66', 'hex'), sender.port, '127.0.0.1');
    relay.send(Buffer.from('0000'), sender.port, '127.0.0.1');
    relay.send(
      Buffer.from(`00000001cb0071091ae1${Buffer.from('pong').toString('hex')}`, 'hex'),
      sender.port,
      '127.0.0.1',
    );
  });
  const yes = Buffer.concat([SOCKS5_YES.subarray(0, 8), Buffer.alloc(2)]);
  yes.writeUInt16BE(relay.address().port, 8);
  const control = await server((socket, bytes) => socket.write(bytes.length === 3 ? Buffer.from([5, 0]) : yes));
  const host = hostNet(settings('socks5', control.port));
  const { log, socket } = listen(host);
  expect(socket.send(Buffer.from('early'), '203.0.113.9', 6881)).toBe(false);
  await log.until((all) => all.includes('bound'));
  const [name] = await new Promise<readonly string[]>((done) => host.resolve('t.example', (_fault, ips) => done(ips)));
  expect(socket.send(Buffer.from('ping'), '203.0.113.9', 6881)).toBe(true);
  await log.until((all) => all.includes('203.0.113.9:6881 pong'));
  expect(socket.send(Buffer.from('ping'), name!, 7)).toBe(true);
  await heard.until((all) => all.length === 2);
  expect(heard.all).toEqual(['\0\0\0\x01\xcb\0q\x09\x1a\xe1ping', '\0\0\0\x03\x09t.example\0\x07ping']);
  stranger.send(Buffer.from(`00000001cb0071091ae1${'61'.repeat(4)}`, 'hex'), from, '127.0.0.1');
  control.sockets[0]!.destroy();
  await log.until((all) => all.filter((one) => one === 'bound').length === 2);
  expect(control.sockets.length).toBe(2);
  expect(socket.send(Buffer.from('again'), '203.0.113.9', 6881)).toBe(true);
  await heard.until((all) => all.length === 3);
  expect(log.all.filter((one) => one.includes('aaaa'))).toEqual([]);
  socket.close();
});

test('a proxy that refuses datagrams has none', async () => {
  const control = await server((socket, bytes) => socket.write(Buffer.from(bytes.length === 3 ? [5, 0] : [5, 7])));
  const { log, socket } = listen(hostNet(settings('socks5', control.port)));
  await log.until((all) => all.includes('EPROXYDENIED'));
  expect(socket.send(Buffer.from('x'), '203.0.113.9', 6881)).toBe(false);
  expect(control.sockets.length).toBe(1);
});

test('trackers go their own way where they are told to', async () => {
  const host = hostNet(settings('http', 9, { trackers: false }));
  await listen(host, 'trackers').log.until((all) => all.includes('bound'));
  await listen(host).log.until((all) => all.includes('EPROXYDENIED'));
});

// ------------------------------------------------------------------------------------------------------------------ HTTP

interface Outcome {
  readonly fault: IoFault | null;
  readonly response: HttpResponse | null;
}

function get(proxy: ProxySettings, url: string, origin: 'person' | 'tracker' = 'person'): Promise<Outcome> {
  const host = hostNet(proxy);
  const client = new HostHttp(
    (name, done) => host.resolveHere(name, done),
    host.egress,
    isPrivateAddress,
    host.proxyServer,
  );
  onTestFinished(() => client.close());
  const request = { url, headers: {}, origin, timeoutMs: 5000, maxBytes: 1000, maxRedirects: 3, family: 4 as const };
  return new Promise((resolve) => client.get(request, (fault, response) => resolve({ fault, response })));
}

async function web(answer: http.RequestListener): Promise<number> {
  const made = http.createServer(answer);
  await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    made.closeAllConnections();
    made.close();
  });
  return (made.address() as net.AddressInfo).port;
}

test('HTTP goes through a tunnel, by name', async () => {
  const asked: string[] = [];
  const port = await web((request, response) => response.end(`${request.headers.host} ${request.url}`));
  const proxy = settings('socks5', await socks5(port, asked));
  const { fault, response } = await get(proxy, 'http://tracker.invalid:81/a?b', 'tracker');
  expect(fault?.message ?? null).toBe(null);
  expect(Buffer.from(response!.body).toString()).toBe('tracker.invalid:81 /a?b');
  expect(response!.remoteIp).toMatch(/^198\.1[89]\./);
  expect(asked).toEqual(['tracker.invalid:81']);
});

test('HTTPS goes through a tunnel, and the certificate is looked at', async () => {
  const folder = tempFolder();
  const key = join(folder, 'key.pem');
  const cert = join(folder, 'cert.pem');
  const subject = ['-subj', '/CN=tracker.invalid', '-days', '1', '-nodes', '-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...subject], { stdio: 'ignore' });
  const names: string[] = [];
  const secure = https.createServer({
    key: fs.readFileSync(key),
    cert: fs.readFileSync(cert),
    SNICallback: (name, done) => {
      names.push(name);
      done(null);
    },
  });
  await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void secure.close());
  const { port } = secure.address() as net.AddressInfo;
  const connects: string[] = [];
  const proxy = http.createServer();
  proxy.on('connect', (request, socket) => {
    connects.push(`${request.url} ${request.headers['proxy-authorization']}`);
    const inner = net.connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Yes\r\n\r\n');
      inner.pipe(socket).pipe(inner);
    });
    inner.on('error', () => socket.destroy());
    socket.on('error', () => inner.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void proxy.close());
  const login = { user: 'fred', password: 'secret' };
  const by = settings('http', (proxy.address() as net.AddressInfo).port, login);
  const { fault } = await get(by, 'https://tracker.invalid/announce', 'tracker');
  expect(fault?.code).toBe('ETLS');
  expect(names).toEqual(['tracker.invalid']);
  expect(connects).toEqual([`tracker.invalid:443 Basic ${Buffer.from('fred:secret').toString('base64')}`]);
});

test('an HTTP proxy is asked for the whole URL; its refusals are told', async () => {
  const seen: string[] = [];
  const port = await web((request, response) => {
    seen.push(`${request.url} ${request.headers.host} ${request.headers['proxy-authorization']}`);
    if (request.url?.includes('closed')) response.writeHead(407).end();
    else response.end('ok');
  });
  const proxy = settings('http', port, { user: 'fred', password: 'secret' });
  expect((await get(proxy, 'http://tracker.invalid/announce?x=1', 'tracker')).response?.status).toBe(200);
  const basic = `Basic ${Buffer.from('fred:secret').toString('base64')}`;
  expect(seen).toEqual([`http://tracker.invalid/announce?x=1 tracker.invalid ${basic}`]);
  expect((await get(proxy, 'http://tracker.invalid/closed')).fault?.code).toBe('EPROXYAUTH');
  const down = await get(settings('http', 1, { user: 'fred', password: 'secret' }), 'http://tracker.invalid/x');
  expect(down.fault?.code).toBe('EPROXYDOWN');
  expect(down.fault?.message).not.toContain('secret');
});

test('a proxy is no way around the rules of where strangers may lead us', async () => {
  const port = await web((_request, response) => response.writeHead(302, { location: 'http://localhost:9/x' }).end());
  const proxy = settings('socks5', await socks5(port));
  expect((await get(proxy, 'http://public.example.com/announce', 'tracker')).fault?.code).toBe('EREDIRECT');
  for (const host of ['127.0.0.1', 'localhost', 'printer', 'nas.local']) {
    expect((await get(proxy, `http://${host}/admin`, 'tracker')).fault?.code).toBe('ELOCAL');
  }
  expect((await get(proxy, 'http://[::1]/announce', 'tracker')).fault?.code).toBe('ENOFAMILY');
});
