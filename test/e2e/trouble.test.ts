/** What stands in the way is named: which option, which file, which proxy, which tracker; and nothing is lost on the way out. */

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BIN, LOCAL, Sandbox } from './shoal.ts';

let box: Sandbox;
let server: Server | null = null;

beforeEach(async () => {
  box = new Sandbox();
  writeFileSync(box.path('pay.bin'), randomBytes(2_000_000));
  expect(await box.run('create', 'pay.bin', '--piece-size', '64K')).toMatchObject({ code: 0 });
});
afterEach(async () => {
  await box.close();
  server?.close();
  server = null;
});

/** Each command ends with 2 and one line that has all of these words. */
async function expectWrong(cases: readonly (readonly [args: readonly string[], ...words: string[]])[]): Promise<void> {
  for (const [args, ...words] of cases) {
    const { code, stderr } = await box.run(...args);
    expect({ args, code }).toEqual({ args, code: 2 });
    expect(stderr).toMatch(/^shoal: [^\n]+\n$/);
    for (const word of words) expect(stderr).toContain(word);
  }
}

it('options that cannot go together, and lists that block nobody, are wrong use', async () => {
  writeFileSync(box.path('junk'), randomBytes(500));
  writeFileSync(box.path('cut.gz'), gzipSync('Bad:10.0.0.1-10.0.0.9\n').subarray(0, 20));
  const get = ['get', 'pay.bin.torrent', ...LOCAL, '--timeout', '1'];
  const bare = ['get', 'pay.bin.torrent', '--no-dht', '--no-lsd', '--no-port-map', '--timeout', '1'];
  await expectWrong([
    [[...get, '--ip-filter', 'junk'], 'the block list junk', 'line 1'],
    [[...get, '--ip-filter', 'cut.gz'], 'the block list cut.gz', 'cut short'],
    [[...bare, '--proxy', 'http://127.0.0.1:9', '--transport', 'utp'], '--transport utp', 'socks5://'],
    [['dht', 'nodes', '--proxy', 'socks4://127.0.0.1:9'], 'DHT', 'socks5://'],
    [[...bare, '--interface', ''], '--interface'],
    [['info', '0123456789abcdef0123456789abcdef01234567', '--offline', '--save-torrent', 'x'], '--offline'],
  ]);
});

it('a search in vain tells what trackers, peers and the proxy had against it, and no passkey', async () => {
  server = createServer((_, response) => response.end('d14:failure reason12:unregisterede'));
  await new Promise<void>((done) => server!.listen(0, '127.0.0.1', done));
  const tracker = `http://127.0.0.1:${(server.address() as AddressInfo).port}/passkey/announce`;
  await box.run('create', 'pay.bin', '--tracker', tracker, '-o', 't.torrent');
  const noPeers = (args: readonly string[]): ReturnType<Sandbox['run']> => box.run('get', ...args, '--timeout', '2');
  const proxy = ['--no-dht', '--no-lsd', '--proxy', 'socks5://127.0.0.1:9', '--proxy-peers', '--proxy-trackers'];
  const [byTracker, byPeer, byProxy] = await Promise.all([
    noPeers(['t.torrent', ...LOCAL, '-o', 'a', '--json']),
    noPeers(['pay.bin.torrent', ...LOCAL, '-o', 'b', '--peer', '127.0.0.1:9']),
    noPeers(['pay.bin.torrent', ...proxy, '-o', 'c', '--peer', '127.0.0.1:8', '--json', '--state', 'own']),
  ]);
  expect(byTracker.code).toBe(5);
  const { message } = byTracker.lines.find(({ type }) => type === 'error')!;
  expect(message).toMatch(/^no peer within 2 seconds; tracker http:\/\/127\.0\.0\.1:\d+: unregistered$/);
  expect(byPeer.stderr).toMatch(/no peer within 2 seconds; .*127\.0\.0\.1:9.*refused/);
  const proxyDown = 'could not reach the SOCKS5 proxy 127.0.0.1:9: connection refused';
  expect(byProxy.stderr).toContain(`shoal: note: ${proxyDown}\n`);
  expect(byProxy.lines.find(({ type }) => type === 'error')).toMatchObject({
    message: expect.stringContaining(proxyDown),
  });
});

it('whoever stops reading our output ends it in order: what was verified is claimed the next time', async () => {
  const { peer, seed } = await box.seed('pay.bin.torrent', 'pay.bin', '--bind', '127.0.0.2');
  const get = ['get', 'pay.bin.torrent', ...LOCAL, '--peer', peer, '-o', 'out', '--json'];
  const env = { ...process.env, XDG_STATE_HOME: box.path('xdg') };
  const child = spawn(process.execPath, [BIN, ...get, '--down', '400K'], { cwd: box.folder, env });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  // leaves once there is something to lose
  child.stdout.on('data', (data) => {
    if (/"bytesDone":[1-9]/.test(String(data))) child.stdout.destroy();
  });
  expect(await ended).toBe(130);
  const again = await box.run(...get);
  expect(again.code).toBe(0);
  expect(again.lines.find(({ type }) => type === 'done')!['resumed']).toBeGreaterThan(0);
  // and a seed says once where it listens, each address
  seed.kill('SIGINT');
  const { lines } = await seed.ended;
  const hosts = lines.filter(({ type }) => type === 'listening').map(({ host }) => host);
  expect(hosts.sort()).toEqual(['127.0.0.1', '127.0.0.2']);
});

it.skipIf(process.platform !== 'linux')('output that finds no room is a failure', async () => {
  const child = spawn('sh', ['-c', `"${process.execPath}" "${BIN}" info pay.bin.torrent >/dev/full`], {
    cwd: box.folder,
  });
  expect(await new Promise((resolve) => child.on('close', resolve))).toBe(4);
});

it('a link of version 2 alone tells its files, but ends where no hash of a piece is known', async () => {
  const made = await box.run('create', 'pay.bin', '--v2', '--piece-size', '64K', '-o', 'v2.torrent', '--json');
  const { infoHashV2 } = made.lines[0]!;
  const link = `magnet:?xt=urn:btmh:1220${infoHashV2}`;
  const { peer } = await box.seed('v2.torrent', 'pay.bin');
  const told = await box.run('info', link, ...LOCAL, '--peer', peer, '--json', '--timeout', '10');
  expect(told).toMatchObject({ code: 0, lines: [{ type: 'torrent', infoHashV2, name: 'pay.bin' }, { type: 'end' }] });
  const got = await box.run('get', link, ...LOCAL, '--peer', peer, '-o', 'out', '--timeout', '10');
  expect(got.code).toBe(3);
  expect(got.stderr).toBe('shoal: pay.bin: has no hashes of its pieces (v2); a .torrent file does\n');
});
