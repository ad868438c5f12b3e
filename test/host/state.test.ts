import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { IoFault } from '../../packages/engine/dist/src/base/errors.js';
import { FileState } from '../../packages/engine/dist/src/host/file-state.js';
import { tempFolder } from './support.ts';

const opened: FileState[] = [];
afterEach(async () => {
  for (const store of opened.splice(0)) await new Promise<void>((done) => store.close(done));
});

async function open(folder: string): Promise<{ store: FileState; fault: IoFault | null }> {
  const store = new FileState(folder);
  const fault = await new Promise<IoFault | null>((done) => store.open(done));
  if (fault === null) opened.push(store);
  return { store, fault };
}

const close = (store: FileState): Promise<void> => {
  opened.splice(opened.indexOf(store), 1);
  return new Promise((done) => store.close(done));
};
const save = (store: FileState, key: string, bytes: Uint8Array): Promise<string | null> =>
  new Promise((done) => store.save(key, bytes, (fault) => done(fault?.code ?? null)));
const load = (store: FileState, key: string): Promise<Uint8Array | null | string> =>
  new Promise((done) => store.load(key, (fault, bytes) => done(fault?.code ?? bytes)));
const list = (store: FileState): Promise<readonly string[]> =>
  new Promise((done) => store.list((_fault, keys) => done(keys)));
const remove = (store: FileState, key: string): Promise<string | null> =>
  new Promise((done) => store.remove(key, (fault) => done(fault?.code ?? null)));

const module = new URL('../../packages/engine/dist/src/host/file-state.js', import.meta.url).href;

test('keeps records over a restart, private to its user', async () => {
  const folder = join(tempFolder(), 'new', 'state');
  const { store } = await open(folder);
  const big = new Uint8Array(randomBytes(3_000_000));
  expect(await save(store, 'a'.repeat(40), big)).toBe(null);
  expect(await save(store, 'empty', new Uint8Array(0))).toBe(null);
  expect(await save(store, 'gone', big)).toBe(null);
  expect(await save(store, 'gone', big)).toBe(null);
  expect(await remove(store, 'gone')).toBe(null);
  expect(await remove(store, 'never')).toBe(null);
  for (const bad of ['', '.', '..', '../x', 'a/b', 'x'.repeat(101), 'a\0'])
    expect(await save(store, bad, big)).toBe('EINVAL');
  await close(store);
  expect(fs.statSync(folder).mode & 0o777).toBe(0o700);
  for (const name of fs.readdirSync(folder)) expect(fs.statSync(join(folder, name)).mode & 0o777).toBe(0o600);
  const again = (await open(folder)).store;
  expect(await list(again)).toEqual(['a'.repeat(40), 'empty']);
  expect(Buffer.compare((await load(again, 'a'.repeat(40))) as Uint8Array, big)).toBe(0);
  expect(await load(again, 'empty')).toEqual(new Uint8Array(0));
  expect(await load(again, 'gone')).toBe(null);
  expect(again.bootId.length).toBeGreaterThan(8);
  expect(await save(store, 'late', big)).toBe('ECLOSED');
});

test('a record with any byte changed, or cut anywhere, gives the one before it', async () => {
  const folder = tempFolder();
  const { store } = await open(folder);
  const before = new Uint8Array([1, 2, 3]);
  await save(store, 'k', before);
  await save(store, 'k', new Uint8Array(randomBytes(50)));
  const path = join(folder, 'k.state');
  const whole = fs.readFileSync(path);
  for (let i = 0; i < whole.length * 2 + 1; i++) {
    const torn = i < whole.length ? Buffer.from(whole) : whole.subarray(0, i - whole.length);
    if (i < whole.length) torn[i]! ^= 1 << (i % 8);
    else if (torn.length === whole.length) continue;
    fs.writeFileSync(path, torn);
    expect(await load(store, 'k')).toEqual(before);
    expect(fs.readFileSync(join(folder, 'k.bad')).equals(torn)).toBe(true);
    expect(fs.existsSync(path)).toBe(false);
  }
  // and it can be saved again
  expect(await save(store, 'k', new Uint8Array([9]))).toBe(null);
  expect(await load(store, 'k')).toEqual(new Uint8Array([9]));
});

test('saves of one key end in order with the newest, and all are told', async () => {
  const { store } = await open(tempFolder());
  const order: number[] = [];
  const all = Array.from({ length: 50 }, (_, i) => save(store, 'k', new Uint8Array([i])).then(() => order.push(i)));
  expect(await load(store, 'k')).toEqual(new Uint8Array([49]));
  await Promise.all(all);
  expect(order).toEqual(Array.from({ length: 50 }, (_, i) => i));
  expect(await load(store, 'k')).toEqual(new Uint8Array([49]));
});

test('one holder at a time: in this process, in another, and after a kill', async () => {
  const folder = tempFolder();
  const first = await open(folder);
  const second = await open(folder);
  expect(second.fault?.code).toBe('ELOCKED');
  expect(second.fault?.message).toContain(String(process.pid));
  const other = spawnSync(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { FileState } from '${module}'; new FileState(${JSON.stringify(folder)}).open((f) => console.log(f?.code, f?.message));`,
    ],
    { encoding: 'utf8' },
  );
  expect(other.stdout).toContain('ELOCKED');
  expect(other.stdout).toContain(String(process.pid));
  await close(first.store);
  // killed holders leave no lock behind, twenty times over
  for (let i = 0; i < 5; i++) {
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import { FileState } from '${module}'; new FileState(${JSON.stringify(folder)}).open((f) => console.log(f === null)); setInterval(() => {}, 1000);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const said = await new Promise<Buffer>((resolve) => child.stdout.once('data', resolve));
    expect(said.toString()).toBe('true\n');
    const refused = await open(folder);
    expect(refused.fault?.message).toContain(String(child.pid));
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    const mine = await open(folder);
    expect(mine.fault).toBe(null);
    await close(mine.store);
  }
});

test('a kill in the middle of saves loses no record and leaves each whole', async () => {
  const folder = tempFolder();
  const script = `
    import { FileState } from '${module}';
    const store = new FileState(${JSON.stringify(folder)});
    store.open((fault) => {
      if (fault) throw new Error(fault.message);
      let n = Number(process.argv[1]);
      const next = (key) => store.save(key, new Uint8Array(20000).fill(n++ & 255), () => { process.stdout.write(key); next(key); });
      for (const key of 'abcd') next(key);
    });`;
  for (let round = 0; round < 12; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, String(round)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (text: Buffer) => {
        said += text.toString();
        if ([...'abcd'].every((key) => said.includes(key)) && said.length > 8 + round * 5) resolve();
      });
    });
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    const { store } = await open(folder);
    expect(await list(store)).toEqual(['a', 'b', 'c', 'd']);
    for (const key of 'abcd') {
      const bytes = (await load(store, key)) as Uint8Array;
      expect(bytes.length).toBe(20000);
      expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
    }
    expect(fs.readdirSync(folder).filter((name) => name.endsWith('.bad') || name.endsWith('.tmp'))).toEqual([]);
    for (const name of fs.readdirSync(folder)) expect(fs.statSync(join(folder, name)).size).toBeGreaterThan(0);
    await close(store);
  }
});

test('a full disk keeps the old record', async () => {
  const folder = tempFolder();
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'shoal-test', folder]).status !== 0) return;
  try {
    const { store } = await open(folder);
    await save(store, 'k', new Uint8Array([7]));
    const big = new Uint8Array(2_000_000);
    const fault = await new Promise<IoFault | null>((done) => store.save('k', big, done));
    expect(fault?.code).toBe('ENOSPC');
    expect(fault?.message).toContain(join(folder, 'k.state'));
    expect(await load(store, 'k')).toEqual(new Uint8Array([7]));
    expect(await save(store, 'k', new Uint8Array([8]))).toBe(null);
    await close(store);
  } finally {
    spawnSync('umount', ['-l', folder]);
  }
});

test('5,000 records are listed and loaded in well under a second', async () => {
  const folder = tempFolder();
  const first = (await open(folder)).store;
  await save(first, 'model', new Uint8Array(randomBytes(2000)));
  await close(first);
  for (let i = 0; i < 5000; i++) fs.copyFileSync(join(folder, 'model.state'), join(folder, `t${i}.state`));
  const started = performance.now();
  const { store } = await open(folder);
  const keys = await list(store);
  const records = await Promise.all(keys.map((key) => load(store, key)));
  const ms = performance.now() - started;
  expect(records.every((record) => record instanceof Uint8Array && record.length === 2000)).toBe(true);
  expect(records.length).toBe(5001);
  expect(ms).toBeLessThan(1500);
});
