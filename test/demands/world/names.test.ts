/** 4.2: hostile names, links in the way, file modes, and what is deleted with a torrent. */

import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect } from 'vitest';
import { parseTorrent } from '../../../packages/engine/dist/src/index.js';
import {
  type AgentOptions,
  has,
  it,
  type Made,
  type MadeFile,
  makeFile,
  makeTorrent,
  needs,
  pause,
  sameBytes,
} from './kit.ts';

const MIB = 1 << 20;

const HOSTILE: (string | Uint8Array)[][] = [
  ['..', '..', 'evil-up'],
  ['..', 'evil-side'],
  ['a', '..', '..', '..', 'evil-in'],
  ['/etc', 'evil-abs'],
  ['/evil-root'],
  ['a/../../evil-slash'],
  ['..\\..\\evil-back'],
  ['C:\\evil-drive'],
  ['C:', 'evil-colon'],
  ['CON'],
  ['nul.txt'],
  ['com1', 'x'],
  ['.'],
  ['..'],
  ['', 'evil-empty'],
  ['nul\0evil'],
  ['line\nbreak\x1b[31mred'],
  ['right\u202eleft'],
  [Buffer.from([0xff, 0xfe, 0x41])],
  ['x'.repeat(400)],
  ['Same'],
  ['same'],
  ['SAME'],
  ['same'],
  ['trailing. '],
  ['~', 'evil-home'],
  ['a'],
  ['a', 'under-a-file'],
];

function hostile(name: string): Made {
  return makeTorrent(
    name,
    HOSTILE.map((path, i) => ({ path, bytes: randomBytes(2000 + i) })),
    { pieceLength: 16384 },
  );
}

/** The same files under the names that the engine gives them. */
function asSafe(made: Made): Made {
  const meta = parseTorrent(made.torrent);
  const files: MadeFile[] = meta.files.map((file, i) => ({ path: file.path.slice(1), bytes: made.files[i]!.bytes }));
  return { ...made, name: meta.files[0]!.path[0]!, files };
}

/** What is below, links not followed. */
function tree(folder: string, above = ''): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = `${above}${entry.name}`;
      return entry.isDirectory() ? [path, ...tree(join(folder, entry.name), `${path}/`)] : [path];
    })
    .sort();
}

const CHANGES =
  /^\S+\s+(?:\[pid\s+\d+\] )?(openat|open|creat|mkdir|mkdirat|rename|renameat2?|symlink|symlinkat|link|linkat|unlink|unlinkat)\((.*)$/;

/** Paths that a traced process made, changed or removed. */
function changedPaths(trace: string): string[] {
  const found: string[] = [];
  for (const line of trace.split('\n')) {
    const match = CHANGES.exec(line);
    if (match === null || (match[1]!.startsWith('open') && !/O_CREAT|O_WRONLY|O_RDWR/.test(match[2]!))) continue;
    for (const [, path] of match[2]!.matchAll(/"((?:[^"\\]|\\.)*)"/g)) found.push(path!);
  }
  return found;
}

describe.concurrent('hostile names', () => {
  for (const name of ['plain', '../up', '/abs', '..', 'bad\0name\n\u202e', 'C:\\x']) {
    it.concurrent(`in a torrent called ${JSON.stringify(name)} lead nowhere outside, by .torrent and by magnet`, async ({
      world,
      skip,
    }) => {
      needs(skip, [has('strace'), 'strace']);
      const made = hostile(name);
      const safe = asSafe(made);
      const all = safe.files.map(({ path }) => path.join('/'));
      expect(new Set(all.map((path) => path.toLowerCase())).size).toBe(all.length);
      for (const path of [safe.name, ...all]) {
        expect(path).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069\\]/u);
        expect(path.split('/')).not.toContain('..');
        expect(path.startsWith('/')).toBe(false);
        for (const part of path.split('/')) expect(Buffer.byteLength(part)).toBeLessThanOrEqual(255);
      }
      const { peer } = await world.seed([safe]);
      const runs = name === 'plain' || name === '../up' ? ['torrent', 'magnet'] : ['magnet'];
      for (const how of runs) {
        const trace = world.path(`trace-${how}`);
        const options: AgentOptions = {
          prefix: [
            'strace',
            '-f',
            '-qq',
            '-s',
            '4096',
            '-e',
            'trace=openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,symlink,symlinkat,link,linkat,unlink,unlinkat',
            '-o',
            trace,
          ],
        };
        const getter = world.agent(options);
        await getter.open({ state: world.path(`state-${how}`) });
        const folder = world.make(`in-${how}`, 'deep', 'down');
        const link = `magnet:?xt=urn:btih:${made.infoHash}`;
        await getter.call('add', how === 'torrent' ? { base64: made.torrent.toString('base64') } : link, {
          folder,
          peers: [peer],
        });
        await getter.call('metadata', 0);
        await getter.call('done', 0);
        expect(sameBytes(safe, folder)).toBe(true);
        await getter.end();
        expect(
          tree(world.path(`in-${how}`)).filter((path) => !`${path}/`.startsWith('deep/') || path === '..'),
        ).toEqual([]);
        expect(readdirSync(world.path(`in-${how}`, 'deep'))).toEqual(['down']);
        expect(readdirSync(folder)).toEqual([safe.name]);
        for (const path of changedPaths(readFileSync(trace, 'utf8'))) {
          const inside =
            path.startsWith(`${folder}/`) ||
            folder.startsWith(path) ||
            path.startsWith(world.path(`state-${how}`)) ||
            /^\/proc\/self\/fd\/\d+\/(?!\.\.?$)[^/]+$/.test(path) ||
            path.startsWith('/dev/') ||
            path.startsWith('/proc/');
          expect(inside, path).toBe(true);
          expect(path.split('/'), path).not.toContain('..');
        }
      }
    });
  }
});

function pair(): Made {
  const files = [
    { path: ['sub', 'a.bin'], bytes: randomBytes(2 * MIB) },
    { path: ['sub', 'b.bin'], bytes: randomBytes(2 * MIB + 5) },
  ];
  return makeTorrent('pair', files, { pieceLength: 65536 });
}

describe.concurrent('links in the download folder', () => {
  it("(file, folder, the torrent's own folder) are never written through", async ({ world }) => {
    const made = pair();
    const { peer } = await world.seed([made]);
    const outside = world.make('outside');
    writeFileSync(join(outside, 'a.bin'), 'mine');
    const agent = world.agent();
    await agent.open();
    const places = ['file', 'folder', 'top', 'dangling'];
    for (const [i, place] of places.entries()) {
      const folder = world.make(`down-${place}`);
      if (place === 'top') symlinkSync(outside, join(folder, 'pair'));
      else mkdirSync(join(folder, 'pair'));
      if (place === 'folder') symlinkSync(outside, join(folder, 'pair', 'sub'));
      if (place === 'file' || place === 'dangling') {
        mkdirSync(join(folder, 'pair', 'sub'));
        symlinkSync(join(outside, place === 'file' ? 'a.bin' : 'nothing'), join(folder, 'pair', 'sub', 'a.bin'));
      }
      await agent.add(made, { folder, peers: [peer] });
      const { error } = await agent.until(i, ({ state }) => state === 'error', 10_000, `an error (${place})`);
      expect(error!.message, place).toContain('pair');
      await agent.call('remove', i, { data: true });
      expect(tree(outside), place).toEqual(['a.bin']);
      expect(readFileSync(join(outside, 'a.bin'), 'utf8')).toBe('mine');
    }
    await agent.end();
  });

  it.concurrent('that take the place of a folder in the middle of a download (1,000 times) are never written through', async ({
    world,
  }) => {
    const files = Array.from({ length: 400 }, (_, i) => ({ path: ['sub', `f${i}`], bytes: randomBytes(20_000) }));
    const made = makeTorrent('tree', files, { pieceLength: 16384 });
    const { peer } = await world.seed([made], { uploadLimit: 2 * MIB });
    const outside = world.make('outside');
    const folder = world.make('down');
    const agent = world.agent();
    await agent.open();
    await agent.add(made, { folder, peers: [peer] });
    const sub = join(folder, 'tree', 'sub');
    for (let end = performance.now() + 5000; !existsSync(sub) && performance.now() < end; ) await pause(5);
    for (let i = 0; i < 1000; i++) {
      if (!existsSync(sub)) mkdirSync(sub, { recursive: true });
      try {
        renameSync(sub, `${sub}-aside`);
        symlinkSync(outside, sub);
        if (i % 4 === 0) await pause(1);
        rmSync(sub);
        if (existsSync(sub)) continue;
        renameSync(`${sub}-aside`, sub);
      } catch {
        rmSync(`${sub}-aside`, { recursive: true, force: true });
      }
      if (i % 4 === 1) await pause(2);
    }
    expect(tree(outside)).toEqual([]);
    await agent.end();
    expect(tree(outside)).toEqual([]);
  });
});

describe.concurrent('files that are made', () => {
  it.concurrent('have mode 0644, or 0755 where the torrent says executable, less the umask', async ({ world }) => {
    const bytes = randomBytes(1000);
    const made = makeTorrent(
      'modes',
      [
        { path: ['plain'], bytes },
        { path: ['tool'], bytes, attr: 'x' },
        { path: ['none'], bytes: Buffer.alloc(0) },
      ],
      { pieceLength: 16384 },
    );
    const { peer } = await world.seed([made]);
    for (const [umask, plain, tool] of [
      ['022', 0o644, 0o755],
      ['077', 0o600, 0o700],
    ] as const) {
      const agent = world.agent({ prefix: ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh'] });
      await agent.open({ state: world.path(`state-${umask}`) });
      const folder = world.make(`down-${umask}`);
      await agent.add(made, { folder, peers: [peer] });
      await agent.call('done', 0);
      await agent.end();
      const mode = (name: string): number => statSync(join(folder, 'modes', name)).mode & 0o7777;
      expect(mode('plain')).toBe(plain);
      expect(mode('none')).toBe(plain);
      expect(mode('tool')).toBe(tool);
      for (const name of readdirSync(world.path(`state-${umask}`))) {
        expect(statSync(world.path(`state-${umask}`, name)).mode & 0o077, name).toBe(0);
      }
    }
  });
});

describe.concurrent('delete with data', () => {
  it.concurrent('removes what the torrent made and nothing else (20 layouts)', async ({ world }) => {
    const outside = world.make('outside');
    writeFileSync(join(outside, 'target'), 'mine');
    const two = pair();
    const one = makeFile('single', 100_000, { pieceLength: 16384 });
    const { peer } = await world.seed([two, one]);
    const agent = world.agent();
    await agent.open();
    const sub = (folder: string): string => join(folder, 'pair', 'sub');
    // [what, before the download, after it, what is left]
    type Step = (folder: string) => void;
    const nothing: Step = () => {};
    const layouts: [string, Made, Step, Step, string[]][] = [
      ['a folder of its own', two, nothing, nothing, []],
      ['a single file', one, nothing, nothing, []],
      ['a foreign file at the top', two, (f) => writeFileSync(join(f, 'mine'), 'x'), nothing, ['mine']],
      [
        'a foreign file in its folder',
        two,
        nothing,
        (f) => writeFileSync(join(f, 'pair', 'mine'), 'x'),
        ['pair', 'pair/mine'],
      ],
      [
        'a foreign file below',
        two,
        nothing,
        (f) => writeFileSync(join(sub(f), 'mine'), 'x'),
        ['pair', 'pair/sub', 'pair/sub/mine'],
      ],
      ['a foreign folder', two, nothing, (f) => mkdirSync(join(f, 'pair', 'mine')), ['pair', 'pair/mine']],
      [
        'a foreign tree',
        two,
        nothing,
        (f) => {
          mkdirSync(join(f, 'pair', 'x', 'y'), { recursive: true });
          writeFileSync(join(f, 'pair', 'x', 'y', 'z'), '');
        },
        ['pair', 'pair/x', 'pair/x/y', 'pair/x/y/z'],
      ],
      [
        'a foreign hidden file',
        two,
        nothing,
        (f) => writeFileSync(join(sub(f), '.keep'), ''),
        ['pair', 'pair/sub', 'pair/sub/.keep'],
      ],
      [
        'a link to a foreign file',
        two,
        nothing,
        (f) => symlinkSync(join(outside, 'target'), join(sub(f), 'link')),
        ['pair', 'pair/sub', 'pair/sub/link'],
      ],
      [
        'a link to a foreign folder',
        two,
        nothing,
        (f) => symlinkSync(outside, join(f, 'pair', 'link')),
        ['pair', 'pair/link'],
      ],
      [
        'a file replaced by a folder',
        two,
        nothing,
        (f) => {
          rmSync(join(sub(f), 'a.bin'));
          mkdirSync(join(sub(f), 'a.bin'));
          writeFileSync(join(sub(f), 'a.bin', 'mine'), 'x');
        },
        ['pair', 'pair/sub', 'pair/sub/a.bin', 'pair/sub/a.bin/mine'],
      ],
      [
        'its folder replaced by a link',
        two,
        nothing,
        (f) => {
          rmSync(sub(f), { recursive: true });
          mkdirSync(join(outside, 'dir'));
          writeFileSync(join(outside, 'dir', 'a.bin'), 'mine');
          symlinkSync(join(outside, 'dir'), sub(f));
        },
        ['pair', 'pair/sub'],
      ],
      ['files that are gone', two, nothing, (f) => rmSync(join(f, 'pair'), { recursive: true }), []],
      ['one file gone', two, nothing, (f) => rmSync(join(sub(f), 'b.bin')), []],
      [
        'a neighbour of a like name',
        two,
        (f) => {
          mkdirSync(join(f, 'pair2'));
          writeFileSync(join(f, 'pair2', 'x'), '');
        },
        nothing,
        ['pair2', 'pair2/x'],
      ],
      ['a neighbour of the single file', one, (f) => writeFileSync(join(f, 'single.txt'), ''), nothing, ['single.txt']],
      [
        'a part file of another torrent',
        two,
        (f) => writeFileSync(join(f, `.${'0'.repeat(40)}.parts`), 'x'),
        nothing,
        [`.${'0'.repeat(40)}.parts`],
      ],
      ['its folder was there, empty', two, (f) => mkdirSync(join(f, 'pair')), nothing, []],
      [
        'a renamed copy',
        two,
        nothing,
        (f) => renameSync(join(sub(f), 'a.bin'), join(sub(f), 'a-mine.bin')),
        ['pair', 'pair/sub', 'pair/sub/a-mine.bin'],
      ],
      [
        'a backup beside',
        two,
        nothing,
        (f) => writeFileSync(join(sub(f), 'a.bin~'), 'x'),
        ['pair', 'pair/sub', 'pair/sub/a.bin~'],
      ],
    ];
    expect(layouts.length).toBe(20);
    for (const [i, [what, made, before, after, left]] of layouts.entries()) {
      const folder = world.make(`down-${i}`);
      before(folder);
      const index = await agent.add(made, { folder, peers: [peer] });
      await agent.call('done', index);
      after(folder);
      await agent.call('remove', index, { data: true });
      expect(tree(folder), what).toEqual(left);
    }
    expect(readFileSync(join(outside, 'target'), 'utf8')).toBe('mine');
    expect(readFileSync(join(outside, 'dir', 'a.bin'), 'utf8')).toBe('mine');
    expect(lstatSync(dirname(outside)).isDirectory()).toBe(true);
    await agent.end();
  });
});
