/** D2: every file call fails in turn; the torrent says so by path and errno, nothing false is claimed, nobody is banned. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { type Agent, has, it, type Made, makeFile, makeTorrent, needs, pause, sameBytes, until, World } from './kit.ts';

const MIB = 1 << 20;
const build = new World();
const shim = build.path('shim.so');

beforeAll(() => {
  if (!has('gcc')) return;
  execFileSync('gcc', [
    '-shared',
    '-fPIC',
    '-O1',
    '-w',
    '-o',
    shim,
    fileURLToPath(new URL('fault-shim.c', import.meta.url)),
    '-ldl',
  ]);
});
afterAll(() => build.close());

/** From now on these calls fail. */
function set(world: World, call: string, code: string, every: number, text: string): void {
  const errno = constants.errno[code as keyof typeof constants.errno];
  writeFileSync(world.path('control'), `${call} ${errno} ${every} ${text}`);
}

function shimmed(world: World): Agent {
  return world.agent({ env: { LD_PRELOAD: shim, SHOAL_FAULT: world.path('control') } });
}

type Logged = [
  number,
  number,
  { type: string; state?: string; message?: string; error?: { code: string; message: string } },
];

async function expectNobodyBanned(agent: Agent): Promise<void> {
  const log = await agent.call<Logged[]>('log');
  expect(log.filter(([, , event]) => event.type === 'warning' && /banned/.test(event.message ?? ''))).toEqual([]);
}

/** Verified by hashing all of it. */
async function expectNothingFalse(made: Made, agent: Agent, folder: string): Promise<void> {
  const claimed = (await agent.call<number[]>('pieces', 0)).map((state) => state === 3);
  const all = Buffer.concat(made.files.map(({ bytes }) => bytes));
  const path = `${folder}/${made.name}`;
  const there = existsSync(path) && statSync(path).isFile() ? readFileSync(path) : Buffer.alloc(0);
  claimed.forEach((good, piece) => {
    const [from, to] = [piece * made.pieceLength, Math.min(all.length, (piece + 1) * made.pieceLength)];
    if (good) expect(there.subarray(from, to).equals(all.subarray(from, to)), `piece ${piece}`).toBe(true);
  });
}

describe('a file call that fails', () => {
  for (const [call, code] of [
    ['write', 'EIO'],
    ['write', 'EROFS'],
    ['open', 'EACCES'],
    ['open', 'EIO'],
    ['sync', 'EIO'],
  ] as const) {
    it.concurrent(`(${call}, ${code}) while downloading is an error of the torrent, and no longer when it works again`, async ({
      world,
      skip,
    }) => {
      needs(skip, [has('gcc'), 'gcc']);
      const made = makeFile('data', 24 * MIB);
      const { peer } = await world.seed([made], call === 'sync' ? { uploadLimit: 2 * MIB } : {});
      const folder = world.make('down');
      const agent = shimmed(world);
      await agent.open({ state: world.path('state') });
      set(world, call, code, 1, call === 'open' ? 'data' : `${folder}/data`);
      await agent.add(made, { folder, peers: [peer] });
      const { error } = await agent.until(
        0,
        ({ state }) => state === 'error',
        call === 'sync' ? 20_000 : 5000,
        'an error',
      );
      expect(error!.code).toBe(code);
      expect(error!.message).toContain(`${folder}/data`);
      await expectNothingFalse(made, agent, folder);
      writeFileSync(world.path('control'), '');
      await agent.until(0, ({ state }) => state === 'seeding', 20_000, 'completion');
      expect(sameBytes(made, folder)).toBe(true);
      expect((await agent.stats()).hashFails).toBe(0);
      await expectNobodyBanned(agent);
      await agent.end();
    });
  }

  it.concurrent('now and then (1 in 50, all kinds) does not keep a download from its end', async ({ world, skip }) => {
    needs(skip, [has('gcc'), 'gcc']);
    const files = Array.from({ length: 60 }, (_, i) => ({ path: [`f${i}`], bytes: randomBytes(200_000 + i * 1000) }));
    const made = makeTorrent('many', files, { pieceLength: 65536 });
    const { peer } = await world.seed([made]);
    const folder = world.make('down');
    const agent = shimmed(world);
    await agent.open({ state: world.path('state') });
    set(world, 'all', 'EIO', 50, folder);
    await agent.add(made, { folder, peers: [peer] });
    await agent.until(0, ({ error }) => error !== null, 5000, 'an error');
    await pause(500);
    set(world, 'all', 'EIO', 400, folder);
    await agent.until(0, ({ state }) => state === 'seeding', 60_000, 'completion');
    expect(sameBytes(made, folder)).toBe(true);
    await expectNobodyBanned(agent);
    await agent.end();
  });

  for (const code of ['EIO', 'EACCES'] as const) {
    it.concurrent(`(read, ${code}) while seeding refuses the piece, serves the others, and bans nobody`, async ({
      world,
      skip,
    }) => {
      needs(skip, [has('gcc'), 'gcc']);
      const files = [
        { path: ['bad'], bytes: randomBytes(4 * MIB) },
        { path: ['good'], bytes: randomBytes(8 * MIB) },
      ];
      const made = makeTorrent('pair', files, { pieceLength: 1 << 18 });
      set(world, code === 'EACCES' ? 'open' : 'read', code, 1, code === 'EACCES' ? 'bad' : 'pair/bad');
      const { agent: seed, peer } = await world.seed(
        [made],
        {},
        { env: { LD_PRELOAD: shim, SHOAL_FAULT: world.path('control') } },
      );
      const agent = world.agent();
      await agent.open();
      const folder = world.make('down');
      await agent.add(made, { folder, peers: [peer] });
      const { error } = await seed.until(0, ({ error }) => error !== null, 5000, 'an error at the seed');
      expect(error!.code).toBe(code);
      expect(error!.message).toContain('pair/bad');
      await until(
        () => agent.call<{ bytesDone: number }[]>('files', 0),
        (list) => list[1]!.bytesDone === 8 * MIB,
        30_000,
        'the good file',
      );
      expect((await agent.stats()).hashFails).toBe(0);
      await expectNobodyBanned(agent);
      writeFileSync(world.path('control'), '');
      if (code === 'EACCES') {
        // nothing was lost: looking is enough
        await seed.call('recheck', 0);
        await agent.until(0, ({ state }) => state === 'seeding', 30_000, 'all of it');
        expect(sameBytes(made, folder)).toBe(true);
      }
      await seed.end();
      await agent.end();
    });
  }

  it.concurrent('(rename) when state is saved warns and keeps the record before', async ({ world, skip }) => {
    needs(skip, [has('gcc'), 'gcc']);
    const made = makeFile('data', 16 * MIB);
    const { peer } = await world.seed([made], { uploadLimit: 4 * MIB });
    const state = world.make('state');
    const folder = world.make('down');
    const agent = shimmed(world);
    await agent.open({ state });
    await agent.add(made, { folder, peers: [peer] });
    await agent.until(0, ({ bytesDone }) => bytesDone > 4 * MIB, 20_000, 'a beginning');
    set(world, 'rename', 'EIO', 1, '.state');
    await until(
      () => agent.call<Logged[]>('log'),
      (log) => log.some(([, , event]) => event.type === 'warning'),
      5000,
      'a warning',
    );
    agent.kill('SIGKILL');
    await agent.exit;
    const second = world.agent();
    await second.open({ state });
    await second.call('restore');
    await second.call('checked', 0);
    expect((await second.stats()).bytesDone).toBeGreaterThan(2 * MIB);
    await expectNothingFalse(made, second, folder);
    await second.end();
  });
});
