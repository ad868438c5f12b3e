/** N4, T2, T3, T4: trackers that are down, slow, hostile or many. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTls } from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { createGzip } from 'node:zlib';
import { afterAll, describe, expect } from 'vitest';
import { type Agent, has, it, makeFile, makeTorrent, needs, pause, source, until } from './kit.ts';

const MIB = 1 << 20;
const open: { close(): unknown; closeAllConnections?(): void }[] = [];
afterAll(async () => {
  for (const server of open.splice(0)) {
    server.closeAllConnections?.();
    server.close();
  }
});

interface Status {
  readonly url: string;
  readonly status: string;
  readonly message: string | null;
  readonly nextMs: number | null;
}

interface Heard {
  readonly url: string;
  readonly base: string;
  readonly asked: { event: string; atMs: number }[];
  now: number;
  most: number;
}

/** An HTTP server that notes what it is asked, and how much at once. */
async function tracker(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<Heard> {
  const heard = { url: '', base: '', asked: [] as Heard['asked'], now: 0, most: 0 };
  const server = createServer((request, response) => {
    heard.asked.push({
      event: new URL(request.url!, 'http://t').searchParams.get('event') ?? '',
      atMs: performance.now(),
    });
    heard.now++;
    heard.most = Math.max(heard.most, heard.now);
    response.on('close', () => {
      heard.now--;
    });
    answer(request, response);
  });
  open.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  heard.base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  heard.url = `${heard.base}/announce`;
  return heard;
}

/** A port nobody answers on. */
async function refused(): Promise<string> {
  const server = net.createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return `http://127.0.0.1:${port}/announce`;
}

const GOOD = 'd8:intervali1800e5:peers0:e';
const statuses = (agent: Agent, index = 0): Promise<Status[]> => agent.call<Status[]>('trackers', index);

describe.concurrent('a bad tracker', () => {
  it.concurrent('of every kind fails with a reason and backs off; the next tier is used at once', async ({
    world,
    skip,
  }) => {
    needs(skip, [has('openssl'), 'openssl']);
    const key = world.path('key.pem');
    const cert = world.path('cert.pem');
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ];
    execFileSync('openssl', [...request, '-keyout', key, '-out', cert, '-subj', '/CN=localhost'], { stdio: 'ignore' });
    const tls = createTls({ key: readFileSync(key), cert: readFileSync(cert) }, (_request, response) =>
      response.end(GOOD),
    );
    open.push(tls);
    await new Promise<void>((done) => tls.listen(0, '127.0.0.1', done));
    const loop = await tracker((request, response) => {
      response.writeHead(302, {
        location: `${loop.base}/${Number(request.url!.split('/')[1]?.split('?')[0]) + 1 || 1}`,
      });
      response.end();
    });
    const garbage = await tracker((_request, response) => response.end(randomBytes(5000)));
    const nowhere = await tracker((_request, response) => {
      response.writeHead(302, { location: 'file:///etc/passwd' });
      response.end();
    });
    const error = await tracker((_request, response) => {
      response.writeHead(500);
      response.end('no');
    });
    const noHttp = net.createServer((socket) => socket.end('220 hello, this is no HTTP\r\n'));
    open.push(noHttp);
    await new Promise<void>((done) => noHttp.listen(0, '127.0.0.1', done));
    const cut = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nd8:int'));
    });
    open.push(cut);
    await new Promise<void>((done) => cut.listen(0, '127.0.0.1', done));
    const good = await tracker((_request, response) => response.end(GOOD));
    const bad = {
      refused: await refused(),
      unknown: 'http://no-such-host.invalid/announce',
      loop: loop.url,
      garbage: garbage.url,
      nowhere: nowhere.url,
      error: error.url,
      tls: `https://127.0.0.1:${(tls.address() as AddressInfo).port}/announce`,
      noHttp: `http://127.0.0.1:${(noHttp.address() as AddressInfo).port}/announce`,
      cut: `http://127.0.0.1:${(cut.address() as AddressInfo).port}/announce`,
    };
    const made = makeFile('data', 65536, { trackers: [...Object.values(bad).map((url) => [url]), [good.url]] });
    const agent = world.agent();
    await agent.open();
    await agent.add(made, { folder: world.make('down') });
    await until(
      () => good.asked.length,
      (count) => count > 0,
      20_000,
      'the last tier',
    );
    const all = await statuses(agent);
    for (const [name, url] of Object.entries(bad)) {
      const one = all.find((status) => status.url === url)!;
      expect(one.status, name).toBe('failed');
      expect(one.message, name).toMatch(/.{8}/);
      expect(one.nextMs, name).toBeGreaterThan(1000);
    }
    expect(all.find(({ url }) => url === bad.tls)!.message).toMatch(/certificate/);
    expect(loop.asked.length).toBeLessThanOrEqual(6);
    // again and again: the waits grow, and nobody is asked more than twice a minute
    await pause(3000);
    expect(error.asked.length).toBe(1);
    await agent.end();
    expect(good.asked.map(({ event }) => event)).toEqual(['started', 'stopped']);
  });

  it.concurrent('that is slow (silent, or 1 byte/s) is given up after 30 s, holds up neither other torrents nor the end', async ({
    world,
  }) => {
    const silent = await tracker(() => {});
    const drip = await tracker((_request, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write('d'), 1000);
      response.on('close', () => clearInterval(timer));
    });
    const good = await tracker((_request, response) => response.end(GOOD));
    const agent = world.agent();
    await agent.open();
    const folder = world.make('down');
    const asked = performance.now();
    await agent.add(makeFile('a', 1000, { trackers: [[silent.url], [good.url]] }), { folder });
    await agent.add(makeFile('b', 1000, { trackers: [[drip.url], [good.url]] }), { folder });
    await agent.add(makeFile('c', 1000, { trackers: [[good.url]] }), { folder });
    await until(
      () => good.asked.length,
      (count) => count === 1,
      3000,
      'the third torrent',
    );
    await until(
      () => good.asked.length,
      (count) => count === 3,
      40_000,
      'the other tiers',
    );
    expect(performance.now() - asked).toBeGreaterThan(25_000);
    expect(silent.asked.length + drip.asked.length).toBe(2);
    const from = performance.now();
    await agent.end();
    expect(performance.now() - from).toBeLessThan(5000);
  });

  it.concurrent('answering with a gzip bomb of 1 GiB, or without end, costs no memory', async ({ world }) => {
    const bomb = await tracker((_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      const gzip = createGzip();
      gzip.pipe(response);
      const zeros = Buffer.alloc(1 << 20);
      let left = 1024;
      const more = (): void => {
        while (left-- > 0) if (!gzip.write(zeros)) return void gzip.once('drain', more);
        gzip.end();
      };
      response.on('close', () => {
        left = 0;
      });
      more();
    });
    const endless = await tracker((_request, response) => {
      const chunk = Buffer.alloc(65536, 'x');
      const more = (): void => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on('drain', more);
      more();
    });
    const agent = world.agent();
    await agent.open();
    const folder = world.make('down');
    await agent.add(makeFile('warm', 1000, { trackers: [[await refused()]] }), { folder });
    await pause(500);
    const before = (await agent.usage()).maxRss;
    await agent.add(makeFile('a', 1000, { trackers: [[bomb.url]] }), { folder });
    await agent.add(makeFile('b', 1000, { trackers: [[endless.url]] }), { folder });
    for (const index of [1, 2]) {
      const [status] = await until(
        () => statuses(agent, index),
        ([one]) => one!.status === 'failed',
        20_000,
        'a refusal',
      );
      expect(status!.message).toMatch(/larger than/);
    }
    expect((await agent.usage()).maxRss - before).toBeLessThan(16 * MIB);
    await agent.end();
  });

  it.concurrent('with intervals of -1, 0 and 10^11 seconds is asked again after 60 s to 24 h', async ({ world }) => {
    const agent = world.agent();
    await agent.open();
    const folder = world.make('down');
    let index = 0;
    for (const interval of ['-1', '0', '100000000000', '9223372036854775807', '99999999999999999999999']) {
      for (const field of ['interval', 'min interval']) {
        const key = field === 'interval' ? `8:intervali${interval}e` : `8:intervali0e12:min intervali${interval}e`;
        const one = await tracker((_request, response) => response.end(`d${key}5:peers0:e`));
        await agent.add(makeFile(`t${index}`, 1000, { trackers: [[one.url]] }), { folder });
        const [status] = await until(
          () => statuses(agent, index),
          ([s]) => s!.status !== 'announcing' && s!.status !== 'idle',
          5000,
          'an answer',
        );
        expect(status!.nextMs, `${field} ${interval}`).toBeGreaterThanOrEqual(4000);
        if (status!.status === 'working') expect(status!.nextMs).toBeGreaterThanOrEqual(59_000);
        expect(status!.nextMs).toBeLessThanOrEqual(86_400_000 * 1.1);
        index++;
        await pause(50);
        expect(one.asked.length).toBe(1);
      }
    }
    await agent.end();
  });
});

describe.concurrent('many torrents', () => {
  it.concurrent('(1,000) on one dead tracker: at most 50 asked at once, CPU at most 2 %, the end within 5 s', async ({
    world,
  }) => {
    const dead = await tracker(() => {});
    const made = Array.from({ length: 1000 }, (_, i) => makeFile(`t${i}`, 100, { trackers: [[dead.url]] }));
    // V8 shrinks its heap once, some seconds after all was added: that is no part of idling
    const agent = world.agent({ nodeArgs: ['--no-memory-reducer'] });
    await agent.open();
    const folder = world.make('down');
    for (let i = 0; i < made.length; i += 100) {
      await agent.call('addAll', made.slice(i, i + 100).map(source), { folder });
    }
    await until(
      () => dead.most,
      (most) => most >= 50,
      70_000,
      'the cap',
    );
    await pause(1000);
    const from = await agent.usage();
    await pause(8000);
    const to = await agent.usage();
    expect(dead.most).toBe(50);
    expect((to.cpuMs - from.cpuMs) / (to.atMs - from.atMs)).toBeLessThan(0.02);
    const asked = performance.now();
    await agent.call('sessionStats');
    expect(performance.now() - asked).toBeLessThan(200);
    const end = performance.now();
    await agent.end();
    expect(performance.now() - end).toBeLessThan(5000);
  });

  it.concurrent('(500) that seed stop within 5 s of SIGTERM, at most 50 good-byes at once, whatever the tracker does', async ({
    world,
  }) => {
    for (const [kind, reply] of [
      ['fast', true],
      ['silent at the end', false],
    ] as const) {
      const one = await tracker((request, response) => {
        const stopped = request.url!.includes('event=stopped');
        if (stopped && !reply) return;
        setTimeout(() => response.end(GOOD), 5);
      });
      const made = Array.from({ length: 500 }, (_, i) =>
        makeTorrent(`t${i}`, [{ path: [], bytes: randomBytes(1000) }], { trackers: [[one.url]] }),
      );
      const agent = world.agent();
      await agent.open({ state: world.path(`state-${kind}`) });
      const folder = world.make(`down-${kind}`);
      await agent.call('addAll', made.map(source), { folder });
      // announces of many torrents are spread over a minute: now
      for (let i = 0; i < 500; i += 1) await agent.call('announce', i);
      await until(
        () => one.asked.length,
        (count) => count >= 500,
        60_000,
        'all announced',
      );
      await pause(300);
      one.most = 0;
      const before = one.asked.length;
      const from = performance.now();
      agent.kill('SIGTERM');
      const { code } = await agent.exit;
      expect(performance.now() - from, kind).toBeLessThan(5000);
      expect(code).toBe(0);
      expect(agent.stderr).toBe('');
      expect(one.most, kind).toBeLessThanOrEqual(50);
      if (reply) expect(one.asked.slice(before).filter(({ event }) => event === 'stopped').length).toBe(500);
    }
  });
});
