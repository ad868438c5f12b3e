/** ut_pex (BEP 11), ut_holepunch (BEP 55) and PORT (BEP 5): bytes by hand, and what is taken from strangers. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ascii, extended, FAST, greeted, hex, message, PLAIN, party, said } from '../../test/wire-kit.ts';
import { concat, latin1, toHex } from '../base/bytes.ts';
import { PeerFault } from '../base/errors.ts';
import { isUsablePeerAddress } from '../base/ip.ts';
import { buildHolepunch, HolepunchError, HolepunchKind, parseHolepunch } from './holepunch.ts';
import { buildPex, MAX_PEX_BYTES, MAX_PEX_PEERS, PEX_FLOOD_BYTES, type PexMessage, parsePex } from './pex.ts';

const NONE = new Uint8Array(0);
const EMPTY: PexMessage = { added4: NONE, flags4: NONE, added6: NONE, flags6: NONE, dropped4: NONE, dropped6: NONE };
const A = hex('01020304 1ae1');
const B = hex('05060708 0050');
const SIX = hex('20010db8000000000000000000000001 1ae1');

/** A value of the dictionary, as bencode. */
function entry(key: string, value: Uint8Array): Uint8Array {
  return concat([ascii(`${key.length}:${key}${value.length}:`), value]);
}

function dict(...entries: Uint8Array[]): Uint8Array {
  return concat([ascii('d'), ...entries, ascii('e')]);
}

/** `count` addresses 11.x.x.x. */
function many(count: number): Uint8Array {
  const bytes = new Uint8Array(count * 6);
  for (let i = 0; i < count; i++) bytes.set([11, i >> 16, (i >> 8) & 255, i & 255, 1, 1], i * 6);
  return bytes;
}

describe('ut_pex', () => {
  it('is written as BEP 11 says, and read back', () => {
    const full: PexMessage = {
      added4: concat([A, B]),
      flags4: Uint8Array.of(2, 16),
      added6: SIX,
      flags6: Uint8Array.of(4),
      dropped4: hex('09090909 0001'),
      dropped6: hex('20010db8000000000000000000000002 0001'),
    };
    const six = latin1(SIX);
    expect(latin1(buildPex(full))).toBe(
      `d5:added12:${latin1(A)}${latin1(B)}7:added.f2:\x02\x106:added618:${six}8:added6.f1:\x04` +
        `7:dropped6:\x09\x09\x09\x09\x00\x018:dropped618:${latin1(full.dropped6)}e`,
    );
    expect(parsePex(buildPex(full))).toEqual(full);
    expect(latin1(buildPex(EMPTY))).toBe('de');
    expect(parsePex(ascii('de'))).toEqual(EMPTY);
  });

  const wrong: [string, Uint8Array, Partial<PexMessage>][] = [
    ['missing flags are zeros', dict(entry('added', A)), { added4: A, flags4: Uint8Array.of(0) }],
    [
      'too few flags spoil their addresses',
      dict(entry('added', concat([A, B])), entry('added.f', Uint8Array.of(1))),
      {},
    ],
    [
      'too many flags spoil their addresses alone',
      dict(entry('added', A), entry('added.f', Uint8Array.of(1, 2)), entry('added6', SIX)),
      { added6: SIX, flags6: Uint8Array.of(0) },
    ],
    ['a rest that is no address is cut off', dict(entry('added', concat([A, B.slice(0, 3)]))), { added4: A }],
    ['less than one address', dict(entry('added', A.slice(0, 5))), {}],
    ['a number where a list should be', ascii('d5:addedi7e7:droppedlee'), {}],
    ['what later clients may add', ascii('d7:unknownd1:ai1eee'), {}],
    [
      'port 0, unspecified, multicast and broadcast',
      dict(entry('added', concat([hex('01020304 0000 00000000 1ae1 e0000001 1ae1 ffffffff 1ae1'), B]))),
      { added4: B },
    ],
    [
      'flags stay with their addresses when one before is left out',
      dict(entry('added', concat([hex('01020304 0000'), B])), entry('added.f', Uint8Array.of(1, 2))),
      { added4: B, flags4: Uint8Array.of(2) },
    ],
    ['IPv6 multicast', dict(entry('dropped6', concat([hex(`ff02${'00'.repeat(14)} 0001`), SIX]))), { dropped6: SIX }],
  ];
  it.each(wrong)('%s', (_name, body, taken) => {
    const expected = { ...EMPTY, ...taken };
    if (taken.flags4 === undefined) expected.flags4 = new Uint8Array(expected.added4.length / 6);
    if (taken.flags6 === undefined) expected.flags6 = new Uint8Array(expected.added6.length / 18);
    expect(parsePex(body)).toEqual(expected);
  });

  it('that is no dictionary closes the peer; one of any bytes gives a message or nothing', () => {
    for (const body of ['', 'i1e', 'le', 'd', 'd5:added6:abce', '4:spam', `${'l'.repeat(500)}${'e'.repeat(500)}`]) {
      expect(parsePex(ascii(body))).toBe(null);
      const { sink, conversation } = greeted();
      conversation.receive(2, extended(4, body));
      expect(sink.log).toEqual([`fault ${PeerFault.BadExtended}`]);
    }
    const parts = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc
        .tuple(fc.constantFrom('added', 'added.f', 'added6', 'dropped6'), fc.uint8Array({ maxLength: 60 }))
        .map(([k, v]) => dict(entry(k, v))),
    );
    fc.assert(
      fc.property(parts, (body) => {
        const found = parsePex(body);
        if (found === null) return;
        expect(found.flags4.length * 6).toBe(found.added4.length);
        expect(found.flags6.length * 18).toBe(found.added6.length);
        for (const [list, size] of [
          [found.added4, 6],
          [found.added6, 18],
          [found.dropped4, 6],
          [found.dropped6, 18],
        ] as const) {
          for (let at = 0; at < list.length; at += size) {
            const port = (list[at + size - 2]! << 8) | list[at + size - 1]!;
            expect(isUsablePeerAddress(list.subarray(at, at + size - 2), port)).toBe(true);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('gives at most 100 addresses each way, however many it holds', () => {
    const body = dict(
      entry('added', many(4000)),
      entry('added6', SIX),
      entry('dropped', many(3000)),
      entry('dropped6', SIX),
    );
    const found = parsePex(body)!;
    expect([found.added4, found.dropped4].map((list) => list.length / 6)).toEqual([MAX_PEX_PEERS, MAX_PEX_PEERS]);
    expect([found.added6.length, found.dropped6.length]).toEqual([0, 0]);
  });

  it('is skipped above 50 kB without being kept, and closes the peer above 500', () => {
    const body = (bytes: number): Uint8Array => extended(4, dict(entry('added', many(Math.ceil(bytes / 6)))));
    const { sink, conversation } = greeted();
    conversation.receive(2, concat([body(MAX_PEX_BYTES).subarray(0, 40_000)]));
    expect(conversation.heldBytes).toBeLessThan(100);
    conversation.receive(3, concat([body(MAX_PEX_BYTES).subarray(40_000), extended(4, dict(entry('added', A)))]));
    expect(sink.log).toEqual([`pex ${toHex(A)},00,,,,`]);
    conversation.receive(4, body(PEX_FLOOD_BYTES).subarray(0, 20));
    expect(sink.log[1]).toBe(`fault ${PeerFault.Flood}`);
  });

  it('goes out under the number of the receiver, and comes in only while it is offered', () => {
    const { sink, conversation: c } = greeted();
    c.pex(ascii('de'));
    expect(said(c)).toBe('');
    c.receive(2, extended(0, 'd1:md6:ut_pexi9eee'));
    c.pex(ascii('de'));
    expect(said(c)).toBe('0000000414096465');
    sink.log = [];
    c.withdrawOffers();
    c.receive(3, extended(4, dict(entry('added', A))));
    expect(sink.log).toEqual([]);
  });
});

describe('ut_holepunch', () => {
  const cases: [string, Parameters<typeof buildHolepunch>[0]][] = [
    ['0000 01020304 1ae1 00000000', { kind: HolepunchKind.Rendezvous, ip: A.slice(0, 4), port: 6881, error: 0 }],
    [
      '0101 20010db8000000000000000000000001 1ae1 00000000',
      { kind: HolepunchKind.Connect, ip: SIX.slice(0, 16), port: 6881, error: 0 },
    ],
    [
      '0200 05060708 0050 00000003',
      { kind: HolepunchKind.Error, ip: B.slice(0, 4), port: 80, error: HolepunchError.NoSupport },
    ],
  ];
  it.each(cases)('%s', (bytes, told) => {
    expect(toHex(buildHolepunch(told))).toBe(bytes.replaceAll(' ', ''));
    expect(parseHolepunch(hex(bytes))).toEqual(told);
  });

  it('is read without its error, and not at all when it names nobody', () => {
    expect(parseHolepunch(hex('0000 01020304 1ae1'))).toEqual(cases[0]![1]);
    // an error stands in errors alone
    expect(parseHolepunch(hex('0100 01020304 1ae1 00000002'))?.error).toBe(0);
    for (const bad of [
      '',
      '00',
      '0000',
      '0000 010203 1ae1',
      '0001 01020304 1ae1',
      '0300 01020304 1ae1',
      '0002 01020304 1ae1',
      '0000 01020304 0000',
      '0000 e0000001 1ae1',
    ]) {
      expect(parseHolepunch(hex(bad))).toBe(null);
    }
  });

  it('goes both ways', () => {
    const { sink, conversation: c } = greeted();
    c.holepunch(buildHolepunch(cases[0]![1]));
    expect(said(c)).toBe('');
    c.receive(2, extended(0, 'd1:md12:ut_holepunchi8eee'));
    c.holepunch(buildHolepunch(cases[0]![1]));
    expect(said(c)).toBe('0000000e140800000102030 41ae100000000'.replaceAll(' ', ''));
    sink.log = [];
    c.receive(3, concat([extended(5, hex(cases[1]![0])), extended(5, 'x'), extended(5, new Uint8Array(400))]));
    expect(sink.log).toEqual([`holepunch 1 ${toHex(SIX.slice(0, 16))} 6881 0`]);
  });
});

describe('PORT', () => {
  it('is said to those who set the bit', () => {
    const mute = greeted();
    mute.conversation.port(6881);
    expect([mute.conversation.remoteDht, said(mute.conversation)]).toEqual([false, '']);
    const { sink, conversation } = greeted(FAST.replace('04', '05'));
    conversation.port(6881);
    expect([conversation.remoteDht, said(conversation)]).toEqual([true, '00000003091ae1']);
    conversation.receive(2, message(9, hex('1ae1')));
    expect(sink.log).toEqual(['port 6881']);
  });

  it('does not depend on the other bits', () => {
    const { conversation } = party();
    conversation.receive(
      1,
      concat([hex(`13426974546f7272656e742070726f746f636f6c${PLAIN.slice(0, 15)}1`), new Uint8Array(20)]),
    );
    expect([conversation.remoteDht, conversation.fast, conversation.extended]).toEqual([true, false, false]);
  });
});
