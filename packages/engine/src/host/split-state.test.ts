import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { IoFault } from '../base/errors.ts';
import { SplitState } from './split-state.ts';

let folder = '';
const opened: SplitState[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'split-state-'));
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((store) => new Promise<void>((done) => store.close(done))));
  rmSync(folder, { recursive: true });
});

async function start(): Promise<SplitState> {
  const store = new SplitState(join(folder, 'state'));
  opened.push(store);
  expect(await new Promise((done) => store.open(done))).toBeNull();
  return store;
}

function load(store: SplitState, key: string): Promise<{ fault: IoFault | null; bytes: Uint8Array | null }> {
  return new Promise((done) => store.load(key, (fault, bytes) => done({ fault, bytes })));
}

function save(store: SplitState, key: string, text: string): Promise<IoFault | null> {
  return new Promise((done) => store.save(key, new TextEncoder().encode(text), done));
}

function close(store: SplitState): Promise<void> {
  opened.splice(opened.indexOf(store), 1);
  return new Promise((done) => store.close(done));
}

it('lets two stores work on different keys and refuses the second on the same one', async () => {
  const first = await start();
  const second = await start();
  expect(await load(first, 'aa')).toEqual({ fault: null, bytes: null });
  expect(await save(first, 'aa', 'one')).toBeNull();
  expect(await save(second, 'bb', 'two')).toBeNull();
  expect((await load(second, 'aa')).fault?.code).toBe('ELOCKED');
  expect((await save(second, 'aa', 'stolen'))?.code).toBe('ELOCKED');
  expect((await load(first, 'bb')).fault?.code).toBe('ELOCKED');
  await close(first);
  expect(Buffer.from((await load(second, 'aa')).bytes!).toString()).toBe('one');
});

it('lists all keys, removes, and keeps the order of what is asked while it opens', async () => {
  const store = await start();
  const saves = [save(store, 'k1', 'a'), save(store, 'k1', 'b'), save(store, 'k2', 'c')];
  expect(await Promise.all(saves)).toEqual([null, null, null]);
  expect(Buffer.from((await load(store, 'k1')).bytes!).toString()).toBe('b');
  expect(await new Promise((done) => store.list((_, keys) => done(keys)))).toEqual(['k1', 'k2']);
  expect(await new Promise((done) => store.remove('k1', done))).toBeNull();
  expect((await load(store, 'k1')).bytes).toBeNull();
  expect((await load(store, '../escape')).fault?.code).toBe('EINVAL');
});
