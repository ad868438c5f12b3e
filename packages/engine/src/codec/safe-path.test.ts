import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quickestMs } from '../../test/quickest.ts';
import { utf8Encode } from '../base/bytes.ts';
import { distinctPaths, isSafeComponent, safeComponent, safeName } from './safe-path.ts';

const safe = (text: string): string => safeComponent(utf8Encode(text));

describe('safeComponent', () => {
  it.each([
    ['plain name.txt', 'plain name.txt'],
    ['日本語 ü.mkv', '日本語 ü.mkv'],
    ['..', '_'],
    ['.', '_'],
    ['', '_'],
    ['...', '_'],
    [' . ', '_'],
    ['../../etc/passwd', '....etcpasswd'],
    ['/absolute', 'absolute'],
    ['a\\b', 'ab'],
    ['C:', 'C_'],
    ['c:evil', 'c_evil'],
    ['at 12:30', 'at 12:30'],
    ['CON', '_CON'],
    ['nul.txt', '_nul.txt'],
    ['Com1.tar.gz', '_Com1.tar.gz'],
    ['lpt¹', '_lpt¹'],
    ['aux ', '_aux'],
    ['console', 'console'],
    ['a\0b\nc\x7f\u0085', 'a_b_c__'],
    ['photo\u202egpj.exe', 'photogpj.exe'],
    ['a\u200b\u2066\ufeffb', 'ab'],
    ['\u202e', '_'],
    ['.hidden', '.hidden'],
    ['trailing.', 'trailing'],
    ['trailing . .', 'trailing'],
  ])('%j -> %j', (given, wanted) => {
    expect(safe(given)).toBe(wanted);
  });

  it('makes bad UTF-8 visible', () => {
    expect(safeComponent(Uint8Array.of(97, 0xff, 0xc0, 0xaf, 98))).toBe('a___b');
    // a surrogate written as UTF-8, and an overlong slash
    expect(safeComponent(Uint8Array.of(0xed, 0xa0, 0x80))).toMatch(/^_+$/);
    expect(safeComponent(Uint8Array.of(0xc0, 0xaf, 0x2e, 0x2e))).toMatch(/^__/);
  });

  it('cuts at 255 bytes between characters and keeps the extension', () => {
    const long = safe(`${'ü'.repeat(200)}.torrent`);
    expect(long).toBe(`${'ü'.repeat(123)}.torrent`);
    expect(utf8Encode(safe('😀'.repeat(100))).length).toBe(252);
    expect(safe(`${'a'.repeat(300)}.${'b'.repeat(100)}`)).toBe('a'.repeat(255));
    expect(utf8Encode(safe(`nul.${'é'.repeat(200)}`)).length).toBeLessThanOrEqual(255);
  });

  it('is safe for any bytes, and leaves safe names alone', () => {
    const odd = fc.constantFrom(...'./\\: CONuxab\0\u202e\u200b😀é');
    const names = fc.oneof(fc.uint8Array({ maxLength: 400 }), fc.string({ unit: odd, maxLength: 300 }).map(utf8Encode));
    fc.assert(
      fc.property(names, (bytes) => {
        const name = safeComponent(bytes);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: controls must not come out
        expect(name).not.toMatch(/[/\\\0-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffd]/);
        expect(['', '.', '..']).not.toContain(name);
        expect(name).not.toMatch(/[. ]$|^[A-Za-z]:/);
        expect(utf8Encode(name).length).toBeLessThanOrEqual(255);
        expect(isSafeComponent(name)).toBe(true);
        expect(safe(name)).toBe(name);
      }),
      { numRuns: 2000 },
    );
  });

  it('leaves nothing of a hostile torrent name', () => {
    expect(safeName(utf8Encode('..'))).toBeNull();
    expect(safeName(utf8Encode('/'))).toBeNull();
  });
});

describe('distinctPaths', () => {
  const run = (...paths: string[]): string[] => {
    const files = paths.map((path) => ({ path: path.split('/') }));
    distinctPaths(files);
    return files.map((file) => file.path.join('/'));
  };

  it('numbers what is the same but for case', () => {
    expect(run('t/a.txt', 't/A.TXT', 't/a.txt')).toEqual(['t/a.txt', 't/A.1.TXT', 't/a.2.txt']);
    expect(run('t/X/a', 't/x/A')).toEqual(['t/X/a', 't/x/A.1']);
    // one letter with an accent, and the letter and the accent apart
    expect(run('t/\u00e9', 't/e\u0301')).toEqual(['t/\u00e9', 't/e\u0301.1']);
  });

  it('moves files out of the way of folders, wherever these come', () => {
    expect(run('t/a', 't/a/b')).toEqual(['t/a.1', 't/a/b']);
    expect(run('t/a/b', 't/A')).toEqual(['t/a/b', 't/A.1']);
    expect(run('t/a', 't/a.1', 't/a/b')).toEqual(['t/a.1', 't/a.1.1', 't/a/b']);
  });

  it('ends with distinct paths that fit', () => {
    const part = fc.constantFrom('a', 'A', 'a.1', 'b', 'a.1.1', `${'x'.repeat(253)}.y`, `${'X'.repeat(253)}.Y`);
    const list = fc.array(fc.array(part, { minLength: 1, maxLength: 3 }), { maxLength: 30 });
    fc.assert(
      fc.property(list, (paths) => {
        const files = paths.map((path) => ({ path: [...path] }));
        distinctPaths(files);
        const texts = files.map((file) => file.path.join('/').toLowerCase());
        expect(new Set(texts).size).toBe(texts.length);
        for (const text of texts) {
          for (const other of texts) expect(other.startsWith(`${text}/`)).toBe(false);
          for (const name of text.split('/')) expect(name.length).toBeLessThanOrEqual(255);
        }
      }),
    );
  });

  it('is linear in files of one name, and stops at a limit', () => {
    let files: { path: string[] }[] = [];
    const tookMs = quickestMs(1000, () => {
      files = Array.from({ length: 50_000 }, () => ({ path: ['t', 'same'] }));
      distinctPaths(files);
    });
    expect(tookMs).toBeLessThan(1000);
    expect(files.at(-1)!.path[1]).toBe('same.49999');
    expect(
      distinctPaths(
        Array.from({ length: 100 }, () => ({ path: ['same'] })),
        500,
      ),
    ).toBeGreaterThan(500);
  });
});
