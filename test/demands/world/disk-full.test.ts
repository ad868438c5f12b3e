/** D1: a full disk stops the torrent that fills it and nothing else, and it goes on when there is room. */

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { canMount, it, makeFile, needs, pause, sameBytes, until } from './kit.ts';

const MIB = 1 << 20;

describe('a full disk', () => {
  it.concurrent('is an error within 5 s, costs next to nothing, stops no other torrent, and ends when there is room', async ({
    world,
    skip,
  }) => {
    needs(skip, [canMount(), 'the right to mount a tmpfs']);
    const big = makeFile('big', 128 * MIB);
    const other = makeFile('other', 24 * MIB);
    const { peer } = await world.seed([big, other]);
    const small = world.tmpfs('small', '160m');
    writeFileSync(`${small}/ballast`, Buffer.alloc(96 * MIB));
    const getter = world.agent();
    await getter.open({ state: world.path('state') });
    await getter.add(big, { folder: small, peers: [peer] });
    const failed = await getter.until(0, ({ state }) => state === 'error', 15_000, 'an error');
    expect(failed.error).toMatchObject({ code: 'ENOSPC' });
    expect(failed.error!.message).toContain(`${small}/big`);
    expect(failed.error!.message).toMatch(/no space/i);
    expect(failed.hashFails).toBe(0);
    // while it is full
    await pause(1000);
    const from = await getter.usage();
    await pause(6000);
    const to = await getter.usage();
    expect((to.cpuMs - from.cpuMs) / (to.atMs - from.atMs)).toBeLessThan(0.05);
    // another one goes on
    await getter.add(other, { folder: world.make('elsewhere'), peers: [peer] });
    await getter.call('done', 1);
    expect(sameBytes(other, world.path('elsewhere'))).toBe(true);
    const before = await getter.stats(0);
    expect(before.state).toBe('error');
    // room
    rmSync(`${small}/ballast`);
    await getter.until(0, ({ state }) => state === 'seeding', 10_000, 'completion once there is room');
    expect(sameBytes(big, small)).toBe(true);
    const { downloaded, hashFails } = await getter.stats(0);
    expect(hashFails).toBe(0);
    expect(downloaded).toBeLessThan(170 * MIB);
    await getter.end();
  });

  it.concurrent('of the state leaves the old state, and the next session goes on from it', async ({ world, skip }) => {
    needs(skip, [canMount(), 'the right to mount a tmpfs']);
    const made = makeFile('data', 80 * MIB);
    const { agent: seed, peer } = await world.seed([made], { uploadLimit: 12 * MIB });
    const state = world.tmpfs('state', '1m');
    const folder = world.make('data');
    const first = world.agent();
    await first.open({ state });
    await first.add(made, { folder, peers: [peer] });
    await first.until(0, ({ bytesDone }) => bytesDone > 14 * MIB, 20_000, 'a beginning');
    await pause(1200);
    const name = readdirSync(state).find((file) => file.endsWith('.state'))!;
    // full to the last byte
    for (let i = 0, size = 65536; size >= 1; size = Math.floor(size / 2)) {
      try {
        for (;;) writeFileSync(`${state}/ballast-${i++}`, Buffer.alloc(size));
      } catch {
        // full
      }
    }
    await pause(100);
    const held = readFileSync(`${state}/${name}`);
    expect(held.length).toBeGreaterThan(28);
    await first.until(0, ({ bytesDone }) => bytesDone > 30 * MIB, 20_000, 'more data though the state is full');
    await until(
      () => first.call<[number, number, { type: string; message?: string }][]>('log'),
      (log) => log.some(([, , event]) => event.type === 'warning' && /no space/i.test(event.message ?? '')),
      5000,
      'a warning',
    );
    expect((await first.stats(0)).state).toBe('downloading');
    first.kill('SIGKILL');
    await first.exit;
    expect(readFileSync(`${state}/${name}`).equals(held)).toBe(true);
    const second = world.agent();
    await second.open({ state });
    await second.call('restore');
    await second.call('checked', 0);
    const { resumed } = await second.stats(0);
    expect(resumed).toBeGreaterThan(8 * MIB);
    await seed.call('setLimits', 0, { up: 0 });
    await second.call('addPeer', 0, peer);
    await second.call('done', 0);
    expect(sameBytes(made, folder)).toBe(true);
  });
});
