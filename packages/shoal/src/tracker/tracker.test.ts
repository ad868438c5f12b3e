import { Agent, get, type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { ipBytes, ipText } from './address.ts';
import { HttpFront } from './http-front.ts';
import { startTracker, type Tracker, type TrackerOptions } from './index.ts';
import { SwarmTable } from './swarm-table.ts';

const HASH = Buffer.from(Array.from({ length: 20 }, (_, i) => (i * 29 + 130) & 255));
let running: Tracker | null = null;

async function start(options: TrackerOptions = {}): Promise<Tracker> {
  running = await startTracker(options);
  return running;
}

afterEach(async () => {
  await running?.close();
  running = null;
});

function encodeBytes(bytes: Buffer): string {
  return Array.from(bytes, (b) => `%${b.toString(16).padStart(2, '0')}`).join('');
}

function query(fields: Record<string, string | number>, hash = HASH): string {
  const all = { peer_id: '-XX0001-abcdefghijkl', port: 7000, uploaded: 0, downloaded: 0, left: 10, ...fields };
  const pairs = Object.entries(all).map(([name, value]) => `${name}=${value}`);
  return `?info_hash=${encodeBytes(hash)}&${pairs.join('&')}`;
}

interface Got {
  readonly status: number;
  readonly body: string;
}

/** Body as one character per byte. */
function fetchBytes(url: string, localAddress = '127.0.0.1', agent?: Agent): Promise<Got> {
  return new Promise((done, fail) => {
    get(url, { localAddress, ...(agent === undefined ? {} : { agent }) }, (response: IncomingMessage) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () =>
        done({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString('latin1') }),
      );
    }).on('error', fail);
  });
}

describe('the tracker over real sockets', () => {
  it('lists peers to each other, compact, and forgets who stops', async () => {
    const tracker = await start();
    const ask = (fields: Record<string, string | number>, from: string) =>
      fetchBytes(tracker.url + query({ compact: 1, ...fields }), from);
    const first = await ask({ event: 'started', left: 0 }, '127.0.0.2');
    expect(first.body).toBe(
      'd8:completei1e10:downloadedi0e11:external ip4:\x7f\0\0\x0210:incompletei0e8:intervali1800e12:min intervali60e5:peers0:e',
    );
    const second = await ask({ event: 'started', port: 7001 }, '127.0.0.3');
    expect(second.body).toContain('5:peers6:\x7f\0\0\x02\x1b\x58e');
    expect(second.body).toContain('8:completei1e');
    expect(second.body).toContain('10:incompletei1e');
    const again = await ask({}, '127.0.0.2');
    expect(again.body).toContain('5:peers6:\x7f\0\0\x03\x1b\x59e');
    const bye = await ask({ event: 'stopped', port: 7001 }, '127.0.0.3');
    expect(bye.body).toContain('5:peers0:');
    expect((await ask({}, '127.0.0.2')).body).toContain('5:peers0:');
    expect(tracker.stats()).toMatchObject({ swarms: 1, peers: 1, seeders: 0, announces: 5, refused: 0 });
  });

  it('writes dictionaries for who does not ask for compact, with and without peer id', async () => {
    const tracker = await start();
    await fetchBytes(tracker.url + query({ port: 7001 }), '127.0.0.2');
    const plain = await fetchBytes(tracker.url + query({ compact: 0 }), '127.0.0.3');
    expect(plain.body).toContain('5:peersld2:ip9:127.0.0.27:peer id20:-XX0001-abcdefghijkl4:porti7001eee');
    const short = await fetchBytes(tracker.url + query({ no_peer_id: 1, numwant: 1, port: 7009 }), '127.0.0.2');
    expect(short.body).toMatch(/5:peersld2:ip9:127\.0\.0\.[23]4:porti700[01]eeee?/);
  });

  it('takes IPv4 through an IPv6 socket for what it is, and serves both families', async () => {
    const tracker = await start({ host: '::' });
    const over4 = `http://127.0.0.1:${tracker.port}/announce`;
    await fetchBytes(over4 + query({ compact: 1, port: 1 }), '127.0.0.1');
    const six = await fetchBytes(`${tracker.url}${query({ compact: 1, port: 2 })}`, '::1');
    expect(six.body).toContain('11:external ip16:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01');
    expect(six.body).toContain('5:peers6:\x7f\0\0\x01\0\x016:peers60:e');
    const four = await fetchBytes(over4 + query({ compact: 1, port: 1 }), '127.0.0.1');
    expect(four.body).toContain('5:peers0:6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x02e');
  });

  it('ignores ip=, takes a passkey in the path, scrapes', async () => {
    const tracker = await start();
    const url = tracker.url.replace('/announce', '/s3cret/announce');
    await fetchBytes(url + query({ ip: '8.8.8.8', left: 0, compact: 1 }));
    const seen = await fetchBytes(url + query({ compact: 1, port: 1, event: 'paused' }));
    expect(seen.body).toContain('5:peers6:\x7f\0\0\x01');
    const other = Buffer.alloc(20, 9);
    const scrape = await fetchBytes(
      `${tracker.url.replace('announce', 'scrape')}?info_hash=${encodeBytes(HASH)}&info_hash=${encodeBytes(other)}`,
    );
    expect(scrape.body).toBe(
      `d5:filesd20:${HASH.toString('latin1')}d8:completei1e10:downloadedi0e11:downloadersi0e10:incompletei1eee` +
        '5:flagsd20:min_request_intervali60eee',
    );
  });

  it('says what is wrong, and stays', async () => {
    const tracker = await start({ allow: [HASH.toString('hex').toUpperCase()] });
    const reason = async (tail: string) => (await fetchBytes(tracker.url + tail)).body;
    expect(await reason('')).toContain('14:failure reason12:no info_hash8:retry in5:never');
    expect(await reason('?info_hash=short&peer_id=x')).toContain('info_hash is not 20 bytes');
    expect(await reason(query({ peer_id: 'x' }))).toContain('peer_id is not 20 bytes');
    for (const port of ['-1', '65536', 'x', '']) expect(await reason(query({ port }))).toContain('port is not');
    expect(await reason(query({}, Buffer.alloc(20)))).toContain('does not track');
    expect(await reason(`?${'a'.repeat(9000)}`)).toContain('too long');
    expect(await reason(query({ numwant: -1, left: 'junk', event: 'x', compact: 1 }))).toContain('8:interval');
    expect((await fetchBytes(tracker.url.replace('announce', ''))).status).toBe(404);
    expect((await fetchBytes(tracker.url.replace('announce', 'stats'))).body).toContain('"refused":9');
    const status = await new Promise((done, fail) => {
      request(tracker.url, { method: 'POST' }, (response) => done(response.resume().statusCode))
        .on('error', fail)
        .end('x');
    });
    expect(status).toBe(405);
  });

  it('keeps a connection, speaks to HTTP/1.0, and closes with connections open', async () => {
    const tracker = await start();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 3; i++) await fetchBytes(tracker.url + query({ compact: 1 }), '127.0.0.1', agent);
    const old = await new Promise<string>((done, fail) => {
      const socket = connect(tracker.port, '127.0.0.1', () => {
        socket.write(`GET /announce${query({ compact: 1, port: 5 })} HTTP/1.0\r\n\r\n`);
      });
      let text = '';
      socket.setEncoding('latin1').on('data', (part) => {
        text += part;
      });
      socket.on('end', () => done(text)).on('error', fail);
    });
    expect(old).toContain('5:peers6:');
    const idle = connect(tracker.port, '127.0.0.1');
    await new Promise((done) => idle.once('connect', done));
    const ended = new Promise((done) => idle.once('close', done));
    idle.on('error', () => {});
    await tracker.close();
    await ended;
    agent.destroy();
  });

  it('rejects when the port is taken', async () => {
    const tracker = await start();
    await expect(startTracker({ port: tracker.port })).rejects.toThrow('EADDRINUSE');
  });
});

describe('HttpFront', () => {
  it('answers anything', () => {
    const table = new SwarmTable({ maxSwarms: 5, maxPeersPerSwarm: 5, maxPeers: 5, peerTtlS: 5 }, () => 0.5);
    const front = new HttpFront(table, { intervalS: 1, minIntervalS: 1, allow: null });
    const bad = [
      '',
      '?',
      '/',
      '/announce?%',
      '/announce?info_hash=%zz',
      '/scrape',
      '/scrape?info_hash=1',
      '//announce?&&==',
    ];
    for (const target of bad) expect(front.handle(target, 'nonsense', 1).status).toBeGreaterThanOrEqual(200);
    const many = Array.from({ length: 101 }, (_, i) => `info_hash=${String(i).padStart(20, 'x')}`).join('&');
    expect(front.handle(`/scrape?${many}`, '1.2.3.4', 1).body.toString()).toContain('at most 100');
    expect(front.handle(`/announce${query({})}`, 'nonsense', 1).body.toString()).toContain('your address');
  });
});

describe('addresses', () => {
  it.each([
    ['1.2.3.4', '1.2.3.4'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['::ffff:102:304', '1.2.3.4'],
    ['::1', '::1'],
    ['::', '::'],
    ['fe80::1:0:0:2%eth0', 'fe80::1:0:0:2'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
  ])('%s', (text, canonical) => expect(ipText(ipBytes(text)!)).toBe(canonical));
  it('refuses the rest', () => {
    for (const text of ['', 'localhost', '1.2.3', ':::', '1.2.3.4.5']) expect(ipBytes(text)).toBeNull();
  });
});
