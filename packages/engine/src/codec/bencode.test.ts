import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quickestMs } from '../../test/quickest.ts';
import { latin1, utf8Encode } from '../base/bytes.ts';
import { BDict, BencodeError, type BInput, type BValue, decode, decodePrefix, encode, scan } from './bencode.ts';

const read = (text: string): BValue => decode(raw(text));
const raw = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

describe('decode', () => {
  it('reads the examples of BEP 3', () => {
    expect(read('4:spam')).toEqual(utf8Encode('spam'));
    expect(read('i3e')).toBe(3);
    expect(read('i-3e')).toBe(-3);
    expect(read('i0e')).toBe(0);
    expect(read('l4:spam4:eggse')).toEqual([utf8Encode('spam'), utf8Encode('eggs')]);
    const dict = read('d4:spaml1:a1:bee') as BDict;
    expect(dict.list('spam')).toEqual([utf8Encode('a'), utf8Encode('b')]);
    expect(dict.canonical).toBe(true);
    expect([read('le'), (read('de') as BDict).size, read('0:')]).toEqual([[], 0, new Uint8Array(0)]);
  });

  it.each([
    '',
    'i',
    'ie',
    'i-e',
    'i-0e',
    'i00e',
    'i01e',
    'i-01e',
    'i+1e',
    'i1.5e',
    'i 1e',
    'i1',
    'i--1e',
    '1',
    '1:',
    '2:a',
    '01:a',
    '00:',
    '-1:a',
    '99999999999999999999:a',
    'a',
    'e',
    'l',
    'li1e',
    'd',
    'd1:a',
    'd1:ae',
    'di1ei2ee',
    'dlei1ee',
    'd1:ai1e1:be',
    'i1ei2e',
    '1:ab',
    'lee',
    'i18446744073709551616e',
    'i-9223372036854775809e',
    'i100000000000000000000e',
  ])('refuses %j', (text) => {
    expect(() => read(text)).toThrow(BencodeError);
  });

  it('says where', () => {
    expect(() => read('d3:abci01ee')).toThrow(expect.objectContaining({ offset: 6 }));
    expect(() => read('i1exx')).toThrow(expect.objectContaining({ offset: 3 }));
  });

  it('is exact up to 64 bits', () => {
    for (const n of [2n ** 53n - 1n, 2n ** 53n, 10n ** 16n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(BigInt(read(`i${n}e`) as number)).toBe(n);
    }
    expect(BigInt(read(`i-${2n ** 63n}e`) as bigint)).toBe(-(2n ** 63n));
    expect(typeof read('i9007199254740991e')).toBe('number');
    expect(typeof read('i9007199254740992e')).toBe('bigint');
    expect(typeof read('i-9007199254740991e')).toBe('number');
  });

  it('keeps binary keys, and inherits nothing', () => {
    const dict = read('d9:__proto__d1:xi1ee4:\xff\x00\xfe\x01i2e8:toStringi3ee') as BDict;
    expect(dict.get('constructor')).toBeUndefined();
    expect(dict.dict('__proto__')!.int('x')).toBe(1);
    expect(dict.int(Uint8Array.of(255, 0, 254, 1))).toBe(2);
    expect(dict.int('toString')).toBe(3);
    expect(({} as { x?: number }).x).toBeUndefined();
    expect((read('d3:\xe2\x82\xaci1ee') as BDict).int('€')).toBe(1);
  });

  it('notes what is not canonical, and refuses it where asked to', () => {
    const unsorted = read('d1:bi1e1:ai2ee') as BDict;
    expect([unsorted.canonical, unsorted.int('a')]).toEqual([false, 2]);
    const double = read('d1:ai1e1:ai2ee') as BDict;
    expect([double.canonical, double.int('a'), double.size]).toEqual([false, 1, 2]);
    expect((read('d1:ald1:bi1e1:ai2eeee') as BDict).canonical).toBe(false);
    expect((read('d1:ai1e2:aai2e1:bi3ee') as BDict).canonical).toBe(true);
    for (const text of ['d1:bi1e1:ai2ee', 'd1:ai1e1:ai2ee', 'ld2:aai1e1:ai2eee']) {
      expect(() => decode(raw(text), { canonical: true })).toThrow(BencodeError);
    }
  });

  it('gives the raw span of a value', () => {
    const text = 'd1:ali1ei2ee4:infod1:xi5ee1:z0:e';
    const dict = read(text) as BDict;
    expect(latin1(dict.raw('info')!)).toBe('d1:xi5ee');
    expect(latin1(dict.raw('a')!)).toBe('li1ei2ee');
    expect(dict.span('z')).toEqual({ start: text.length - 3, end: text.length - 1 });
    expect(dict.raw('nothing')).toBeNull();
  });

  it('ends where the value ends, for messages with data behind (BEP 9)', () => {
    const { value, end } = decodePrefix(raw('d8:msg_typei1ee\x00\x01data'));
    expect([(value as BDict).int('msg_type'), end]).toEqual([1, 15]);
  });

  it('finds keys in large dictionaries, the first of doubles', () => {
    const entries = Array.from({ length: 50 }, (_, i) => `2:${String(i).padStart(2, '0')}i${i}e`).join('');
    const dict = read(`d${entries}2:07i1000ee`) as BDict;
    expect([dict.int('49'), dict.int('07'), dict.get('99')]).toEqual([49, 7, undefined]);
  });

  it('refuses bombs at once', () => {
    const bombs = ['l', 'd0:'].map((c) => raw(c.repeat(150_000)));
    const tookMs = quickestMs(100, () => {
      for (const bomb of bombs) expect(() => decode(bomb)).toThrow(/nested more than 100/);
    });
    expect(tookMs).toBeLessThan(100);
    const deep = 'l'.repeat(100) + 'e'.repeat(100);
    expect(() => read(deep)).not.toThrow();
    expect(() => read(`l${deep}e`)).toThrow(BencodeError);
    expect(() => decode(raw('li1ei2ee'), { tokens: 3 })).toThrow(/more than 3 tokens/);
    expect(() => decode(raw('lllee'), { depth: 2 })).toThrow(BencodeError);
  });
});

describe('encode', () => {
  it('writes canonical form', () => {
    expect(latin1(encode({ spam: ['a', 'b'], egg: -1, none: undefined, zero: -0 }))).toBe(
      'd3:eggi-1e4:spaml1:a1:be4:zeroi0ee',
    );
    const map = new Map<Uint8Array, BInput>([
      [Uint8Array.of(200), 1],
      [Uint8Array.of(97), 2n ** 63n],
    ]);
    expect(latin1(encode(map))).toBe('d1:ai9223372036854775808e1:\xc8i1ee');
    expect(latin1(encode(read('d1:bi1e1:ai2ee') as BInput))).toBe('d1:ai2e1:bi1ee');
    expect(latin1(encode(JSON.parse('{"__proto__": 1}') as BInput))).toBe('d9:__proto__i1ee');
  });

  it('refuses what has no bencoding', () => {
    const cycle: BInput[] = [];
    cycle.push(cycle);
    const double = new Map<string | Uint8Array, BInput>([
      ['a', 1],
      [utf8Encode('a'), 2],
    ]);
    for (const value of [1.5, Number.NaN, 2 ** 53, cycle, double]) {
      expect(() => encode(value)).toThrow(BencodeError);
    }
  });
});

const anyBytes = fc.uint8Array({ maxLength: 12 });
const { value: anyValue } = fc.letrec<{ value: BInput; dict: BInput }>((tie) => ({
  dict: fc
    .uniqueArray(fc.tuple(anyBytes, tie('value')), { selector: (pair) => latin1(pair[0]), maxLength: 5 })
    .map((pairs) => new Map(pairs)),
  value: fc.oneof(
    { maxDepth: 5 },
    fc.maxSafeInteger(),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
    anyBytes,
    fc.array(tie('value'), { maxLength: 5 }),
    tie('dict'),
  ),
}));

describe('round trips', () => {
  it('decode(encode(x)) writes the same bytes again', () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        const bytes = encode(value);
        const back = decode(bytes, { canonical: true });
        if (back instanceof BDict) expect(back.canonical).toBe(true);
        expect(encode(back as BInput)).toEqual(bytes);
        expect(scan(bytes).end(0)).toBe(bytes.length);
      }),
    );
  });

  it('no input throws anything but BencodeError; what is read and canonical is the only spelling', () => {
    const text = fc.string({ unit: fc.constantFrom(...'0123459:ilde-ab'), maxLength: 40 }).map(raw);
    fc.assert(
      fc.property(fc.oneof(text, fc.uint8Array({ maxLength: 60 })), (bytes) => {
        try {
          const value = decode(bytes, { canonical: true });
          expect(encode(value as BInput)).toEqual(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(BencodeError);
        }
      }),
      { numRuns: 5000 },
    );
  });

  it('mutated input throws nothing but BencodeError', () => {
    const edits = fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(anyValue, edits, (value, list) => {
        const bytes = encode(value);
        for (const [at, byte] of list) bytes[at % bytes.length] = byte;
        try {
          decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(BencodeError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
