import fc from 'fast-check';
import { expect, test } from 'vitest';
import { XmlReader, xmlEscape, xmlTexts } from './xml.ts';

function tokens(xml: string): string[] {
  const reader = new XmlReader(xml);
  const seen: string[] = [];
  for (;;) {
    const token = reader.next();
    seen.push(
      token === 'text' ? `"${reader.text}"` : token === 'open' || token === 'close' ? `${token} ${reader.name}` : token,
    );
    if (token === 'end' || token === 'bad') return seen;
  }
}

test('reads elements, attributes, text, comments and what is escaped', () => {
  const xml =
    '\ufeff<?xml version="1.0"?>\r\n<!-- <x> --><s:root a="1>2" b=\'/\'>\n<x/>a &amp; &#x41;&#66; b &unknown; &&lt;' +
    '<u:y  >1</u:y ><![CDATA[<&amp;]]></s:root> trailing \0 garbage <';
  expect(tokens(xml)).toEqual([
    'open root',
    'open x',
    'close x',
    '"a & AB b &unknown; &<"',
    'open y',
    '"1"',
    'close y',
    '"<&amp;"',
    'close root',
    'end',
  ]);
});

test('refuses what could be a trap or is broken', () => {
  for (const xml of [
    '',
    'text',
    '<a>',
    '<a></b>',
    '<a></A>',
    '<a',
    '<a b="',
    '<a <b>></a>',
    '< a></a>',
    '</a>',
    '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    '<a><!ENTITY b "c"></a>',
    '<a><!-- </a>',
    '<a><![CDATA[</a>',
    '<![CDATA[x]]><a/>',
    '<?xml',
    `${'<a>'.repeat(33)}${'</a>'.repeat(33)}`,
    `<a>${'<b/>'.repeat(5000)}</a>`,
    `<${'n'.repeat(200)}/>`,
  ]) {
    expect(tokens(xml).at(-1), xml.slice(0, 40)).toBe('bad');
  }
});

test('takes time that grows with the length alone', () => {
  const size = 1 << 20;
  const started = performance.now();
  for (const part of [
    '<',
    '<a ',
    '<!--',
    '<!-- -',
    '&',
    '&#',
    '<![CDATA[',
    '<a>',
    '<a/>',
    '"',
    '<a b="',
    '<?',
    ']]>',
    '</',
  ]) {
    tokens(part.repeat(size / part.length));
    tokens(`<r>${part.repeat(size / part.length)}`);
  }
  expect(performance.now() - started).toBeLessThan(3000);
});

test('what is escaped comes back, whatever it is', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const found = xmlTexts(`<a><b>${xmlEscape(text)}</b></a>`, ['b']);
      expect(found?.get('b')).toBe(text.trim());
    }),
  );
});

test('never throws nor hangs, whatever comes', () => {
  const part = fc.constantFrom(
    '<',
    '>',
    '/',
    '<a>',
    '</a>',
    '<a',
    '&',
    ';',
    '&lt;',
    '"',
    "'",
    '<!--',
    '-->',
    '<?',
    '?>',
    ' ',
    'x',
  );
  fc.assert(fc.property(fc.array(part), (parts) => tokens(parts.join('')).length > 0));
});

test('finds the first leaf of a name', () => {
  expect(xmlTexts('<a><b><c>1</c></b><c> 2 </c><d/></a>', ['b', 'c', 'd', 'e'])).toEqual(
    new Map([
      ['c', '1'],
      ['d', ''],
    ]),
  );
});
