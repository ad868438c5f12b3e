import { encode } from '@shoal/engine/codec';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bencodeForPeople, valueForPeople, valueJson, valueToPut } from './dht-value.ts';
import { UsageError } from './exit-code.ts';

/** Controls but the end of a line, and what turns the direction of text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNSAFE = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('a value to put', () => {
  it('is text as its bytes, or what the bencoding says', () => {
    expect(encode(valueToPut(bytes('größe'), false) as never)).toEqual(bytes('7:größe'));
    for (const text of ['i-5e', '3:abc', 'l1:ai1ee', 'd1:ad1:bi1eee', 'de', '0:']) {
      expect(encode(valueToPut(bytes(text), true) as never)).toEqual(bytes(text));
    }
  });

  it('has at most 1000 bytes, its length counted', () => {
    expect(() => valueToPut(bytes('x'.repeat(996)), false)).not.toThrow();
    expect(() => valueToPut(bytes('x'.repeat(997)), false)).toThrow('1001 bytes');
  });

  it.each(['', 'x', 'i1', 'i1ei2e', 'i-0e', 'd1:bi1e1:ai1ee', 'd1:\xffi1ee'])('refuses %j', (text) => {
    expect(() => valueToPut(Buffer.from(text, 'latin1'), true)).toThrow(UsageError);
  });
});

describe('a value that came', () => {
  it('is told in JSON, whatever it is', () => {
    expect(valueJson(Buffer.from('d2:ih2:\xff\xfe1:ni7ee', 'latin1'))).toEqual({ ih: { hex: 'fffe' }, n: 7 });
    expect(valueJson(bytes('i9223372036854775807e'))).toBe('9223372036854775807');
    expect(JSON.stringify(valueJson(bytes('d9:__proto__i1ee')))).toBe('{"__proto__":1}');
  });

  it('cannot steer a terminal', () => {
    const hostile = bytes('a\x1b[31mb\x1b]0;t\x07\r\u202ec');
    const item = encode(hostile);
    const shown = valueForPeople(item);
    expect(shown).toMatch(/^a.*c$/u);
    expect(shown).not.toMatch(UNSAFE);
    expect(valueForPeople(encode('two\nlines'))).toBe('two\nlines');
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.boolean(), (value, inside) => {
        const stored = encode(inside ? [value] : value);
        expect(valueForPeople(stored)).not.toMatch(UNSAFE);
        expect(bencodeForPeople(stored)).toMatch(/^[\x20-\x7e]*$/);
      }),
    );
  });
});
