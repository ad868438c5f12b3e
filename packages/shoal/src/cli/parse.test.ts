import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UsageError } from './exit-code.ts';
import * as parse from './parse.ts';

describe('sizes and rates', () => {
  it.each([
    ['0', 0],
    ['700000', 700_000],
    ['512K', 512 * 1024],
    ['20M', 20 * 1024 * 1024],
    ['1.5MiB', 1.5 * 1024 * 1024],
    ['1.5 mib', 1.5 * 1024 * 1024],
    ['2GB', 2e9],
    ['.5k', 512],
  ])('%s', (text, bytes) => {
    expect(parse.parseSize(text)).toBe(bytes);
    expect(parse.parseRate(`${text}/s`)).toBe(bytes);
  });

  it.each(['', 'K', '-1', '1e9', '5X', '1.2.3M', '99999999T', 'NaN', '0x10'])('refuses %j', (text) => {
    expect(() => parse.parseSize(text)).toThrow(UsageError);
  });

  it('takes piece sizes that are powers of two from 16 KiB on', () => {
    expect(parse.parsePieceSize('1M')).toBe(1 << 20);
    for (const text of ['8K', '17K', '3M', '512M', '1MB', '0']) {
      expect(() => parse.parsePieceSize(text)).toThrow(UsageError);
    }
  });
});

describe('selections', () => {
  it('reads numbers and ranges, sorted, each once', () => {
    expect(parse.parseSelect('0,2-4')).toEqual([0, 2, 3, 4]);
    expect(parse.parseSelect('7, 1-2 ,2')).toEqual([1, 2, 7]);
  });

  it.each(['', ',', '3-1', '1-', '-1', 'a', '1;2', '0-999999999'])('refuses %j', (text) => {
    expect(() => parse.parseSelect(text)).toThrow(UsageError);
  });

  it('reads back whatever is written as a list', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(5000)), (indices) => {
        fc.pre(indices.length > 0);
        expect(parse.parseSelect(indices.join(','))).toEqual([...indices].sort((a, b) => a - b));
      }),
    );
  });
});

describe('addresses', () => {
  it.each(['127.0.0.1:6881', 'peer.example:1', '[::1]:65535', '[fe80::1]:6881'])('peer %s', (text) => {
    expect(parse.parsePeer(text)).toBe(text);
  });

  it.each(['127.0.0.1', '127.0.0.1:0', 'a:65536', '::1:6881', '[::1]', '[1.2.3.4]:5', 'a b:1', ':80', 'a:1x'])(
    'refuses the peer %j',
    (text) => {
      expect(() => parse.parsePeer(text)).toThrow(UsageError);
    },
  );

  it('reads ports, local addresses, times and URLs', () => {
    expect(parse.parsePort('0')).toBe(0);
    expect(parse.parsePort('65535')).toBe(65535);
    expect(() => parse.parsePort('65536')).toThrow(UsageError);
    expect(() => parse.parsePort('8 0')).toThrow(UsageError);
    expect(parse.parseAddress('[::1]')).toBe('::1');
    expect(() => parse.parseAddress('localhost')).toThrow(UsageError);
    expect(parse.parseTimeout('1.5')).toBe(1500);
    expect(() => parse.parseTimeout('0')).toThrow(UsageError);
    expect(parse.parseTrackerUrl('udp://t.example:80')).toBe('udp://t.example:80');
    expect(() => parse.parseTrackerUrl('file:///etc/passwd')).toThrow(UsageError);
    expect(() => parse.parseWebSeedUrl('nonsense')).toThrow(UsageError);
  });
});
