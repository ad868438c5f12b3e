import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatEndpoint,
  formatIp,
  isLocal,
  isLoopback,
  isUsablePeerAddress,
  parseEndpoint,
  parseIp,
  plainIp,
} from './ip.ts';

describe('addresses', () => {
  it('have one text each (RFC 5952)', () => {
    for (const [text, canonical] of [
      ['1.2.3.4', '1.2.3.4'],
      ['::', '::'],
      ['::1', '::1'],
      ['0:0:0:0:0:0:0:1', '::1'],
      ['2001:DB8::0001', '2001:db8::1'],
      ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
      ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
      ['fe80::', 'fe80::'],
      ['::ffff:1.2.3.4', '1.2.3.4'],
      ['::ffff:102:304', '1.2.3.4'],
      ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
    ] as const) {
      expect(formatIp(parseIp(text)!)).toBe(canonical);
    }
  });

  it('are refused when malformed', () => {
    for (const text of [
      '',
      '1.2.3',
      '1.2.3.4.5',
      '256.1.1.1',
      '01.2.3.4',
      '1.2.3.x',
      ':',
      ':::',
      '1::2::3',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      '1:2:3:4:5:6:7::8',
      '12345::',
      'g::',
      '::1.2.3',
      '1.2.3.4::',
      'fe80::1%eth0',
      '::1 ',
    ]) {
      expect(parseIp(text), text).toBeNull();
    }
  });

  it('survive a round trip, and junk', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        expect(formatIp(parseIp(formatIp(bytes))!)).toBe(formatIp(bytes));
        const four = bytes.subarray(0, 4);
        expect(parseIp(formatIp(four))).toEqual(four);
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0129af:.[]%x'), maxLength: 24 }), (text) => {
        const ip = parseIp(text);
        if (ip !== null) expect(parseIp(formatIp(ip))).toEqual(ip);
        parseEndpoint(text);
      }),
    );
  });

  it('are split from ports', () => {
    expect(parseEndpoint('1.2.3.4:80')).toEqual({ host: '1.2.3.4', port: 80 });
    expect(parseEndpoint('[::0001]:6881')).toEqual({ host: '::1', port: 6881 });
    expect(parseEndpoint('[::ffff:1.2.3.4]:1')).toEqual({ host: '1.2.3.4', port: 1 });
    expect(parseEndpoint('tracker.example:65535')).toEqual({ host: 'tracker.example', port: 65535 });
    expect(formatEndpoint('::1', 80)).toBe('[::1]:80');
    for (const text of [
      '1.2.3.4',
      '1.2.3.4:0',
      '1.2.3.4:65536',
      'h:',
      ':80',
      '::1:80',
      '[1.2.3.4]:80',
      'a b:80',
      'h:8x',
    ]) {
      expect(parseEndpoint(text), text).toBeNull();
    }
  });

  it('are judged as peers and as local', () => {
    const usable = (text: string, port = 6881): boolean => isUsablePeerAddress(parseIp(text)!, port);
    expect(usable('1.2.3.4')).toBe(true);
    expect(usable('127.0.0.1')).toBe(true);
    expect(usable('::1')).toBe(true);
    expect(usable('1.2.3.4', 0)).toBe(false);
    for (const text of ['0.0.0.0', '224.0.0.1', '255.255.255.255', '::', 'ff02::1']) expect(usable(text)).toBe(false);
    const local = ['10.1.1.1', '127.9.9.9', '172.16.0.1', '192.168.0.1', '169.254.1.1', '100.64.0.1', '::1', 'fe80::1'];
    for (const text of [...local, 'fd00::1']) expect(isLocal(parseIp(text)!), text).toBe(true);
    for (const text of ['1.1.1.1', '172.32.0.1', '100.128.0.1', '2001:db8::1', '::']) {
      expect(isLocal(parseIp(text)!), text).toBe(false);
    }
    const mapped = (...four: number[]) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...four);
    expect([isLocal(mapped(10, 0, 0, 1)), isLocal(mapped(1, 1, 1, 1))]).toEqual([true, false]);
    for (const ip of ['127.0.0.1', '::1', parseIp('127.9.9.9')!, parseIp('::1')!, mapped(127, 0, 0, 1)]) {
      expect(isLoopback(ip)).toBe(true);
    }
    for (const ip of ['128.0.0.1', '::2', parseIp('10.0.0.1')!, parseIp('fe80::1')!, mapped(10, 0, 0, 1)]) {
      expect(isLoopback(ip)).toBe(false);
    }
    expect(plainIp(mapped(1, 2, 3, 4))).toEqual(parseIp('1.2.3.4'));
  });
});
