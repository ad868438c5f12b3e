import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const FOLDER = fileURLToPath(new URL('../../examples/', import.meta.url));

function run(name: string): Promise<{ code: number | null; text: string }> {
  const child = spawn(process.execPath, [`${FOLDER}${name}`]);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      text += String(data);
    });
  }
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, text })));
}

const EXPECTED: Readonly<Record<string, RegExp>> = {
  'download.mjs': /^tides: 16777234 bytes, all verified\n$/,
  'seed.mjs': /^made photos: 31 pieces.*\nseeding on .*\na friend fetched 500000 bytes\n$/,
  'stream.mjs': /^read bytes 8388608 to 9388608 while \d+% of the torrent was there\nthey equal the source\n$/,
  'follow.mjs': /^version 1: 40000\d\d of 40000\d\d bytes fetched\nversion 2: \d{1,6} of 40000\d\d bytes fetched\n$/,
  'progress.mjs': /^ {2}0\.0%.*\n( *[\d.]+% .*\n)+done\n$/,
};

it.each(Object.keys(EXPECTED))('%s', async (name) => {
  const { code, text } = await run(name);
  expect(text).toMatch(EXPECTED[name]!);
  expect(code).toBe(0);
});

it('two-connections.mjs: the order differs, and a run takes as long as its longest part', async () => {
  const { code, text } = await run('two-connections.mjs');
  expect(code).toBe(0);
  expect(text).toMatch(/^closed A then B: \d+ times$/m);
  expect(text).toMatch(/^closed B then A: \d+ times$/m);
  const runs = [...text.matchAll(/took (\d+) ms: longest (\d+), sum (\d+)/g)].map((match) =>
    match.slice(1).map(Number),
  );
  expect(runs.length).toBeGreaterThanOrEqual(8);
  const took = runs.reduce((all, [ms]) => all + ms!, 0);
  const longest = runs.reduce((all, [, ms]) => all + ms!, 0);
  const sum = runs.reduce((all, [, , ms]) => all + ms!, 0);
  expect(took).toBeGreaterThanOrEqual(longest - runs.length);
  expect(took).toBeLessThan((longest + sum) / 2);
});

it('are all run here', () => {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith('.mjs') && name !== 'swarm.mjs');
  expect(names.sort()).toEqual([...Object.keys(EXPECTED), 'two-connections.mjs'].sort());
});
