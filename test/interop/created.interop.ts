/** Torrents that Shoal makes are taken by others, and the other way round. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { type Need, PYTHON } from './harness/available.ts';
import type { ClientKind } from './harness/clients/index.ts';
import type { Payload } from './harness/payload.ts';
import type { MadeTorrent } from './harness/torrent.ts';

/** Pad files of a hybrid torrent, which clients that know only v1 write like any other. */
const PADS = /\/\.pad\/\d+$/;
const LOCAL = '127.0.0.1';

async function create(arena: Arena, version: 'v1' | 'v2' | 'hybrid', tracker: string): Promise<MadeTorrent> {
  const { payload } = arena;
  const path = join(arena.makeFolder('created'), 'it.torrent');
  const source = join(payload.folder, payload.name);
  const options = ['--piece-size', '64K', '--tracker', tracker, `--${version}`];
  const run = await arena.run(['create', source, '-o', path, ...options]);
  assert.equal(run.program.exitCode, 0, run.tail());
  const created = run.last('created')!;
  const infoHash = created['infoHash'] ?? String(created['infoHashV2']).slice(0, 40);
  return { path, payload, pieceLength: 65_536, pieces: Buffer.alloc(0), infoHash: String(infoHash), private: false };
}

/**
 * transmission 3.00 and aria2 1.36 can read no hybrid torrent, whoever made it; see below. rtorrent 0.9.8 refuses those
 * with two pad files of one length, which have one name (BEP 47).
 */
const TAKERS: Readonly<Record<'v1' | 'hybrid', readonly ClientKind[]>> = {
  v1: ['libtorrent', 'transmission', 'aria2'],
  hybrid: ['libtorrent', 'qbittorrent', 'webtorrent'],
};
const READERS: readonly Need[] = ['libtorrent', 'transmission-create', 'aria2'];

describe('made by shoal', () => {
  for (const version of ['v1', 'hybrid'] as const) {
    for (const kind of TAKERS[version]) {
      interop(`${version}: ${kind} takes it from shoal and gives it back`, [kind], async (arena) => {
        const tracker = await arena.tracker();
        const torrent = await create(arena, version, tracker.url);
        const seed = await arena.shoal({ command: 'seed' });
        await arena.seed(seed, torrent);
        const other = await arena.client(kind);
        const folder = await arena.leech(other, torrent, { from: [seed] });
        await arena.completed(other, torrent);
        const pads = version === 'hybrid' ? { mayHold: PADS } : {};
        await arena.same(torrent, folder, other, pads);
        assert.equal(await seed.run!.program.stop('SIGINT'), 0);

        const shoal = await arena.shoal({ command: 'get' });
        const copy = await arena.leech(shoal, torrent, { from: [other] });
        await arena.completed(shoal, torrent);
        await arena.same(torrent, copy);
      });
    }
  }

  interop("hybrid: transmission and aria2 read it as they read libtorrent's", READERS, async (arena) => {
    const torrent = await create(arena, 'hybrid', `http://${LOCAL}:9/announce`);
    const path = join(arena.makeFolder('made'), 'it.torrent');
    const script = fileURLToPath(new URL('./harness/libtorrent-create.py', import.meta.url));
    const { payload } = arena;
    const made = spawnSync(PYTHON, [script, join(payload.folder, payload.name), path], { encoding: 'utf8' });
    assert.equal(made.status, 0, made.stderr);
    const shown = (file: string) => spawnSync('transmission-show', [file], { encoding: 'utf8' }).status;
    assert.equal(shown(torrent.path), shown(path));
    // aria2 comes to an info-hash of its own
    const listed = (file: string) => spawnSync('aria2c', ['--no-conf', '-S', file], { encoding: 'utf8' }).stdout;
    assert.match(made.stdout, /^[0-9a-f]{40}\n$/);
    assert.equal(listed(torrent.path).includes(torrent.infoHash), listed(path).includes(made.stdout.trim()));
  });

  interop('v2: libtorrent finds every hash right', ['libtorrent'], async (arena) => {
    const tracker = await arena.tracker();
    const torrent = await create(arena, 'v2', tracker.url);
    await arena.seed(await arena.client('libtorrent'), torrent);
  });
});

describe('read by shoal', () => {
  const url = `http://${LOCAL}:9/announce`;
  const makers: Partial<Record<Need, (path: string, source: string) => readonly string[]>> = {
    'transmission-create': (path, source) => ['-o', path, '-s', '64', '-t', url, '-c', 'a comment ü', source],
    mktorrent: (path, source) => ['-o', path, '-l', '16', '-a', url, '-c', 'a comment ü', source],
  };
  for (const [maker, argsOf] of Object.entries(makers)) {
    interop(`a torrent made by ${maker}`, [maker as Need], async (arena) => {
      const all = arena.payload;
      // transmission-create leaves out empty and hidden files
      const listed = all.files.filter(
        (file) => maker === 'mktorrent' || (file.length > 0 && !file.path.some((part) => part.startsWith('.'))),
      );
      const payload = { ...all, files: listed, bytes: listed.reduce((sum, file) => sum + file.length, 0) };
      const path = join(arena.makeFolder('made'), 'it.torrent');
      const made = spawnSync(maker, argsOf(path, join(payload.folder, payload.name)), {
        encoding: 'utf8',
        env: { ...process.env, LC_ALL: 'C.UTF-8', HOME: arena.folder },
      });
      assert.equal(made.status, 0, made.stdout + made.stderr);

      const info = await arena.run(['info', path]);
      assert.equal(info.program.exitCode, 0, info.tail());
      const torrent = info.last('torrent')!;
      assert.equal(torrent['name'], payload.name);
      assert.equal(torrent['pieceLength'], 65_536);
      assert.equal(torrent['bytes'], payload.bytes);
      assert.deepEqual(torrent['trackers'], [[url]]);
      assert.equal(torrent['comment'], 'a comment ü');
      assert.deepEqual(filesOf(torrent['files']), filesOf(payloadFiles(payload)));

      const verify = await arena.run(['verify', path, payload.folder]);
      assert.equal(verify.program.exitCode, 0, verify.tail());
      const verified = verify.last('verified')!;
      assert.equal(verified['good'], verified['pieces']);
      assert.deepEqual(verified['bad'], []);
      assert.equal(verified['bytesGood'], payload.bytes);
    });
  }
});

interface ListedFile {
  readonly path: readonly string[];
  readonly length: number;
}

function payloadFiles(payload: Payload): ListedFile[] {
  return payload.files.map((file) => ({ path: [payload.name, ...file.path], length: file.length }));
}

/** In one order, whatever the maker's. */
function filesOf(files: unknown): string[] {
  return (files as ListedFile[]).map((file) => `${file.path.join('/')} ${file.length}`).sort();
}
