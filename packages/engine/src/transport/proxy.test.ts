import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concat, fromHex, latin1, toHex, utf8Encode } from '../base/bytes.ts';
import type { ProxySettings } from '../base/proxy.ts';
import { dialogueWith, udpDialogueWith } from './proxy.ts';
import type { ProxyDialogue } from './proxy-dialogue.ts';
import { UdpOrigin, udpHeader } from './proxy-udp.ts';

const SOCKS4 = settings('socks4', 'fred', null);
const SOCKS5 = settings('socks5', null, null);
const SOCKS5_LOGIN = settings('socks5', 'u', 'secret word');
const HTTP = settings('http', 'Aladdin', 'open sesame');
const V4 = { host: '66.102.7.99', port: 80 };
const NAME = { host: 'tracker.example', port: 6969 };
const NAME_HEX = toHex(utf8Encode(NAME.host));
const BEHIND = utf8Encode('what the other side says');

function settings(kind: ProxySettings['kind'], user: string | null, password: string | null): ProxySettings {
  return { kind, host: '10.0.0.1', port: 1080, user, password, peers: true, trackers: true };
}

function said(dialogue: ProxyDialogue): string | null {
  const out = dialogue.takeOut();
  return out === null ? null : toHex(out);
}

function hear(dialogue: ProxyDialogue, hex: string): void {
  dialogue.receive(fromHex(hex)!);
}

describe('SOCKS4', () => {
  test('asks for an address as its paper does', () => {
    const dialogue = dialogueWith(SOCKS4, V4);
    // "0x04 | 0x01 | 0x00 0x50 | 0x42 0x66 0x07 0x63 | 0x46 0x72 0x65 0x64 0x00" but for the case of the name
    expect(said(dialogue)).toBe('04010050426607636672656400');
    hear(dialogue, '005a000000000000');
    expect(dialogue.state).toBe('open');
    expect(dialogue.rest.length).toBe(0);
  });

  test('asks for a name by 4a, and keeps what comes behind the answer', () => {
    const dialogue = dialogueWith(SOCKS4, NAME);
    expect(said(dialogue)).toBe(`04011b39000000016672656400${NAME_HEX}00`);
    dialogue.receive(concat([fromHex('005affffffffffff')!, BEHIND]));
    expect(dialogue.state).toBe('open');
    expect(dialogue.rest).toEqual(BEHIND);
  });

  test('is refused, and has no IPv6', () => {
    const dialogue = dialogueWith(SOCKS4, V4);
    hear(dialogue, '005b');
    expect(dialogue.fault?.code).toBe('EPROXY');
    const six = dialogueWith(SOCKS4, { host: '2001:db8::2', port: 1 });
    expect(six.fault?.code).toBe('EAFNOSUPPORT');
    expect(six.takeOut()).toBe(null);
  });
});

describe('SOCKS5', () => {
  test('asks without a password', () => {
    const dialogue = dialogueWith(SOCKS5, V4);
    expect(said(dialogue)).toBe('050100');
    hear(dialogue, '0500');
    expect(said(dialogue)).toBe('05010001426607630050');
    hear(dialogue, '050000010a0000010438');
    expect(dialogue.state).toBe('open');
    expect(dialogue.bound).toEqual({ ip: '10.0.0.1', port: 1080 });
  });

  test('logs in and asks for a name, and for IPv6', () => {
    const dialogue = dialogueWith(SOCKS5_LOGIN, NAME);
    expect(said(dialogue)).toBe('05020002');
    hear(dialogue, '0502');
    expect(said(dialogue)).toBe(`0101750b${toHex(utf8Encode('secret word'))}`);
    hear(dialogue, '0100');
    expect(said(dialogue)).toBe(`050100030f${NAME_HEX}1b39`);
    hear(dialogue, `0500000400000000000000000000000000000001ffff`);
    expect(dialogue.bound).toEqual({ ip: '::1', port: 65535 });
    const six = dialogueWith(SOCKS5, { host: '2001:db8::2', port: 1 });
    hear(six, '0500');
    expect(said(six)).toBe('0501000420010db80000000000000000000000020001');
  });

  test('asks for a relay of datagrams', () => {
    const dialogue = udpDialogueWith(SOCKS5);
    hear(dialogue, '0500');
    expect(said(dialogue)).toBe('05030001000000000000');
    hear(dialogue, '0500000304686f73742710');
    expect(dialogue.bound).toEqual({ ip: '0.0.0.0', port: 10000 });
  });

  test.each([
    ['04', 'EPROXY'],
    ['05ff', 'EPROXYAUTH'],
    ['0501', 'EPROXY'],
    // a way to log in that was not offered
    ['0502', 'EPROXY'],
    ['050005', null],
    ['05000501', 'EPROXY'],
    ['05000502', 'EPROXYDENIED'],
    ['05000503', 'ENETUNREACH'],
    ['05000504', 'EHOSTUNREACH'],
    ['05000505', 'ECONNREFUSED'],
    ['05000507', 'EPROXYDENIED'],
    ['05000508', 'EAFNOSUPPORT'],
    ['050005f0', 'EPROXY'],
    ['0500050000ff', 'EPROXY'],
    ['050004', 'EPROXY'],
  ])('hears %s as %s', (hex, code) => {
    const dialogue = dialogueWith(SOCKS5, V4);
    hear(dialogue, hex);
    expect(dialogue.fault?.code ?? null).toBe(code);
    expect(dialogue.state).toBe(code === null ? 'talking' : 'failed');
  });

  test('says nothing of the password it was refused for', () => {
    const dialogue = dialogueWith(SOCKS5_LOGIN, V4);
    hear(dialogue, '05020101');
    expect(dialogue.fault?.code).toBe('EPROXYAUTH');
    expect(dialogue.fault?.message).not.toContain('secret');
  });
});

describe('HTTP CONNECT', () => {
  test('asks with the login of RFC 7617, and keeps what comes behind', () => {
    const dialogue = dialogueWith(HTTP, NAME);
    expect(latin1(dialogue.takeOut()!)).toBe(
      'CONNECT tracker.example:6969 HTTP/1.1\r\nHost: tracker.example:6969\r\n' +
        'Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n',
    );
    dialogue.receive(concat([utf8Encode('HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n'), BEHIND]));
    expect(dialogue.state).toBe('open');
    expect(dialogue.rest).toEqual(BEHIND);
  });

  test.each([
    ['HTTP/1.1 407 Proxy Authentication Required', 'EPROXYAUTH'],
    ['HTTP/1.0 403 Forbidden', 'EPROXYDENIED'],
    ['HTTP/1.1 502 Bad Gateway', 'EHOSTUNREACH'],
    ['HTTP/1.1 100 Continue', 'EPROXY'],
    ['HTTP/2.0 200 OK\r\n\r\n', 'EPROXY'],
    ['SSH-2.0-x', 'EPROXY'],
    ['HTTP/1.1 200 OK\r\n', null],
  ])('hears %s', (text, code) => {
    const dialogue = dialogueWith(HTTP, NAME);
    dialogue.receive(utf8Encode(text));
    expect(dialogue.fault?.code ?? null).toBe(code);
    expect(dialogue.state).toBe(code === null ? 'talking' : 'failed');
  });

  test('hears no more than a head has', () => {
    const dialogue = dialogueWith(HTTP, NAME);
    dialogue.receive(utf8Encode(`HTTP/1.1 200 OK\r\nX: ${'a'.repeat(9000)}`));
    expect(dialogue.fault?.code).toBe('EPROXY');
  });

  test('takes no second line from a name', () => {
    for (const host of ['a\r\nX: y', 'a b', '', 'a'.repeat(300), 'ü']) {
      for (const proxy of [SOCKS4, SOCKS5, HTTP]) expect(dialogueWith(proxy, { host, port: 1 }).state).toBe('failed');
    }
  });
});

describe('any proxy', () => {
  const answers: readonly (readonly [ProxySettings, Uint8Array])[] = [
    [SOCKS4, fromHex('005a000000000000')!],
    [SOCKS5, fromHex('050005000001010203040506')!],
    [SOCKS5_LOGIN, fromHex('0502010005000003026162ffff')!],
    [HTTP, utf8Encode('HTTP/1.1 200 OK\r\nVia: x\r\n\r\n')],
  ];

  test('may answer in pieces of any size', () => {
    const pieces = fc.array(fc.nat({ max: 40 }), { maxLength: 20 });
    fc.assert(
      fc.property(fc.constantFrom(...answers), pieces, ([proxy, answer], cuts) => {
        const dialogue = dialogueWith(proxy, NAME);
        const all = concat([answer, BEHIND]);
        const got: Uint8Array[] = [];
        let at = 0;
        for (const cut of [...cuts, all.length]) {
          const piece = all.slice(at, at + cut);
          at += piece.length;
          if (dialogue.state === 'open') got.push(piece);
          else {
            dialogue.receive(piece);
            if (dialogue.state === 'open') got.push(dialogue.rest.slice());
          }
        }
        expect(dialogue.state).toBe('open');
        expect(concat(got)).toEqual(BEHIND);
      }),
    );
  });

  test('may answer anything: it ends, or more is awaited, but little is kept', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...answers),
        fc.nat({ max: 30 }),
        fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 30 }),
        ([proxy, answer], from, chunks) => {
          for (const dialogue of [dialogueWith(proxy, V4), udpDialogueWith(SOCKS5_LOGIN)]) {
            dialogue.receive(answer.subarray(0, from));
            for (const chunk of chunks) dialogue.receive(chunk);
            expect(dialogue.state === 'failed').toBe(dialogue.fault !== null);
            if (dialogue.state === 'talking') expect(dialogue.rest.length).toBeLessThanOrEqual(8192);
          }
        },
      ),
    );
  });
});

describe('datagrams', () => {
  test('are wrapped as RFC 1928 says', () => {
    expect(toHex(udpHeader('66.102.7.99', 80))).toBe('00000001426607630050');
    expect(toHex(udpHeader('tracker.example', 6969))).toBe(`000000030f${NAME_HEX}1b39`);
    expect(toHex(udpHeader('2001:db8::2', 1))).toBe('0000000420010db80000000000000000000000020001');
  });

  test('are read back, fragments and names left out', () => {
    const origin = new UdpOrigin();
    for (const [host, port] of [
      ['66.102.7.99', 80],
      ['2001:db8::2', 65535],
    ] as const) {
      expect(origin.read(concat([udpHeader(host, port), BEHIND]))).toBe(true);
      expect([origin.ip, origin.port, origin.at]).toEqual([host, port, udpHeader(host, port).length]);
    }
    expect(origin.read(fromHex('00000101426607630050ff')!)).toBe(false);
    expect(origin.read(udpHeader('tracker.example', 1))).toBe(false);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        if (origin.read(bytes)) expect(origin.at).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });
});
