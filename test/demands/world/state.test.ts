/** K4: a state folder that somebody changed: every byte flipped, cut at every length, and signed anew. */

import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { type Agent, it, layOut, type Made, makeTorrent, pause, type World } from './kit.ts';

const HEAD = 28;
/** Of 10,000 changes; all of them with SHOAL_TAMPER=10000. */
const SIGNED = Number(process.env['SHOAL_TAMPER'] ?? 150);

/** Some pieces on disk, and the state that says so; gives the record's file. */
async function begun(world: World, made: Made, folder: string, state: string): Promise<string> {
  const { peer } = await world.seed([made]);
  const agent = world.agent();
  await agent.open({ state });
  await agent.add(made, { folder, peers: [peer] });
  await agent.call('done', 0);
  await pause(1200);
  await agent.end();
  return readdirSync(state).find((name) => name.endsWith('.state'))!;
}

/** Magic, length, digest; and inside, the record with a digest of its own. */
function sealed(record: Buffer): Buffer {
  const body = record.subarray(0, record.length - 20);
  const whole = Buffer.concat([body, createHash('sha1').update(body).digest()]);
  const head = Buffer.alloc(HEAD);
  head.write('shoal-1\n', 'latin1');
  head.writeUInt32BE(whole.length, 8);
  createHash('sha256').update(whole).digest().copy(head, 12, 0, 16);
  return Buffer.concat([head, whole]);
}

async function truth(agent: Agent, index: number, good: boolean[]): Promise<void> {
  const pieces = await agent.call<number[]>('pieces', index);
  pieces.forEach((state, piece) => {
    if (state === 3) expect(good[piece], `piece ${piece}`).toBe(true);
  });
}

describe.concurrent('a tampered state folder', () => {
  it.concurrent('(every byte flipped, cut at every length) is never believed and never a crash', async ({ world }) => {
    const made = makeTorrent(
      'pair',
      [
        { path: ['a'], bytes: randomBytes(150_000) },
        { path: ['b'], bytes: randomBytes(90_000) },
      ],
      { pieceLength: 16384 },
    );
    const state = world.path('state');
    const folder = world.make('down');
    const name = await begun(world, made, folder, state);
    const record = readFileSync(`${state}/${name}`);
    // 10,000 records, each under a key of its own, in one folder
    const many = world.make('many');
    const key = (n: number): string => n.toString(16).padStart(40, '0');
    let count = 0;
    for (let at = 0; count < 5000; at++) {
      const bytes = Buffer.from(record);
      bytes[at % record.length]! ^= 1 << (Math.floor(at / record.length) % 8);
      writeFileSync(`${many}/${key(count++)}.state`, bytes);
    }
    for (let at = 0; count < 10_000; at++) {
      writeFileSync(`${many}/${key(count++)}.state`, record.subarray(0, at % record.length));
    }
    const agent = world.agent();
    await agent.open({ state: many });
    const found = await agent.call<number[]>('restore');
    expect(found).toEqual([]);
    await agent.end();
    expect(readdirSync(many).filter((file) => file.endsWith('.bad')).length).toBe(10_000);
  });

  it.concurrent('with the digests made right again is never a crash, and no way out of its folder', async ({
    world,
  }) => {
    const made = makeTorrent(
      'pair',
      [
        { path: ['a'], bytes: randomBytes(150_000) },
        { path: ['b'], bytes: randomBytes(90_000) },
      ],
      { pieceLength: 16384 },
    );
    const state = world.path('state');
    const folder = world.make('down');
    const name = await begun(world, made, folder, state);
    const record = readFileSync(`${state}/${name}`).subarray(HEAD);
    // one process after another would take minutes: one process, a session for each
    const agent = world.agent();
    const step = 10_000 / SIGNED;
    for (let n = 0; n < SIGNED; n++) {
      const at = Math.floor(((n * step) / 10_000) * (record.length - 20));
      const bytes = Buffer.from(record);
      if (n % 3 === 0) bytes[at]! ^= 1 << (n % 8);
      else if (n % 3 === 1) bytes[at] = randomBytes(1)[0]!;
      else bytes.copyWithin(at, (at * 7) % (record.length - 20), record.length - 20);
      const tampered = world.path(`t${n}`);
      mkdirSync(tampered);
      writeFileSync(`${tampered}/${name}`, sealed(bytes));
      await agent.open({ state: tampered, memory: 1 << 20, hashThreads: 1 });
      const found = await agent.call<number[]>('restore');
      for (const index of found) {
        const { state } = await agent.stats(index);
        expect(['metadata', 'checking', 'downloading', 'seeding', 'paused', 'error']).toContain(state);
      }
      await agent.call('close');
      rmSync(tampered, { recursive: true });
    }
    await agent.end();
    expect(readdirSync(world.folder).sort()).toEqual(['down', 'seed-0', 'state']);
  });

  it.concurrent('and the data changed in size or time, or cut, or the record of another torrent: nothing false is claimed', async ({
    world,
  }) => {
    const bytes = randomBytes(300_000);
    const made = makeTorrent(
      'pair',
      [
        { path: ['a'], bytes: bytes.subarray(0, 150_000) },
        { path: ['b'], bytes: bytes.subarray(150_000) },
      ],
      { pieceLength: 16384 },
    );
    const state = world.path('state');
    const folder = world.make('down');
    const name = await begun(world, made, folder, state);
    const all = (): boolean[] => Array.from({ length: 19 }, () => true);
    const path = `${folder}/pair/a`;
    const harms: [string, () => boolean[]][] = [
      ['untouched', all],
      [
        'longer by a byte at the front',
        () => {
          writeFileSync(path, Buffer.concat([Buffer.alloc(1), made.files[0]!.bytes]));
          return all().map((_, p) => p > 9);
        },
      ],
      [
        'other bytes, same size',
        () => {
          writeFileSync(path, randomBytes(150_000));
          return all().map((_, p) => p > 9);
        },
      ],
      [
        'one byte, same size',
        () => {
          const b = Buffer.from(made.files[0]!.bytes);
          b[70_000]! ^= 1;
          writeFileSync(path, b);
          return all().map((_, p) => p !== 4);
        },
      ],
      [
        'cut',
        () => {
          writeFileSync(path, made.files[0]!.bytes.subarray(0, 50_000));
          return all().map((_, p) => p < 3 || p > 9);
        },
      ],
      [
        'gone',
        () => {
          rmSync(path);
          return all().map((_, p) => p > 9);
        },
      ],
    ];
    for (const [what, harm] of harms) {
      const copy = world.make('copy');
      copyFileSync(`${state}/${name}`, `${copy}/${name}`);
      const good = harm();
      const agent = world.agent();
      await agent.open({ state: copy });
      await agent.call('restore');
      await agent.call('checked', 0);
      await agent.until(0, ({ state }) => state !== 'checking', 5000, what);
      await truth(agent, 0, good);
      if (what === 'untouched') expect((await agent.stats(0)).piecesDone).toBe(19);
      await agent.end();
      rmSync(copy, { recursive: true });
      layOut(made, folder);
    }
    // the record of another torrent under this one's name
    const other = makeTorrent(
      'pair',
      [
        { path: ['a'], bytes: randomBytes(150_000) },
        { path: ['b'], bytes: randomBytes(150_000) },
      ],
      { pieceLength: 16384 },
    );
    const foreign = world.make('foreign');
    copyFileSync(`${state}/${name}`, `${foreign}/${other.infoHash}.state`);
    const agent = world.agent();
    await agent.open({ state: foreign });
    await agent.add(other, { folder });
    await agent.call('checked', 0);
    await agent.until(0, ({ state }) => state !== 'checking', 5000, 'a foreign record');
    expect((await agent.stats(0)).piecesDone).toBe(0);
    await agent.end();
  });
});
