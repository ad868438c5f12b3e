import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { join } from 'node:path';
import zlib from 'node:zlib';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import type { IoFault } from '../../packages/engine/dist/src/base/errors.js';
import type { HttpRequest, HttpResponse } from '../../packages/engine/dist/src/base/ports.js';
import { Egress } from '../../packages/engine/dist/src/host/egress.js';
import { HostHttp } from '../../packages/engine/dist/src/host/http.js';
import { isPrivateAddress } from '../../packages/engine/dist/src/host/private-address.js';
import { NameResolver } from '../../packages/engine/dist/src/host/resolver.js';
import { tempFolder } from './support.ts';

const egress = new Egress();
const names = new NameResolver(egress);
const client = new HostHttp((host, done) => names.resolve(host, done), egress);
afterAll(() => names.close());

async function serve(answer: http.RequestListener, ip = '127.0.0.1'): Promise<string> {
  const server = http.createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, ip, resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://${ip}:${(server.address() as net.AddressInfo).port}`;
}

interface Outcome {
  fault: IoFault | null;
  response: HttpResponse | null;
}

function get(url: string, more: Partial<HttpRequest> = {}, by = client): Promise<Outcome> {
  const usual = {
    headers: {},
    origin: 'person' as const,
    timeoutMs: 5000,
    maxBytes: 100_000,
    maxRedirects: 5,
    family: null,
  };
  const request = { url, ...usual, ...more };
  return new Promise((resolve, reject) => {
    let inside = true;
    by.get(request, (fault, response) => {
      if (inside) reject(new Error('called from inside the call'));
      resolve({ fault, response });
    });
    inside = false;
  });
}

const text = (outcome: Outcome): string => Buffer.from(outcome.response?.body ?? []).toString();

test('gets a body, its status, headers and address; sends ours', async () => {
  const base = await serve((request, response) => {
    response.writeHead(404, { 'X-Odd': 'Yes' });
    response.end(`${request.method} ${request.url} ${request.headers['user-agent']} ${request.headers.connection}`);
  });
  const outcome = await get(`${base}/a%20b?x=%FF`, { headers: { 'user-agent': 'shoal' } });
  expect(text(outcome)).toBe('GET /a%20b?x=%FF shoal close');
  expect(outcome.response?.status).toBe(404);
  expect(outcome.response?.headers['x-odd']).toBe('Yes');
  expect(outcome.response?.remoteIp).toBe('127.0.0.1');
});

test('asks in the local network only for what a torrent may name there', async () => {
  const asked: string[] = [];
  const base = await serve((request, response) => {
    asked.push(request.url!);
    if (request.url!.startsWith('/announce?to=')) response.writeHead(302, { location: request.url!.slice(13) });
    response.end('d8:completei1ee');
  }, '127.0.0.66');
  const port = new URL(base).port;
  for (const path of ['/announce', '/announce.php?k=1', '/a1b2/announce', '/scrape?x=1']) {
    expect((await get(base + path, { origin: 'tracker' })).fault).toBeNull();
  }
  expect(asked.splice(0)).toHaveLength(4);
  const hosts = ['127.0.0.66', '2130706498', '0x7f000042', '0177.0.0.102', '[::ffff:127.0.0.66]', '[::ffff:7f00:42]'];
  for (const host of hosts) {
    for (const path of [
      '/',
      '/api?x=announce',
      '/announce/x',
      '/announce/../api',
      '/%61nnounce/api',
      '/api#/announce',
    ]) {
      const outcome = await get(`http://${host}:${port}${path}`, { origin: 'tracker' });
      expect(outcome.fault?.code, host + path).toMatch(/ELOCAL|ENOTFOUND|ENETUNREACH/);
    }
  }
  expect(asked).toEqual([]);
  const led = await get(`${base}/announce?to=${base}/api`, { origin: 'tracker' });
  expect(led.fault?.code).toBe('ELOCAL');
  expect(asked).toHaveLength(1);
});

test('posts to a router of the local network, and to nobody else', async () => {
  let seen = '';
  const url = await serve((request, response) => {
    if (request.url === '/elsewhere') {
      response.writeHead(302, { location: '/' }).end();
      return;
    }
    if (request.url === '/endless') {
      const more = (): void => void (response.destroyed || response.write(Buffer.alloc(65_536), more));
      more();
      return;
    }
    let body = '';
    request.on('data', (data) => {
      body += String(data);
    });
    request.on('end', () => {
      seen = `${request.method} ${request.headers['soapaction']} ${request.headers['content-length']} ${body}`;
      response.writeHead(500).end('<a/>');
    });
  });
  const post = { method: 'POST', body: Buffer.from('<x/>'), headers: { soapaction: '"s#A"' } } as const;
  const router = { ...post, origin: 'gateway', maxBytes: 131_072 } as const;
  const answer = await get(url, router);
  expect([answer.response?.status, text(answer), seen]).toEqual([500, '<a/>', 'POST "s#A" 4 <x/>']);
  seen = '';
  for (const elsewhere of [url.replace('127.0.0.1', 'localhost'), 'http://203.0.113.5/', 'http://[2001:db8::1]/']) {
    expect((await get(elsewhere, router)).fault?.code, elsewhere).toBe('ELOCAL');
  }
  // over IPv6 one has a public address of the network that we are in, too; ours is nobody's here
  const six = { ...router, family: 6, from: '2001:db8::2' } as const;
  expect((await get('http://[2001:db8:0:1::1]/', six)).fault?.code).toBe('ELOCAL');
  expect((await get('http://[2001:db8::1]/', six)).fault?.code).toBe('EADDRNOTAVAIL');
  expect((await get(url, { ...router, from: '127.0.0.9' })).response?.status).toBe(500);
  seen = '';
  expect((await get(`${url}/elsewhere`, router)).fault?.code).toBe('EREDIRECT');
  expect((await get(`${url}/endless`, router)).fault?.code).toBe('ETOOBIG');
  expect(seen).toBe('');
});

test('leaves from the addresses it may leave from, and from no other', async () => {
  const base = await serve((request, response) => response.end(request.socket.remoteAddress));
  egress.set(['127.0.0.9']);
  onTestFinished(() => egress.set(['0.0.0.0', '::']));
  expect(text(await get(base.replace('127.0.0.1', 'localhost')))).toBe('127.0.0.9');
  egress.set(['::1']);
  expect((await get(base)).fault?.code).toBe('ENOTFOUND');
  egress.set([]);
  expect((await get(base)).fault?.code).toBe('ENOTFOUND');
});

test('gives up what left from an address that is gone', async () => {
  const closed: (() => void)[] = [];
  const gone = new Promise<void>((resolve) => closed.push(resolve));
  const base = await serve((request) => {
    request.on('close', closed[0]!);
    egress.set([]);
  });
  egress.set(['127.0.0.9']);
  onTestFinished(() => egress.set(['0.0.0.0', '::']));
  expect((await get(base)).fault?.code).toBe('ENETDOWN');
  await gone;
});

test('unpacks gzip and deflate, refuses broken and unknown packing', async () => {
  const base = await serve((request, response) => {
    const body = Buffer.from('d8:intervali1800ee');
    const how = request.url!.slice(1);
    response.setHeader('content-encoding', how === 'broken' ? 'gzip' : how);
    if (how === 'gzip') response.end(zlib.gzipSync(body));
    else if (how === 'deflate') response.end(zlib.deflateSync(body));
    else response.end(how === 'broken' ? zlib.gzipSync(body).subarray(0, 20) : body);
  });
  expect(text(await get(`${base}/gzip`))).toBe('d8:intervali1800ee');
  expect(text(await get(`${base}/deflate`))).toBe('d8:intervali1800ee');
  expect((await get(`${base}/broken`)).fault?.code).toBe('EBADHTTP');
  expect((await get(`${base}/br`)).fault?.code).toBe('EBADHTTP');
});

test('stops at the cap: long bodies, bombs, endless ones', async () => {
  const bomb = zlib.gzipSync(Buffer.alloc(200 << 20));
  const base = await serve((request, response) => {
    if (request.url === '/exact') response.end(Buffer.alloc(100_000));
    else if (request.url === '/long') response.end(Buffer.alloc(100_001));
    else if (request.url === '/bomb') {
      response.setHeader('content-encoding', 'gzip');
      response.end(bomb);
    } else {
      const more = (): void => {
        if (!response.destroyed) response.write(randomBytes(1000), () => setImmediate(more));
      };
      if (request.url === '/endless-gzip') response.setHeader('content-encoding', 'gzip');
      more();
    }
  });
  expect((await get(`${base}/exact`)).response?.body.length).toBe(100_000);
  const before = process.memoryUsage().rss;
  for (const path of ['long', 'bomb', 'endless']) expect((await get(`${base}/${path}`)).fault?.code).toBe('ETOOBIG');
  expect((await get(`${base}/endless-gzip`)).fault?.code).toMatch(/EBADHTTP|ETOOBIG/);
  expect(process.memoryUsage().rss - before).toBeLessThan(32 << 20);
});

test('silence, trickles and half answers end at the deadline; abort is silent', async () => {
  const base = await serve((request, response) => {
    if (request.url === '/half') response.write('half');
    if (request.url === '/trickle') setInterval(() => response.write('x'), 50).unref();
    if (request.url === '/cut') {
      response.setHeader('content-length', 100);
      response.write('cut');
      setTimeout(() => response.destroy(), 20);
    }
  });
  for (const path of ['silent', 'half', 'trickle']) {
    const started = performance.now();
    expect((await get(`${base}/${path}`, { timeoutMs: 300 })).fault?.code).toBe('ETIMEOUT');
    expect(performance.now() - started).toBeLessThan(1500);
  }
  expect((await get(`${base}/cut`)).fault?.code).toBe('ECONNRESET');
  let called = false;
  const handle = client.get(
    {
      url: `${base}/silent`,
      headers: {},
      timeoutMs: 100,
      maxBytes: 10,
      maxRedirects: 0,
      origin: 'person',
      family: null,
    },
    () => {
      called = true;
    },
  );
  handle.abort();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(called).toBe(false);
});

test('follows as many redirects as allowed, to http and https alone', async () => {
  const base = await serve((request, response) => {
    const [, how, count] = request.url!.split('/');
    if (how === 'to') response.writeHead(302, { location: decodeURIComponent(count!) }).end();
    else if (Number(count) > 0) response.writeHead(301, { location: `/n/${Number(count) - 1}` }).end('moved');
    else response.end('there');
  });
  expect(text(await get(`${base}/n/5`))).toBe('there');
  expect((await get(`${base}/n/6`)).fault?.code).toBe('EREDIRECT');
  for (const bad of ['file:///etc/passwd', 'ftp://127.0.0.1/', 'http://', 'gopher://x', 'data:,x', 'http://[::1']) {
    expect((await get(`${base}/to/${encodeURIComponent(bad)}`)).fault?.code, bad).toBe('EREDIRECT');
  }
  for (const bad of ['', 'file:///etc/passwd', 'udp://t:80', 'http://', 'http://x:99999/']) {
    expect((await get(bad)).fault?.code, bad).toBe('EBADURL');
  }
});

test('keeps to one family, and says when a server has none of it', async () => {
  const seen: string[] = [];
  const base = await serve((request, response) => {
    seen.push(request.socket.remoteFamily ?? '');
    response.end('x');
  });
  const port = new URL(base).port;
  const named = `http://both.localhost:${port}/`;
  expect((await get(named, { family: 4 })).response?.remoteIp).toBe('127.0.0.1');
  expect((await get(named, { family: 6 })).fault?.code).toMatch(/ECONNREFUSED|EADDRNOTAVAIL|ENETUNREACH/);
  expect((await get(base, { family: 6 })).fault).toMatchObject({
    code: 'ENOFAMILY',
    message: `http://127.0.0.1:${port} has no IPv6 address`,
  });
  expect(seen).toEqual(['IPv4']);
});

test('giving up says whether the server may have heard', async () => {
  const arrived: (() => void)[] = [];
  const base = await serve(() => {
    for (const wake of arrived.splice(0)) wake();
  });
  const request = {
    url: base,
    headers: {},
    timeoutMs: 5000,
    maxBytes: 10,
    maxRedirects: 0,
    origin: 'person',
    family: null,
  };
  const never = (): void => {
    throw new Error('it was given up');
  };
  expect(client.get(request, never).abort()).toBe(false);
  const heard = new Promise<void>((resolve) => arrived.push(resolve));
  const handle = client.get(request, never);
  await heard;
  expect(handle.abort()).toBe(true);
});

test('a public server leads to no local address, by number or by name', async () => {
  let hits = 0;
  const inner = await serve((_request, response) => {
    hits += 1;
    response.end('secret');
  });
  const port = new URL(inner).port;
  const outer = await serve((request, response) => {
    response.writeHead(302, { location: decodeURIComponent(request.url!.slice(1)) }).end();
  }, '127.0.0.2');
  const isPrivate = (ip: string): boolean => ip !== '127.0.0.2' && isPrivateAddress(ip);
  const resolve = (host: string, done: (fault: IoFault | null, ips: readonly string[]) => void): void =>
    host === 'rebind.test' ? done(null, ['127.0.0.1']) : names.resolve(host, done);
  const judged = new HostHttp(resolve, new Egress(), isPrivate);
  for (const host of [
    '127.0.0.1',
    'localhost',
    '2130706433',
    '0x7f.1',
    '0177.0.0.1',
    '[::ffff:127.0.0.1]',
    '[::1]',
    '0.0.0.0',
    'rebind.test',
  ]) {
    const outcome = await get(`${outer}/${encodeURIComponent(`http://${host}:${port}/`)}`, {}, judged);
    expect(outcome.fault?.code, host).toBe('EREDIRECT');
  }
  expect(hits).toBe(0);
  // from a local server on, it is the user's own affair
  expect(text(await get(`${outer}/${encodeURIComponent(inner)}`))).toBe('secret');
});

test('knows private addresses in all their forms', () => {
  for (const ip of [
    '127.0.0.1',
    '10.1.2.3',
    '192.168.0.1',
    '172.31.0.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    'fe80::1',
    'fe80::1%eth0',
    'fd00::1',
    'ff02::1',
    '::ffff:10.0.0.1',
    '::ffff:7f00:1',
    '::127.0.0.1',
    '64:ff9b::a00:1',
    '2002:7f00:1::',
    'nonsense',
  ]) {
    expect(isPrivateAddress(ip), ip).toBe(true);
  }
  for (const ip of [
    '1.1.1.1',
    '172.32.0.1',
    '100.128.0.1',
    '2001:4860:4860::8888',
    '::ffff:8.8.8.8',
    '64:ff9b::808:808',
    '2002:808:808::',
  ]) {
    expect(isPrivateAddress(ip), ip).toBe(false);
  }
});

test('garbage, floods of headers and early ends are faults', async () => {
  const answers = [
    'nonsense\r\n\r\n',
    `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(20_000)}`,
    '',
    'HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
  ];
  let next = 0;
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.end(answers[next++]));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  for (const _ of answers) {
    const outcome = await get(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}/`);
    expect(outcome.fault?.code).toMatch(/EBADHTTP|ECONNRESET/);
  }
  server.close();
});

test('a certificate that nobody vouches for is refused, and a fault says so', async () => {
  const folder = tempFolder();
  try {
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-keyout',
        join(folder, 'key'),
        '-out',
        join(folder, 'cert'),
        '-subj',
        '/CN=localhost',
        '-days',
        '2',
      ],
      { stdio: 'ignore' },
    );
  } catch {
    return;
  }
  const server = https.createServer(
    { key: fs.readFileSync(join(folder, 'key')), cert: fs.readFileSync(join(folder, 'cert')) },
    (_q, response) => response.end('no'),
  );
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const outcome = await get(`https://localhost:${(server.address() as net.AddressInfo).port}/`);
  expect(outcome.fault?.code).toBe('ETLS');
  expect(outcome.fault?.message).toMatch(/certificate/);
  server.close();
  const plain = await serve((_q, response) => response.end('plain'));
  expect((await get(plain.replace('http:', 'https:'))).fault?.code).toBe('ETLS');
});
