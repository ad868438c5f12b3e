/** What the command line does with the DHT, against a small one of Shoal's own: a node on each of a few loopback addresses. */

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { Session } from '@shoal/engine';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Line, LOCAL, Sandbox } from './shoal.ts';

const NODES = 8;
const nodes: Session[] = [];
/** "host:port" of the first. */
let router = '';
let box: Sandbox;

beforeAll(async () => {
  for (let i = 0; i < NODES; i++) {
    const bootstrap = router === '' ? [] : [router];
    const node = new Session({
      bind: [`127.0.50.${i + 1}`],
      dht: { bootstrap },
      lsd: false,
      hashThreads: 1,
      memory: 4 << 20,
    });
    nodes.push(node);
    await node.ready();
    const { ip, port } = node.addresses[0]!;
    if (router === '') router = `${ip}:${port}`;
    else expect(await node.dht.ready()).toBe(true);
  }
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.close()));
});
beforeEach(() => {
  box = new Sandbox();
});
afterEach(() => box.close());

/** For `shoal dht` and `publish`. */
const ask = (...more: string[]): string[] => ['--bootstrap', router, '--bind', '127.0.51.1', ...more];
/** For `get`, `seed` and `info`, each at an address of its own: a table has one node of each. */
const at = (address: string, ...more: string[]): string[] => [
  '--bind',
  address,
  '--dht-bootstrap',
  router,
  '--no-lsd',
  ...more,
];

const HEX40 = expect.stringMatching(/^[0-9a-f]{40}$/);

function only(lines: readonly Line[], type: string): Line {
  const found = lines.filter((line) => line.type === type);
  expect(found).toHaveLength(1);
  expect(lines.at(-1)).toEqual({ v: 1, type: 'end', exitCode: 0 });
  return found[0]!;
}

/** Asks until a node knows a peer of it: the seed has announced itself. */
async function announced(infoHash: string): Promise<string[]> {
  const limit = performance.now() + 20_000;
  while (performance.now() < limit) {
    const { lines } = await box.run('dht', 'peers', infoHash, ...ask('--json'));
    const peers = only(lines, 'peers')['peers'] as string[];
    if (peers.length > 0) return peers;
  }
  throw new Error('nobody announced');
}

describe('values in the DHT', () => {
  it('are put and got by their hash, as text and as bencoding', async () => {
    const put = await box.run('dht', 'put', 'high water at noon', ...ask('--json'));
    expect(put).toMatchObject({ code: 0, stderr: '' });
    const item = only(put.lines, 'item');
    expect(item).toMatchObject({ v: 1, target: HEX40, publicKey: null, salt: '', seq: null });
    expect(item['stored']).toBeGreaterThanOrEqual(NODES - 2);
    const target = String(item['target']);
    expect(await box.run('dht', 'get', target, ...ask())).toMatchObject({ code: 0, stdout: 'high water at noon\n' });
    expect((await box.run('dht', 'get', target, ...ask('--bencode'))).stdout.trim()).toBe('18:high water at noon');

    const value = 'd1:ai7e1:bl1:x2:\u00e4ee';
    const dict = await box.run('dht', 'put', value, '--bencode', ...ask('--json'));
    const got = await box.run('dht', 'get', String(only(dict.lines, 'item')['target']), ...ask('--json'));
    expect(only(got.lines, 'item')).toMatchObject({
      publicKey: null,
      seq: null,
      signature: null,
      value: { a: 7, b: ['x', 'ä'] },
      bencode: Buffer.from(value).toString('hex'),
    });
  });

  it('are replaced by the key that signed them, each salt for itself', async () => {
    const signed = ['--key', 'tide.key', '--salt', 'größe'];
    const first = await box.run('dht', 'put', 'low', ...signed, '--new-key', ...ask('--json'));
    const { publicKey, seq } = only(first.lines, 'item');
    expect(publicKey).toMatch(/^[0-9a-f]{64}$/);
    expect(seq).toBe(1);
    expect(statSync(box.path('tide.key')).mode & 0o777).toBe(0o600);
    const second = await box.run('dht', 'put', 'high', ...signed, ...ask('--json'));
    expect(only(second.lines, 'item')).toMatchObject({ publicKey, seq: 2 });

    const get = (...more: string[]) => box.run('dht', 'get', String(publicKey), ...more, ...ask());
    expect(await get('--salt', 'größe')).toMatchObject({ code: 0, stdout: 'high\n' });
    expect(await get()).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('nothing is stored') });
    const link = `magnet:?xs=urn:btpk:${publicKey}&s=${Buffer.from('größe').toString('hex')}`;
    const linked = await box.run('dht', 'get', link, ...ask('--json'));
    expect(only(linked.lines, 'item')).toMatchObject({ publicKey, seq: 2, value: 'high' });

    const older = await box.run('dht', 'put', 'old', ...signed, '--seq', '1', ...ask());
    expect(older).toMatchObject({ code: 1, stderr: expect.stringMatching(/^shoal: .*302.*\n$/) });
    const swapped = await box.run('dht', 'put', 'swap', ...signed, '--cas', '1', ...ask());
    expect(swapped).toMatchObject({ code: 1, stderr: expect.stringMatching(/^shoal: .*301.*\n$/) });
    expect((await box.run('dht', 'put', 'swap', ...signed, '--cas', '2', ...ask())).code).toBe(0);
  });

  it('cannot steer the terminal of who gets them', async () => {
    const put = await box.run('dht', 'put', 'a\x1b[2Jb\x07', ...ask('--json'));
    const got = await box.run('dht', 'get', String(only(put.lines, 'item')['target']), ...ask());
    expect(got.stdout).toMatch(/^a.*\n$/);
    expect(got.stdout).not.toContain('\x1b');
    expect(got.stdout).not.toContain('\x07');
  });

  it('are not there, and nobody is there to ask: other exit codes', async () => {
    const missing = await box.run('dht', 'get', 'ab'.repeat(20), ...ask('--json'));
    expect(missing.code).toBe(1);
    expect(missing.lines).toEqual([
      { v: 1, type: 'error', code: 'not-found', message: expect.stringContaining('abab') },
      { v: 1, type: 'end', exitCode: 1 },
    ]);
    const deaf = await box.run(
      'dht',
      'get',
      'ab'.repeat(20),
      '--bootstrap',
      '127.0.50.99:9',
      '--bind',
      '127.0.51.1',
      '--timeout',
      '1',
    );
    expect(deaf).toMatchObject({ code: 5, stdout: '' });
    expect(deaf.stderr).toMatch(/^shoal: no DHT node answered within 1 second; asked 127\.0\.50\.99:9\n$/);
    const alone = await box.run('dht', 'nodes', '--bind', '127.0.51.1');
    expect(alone).toMatchObject({ code: 5, stderr: expect.stringContaining('--bootstrap HOST:PORT') });
  });
});

describe('a torrent without any tracker', () => {
  let shared: Sandbox;
  let infoHash = '';

  /** Of two files, and seeded. */
  beforeAll(async () => {
    shared = new Sandbox();
    mkdirSync(shared.path('source/pay'), { recursive: true });
    writeFileSync(shared.path('source/pay/a.bin'), randomBytes(700_000));
    writeFileSync(shared.path('source/pay/größe.txt'), 'tide');
    const made = await shared.run('create', 'source/pay', '-o', 'pay.torrent', '--piece-size', '64K', '--json');
    infoHash = String(made.lines[0]!['infoHash']);
    await shared.start('seed', 'pay.torrent', 'source', ...at('127.0.52.1'), '--json').line('progress');
  });
  afterAll(() => shared.close());

  it('is asked for by hand', async () => {
    expect(await announced(infoHash)).toEqual([expect.stringMatching(/^127\.0\.52\.1:\d+$/)]);
    const plain = await shared.run('dht', 'peers', 'pay.torrent', ...ask());
    expect(plain).toMatchObject({ code: 0, stdout: expect.stringMatching(/^127\.0\.52\.1:\d+\n$/) });
    const scrape = await shared.run('dht', 'scrape', `magnet:?xt=urn:btih:${infoHash}`, ...ask('--json'));
    expect(only(scrape.lines, 'scrape')).toMatchObject({ infoHash, seeds: 1, peers: 0, nodes: expect.any(Number) });
    const listed = await shared.run('dht', 'nodes', ...ask('--json'));
    const found = only(listed.lines, 'nodes')['nodes'] as { id: string; host: string; port: number }[];
    expect(found.length).toBeGreaterThanOrEqual(NODES / 2);
    expect(found[0]).toEqual({ id: HEX40, host: expect.stringMatching(/^127\.0\.5/), port: expect.any(Number) });
    const nobody = await shared.run('dht', 'peers', 'cd'.repeat(20), ...ask('--json'));
    expect(only(nobody.lines, 'peers')).toMatchObject({ infoHash: 'cd'.repeat(20), peers: [] });
  });

  it('is found by its info-hash alone, and its .torrent is saved', async () => {
    const args = ['get', infoHash, '-o', 'out', '--save-torrent', 'saved.torrent', ...at('127.0.53.1')];
    const got = await shared.run(...args, '--json', '--timeout', '60');
    expect(got).toMatchObject({ code: 0, stderr: '' });
    for (const name of ['a.bin', 'größe.txt']) {
      expect(readFileSync(shared.path('out/pay', name)).equals(readFileSync(shared.path('source/pay', name)))).toBe(
        true,
      );
    }
    const progress = got.lines.filter(({ type }) => type === 'progress').at(-1)!;
    expect(progress['sources']).toEqual({
      tracker: 0,
      dht: 1,
      pex: 0,
      lsd: 0,
      magnet: 0,
      incoming: expect.any(Number),
    });
    const saved = await shared.run('info', 'saved.torrent', '--json');
    const made = await shared.run('info', 'pay.torrent', '--json');
    expect(saved.lines[0]!['files']).toEqual(made.lines[0]!['files']);
    expect(saved.lines[0]!['infoHash']).toBe(infoHash);
  });

  it('is shown by info without downloading it', async () => {
    const before = readdirSync(shared.folder);
    const link = `magnet:?xt=urn:btih:${infoHash}&dn=other`;
    const json = await shared.run('info', link, ...at('127.0.53.2'), '--json', '--timeout', '60');
    expect(json).toMatchObject({ code: 0, stderr: '' });
    const made = await shared.run('info', 'pay.torrent', '--json');
    const { name, bytes, files, pieceCount } = made.lines[0]!;
    expect(only(json.lines, 'torrent')).toMatchObject({ infoHash, name, bytes, files, pieceCount, trackers: [] });
    const page = await shared.run('info', link, ...at('127.0.53.3'), '--save-torrent', 'info.torrent');
    expect(page).toMatchObject({ code: 0, stderr: '' });
    expect(page.stdout).toContain('pay/größe.txt');
    expect(existsSync(shared.path('info.torrent'))).toBe(true);
    expect(readdirSync(shared.folder).sort()).toEqual([...before, 'info.torrent'].sort());
  });

  it('is published by a key', async () => {
    const first = await shared.run(
      'publish',
      'pay.torrent',
      '--key',
      'pay.key',
      '--new-key',
      '--salt',
      'n',
      ...ask('--json'),
    );
    const { link, seq, publicKey } = only(first.lines, 'published');
    expect(link).toBe(`magnet:?xs=urn:btpk:${publicKey}&s=6e`);
    expect(seq).toBe(1);
    const again = shared.start(
      'publish',
      'cd'.repeat(20),
      '--key',
      'pay.key',
      '--salt',
      'n',
      '--every',
      '1',
      ...ask('--json'),
    );
    await again.line('published');
    await expect.poll(() => again.lines.length, { timeout: 10_000 }).toBeGreaterThan(1);
    again.kill('SIGINT');
    const ended = await again.ended;
    expect(ended.code).toBe(0);
    // put again as it was, not as something newer
    expect(new Set(ended.lines.filter(({ type }) => type === 'published').map((line) => line['seq']))).toEqual(
      new Set([2]),
    );
    const item = await shared.run('dht', 'get', String(link), ...ask('--json'));
    expect(only(item.lines, 'item')).toMatchObject({ seq: 2, value: { ih: { hex: 'cd'.repeat(20) } } });
    const back = await shared.run('publish', infoHash, '--key', 'pay.key', '--salt', 'n', ...ask());
    expect(back.stdout).toMatch(
      new RegExp(`^magnet:[^\n]+\n  stands for ${infoHash}\n  seq 3, stored by \\d+ nodes\n$`),
    );
    const got = await shared.run(
      'get',
      String(link),
      '-o',
      'followed',
      ...at('127.0.53.6'),
      '--json',
      '--timeout',
      '60',
    );
    expect(got).toMatchObject({ code: 0, stderr: '' });
    expect(got.lines.find(({ type }) => type === 'done')).toMatchObject({ infoHash, name: 'pay' });
    const info = await shared.run('info', String(link), ...at('127.0.53.7'), '--json', '--timeout', '60');
    expect(only(info.lines, 'torrent')).toMatchObject({ infoHash, name: 'pay' });
  });
});

it('a publisher that stays goes on when the DHT is back, and ends when somebody puts a newer version', async () => {
  const node = (port: number): Session => {
    const options = { dht: { bootstrap: [] }, lsd: false, hashThreads: 1, memory: 4 << 20 };
    return new Session({ bind: ['127.0.55.1'], port, ...options });
  };
  let only = node(0);
  try {
    await only.ready();
    const { ip, port } = only.addresses[0]!;
    const way = ['--bootstrap', `${ip}:${port}`, '--bind', '127.0.55.2', '--timeout', '2', '--json'];
    const stays = box.start('publish', 'cd'.repeat(20), '--key', 'tide.key', '--new-key', '--every', '1', ...way);
    await stays.line('published');
    await only.close();
    await expect.poll(() => stays.stderr, { timeout: 10_000 }).toContain('trying again soon');
    only = node(port);
    await only.ready();
    const before = stays.lines.length;
    await expect.poll(() => stays.lines.length, { timeout: 20_000 }).toBeGreaterThan(before);
    const newer = await box.run('publish', 'ab'.repeat(20), '--key', 'tide.key', ...way);
    expect(newer.lines.find(({ type }) => type === 'published')).toMatchObject({ seq: 2 });
    const ended = await stays.ended;
    expect(ended.code).not.toBe(0);
    expect(ended.stderr).toContain('refused');
  } finally {
    await only.close();
  }
});

describe('a publisher that is followed', () => {
  it('brings each newer version, for as long as it is seeded', async () => {
    const seeds = box.path('seeds');
    const publish = (name: string, ...more: string[]) =>
      box.run('publish', `${name}.torrent`, '--key', 'tide.key', ...more, ...ask('--json'));
    const atlas = randomBytes(2_000_000);
    for (const [i, name] of ['one', 'two'].entries()) {
      mkdirSync(`${seeds}/${name}`, { recursive: true });
      writeFileSync(`${seeds}/${name}/atlas`, atlas);
      writeFileSync(`${seeds}/${name}/tides`, randomBytes(200_000));
      await box.run('create', `seeds/${name}`, '-o', `${name}.torrent`);
      await box.start('seed', `${name}.torrent`, 'seeds', ...at(`127.0.54.${i + 1}`), '--json').line('progress');
    }
    const first = await publish('one', '--new-key');
    const link = String(only(first.lines, 'published')['link']);
    const get = box.start('get', link, '-o', 'out', ...at('127.0.54.9'), '--seed', '--follow-every', '1', '--json');
    await get.line('done', ({ name }) => name === 'one');
    expect((await publish('two')).code).toBe(0);
    const done = await get.line('done', ({ name }) => name === 'two');
    // what it shares with the version before is copied, not fetched
    expect(done['downloaded']).toBeLessThan(220_000);
    const versions = get.lines.filter(({ type }) => type === 'version');
    expect(versions.map(({ seq }) => seq)).toEqual([1, 2]);
    expect(versions[1]!['infoHash']).toBe(done['infoHash']);
    expect(readFileSync(box.path('out/two/tides')).equals(readFileSync(`${seeds}/two/tides`))).toBe(true);
    get.kill('SIGINT');
    expect((await get.ended).code).toBe(0);
  });
});

describe('info of a magnet link that nobody answers', () => {
  const hash = 'ef'.repeat(20);
  const link = `magnet:?xt=urn:btih:${hash}&dn=Tide`;

  it('shows the link: exit code 5 when peers were asked for in vain', async () => {
    const ended = await box.run('info', link, ...at('127.0.53.4'), '--timeout', '1', '--json');
    expect(ended.code).toBe(5);
    expect(ended.lines.map(({ type }) => type)).toEqual(['magnet', 'error', 'end']);
    expect(ended.lines[0]).toMatchObject({ infoHash: hash, name: 'Tide' });
    expect(ended.lines[1]).toMatchObject({ code: 'no-peers', message: expect.stringContaining('within 1 second') });
  });

  it('and 0 with a note where there was nobody to ask', async () => {
    const ended = await box.run('info', link, ...LOCAL, '--json');
    expect(ended.code).toBe(0);
    expect(ended.lines.map(({ type }) => type)).toEqual(['magnet', 'end']);
    expect(ended.stderr).toMatch(/^shoal: note: .*nobody could be asked.*\n$/);
    const offline = await box.run('info', link, '--offline');
    expect(offline).toMatchObject({ code: 0, stderr: '', stdout: expect.stringContaining(hash) });
    const insists = await box.run('info', link, ...LOCAL, '--timeout', '1');
    expect(insists).toMatchObject({ code: 5, stdout: expect.stringContaining('Tide') });
  });

  it('stops at Ctrl-C', async () => {
    // nothing is said while it searches, so the moment is found by trying: too early, and there is no handler yet
    let code: number | null = null;
    for (let delayMs = 300; code === null && delayMs < 8000; delayMs *= 1.5) {
      const info = box.start('info', link, ...at('127.0.53.5'), '--json');
      await new Promise((done) => setTimeout(done, delayMs));
      info.kill('SIGINT');
      ({ code } = await info.ended);
    }
    expect(code).toBe(130);
  });
});
