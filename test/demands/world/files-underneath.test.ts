/** D3, D4: what happens to files and file systems underneath a torrent. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect } from 'vitest';
import { canMount, has, it, type Made, makeTorrent, needs, pause, sameBytes, until } from './kit.ts';

const MIB = 1 << 20;

function pair(): Made {
  const files = [
    { path: ['sub', 'a.bin'], bytes: randomBytes(6 * MIB) },
    { path: ['sub', 'b.bin'], bytes: randomBytes(6 * MIB + 5) },
  ];
  return makeTorrent('pair', files, { pieceLength: 1 << 18 });
}

/** What is done to `sub/a.bin`; `outside` is a file that holds other bytes. */
const HARMS: Record<string, (path: string, outside: string) => void> = {
  removed: (path) => rmSync(path),
  truncated: (path) => truncateSync(path, 1 * MIB + 77),
  'truncated to nothing': (path) => truncateSync(path, 0),
  'replaced by another file': (path) => {
    writeFileSync(`${path}.new`, randomBytes(6 * MIB));
    renameSync(`${path}.new`, path);
  },
  'replaced by a folder': (path) => {
    rmSync(path);
    mkdirSync(path);
    writeFileSync(`${path}/mine`, 'mine');
  },
  'replaced by a link': (path, outside) => {
    rmSync(path);
    symlinkSync(outside, path);
  },
  'replaced by a FIFO': (path) => {
    rmSync(path);
    execFileSync('mkfifo', [path]);
  },
};

describe.concurrent('a file underneath a seed', () => {
  for (const [harm, apply] of Object.entries(HARMS)) {
    it.concurrent(`that is ${harm} is noticed; no bad byte is served, the rest is`, async ({ world, skip }) => {
      needs(skip, [has('mkfifo'), 'mkfifo']);
      const made = pair();
      const outside = world.path('outside');
      writeFileSync(outside, randomBytes(6 * MIB));
      const kept = readFileSync(outside);
      const { agent: seed, peer } = await world.seed([made]);
      const path = world.path('seed-0', 'pair', 'sub', 'a.bin');
      // some of it was served, so that the file is open
      const early = world.agent();
      await early.open();
      await early.add(made, { folder: world.make('early'), peers: [peer] });
      await early.call('done', 0);
      await early.end();
      apply(path, outside);
      await pause(1100);
      const getter = world.agent();
      await getter.open();
      const folder = world.make('down');
      await getter.add(made, { folder, peers: [peer] });
      await until(
        () => getter.call<{ bytesDone: number }[]>('files', 0),
        ([, b]) => b!.bytesDone >= 6 * MIB - (1 << 18),
        15_000,
        'the other file',
      );
      // lives, answers soon
      const asked = performance.now();
      const { error, hashFails } = await seed.stats();
      expect(performance.now() - asked).toBeLessThan(2000);
      expect(error === null ? (await seed.stats()).piecesDone : -1).toBeLessThan((await seed.stats()).pieceCount);
      expect(hashFails).toBe(0);
      expect((await getter.stats()).hashFails).toBe(0);
      // somebody who has it all comes: the seed mends what is missing, or stays in error; never through the link
      const { peer: whole } = await world.seed([made]);
      await seed.call('addPeer', 0, whole);
      await getter.call('addPeer', 0, whole);
      await getter.call('done', 0);
      expect(sameBytes(made, folder)).toBe(true);
      expect((await getter.stats()).hashFails).toBe(0);
      const gone = harm.startsWith('replaced by a ') || harm.startsWith('replaced by another');
      if (!gone || harm.includes('another file')) {
        await seed.until(0, ({ state }) => state === 'seeding', 25_000, 'a mended seed');
        expect(sameBytes(made, world.path('seed-0'))).toBe(true);
      } else {
        await seed.until(0, ({ state }) => state === 'error', 15_000, 'an error at the seed');
        if (harm.includes('folder')) expect(readFileSync(`${path}/mine`, 'utf8')).toBe('mine');
        else if (harm.includes('FIFO')) expect(lstatSync(path).isFIFO()).toBe(true);
        else expect(lstatSync(path).isSymbolicLink()).toBe(true);
      }
      expect(readFileSync(outside).equals(kept)).toBe(true);
      await seed.end();
      await getter.end();
    });
  }
});

describe.concurrent('a file underneath a download', () => {
  for (const harm of ['removed', 'truncated', 'replaced by another file', 'replaced by a link', 'replaced by a FIFO']) {
    const apply = HARMS[harm]!;
    it.concurrent(`that is ${harm} is downloaded again, or an error`, async ({ world, skip }) => {
      needs(skip, [has('mkfifo'), 'mkfifo']);
      const made = pair();
      const outside = world.path('outside');
      writeFileSync(outside, randomBytes(6 * MIB));
      const kept = readFileSync(outside);
      const { agent: seed, peer } = await world.seed([made], { uploadLimit: 2 * MIB });
      const getter = world.agent();
      await getter.open({ state: world.path('state') });
      const folder = world.make('down');
      await getter.add(made, { folder, peers: [peer], sequential: true });
      await getter.until(0, ({ bytesDone }) => bytesDone > 3 * MIB, 15_000, 'a beginning');
      const path = `${folder}/pair/sub/a.bin`;
      apply(path, outside);
      await seed.call('setLimits', 0, { up: 0 });
      const stuck = /folder|link|FIFO/.test(harm);
      if (stuck) {
        const { error } = await getter.until(0, ({ state }) => state === 'error', 15_000, 'an error');
        expect(error!.message).toContain('a.bin');
        await getter.call('pause', 0);
        rmSync(path, { recursive: true });
        await getter.call('recheck', 0);
        await getter.call('resume', 0);
      }
      await getter.until(0, ({ state }) => state === 'seeding', 25_000, 'completion');
      await getter.call('recheck', 0);
      await getter.until(0, ({ state }) => state !== 'checking', 10_000, 'a check');
      await getter.until(0, ({ state }) => state === 'seeding', 25_000, 'completion after a check');
      expect(sameBytes(made, folder)).toBe(true);
      expect((await getter.stats()).hashFails).toBe(0);
      expect(readFileSync(outside).equals(kept)).toBe(true);
      await getter.end();
    });
  }
});

describe.concurrent('a file system that goes away', () => {
  it.concurrent('is an error; what was claimed is claimed again when it is back, and nothing is fetched again', async ({
    world,
    skip,
  }) => {
    needs(skip, [canMount(), 'the right to mount']);
    const files = Array.from({ length: 40 }, (_, i) => ({ path: [`f${i}`], bytes: randomBytes(600_000) }));
    const made = makeTorrent('tree', files, { pieceLength: 65536 });
    const { peer } = await world.seed([made]);
    const backing = world.tmpfs('backing', '64m');
    const at = world.make('mnt');
    world.mount(['--bind', backing, at], at);
    // few files may be open at once, so that most are opened anew
    const getter = world.agent({ prefix: ['sh', '-c', 'ulimit -n 128; exec "$@"', 'sh'] });
    await getter.open({ state: world.path('state') });
    await getter.add(made, { folder: at, peers: [peer] });
    await getter.call('done', 0);
    const before = await getter.stats();
    await pause(300);
    world.umount(at);
    // somebody wants all of it
    const other = world.agent();
    await other.open();
    const port = (await getter.call<{ ip: string; port: number }[]>('addresses'))[0]!.port;
    await other.add(made, { folder: world.make('other'), peers: [`127.0.0.1:${port}`] });
    const { error } = await getter.until(0, ({ state }) => state === 'error', 15_000, 'an error');
    expect(error!.code).toBe('ENODEV');
    expect(existsSync(`${at}/tree`)).toBe(false);
    await pause(6000);
    expect((await getter.stats()).piecesDone).toBe(made.files.length > 0 ? before.piecesDone : -1);
    world.mount(['--bind', backing, at], at);
    await getter.until(0, ({ state }) => state === 'seeding', 12_000, 'recovery');
    await other.call('addPeer', 0, `127.0.0.1:${port}`);
    await other.call('done', 0);
    const after = await getter.stats();
    expect(after.piecesDone).toBe(before.piecesDone);
    expect(after.downloaded).toBe(before.downloaded);
    expect(sameBytes(made, world.path('other'))).toBe(true);
    await getter.end();
  });
});
