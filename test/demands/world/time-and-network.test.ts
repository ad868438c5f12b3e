/** C1, C2, N1: a clock that jumps, a process that sleeps, a network that goes away. */

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect } from 'vitest';
import { has, isRoot, it, makeFile, needs, pause, sameBytes, until } from './kit.ts';

const MIB = 1 << 20;

function libfaketime(): string {
  for (const arch of existsSync('/usr/lib') ? ['.', ...readdirSync('/usr/lib')] : []) {
    const path = `/usr/lib/${arch}/faketime/libfaketime.so.1`;
    if (existsSync(path)) return path;
  }
  return '';
}

describe.concurrent('a wall clock that jumps', () => {
  it.concurrent('(years, days, hours) changes neither rates nor announces nor the end', async ({ world, skip }) => {
    const library = libfaketime();
    needs(skip, [library !== '', 'libfaketime (the package faketime)']);
    const asked: number[] = [];
    const server = createServer((_request, response) => {
      asked.push(performance.now());
      response.end('d8:intervali1800e5:peers0:e');
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    world.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/announce`;
    const made = makeFile('data', 30 * MIB, { trackers: [[url]] });
    const { peer } = await world.seed([{ ...made, torrent: makeFileless(made.torrent) }]);
    const clock = world.path('clock');
    const set = (offset: string): void => writeFileSync(clock, `${offset}\n`);
    set('+0');
    const env = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: clock,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
    };
    const agent = world.agent({ env });
    await agent.open({ state: world.path('state'), downloadLimit: 3 * MIB });
    const before = asked.length;
    const from = performance.now();
    const folder = world.make('down');
    await agent.add(made, { folder, peers: [peer] });
    const jumps = ['+10y', '-10y', '-1d', '+1d', '+1h', '-1h', '+0'];
    let last = { bytes: 0, atMs: performance.now() };
    let longest = 0;
    for (let tick = 0; ; tick++) {
      if (tick % 10 === 0) set(jumps[(tick / 10) % jumps.length]!);
      const { bytesDone, state } = await agent.stats();
      const now = performance.now();
      if (bytesDone > last.bytes) last = { bytes: bytesDone, atMs: now };
      longest = Math.max(longest, now - last.atMs);
      if (state === 'seeding') break;
      expect(now - from).toBeLessThan(20_000);
      await pause(100);
    }
    const seconds = (performance.now() - from) / 1000;
    expect(longest).toBeLessThan(2000);
    // 30 MiB at 3 MiB/s; a burst at the start and the turn-around of a test are allowed for
    expect(seconds).toBeGreaterThan(8.5);
    expect(seconds).toBeLessThan(12);
    expect(asked.length - before).toBeLessThanOrEqual(2);
    expect(sameBytes(made, folder)).toBe(true);
    await agent.end();
  });
});

/** The same info without trackers, so that the seed does not announce. */
function makeFileless(torrent: Buffer): Buffer {
  return Buffer.concat([Buffer.from('d'), torrent.subarray(torrent.indexOf('4:info'))]);
}

describe.concurrent('a process that sleeps', () => {
  it.concurrent('for 10 s, while its peer is replaced, is back within 15 s and finishes', async ({ world }) => {
    const made = makeFile('data', 40 * MIB);
    const first = await world.seed([made], { uploadLimit: 3 * MIB });
    const getter = world.agent();
    await getter.open({ state: world.path('state') });
    const folder = world.make('down');
    await getter.add(made, { folder, peers: [first.peer] });
    await getter.until(0, ({ bytesDone }) => bytesDone > 3 * MIB, 10_000, 'a beginning');
    getter.kill('SIGSTOP');
    first.agent.kill('SIGKILL');
    await first.agent.exit;
    await pause(8000);
    const port = Number(first.peer.split(':')[1]);
    const second = await world.seed([made], { port });
    expect(second.peer).toBe(first.peer);
    await pause(2000);
    getter.kill('SIGCONT');
    const from = performance.now();
    const before = (await getter.usage()).cpuMs;
    await getter.until(0, ({ state, peers }) => peers > 0 || state === 'seeding', 15_000, 'a connection');
    await getter.call('done', 0);
    expect(performance.now() - from).toBeLessThan(25_000);
    expect((await getter.usage()).cpuMs - before).toBeLessThan(5000);
    expect(sameBytes(made, folder)).toBe(true);
    await getter.end();
  });

  it.concurrent('for 10 s while a peer downloads from it goes on where it was', async ({ world }) => {
    const made = makeFile('data', 30 * MIB);
    const { agent: seed, peer } = await world.seed([made], { uploadLimit: 3 * MIB });
    const getter = world.agent();
    await getter.open();
    const folder = world.make('down');
    await getter.add(made, { folder, peers: [peer] });
    await getter.until(0, ({ bytesDone }) => bytesDone > 3 * MIB, 10_000, 'a beginning');
    seed.kill('SIGSTOP');
    await pause(10_000);
    seed.kill('SIGCONT');
    await seed.call('setLimits', 0, { up: 0 });
    const { bytesDone } = await getter.stats();
    await getter.until(0, (stats) => stats.bytesDone > bytesDone + MIB, 15_000, 'more');
    await getter.call('done', 0);
    expect(sameBytes(made, folder)).toBe(true);
    expect((await getter.stats()).hashFails).toBe(0);
    await getter.end();
  });
});

describe.concurrent('a network that goes away', () => {
  it.concurrent('and comes back: the transfer goes on at its rate within 30 s', async ({ world, skip }) => {
    needs(skip, [isRoot, 'root'], [has('ip'), 'ip (the package iproute2)'], [canUnshare(), 'network namespaces']);
    const space = `shoal-${process.pid}`;
    const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'ignore' });
    ip('netns', 'add', space);
    world.after(() => ip('netns', 'del', space));
    const lo = (state: string): void => ip('-n', space, 'link', 'set', 'lo', state);
    lo('up');
    ip('-n', space, 'addr', 'add', '10.77.0.1/24', 'dev', 'lo');
    ip('-n', space, 'addr', 'add', '10.77.0.2/24', 'dev', 'lo');
    const inside = { prefix: ['ip', 'netns', 'exec', space] };
    const downMs = Number(process.env['SHOAL_NETWORK_DOWN_MS'] ?? 6000);
    const rate = 4 * MIB;
    const made = makeFile('data', 64 * MIB);
    const { peer } = await world.seed([made], { bind: ['10.77.0.1'], uploadLimit: rate }, inside);
    const getter = world.agent(inside);
    await getter.open({ bind: ['10.77.0.2'], state: world.path('state') });
    const folder = world.make('down');
    await getter.add(made, { folder, peers: [peer] });
    await getter.until(0, ({ bytesDone }) => bytesDone > 8 * MIB, 10_000, 'a beginning');
    lo('down');
    await pause(downMs);
    lo('up');
    const from = performance.now();
    const { bytesDone } = await getter.stats();
    await getter.until(0, (stats) => stats.bytesDone >= bytesDone + rate, 30_000, 'data again');
    const at = await getter.stats();
    await pause(3000);
    const later = await getter.stats();
    const span = (later.atMs - at.atMs) / 1000;
    if (later.state !== 'seeding') expect((later.bytesDone - at.bytesDone) / span).toBeGreaterThan(0.85 * rate);
    expect(performance.now() - from).toBeLessThan(35_000);
    await getter.call('done', 0);
    expect(sameBytes(made, folder)).toBe(true);
    expect((await getter.stats()).hashFails).toBe(0);
    await until(
      () => getter.stats(),
      ({ state }) => state === 'seeding',
      1000,
      'the end',
    );
    await getter.end();
  });
});

function canUnshare(): boolean {
  const name = `shoal-try-${process.pid}`;
  try {
    execFileSync('ip', ['netns', 'add', name], { stdio: 'ignore' });
    execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
