import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { FileRef } from '../../packages/engine/dist/src/base/ports.js';
import { HostFiles } from '../../packages/engine/dist/src/host/files.js';
import { FilesDriver, tempFolder } from './support.ts';

const memory = new SharedArrayBuffer(1 << 20);
const shared = new Uint8Array(memory);
shared.set(randomBytes(shared.length));
const files = new HostFiles(memory, 8);
const disk = new FilesDriver(files);
afterAll(() => new Promise<void>((done) => files.close(done)));

const ref = (root: string, ...path: string[]): FileRef => ({ root, path, executable: false });
const copyOf = (view: Uint8Array): Buffer => Buffer.from(view);

test('writes and reads back, scattered, small and large, shared memory or not', async () => {
  const root = join(tempFolder(), 'made', 'on the way');
  const file = ref(root, 'a', 'b', 'c');
  expect(await disk.write(file, 5, [shared.subarray(100, 200), shared.subarray(5000, 5001)])).toEqual({
    fault: null,
    bytes: 101,
  });
  expect(await disk.write(file, 106, [randomBytes(0), new Uint8Array(3).fill(9)])).toEqual({ fault: null, bytes: 3 });
  const views = Array.from({ length: 2500 }, (_, i) => shared.subarray(i * 400, i * 400 + 1 + (i % 400)));
  const total = views.reduce((sum, v) => sum + v.length, 0);
  expect(await disk.write(file, 109, views)).toEqual({ fault: null, bytes: total });
  const want = Buffer.concat([
    Buffer.alloc(5),
    shared.subarray(100, 200),
    shared.subarray(5000, 5001),
    Buffer.from([9, 9, 9]),
    ...views,
  ]);
  expect(fs.readFileSync(join(root, 'a', 'b', 'c')).equals(want)).toBe(true);
  const back = Array.from({ length: 1700 }, (_, i) => new Uint8Array(1 + ((i * 7) % 300)));
  const backBytes = back.reduce((sum, v) => sum + v.length, 0);
  expect(await disk.read(file, 3, back)).toEqual({ fault: null, bytes: backBytes });
  expect(Buffer.concat(back).equals(want.subarray(3, 3 + backBytes))).toBe(true);
  expect((await disk.read(file, want.length - 2, [new Uint8Array(3)])).fault?.code).toBe('EIO_SHORT');
  expect((await disk.read(ref(root, 'none'), 0, [shared.subarray(0, 10)])).fault).toMatchObject({ code: 'ENOENT' });
  expect(await disk.write(file, 0, [])).toEqual({ fault: null, bytes: 0 });
  files.release([file]);
});

test('hundreds of files at once stay within the open limit, and every byte arrives', async () => {
  const root = tempFolder();
  const refs = Array.from({ length: 300 }, (_, i) => ref(root, `d${i % 7}`, `f${i}`));
  const jobs: Promise<unknown>[] = [];
  let most = 0;
  for (let round = 0; round < 6; round++) {
    for (const [i, file] of refs.entries()) {
      const view = shared.subarray(i * 3000, i * 3000 + 3000);
      jobs.push(
        disk.write(file, round * 3000, [view]).then((o) => {
          most = Math.max(most, files.openCount);
          expect(o).toEqual({ fault: null, bytes: 3000 });
        }),
      );
    }
  }
  await Promise.all(jobs);
  for (const [i, file] of refs.entries()) {
    const want = Buffer.concat(Array.from({ length: 6 }, () => shared.subarray(i * 3000, i * 3000 + 3000)));
    expect(fs.readFileSync(join(root, ...file.path)).equals(want)).toBe(true);
  }
  // while all are busy the limit may be passed by what runs at that moment
  expect(files.openCount).toBeLessThanOrEqual(8);
  expect(await disk.sync([...refs, ref(root, 'none')])).toMatchObject({ fault: null });
  expect(await disk.remove(refs)).toEqual({ fault: null, bytes: 300 });
  expect(fs.readdirSync(root)).toEqual([]);
});

test('links, pipes and folders in the way are faults, at once, and nothing outside is touched', async () => {
  const root = tempFolder();
  const outside = tempFolder();
  fs.writeFileSync(join(outside, 'secret'), 'secret');
  fs.symlinkSync(join(outside, 'secret'), join(root, 'link'));
  fs.symlinkSync(join(outside, 'new'), join(root, 'dangling'));
  fs.symlinkSync(outside, join(root, 'folder'));
  fs.mkdirSync(join(root, 'deep'));
  fs.symlinkSync(outside, join(root, 'deep', 'folder'));
  fs.mkdirSync(join(root, 'is-folder'));
  execFileSync('mkfifo', [join(root, 'pipe')]);
  // a pipe that someone reads can be opened for writing: the kind must be looked at
  const reader = fs.openSync(join(root, 'pipe'), fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  const big = Array.from({ length: 8 }, () => shared.subarray(0, 20_000));
  const started = performance.now();
  for (const path of [
    ['link'],
    ['dangling'],
    ['folder', 'secret'],
    ['folder', 'new'],
    ['deep', 'folder', 'x', 'y'],
    ['is-folder'],
    ['pipe'],
    ['link', 'x'],
  ]) {
    const file = ref(root, ...path);
    for (const views of [[shared.subarray(0, 10)], big]) {
      for (const outcome of [
        await disk.write(file, 0, views),
        await disk.read(file, 0, views),
        await disk.allocate(file, 9, false),
      ]) {
        expect(outcome.fault?.code, path.join('/')).toMatch(/^(ELOOP|ENOTDIR|ENOENT|ENXIO|ENOTREG|EISDIR)$/);
        expect(outcome.fault?.message).toContain(path.join('/'));
      }
    }
    files.release([file]);
  }
  expect(performance.now() - started).toBeLessThan(2000);
  fs.closeSync(reader);
  expect(fs.readdirSync(outside)).toEqual(['secret']);
  expect(fs.readFileSync(join(outside, 'secret'), 'utf8')).toBe('secret');
  expect((await disk.stat(ref(root, 'link'))).stat?.regular).toBe(false);
  expect((await disk.stat(ref(root, 'pipe'))).stat?.regular).toBe(false);
  expect((await disk.stat(ref(root, 'is-folder'))).stat?.regular).toBe(false);
  expect((await disk.stat(ref(root, 'folder', 'secret'))).fault).not.toBe(null);
  expect(await disk.stat(ref(root, 'nothing', 'there'))).toEqual({ fault: null, stat: null });
});

test('a parent that is swapped for a link again and again never leads a write outside', async () => {
  const root = tempFolder();
  const outside = tempFolder();
  const swapper = `
    const fs = require('node:fs'), [root, outside] = process.argv.slice(1);
    process.stdout.write('go');
    for (;;) {
      try { fs.renameSync(root + '/d', root + '/real'); } catch {}
      try { fs.symlinkSync(outside, root + '/d'); } catch {}
      try { fs.unlinkSync(root + '/d'); } catch {}
      try { fs.renameSync(root + '/real', root + '/d'); } catch {}
    }`;
  fs.mkdirSync(join(root, 'd'));
  const { spawn } = await import('node:child_process');
  const child = spawn(process.execPath, ['-e', swapper, root, outside], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  let good = 0;
  for (let i = 0; i < 1000; i++) {
    const file = ref(root, 'd', `f${i}`);
    const outcome = await disk.write(file, 0, [shared.subarray(0, 10)]);
    if (outcome.fault === null) good += 1;
    files.release([file]);
  }
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
  expect(good).toBeGreaterThan(0);
  expect(fs.readdirSync(outside)).toEqual([]);
});

test('a file removed or replaced underneath is noticed, and may be made anew after release', async () => {
  const root = tempFolder();
  const file = ref(root, 'f');
  const big = [shared.subarray(0, 100_000)];
  expect((await disk.write(file, 0, big)).fault).toBe(null);
  fs.unlinkSync(join(root, 'f'));
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect((await disk.write(file, 100_000, big)).fault?.code).toBe('ENOENT');
  expect((await disk.write(file, 100_000, big)).fault?.code).toBe('ENOENT');
  files.release([file]);
  expect((await disk.write(file, 0, big)).fault).toBe(null);
  fs.writeFileSync(join(root, 'other'), 'other');
  fs.renameSync(join(root, 'other'), join(root, 'f'));
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect((await disk.write(file, 0, big)).fault?.code).toBe('ENOENT');
  expect((await disk.read(file, 0, [new Uint8Array(100_000)])).fault?.code).toBe('ENOENT');
  expect(fs.readFileSync(join(root, 'f'), 'utf8')).toBe('other');
});

test('a root that vanished is not made anew', async () => {
  const root = join(tempFolder(), 'disk');
  const file = ref(root, 'f');
  expect((await disk.write(file, 0, [shared.subarray(0, 10)])).fault).toBe(null);
  await disk.remove([file]);
  fs.rmSync(root, { recursive: true });
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect((await disk.write(ref(root, 'g'), 0, [shared.subarray(0, 10)])).fault?.code).toBe('ENODEV');
  expect(fs.existsSync(root)).toBe(false);
  files.release([file]);
  expect((await disk.write(ref(root, 'g'), 0, [shared.subarray(0, 10)])).fault).toBe(null);
});

test('allocates sparse or full, keeps the data that is there', async () => {
  const root = tempFolder();
  const file = ref(root, 'x', 'f');
  expect(await disk.allocate(file, 3_000_000, false)).toEqual({ fault: null, bytes: 0 });
  expect(fs.statSync(join(root, 'x', 'f')).size).toBe(3_000_000);
  expect(fs.statSync(join(root, 'x', 'f')).blocks).toBeLessThan(1000);
  fs.writeFileSync(join(root, 'x', 'g'), 'data');
  const full = ref(root, 'x', 'g');
  expect(await disk.allocate(full, 3_000_001, true)).toEqual({ fault: null, bytes: 4 });
  const content = fs.readFileSync(join(root, 'x', 'g'));
  expect(content.length).toBe(3_000_001);
  expect(content.subarray(0, 4).toString()).toBe('data');
  expect(content.subarray(4).every((byte) => byte === 0)).toBe(true);
  expect(fs.statSync(join(root, 'x', 'g')).blocks).toBeGreaterThan(5000);
  expect(await disk.allocate(full, 10, true)).toEqual({ fault: null, bytes: 3_000_001 });
  expect(fs.statSync(join(root, 'x', 'g')).size).toBe(10);
  files.release([file, full]);
});

test('modes follow the umask and the executable mark', async () => {
  const root = tempFolder();
  const umask =
    process.platform === 'linux'
      ? Number.parseInt(/Umask:\s*(\d+)/.exec(fs.readFileSync('/proc/self/status', 'latin1'))![1]!, 8)
      : 0o22;
  for (const size of [10, 200_000]) {
    await disk.write(ref(root, `plain${size}`), 0, [shared.subarray(0, size)]);
    await disk.write({ root, path: [`run${size}`], executable: true }, 0, [shared.subarray(0, size)]);
    expect(fs.statSync(join(root, `plain${size}`)).mode & 0o777).toBe(0o666 & ~umask);
    expect(fs.statSync(join(root, `run${size}`)).mode & 0o777).toBe(0o777 & ~umask);
  }
});

test("removes its files and the folders left empty, never what is another's", async () => {
  const root = tempFolder();
  const mine = [ref(root, 't', 'a', 'f'), ref(root, 't', 'b', 'g'), ref(root, 't', 'h'), ref(root, 't', 'gone')];
  for (const file of mine.slice(0, 3)) await disk.write(file, 0, [shared.subarray(0, 10)]);
  fs.writeFileSync(join(root, 't', 'b', 'foreign'), '');
  fs.mkdirSync(join(root, 't', 'kept'));
  fs.symlinkSync('b/foreign', join(root, 't', 'l'));
  expect(await disk.remove([...mine, ref(root, 't', 'l'), ref(root, 't', 'kept')])).toEqual({ fault: null, bytes: 4 });
  expect(fs.readdirSync(join(root, 't')).sort()).toEqual(['b', 'kept']);
  expect(fs.readdirSync(join(root, 't', 'b'))).toEqual(['foreign']);
});

test('links stay inside and are made once', async () => {
  const root = tempFolder();
  const file = ref(root, 't', 'sub', 'l');
  expect((await disk.link(file, ['t', 'target'])).fault).toBe(null);
  expect(fs.readlinkSync(join(root, 't', 'sub', 'l'))).toBe('../../t/target');
  expect((await disk.link(file, ['t', 'target'])).fault).toBe(null);
  expect((await disk.link(file, ['t', 'other'])).fault?.code).toBe('EEXIST');
});

const shm = fs.existsSync('/dev/shm') && fs.statSync('/dev/shm').dev !== fs.statSync(tempFolder()).dev;

test.each([
  ['within', false],
  ['across file systems', true],
] as const)('moves %s, all or nothing', async (_name, across) => {
  if (across && !shm) return;
  const from = tempFolder();
  const to = across ? tempFolder('/dev/shm') : join(tempFolder(), 'new');
  const refs = Array.from({ length: 20 }, (_, i) => ref(from, 't', `d${i % 3}`, `f${i}`));
  for (const [i, file] of refs.entries()) await disk.write(file, 0, [shared.subarray(i, i + 70_000)]);
  // something stands at a target: everything stays
  fs.mkdirSync(join(to, 't', 'd2'), { recursive: true });
  fs.writeFileSync(join(to, 't', 'd2', 'f17'), 'foreign');
  const refused = await disk.move(refs, to);
  expect(refused.fault).toMatchObject({ code: 'EEXIST' });
  expect(refused.fault?.message).toContain('f17');
  for (const [i, file] of refs.entries()) {
    expect(fs.readFileSync(join(from, ...file.path)).equals(copyOf(shared.subarray(i, i + 70_000)))).toBe(true);
  }
  expect(fs.readdirSync(join(to, 't'))).toEqual(['d2']);
  expect(fs.readFileSync(join(to, 't', 'd2', 'f17'), 'utf8')).toBe('foreign');
  fs.rmSync(join(to, 't'), { recursive: true });
  expect(await disk.move([...refs, ref(from, 't', 'never')], to)).toEqual({ fault: null, bytes: 20 });
  for (const [i, file] of refs.entries()) {
    file.root = to;
    const back = new Uint8Array(70_000);
    expect((await disk.read(file, 0, [back])).fault).toBe(null);
    expect(copyOf(back).equals(copyOf(shared.subarray(i, i + 70_000)))).toBe(true);
  }
  expect(fs.readdirSync(from)).toEqual([]);
  files.release(refs);
});

test.each([
  ['within', false],
  ['across file systems', true],
] as const)('copies %s to where nothing stands, and follows no link', async (_name, across) => {
  if (across && !shm) return;
  const from = tempFolder();
  const to = join(tempFolder(across ? '/dev/shm' : undefined), 'new');
  const source = ref(from, 't', 'sub', 'f');
  await disk.write(source, 0, [shared.subarray(0, 300_000)]);
  const target: FileRef = { root: to, path: ['u', 'deep', 'g'], executable: true };
  expect(await disk.copy(source, target)).toEqual({ fault: null, bytes: 300_000 });
  expect(fs.readFileSync(join(to, 'u', 'deep', 'g')).equals(copyOf(shared.subarray(0, 300_000)))).toBe(true);
  expect(fs.statSync(join(to, 'u', 'deep', 'g')).mode & 0o111).not.toBe(0);
  // a copy of its own: what is written to one does not show in the other
  expect(await disk.write(target, 0, [new Uint8Array(10)])).toMatchObject({ fault: null });
  expect(fs.readFileSync(join(from, 't', 'sub', 'f')).equals(copyOf(shared.subarray(0, 300_000)))).toBe(true);
  expect((await disk.copy(source, target)).fault).toMatchObject({ code: 'EEXIST' });
  expect((await disk.copy(ref(from, 'none'), ref(to, 'none'))).fault).toMatchObject({ code: 'ENOENT' });
  expect(fs.existsSync(join(to, 'none'))).toBe(false);

  const outside = tempFolder();
  fs.writeFileSync(join(outside, 'secret'), 'secret');
  fs.symlinkSync(join(outside, 'secret'), join(from, 'link'));
  fs.symlinkSync(outside, join(from, 'folder'));
  fs.symlinkSync(join(outside, 'new'), join(to, 'dangling'));
  fs.symlinkSync(outside, join(to, 'folder'));
  for (const [bad, good] of [
    [ref(from, 'link'), ref(to, 'a')],
    [ref(from, 'folder', 'secret'), ref(to, 'b')],
    [ref(from, 't'), ref(to, 'c')],
    [source, ref(to, 'dangling')],
    [source, ref(to, 'folder', 'd')],
  ] as const) {
    const { fault } = await disk.copy(bad, good);
    expect(fault?.code).toMatch(/^(ELOOP|ENOTDIR|ENOTREG|EISDIR|EEXIST)$/);
  }
  expect(fs.readdirSync(to).sort()).toEqual(['dangling', 'folder', 'u']);
  expect(fs.readdirSync(outside)).toEqual(['secret']);
  files.release([source, target]);
});

test('a full disk is ENOSPC with the path, and works again once there is room', async () => {
  const root = tempFolder();
  // needs the right to mount
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'shoal-test', root]).status !== 0) return;
  try {
    const file = ref(root, 'f');
    const views = Array.from({ length: 6 }, () => shared);
    const outcome = await disk.write(file, 0, views);
    expect(outcome.fault).toMatchObject({ code: 'ENOSPC' });
    expect(outcome.fault?.message).toContain(join(root, 'f'));
    expect((await disk.allocate(ref(root, 'g'), 8 << 20, true)).fault?.code).toBe('ENOSPC');
    fs.rmSync(join(root, 'g'));
    fs.truncateSync(join(root, 'f'), 0);
    expect((await disk.write(file, 0, views.slice(0, 2))).fault).toBe(null);
    files.release([file]);
    await disk.stat(file);
  } finally {
    await new Promise((resolve) => setTimeout(resolve, 300));
    execFileSync('umount', ['-l', root]);
  }
});

test('with 64 descriptors in all it works on, and an idle process ends by itself', () => {
  const root = tempFolder();
  const script = `
    import { HostFiles } from '${new URL('../../packages/engine/dist/src/host/files.js', import.meta.url).href}';
    import { openLimit } from '${new URL('../../packages/engine/dist/src/host/descriptors.js', import.meta.url).href}';
    const memory = new SharedArrayBuffer(200000);
    const files = new HostFiles(memory);
    const view = new Uint8Array(memory);
    let left = 2000, bad = 0;
    const sink = { onFile(job, fault) { if (fault) { bad++; console.error(fault); } if (--left === 0) console.log('done', openLimit(), bad); } };
    for (let i = 0; i < 2000; i++) files.write(i, { root: ${JSON.stringify(root)}, path: ['d' + i % 50, 'f' + i], executable: false }, 0, [view.subarray(0, i % 2 ? 100000 : 100)], sink);
  `;
  const out = spawnSync('sh', ['-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"', process.execPath, script], {
    encoding: 'utf8',
    timeout: 25_000,
  });
  expect(out.stdout + out.stderr).toBe('done 8 0\n');
  expect(out.status).toBe(0);
});
