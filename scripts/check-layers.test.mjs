// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the samples are source text
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkFile, importsOf, tokenize } from './check-layers.mjs';

const rules = JSON.parse(readFileSync(new URL('./layers.json', import.meta.url), 'utf8'));
const SRC = 'packages/engine/src';
const check = (path, source) => checkFile(path, source, rules).map(({ line, text }) => `${line}: ${text}`);
const wire = (source) => check(`${SRC}/wire/x.ts`, source);

describe('layers.json', () => {
  it('lets a layered room import lower layers only', () => {
    for (const [path, room] of Object.entries(rules.rooms)) {
      for (const name of room.imports) {
        const target = Object.entries(rules.rooms).find(([other]) => other !== path && other.endsWith(`/${name}`));
        expect(target, `${path} -> ${name}`).toBeDefined();
        if (room.layer !== undefined) expect(target[1].layer, `${path} -> ${name}`).toBeLessThan(room.layer);
      }
      if (room.layer !== undefined && room.layer <= 3) expect(room.pure, path).toBe(true);
    }
  });
});

describe('imports', () => {
  it.each([
    ['wire', "import { a } from '../base/bytes.ts';", true],
    ['wire', "import { a } from './framing.ts';", true],
    ['wire', "import { a } from '../discovery/announce.ts';", false],
    ['wire', "import type { A } from '../swarm/peer.ts';", false],
    ['wire', "import { type A } from '../session/types.ts';", false],
    ['wire', "export { a } from '../disk/x.ts';", false],
    ['wire', "export * from '../disk/x.ts';", false],
    ['wire', "export * as disk from '../disk/x.ts';", false],
    ['wire', "import '../disk/x.ts';", false],
    ['wire', "const x = await1(import('../disk/x.ts'));", false],
    ['wire', "let x: import('../disk/x.ts').X;", false],
    ['wire', 'const x = import(name);', false],
    ['wire', "import { a } from 'node:fs';", false],
    ['wire', "import fs from 'fs';", false],
    ['wire', "import {\n  a,\n  b as c,\n} from '../host/tcp.ts';", false],
    ['swarm', "import { a } from '../disk/write-cache.ts';", false],
    ['swarm', "import { a } from '../wire/conversation.ts';", true],
    ['disk', "import { a } from '../wire/conversation.ts';", false],
    ['session', "import { a } from '../host/tcp.ts';", false],
    ['session', "import { a } from '../../sim/world.ts';", false],
    ['host', "import { a } from 'node:fs';", true],
    ['host', "import { a } from '../session/session.ts';", false],
    ['base', "import { a } from '../codec/bencode.ts';", false],
    ['wire', "import { a } from './x.test.ts';", false],
    ['wire', "import { a } from '../../../shoal/src/index.ts';", false],
  ])('%s: %s', (room, source, allowed) => {
    expect(check(`${SRC}/${room}/x.ts`, source).length === 0).toBe(allowed);
  });

  it('only the public face imports host, only base/hash.ts node:crypto', () => {
    const host = "import { a } from './host/tcp.ts';";
    expect(check(`${SRC}/index.ts`, host)).toEqual([]);
    const crypto = "import { hash } from 'node:crypto';";
    expect(check(`${SRC}/base/hash.ts`, crypto)).toEqual([]);
    expect(check(`${SRC}/base/heap.ts`, crypto)).toHaveLength(1);
  });

  it('tests may import anything; a file outside every room is found', () => {
    expect(check(`${SRC}/wire/x.test.ts`, "import { a } from '../host/x.ts'; setTimeout(a, 1);")).toEqual([]);
    expect(check(`${SRC}/../other/x.ts`.replace('src/../', ''), '')).toHaveLength(1);
  });

  it('packages only where they are named', () => {
    const source = "import { Command } from 'commander';";
    expect(check('packages/shoal/src/cli/main.ts', source)).toEqual([]);
    expect(check('packages/shoal/src/tracker/x.ts', source)).toHaveLength(1);
    expect(check('packages/shoal/src/tracker/x.ts', "import { encode } from '@shoal/engine/codec';")).toEqual([]);
  });

  it('reads what is no import as none', () => {
    const source = `export const from = 1; export function f() {} const s = "import x from 'node:fs'"; // import 'a'
      /* import 'b' */ const u = import.meta.url; const t = \`import 'c' \${f('d')}\`; x.import('e');`;
    expect(importsOf(tokenize(source))).toEqual([]);
  });
});

describe('bans below the host', () => {
  it.each([
    'const t = Date.now();',
    'const t = performance.now();',
    'const b = Buffer.alloc(1);',
    'const r = Math.random();',
    'setTimeout(f, 1);',
    'queueMicrotask(f);',
    'const e = process.env;',
    'function f(): Promise<void> {}',
    'const f = async () => 1;',
    'console.log(1);',
    'const t = `${Date.now()}`;',
    'const t = a / b; const u = Date.now(); const v = c / d;',
  ])('%s', (source) => {
    expect(wire(source)).toEqual([expect.stringContaining('banned here')]);
    expect(check(`${SRC}/host/x.ts`, source)).toEqual([]);
  });

  it.each([
    '// Date.now() would be wrong',
    "const s = 'Date.now()';",
    'const s = `await ${a} Promise`;',
    'const r = /Date|process/.test(s);',
    'const t = this.process(1);',
    'const o = { process: 1, Date: 2 };',
    'const m = Math.max(1, 2);',
    'interface A { async?: boolean }',
    'const n = a.b / 2; // Buffer',
  ])('not: %s', (source) => expect(wire(source)).toEqual([]));

  it('names the line', () => {
    expect(wire('/* a\n b */\nconst s = `x\n${1}\n`;\nconsole.log(s);')).toEqual(['6: console is banned here']);
  });
});

describe('tidy', () => {
  it.each([
    [`// TO${'DO'}: more`, 'leftover'],
    [`/*\n * FIX${'ME'} */`, 'leftover'],
    ['let a: any = 1;', "type 'any'"],
    ['let a: Map<string, any>;', "type 'any'"],
    ['const a = b as any;', "type 'any'"],
    ['type F = () => any;', "type 'any'"],
    ['// const old = f(1);', 'commented out'],
    ['// return this.x;', 'commented out'],
    ['// this.count = 3;', 'commented out'],
    ['// if (a) {', 'commented out'],
    ['debugger;', 'debugger'],
    [`const p = '/ho${'me'}/someone/x';`, 'one machine'],
    [`// see /wo${'rk'}/main/x`, 'one machine'],
  ])('%s', (source, what) => expect(wire(source)).toEqual([expect.stringContaining(what)]));

  it.each(["it.only('x', f);", "describe.skip('x', f);", "it.skip('x', f);", "it.todo('x');", 'context.skip();'])(
    'in a test: %s',
    (source) => expect(check(`${SRC}/wire/x.test.ts`, source)).toHaveLength(1),
  );

  it.each([
    '// for one that is full, see above; then it goes',
    '// the first (of any) is kept',
    '// a = b means that both are one',
    'const any = 1; f(any); o.any();',
    "const p = '/announce';",
    '// a piece / a block; 16 KiB',
  ])('not: %s', (source) => expect(wire(source)).toEqual([]));

  it('lets a test skip with a reason', () => {
    expect(check(`${SRC}/wire/x.test.ts`, "it('x', (context) => context.skip('no IPv6 here'));")).toEqual([]);
  });

  it('limits the length of a file', () => {
    expect(wire('\n'.repeat(600))).toEqual([]);
    expect(wire('\n'.repeat(701))).toHaveLength(1);
    expect(checkFile(`${SRC}/wire/x.ts`, '\n'.repeat(650), rules)).toEqual([
      expect.objectContaining({ warning: true }),
    ]);
  });
});
