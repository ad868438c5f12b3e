import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BIN, LOCAL, Sandbox } from './shoal.ts';

let box: Sandbox;
const servers: Server[] = [];

beforeEach(() => {
  box = new Sandbox();
});
afterEach(async () => {
  await box.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

const FILES: readonly (readonly [path: string, bytes: number])[] = [
  ['a.bin', 3_000_000],
  ['empty', 0],
  ['größe/魚.bin', 1_000_001],
  ['one', 1],
  ['z.bin', 2_500_000],
];

/** `source/pay` with a few files, and a torrent of it; gives the torrent's path. */
async function makePay(...options: string[]): Promise<string> {
  for (const [path, bytes] of FILES) {
    const full = box.path('source/pay', path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, randomBytes(bytes));
  }
  const made = await box.run('create', 'source/pay', '-o', 'pay.torrent', '--piece-size', '64K', '--json', ...options);
  expect(made).toMatchObject({ code: 0, stderr: '' });
  return 'pay.torrent';
}

function digestTree(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(folder, name);
    if (statSync(path).isFile()) found[name] = createHash('sha256').update(readFileSync(path)).digest('hex');
  }
  return found;
}

function expectSame(folder: string): void {
  expect(digestTree(box.path(folder, 'pay'))).toEqual(digestTree(box.path('source/pay')));
}

/** A tracker that names `peers` and notes what it is told; `silent` never answers a `stopped`. */
async function startTracker(silent = false): Promise<{ url: string; events: string[] }> {
  const events: string[] = [];
  const server = createServer((request, response) => {
    const event = new URL(request.url ?? '', 'http://t').searchParams.get('event') ?? '';
    events.push(event);
    if (!(silent && event === 'stopped')) response.end('d8:intervali1800e5:peers0:e');
  });
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/announce`, events };
}

const HASH = /^[0-9a-f]{40}$/;

describe('create, info, verify', () => {
  it('make, describe and check a torrent of each version', async () => {
    for (const version of ['--v1', '--v2', '--hybrid']) {
      await makePay(version, '--tracker', 'http://t.example/a', '--private', '--comment', 'tide');
      const info = await box.run('info', 'pay.torrent', '--json');
      const torrent = info.lines[0]!;
      expect(torrent).toMatchObject({ v: 1, type: 'torrent', name: 'pay', private: true, comment: 'tide' });
      expect(torrent).toMatchObject({ bytes: 6_500_002, pieceLength: 65536, trackers: [['http://t.example/a']] });
      expect(torrent['infoHash'] === null).toBe(version === '--v2');
      expect(torrent['infoHashV2'] === null).toBe(version === '--v1');
      const files = torrent['files'] as { path: string[]; pad: boolean; length: number }[];
      expect(files.filter(({ pad }) => !pad).map(({ path, length }) => [path.join('/'), length])).toEqual(
        FILES.map(([path, bytes]) => [`pay/${path}`, bytes]),
      );
      expect(info.lines.at(-1)).toEqual({ v: 1, type: 'end', exitCode: 0 });
      for (const path of ['source', 'source/pay']) {
        const { code, lines } = await box.run('verify', 'pay.torrent', path, '--json');
        expect(code).toBe(0);
        expect(lines[0]).toMatchObject({
          type: 'verified',
          bad: [],
          bytesGood: 6_500_002,
          pieces: torrent['pieceCount'],
        });
      }
    }
  });

  it('tell which pieces are bad, and end with 1', async () => {
    await makePay();
    const path = box.path('source/pay/a.bin');
    const bytes = readFileSync(path);
    bytes[70_000]! ^= 1;
    writeFileSync(path, bytes);
    const { code, lines } = await box.run('verify', 'pay.torrent', 'source', '--json');
    expect(code).toBe(1);
    expect(lines[0]).toMatchObject({ type: 'verified', bad: [1], bytesGood: 6_500_002 - 65536 });
  });

  it('show a magnet link', async () => {
    const hash = 'ab'.repeat(20);
    const link = `magnet:?xt=urn:btih:${hash}&dn=Tide&tr=http://t/a&x.pe=1.2.3.4:5&x.pe=[::1]:6&so=0,2-3&ws=http://w/`;
    const { lines } = await box.run('info', link, '--offline', '--json');
    expect(lines[0]).toEqual({
      v: 1,
      type: 'magnet',
      infoHash: hash,
      infoHashV2: null,
      name: 'Tide',
      trackers: ['http://t/a'],
      webSeeds: ['http://w/'],
      peers: ['1.2.3.4:5', '[::1]:6'],
      select: [0, 2, 3],
    });
  });
});

describe('exit codes', () => {
  it.each([
    [2, ['get']],
    [2, ['get', 'pay.torrent', '--select', '9']],
    [2, ['create', 'source/pay', '--piece-size', '5']],
    [2, ['create', 'source/pay', '--v1', '--v2', '-o', 'x']],
    [2, ['get', 'pay.torrent', '--no-dht', '--dht-bootstrap', '127.0.0.1:9']],
    [2, ['dht', 'get', 'nonsense']],
    [2, ['dht', 'put', 'i01e', '--bencode']],
    [2, ['publish', 'pay.torrent', '--key', 'source/pay/one']],
    [3, ['dht', 'peers', 'missing.torrent']],
    [3, ['get', 'magnet:?xs=urn:btpk:12']],
    [3, ['get', 'missing.torrent']],
    [3, ['get', 'source/pay/a.bin']],
    [3, ['get', 'magnet:?dn=nothing']],
    [3, ['info', 'source/pay/a.bin']],
    [4, ['get', 'pay.torrent', '--save-torrent', 'nowhere/x.torrent']],
    [4, ['verify', 'pay.torrent', 'nowhere']],
    [4, ['seed', 'pay.torrent', 'nowhere']],
    [4, ['create', 'nowhere']],
    [4, ['get', 'pay.torrent', '-o', 'source/pay/one']],
    [5, ['get', 'pay.torrent', '--timeout', '0.5', ...LOCAL]],
  ] as const)('%i: shoal %j', async (code, args) => {
    await makePay();
    const ended = await box.run(...args);
    expect(ended.stderr).toMatch(/^shoal: [^\n]+\n$/);
    expect(ended.code).toBe(code);
    const json = await box.run(...args, '--json');
    expect(json.code).toBe(code);
    expect(json.lines.at(-1)).toEqual({ v: 1, type: 'end', exitCode: code });
    expect(json.lines.some(({ type, message }) => type === 'error' && typeof message === 'string')).toBe(true);
  });
});

describe('get and seed', () => {
  it('move every byte, tell it in JSON lines, and trust it the next time', async () => {
    const torrent = await makePay();
    const { peer, seed } = await box.seed(torrent, 'source');
    const args = ['get', torrent, '-o', 'out', '--peer', peer, ...LOCAL, '--json'] as const;
    const first = await box.run(...args);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expectSame('out');
    expect(first.lines[0]).toMatchObject({ v: 1, type: 'listening', host: '127.0.0.1', port: expect.any(Number) });
    const hashes = { infoHash: expect.stringMatching(HASH), infoHashV2: null };
    expect(first.lines.find(({ type }) => type === 'progress')).toMatchObject({
      ...hashes,
      bytesDone: 0,
      bytesTotal: 6_500_002,
      downRate: 0,
      upRate: 0,
      peers: 0,
    });
    expect(first.lines.filter(({ type }) => type === 'done')).toEqual([
      {
        v: 1,
        type: 'done',
        ...hashes,
        name: 'pay',
        bytes: 6_500_002,
        seconds: expect.any(Number),
        downloaded: 6_500_002,
        uploaded: 0,
        hashFails: 0,
        resumed: 0,
      },
    ]);
    expect(first.lines.at(-1)).toEqual({ v: 1, type: 'end', exitCode: 0 });

    seed.kill('SIGINT');
    const ended = await seed.ended;
    expect(ended.code).toBe(0);
    expect(ended.lines.at(-2)).toMatchObject({ type: 'done', uploaded: 6_500_002, downloaded: 0 });

    const again = await box.run(...args);
    expect(again.code).toBe(0);
    expect(again.lines.find(({ type }) => type === 'done')).toMatchObject({ downloaded: 0, resumed: 6_500_002 });
  });

  it('take only the selected files', async () => {
    const torrent = await makePay();
    const { peer } = await box.seed(torrent, 'source/pay');
    const ended = await box.run('get', torrent, '-o', 'out', '--peer', peer, '--select', '1,2-3', ...LOCAL, '--json');
    expect(ended.code).toBe(0);
    expect(ended.lines.find(({ type }) => type === 'done')).toMatchObject({ bytes: 1_000_002 });
    const want = digestTree(box.path('source/pay'));
    for (const path of ['empty', 'größe/魚.bin', 'one']) expect(digestTree(box.path('out/pay'))[path]).toBe(want[path]);
    expect(existsSync(box.path('out/pay/a.bin'))).toBe(false);
    expect(existsSync(box.path('out/pay/z.bin'))).toBe(false);
  });

  it('fetch by magnet link, and by its bare hash', async () => {
    const torrent = await makePay();
    const { peer } = await box.seed(torrent, 'source');
    const { lines } = await box.run('info', torrent, '--json');
    const hash = String(lines[0]!['infoHash']);
    for (const [i, source] of [`magnet:?xt=urn:btih:${hash}&x.pe=${peer}`, hash].entries()) {
      const ended = await box.run(
        'get',
        source,
        '-o',
        `out${i}`,
        '--peer',
        peer,
        ...LOCAL,
        '--json',
        '--state',
        `state${i}`,
      );
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect(ended.lines.find(({ type }) => type === 'done')).toMatchObject({ name: 'pay', bytes: 6_500_002 });
      expectSame(`out${i}`);
    }
  });

  it('stop at Ctrl-C, say so to the tracker, and go on with the same command', async () => {
    const tracker = await startTracker();
    const torrent = await makePay('--tracker', tracker.url);
    const { peer } = await box.seed(torrent, 'source');
    const args = ['get', torrent, '-o', 'out', '--peer', peer, ...LOCAL, '--json'] as const;
    const get = box.start(...args, '--down', '1M');
    await get.line('progress', ({ bytesDone }) => Number(bytesDone) > 0);
    tracker.events.length = 0;
    const before = performance.now();
    get.kill('SIGINT');
    const stopped = await get.ended;
    expect(performance.now() - before).toBeLessThan(2500);
    expect(stopped.code).toBe(130);
    expect(stopped.lines.at(-1)).toEqual({ v: 1, type: 'end', exitCode: 130 });
    expect(stopped.lines.some(({ type }) => type === 'done')).toBe(false);
    expect(tracker.events).toContain('stopped');

    const again = await box.run(...args);
    expect(again.code).toBe(0);
    const claim = again.lines.find(({ type }) => type === 'progress')!;
    const done = again.lines.find(({ type }) => type === 'done')!;
    expect(Number(claim['bytesDone'])).toBeGreaterThan(0);
    expect(done['resumed']).toBe(claim['bytesDone']);
    expect(Number(done['resumed']) + Number(done['downloaded'])).toBeGreaterThanOrEqual(6_500_002);
    expectSame('out');
  });

  it('end within two seconds of a Ctrl-C when the tracker is silent, and at once at the second', async () => {
    const tracker = await startTracker(true);
    const torrent = await makePay('--tracker', tracker.url);
    for (const presses of [1, 2]) {
      const get = box.start('get', torrent, '-o', 'out', ...LOCAL, '--json');
      await get.line('progress');
      await expect.poll(() => tracker.events.length).toBeGreaterThan(0);
      const before = performance.now();
      get.kill('SIGINT');
      if (presses === 2) {
        await expect.poll(() => tracker.events.includes('stopped'), { interval: 10 }).toBe(true);
        get.kill('SIGINT');
      }
      expect((await get.ended).code).toBe(130);
      expect(performance.now() - before).toBeLessThan(presses === 2 ? 1200 : 3000);
      tracker.events.length = 0;
    }
  });

  it('refuse a second process on the same torrent, and let others work beside it', async () => {
    await makePay();
    await box.run('create', 'source/pay/a.bin', '-o', 'a.torrent');
    const first = box.start('get', 'pay.torrent', '-o', 'out', ...LOCAL, '--json');
    await first.line('progress');
    const second = await box.run('get', 'pay.torrent', '-o', 'out', ...LOCAL, '--json');
    expect(second.code).toBe(1);
    expect(second.lines.find(({ type }) => type === 'error')).toMatchObject({ code: 'in-use' });
    const { peer } = await box.seed('a.torrent', 'source/pay');
    expect((await box.run('get', 'a.torrent', '-o', 'out', '--peer', peer, ...LOCAL)).code).toBe(0);
    first.kill('SIGTERM');
    expect((await first.ended).code).toBe(130);
  });

  it('go on seeding with --seed, and take several sources', async () => {
    await makePay();
    await box.run('create', 'source/pay/a.bin', '-o', 'a.torrent');
    const { peer } = await box.seed('pay.torrent', 'source');
    const { peer: peerA } = await box.seed('a.torrent', 'source/pay');
    const get = box.start(
      'get',
      'pay.torrent',
      'a.torrent',
      '-o',
      'out',
      '--peer',
      peer,
      '--peer',
      peerA,
      '--seed',
      ...LOCAL,
      '--json',
    );
    await get.line('done', ({ name }) => name === 'pay');
    await get.line('done', ({ name }) => name === 'a.bin');
    const { host, port } = await get.line('listening');
    const friend = await box.run(
      'get',
      'pay.torrent',
      '-o',
      'friend',
      '--peer',
      `${host}:${port}`,
      '--state',
      'other',
      ...LOCAL,
    );
    expect(friend.code).toBe(0);
    expectSame('friend');
    get.kill('SIGTERM');
    expect((await get.ended).code).toBe(0);
  });

  it('end a seed at Ctrl-C while it still checks, and say when its port is taken', async () => {
    mkdirSync(box.path('source/pay'), { recursive: true });
    writeFileSync(box.path('source/pay/big'), Buffer.alloc(300_000_000, 'tide'));
    await box.run('create', 'source/pay', '-o', 'pay.torrent');
    // Nothing is said before the check is over, so the moment is found by trying: too early, and there is no handler yet.
    let code: number | null = null;
    for (let delayMs = 200; code === null && delayMs < 5000; delayMs *= 1.5) {
      const seed = box.start('seed', 'pay.torrent', 'source', ...LOCAL, '--json');
      await new Promise((done) => setTimeout(done, delayMs));
      seed.kill('SIGINT');
      ({ code } = await seed.ended);
    }
    expect(code).toBe(0);
    const taken = createServer();
    servers.push(taken);
    await new Promise<void>((done) => taken.listen(0, '127.0.0.1', done));
    const { port } = taken.address() as AddressInfo;
    const refused = await box.run('seed', 'pay.torrent', 'source', ...LOCAL, '--port', String(port));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^shoal: [^\n]+\n$/);
  });

  it('never write to what is seeded, even if it differs', async () => {
    const torrent = await makePay();
    const { peer } = await box.seed(torrent, 'source');
    mkdirSync(box.path('mine'));
    const mine = box.path('mine/pay');
    mkdirSync(mine);
    for (const [path] of FILES.filter(([path]) => !path.includes('/'))) {
      writeFileSync(join(mine, path), readFileSync(box.path('source/pay', path)));
    }
    writeFileSync(join(mine, 'one'), 'X');
    const { seed } = await box.seed(torrent, 'mine', '--peer', peer);
    await seed.line('progress', ({ peers }) => Number(peers) > 0);
    seed.kill('SIGINT');
    await seed.ended;
    expect(readFileSync(join(mine, 'one'), 'utf8')).toBe('X');
    expect(readdirSync(mine).sort()).toEqual(['a.bin', 'empty', 'one', 'z.bin']);
  });

  it('print plain lines when nobody watches, without a single escape', async () => {
    const torrent = await makePay();
    const { peer } = await box.seed(torrent, 'source');
    const { stdout, code } = await box.run('get', torrent, '-o', 'out', '--peer', peer, ...LOCAL);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^listening on 127\.0\.0\.1:\d+\npay: 6\.20 MiB in 5 files\npay: complete, 6\.20 MiB in .+all verified\n$/,
    );
    expect(stdout).not.toContain('\x1b');
  });
});

describe('the rest', () => {
  it('runs the demo, compares every byte, and leaves nothing behind', async () => {
    const before = performance.now();
    const { code, stdout, stderr } = await box.run('demo', '--size', '16M', '--seeds', '2');
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toContain('All 16,777,216 bytes equal the source.');
    expect(performance.now() - before).toBeLessThan(30_000);
  });

  it('prints completions for each shell, and completes commands and options', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { code, stdout } = await box.run('complete', shell);
      expect(code).toBe(0);
      expect(stdout).toContain('shoal');
    }
    const script = `source <(${process.execPath} ${BIN} complete bash); shoal() { ${process.execPath} ${BIN} "$@"; }
      compopt() { :; }; COMP_WORDS=(shoal get --seq); COMP_CWORD=2; COMP_LINE='shoal get --seq'; COMP_POINT=15
      __shoal_complete; echo "\${COMPREPLY[*]}"`;
    expect(spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' }).stdout).toContain('--sequential');
    expect((await box.run('complete', '--', 'se')).stdout).toContain('seed');
    expect((await box.run('complete', '--', 'get', '--seq')).stdout).toContain('--sequential');
  });
});
