import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { displayWidth, formatBytes, formatDuration, formatPercent, sanitize, truncate } from './format.ts';

describe('sanitize', () => {
  it.each([
    ['\x1b[31mred\x1b[0m', 'red'],
    ['\x1b]0;title\x07name', 'name'],
    ['a\x1b[2Jb', 'ab'],
    ['line\r\nbreak', 'line\ufffd\ufffdbreak'],
    ['\u202egnp.exe', '\ufffdgnp.exe'],
    ['c1\x9b31m', 'c1'],
    ['Größe 魚 🐟', 'Größe 魚 🐟'],
  ])('%j', (text, safe) => {
    expect(sanitize(text)).toBe(safe);
  });

  it('leaves nothing that steers a terminal, whatever the name', () => {
    const nasty = fc.string({
      unit: fc.constantFrom('\x1b', '[', ']', '3', '1', 'm', ';', '\x07', '\x9b', '\r', '\u202e', 'a', '\x00'),
    });
    fc.assert(
      fc.property(fc.oneof(nasty, fc.string({ unit: 'binary' })), (text) => {
        for (const char of sanitize(text)) {
          const code = char.codePointAt(0)!;
          expect(code >= 0x20 && (code < 0x7f || code > 0x9f)).toBe(true);
          expect(code >= 0x202a && code <= 0x202e).toBe(false);
        }
      }),
    );
  });
});

describe('figures', () => {
  it('shows sizes in powers of 1024 with three digits', () => {
    expect([0, 1, 999, 1000, 1536, 1024 ** 2, 1.5 * 1024 ** 3, 1023 * 1024].map(formatBytes)).toEqual([
      '0 B',
      '1 B',
      '999 B',
      '0.98 KiB',
      '1.50 KiB',
      '1.00 MiB',
      '1.50 GiB',
      '1.00 MiB',
    ]);
  });

  it('never says 100 % of what is not whole', () => {
    expect(formatPercent(999_999, 1_000_000)).toBe('99.9%');
    expect(formatPercent(5, 5)).toBe('100%');
    expect(formatPercent(0, 0)).toBe('100%');
  });

  it('shows times in two units', () => {
    expect([0.2, 59.5, 61, 3600, 90_000, null, Number.POSITIVE_INFINITY].map(formatDuration)).toEqual([
      '1s',
      '1m 0s',
      '1m 1s',
      '1h 0m',
      '1d 1h',
      '-',
      '-',
    ]);
  });
});

describe('widths', () => {
  it('counts columns, not characters', () => {
    expect(displayWidth('abc')).toBe(3);
    expect(displayWidth('魚群')).toBe(4);
    expect(displayWidth('e\u0301')).toBe(1);
    expect(displayWidth('\x1b[31m🐟\x1b[0m')).toBe(2);
  });

  it('cuts to what fits', () => {
    expect(truncate('abcdef', 4)).toBe('abc…');
    expect(truncate('魚群魚群', 5)).toBe('魚群…');
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(30), (text, columns) => {
        expect(displayWidth(truncate(text, columns))).toBeLessThanOrEqual(columns);
      }),
    );
  });
});
