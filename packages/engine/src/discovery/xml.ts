/**
 * Reads the little XML that routers write, one token at a time, front to back, each character once. Strict where leniency
 * is dangerous: no document type (and with it no entities but the five and numbers), no nesting past MAX_DEPTH, no more
 * than MAX_ELEMENTS, ends must match. Lenient where routers are sloppy: names count without their prefix, attributes are
 * skipped, a bare & is itself, what follows the outermost element is ignored.
 */

export type XmlToken = 'open' | 'close' | 'text' | 'end' | 'bad';

const MAX_DEPTH = 32;
const MAX_ELEMENTS = 4096;
const MAX_NAME = 128;

export class XmlReader {
  /** Of an opened or closed element, without prefix. */
  name = '';
  /** Of a text token: unescaped, not trimmed. */
  text = '';
  readonly #xml: string;
  #at = 0;
  #open: string[] = [];
  #count = 0;
  /** An element without content was opened and is to be closed. */
  #empty = false;
  #over: 'end' | 'bad' | null = null;

  constructor(xml: string) {
    this.#xml = xml.charCodeAt(0) === 0xfeff ? xml.slice(1) : xml;
  }

  /** Elements around the next token. */
  get depth(): number {
    return this.#open.length;
  }

  next(): XmlToken {
    if (this.#over !== null) return this.#over;
    if (this.#empty) {
      this.#empty = false;
      return this.#close(this.#open.at(-1)!);
    }
    const xml = this.#xml;
    while (this.#at < xml.length) {
      if (xml[this.#at] !== '<') {
        if (this.#takeText()) return 'text';
        continue;
      }
      if (xml.startsWith('<!--', this.#at)) {
        if (!this.#skipTo('-->', 4)) return this.#bad();
      } else if (xml.startsWith('<![CDATA[', this.#at)) {
        const from = this.#at + 9;
        if (this.#open.length === 0 || !this.#skipTo(']]>', 9)) return this.#bad();
        this.text = xml.slice(from, this.#at - 3);
        return 'text';
      } else if (xml.startsWith('<?', this.#at)) {
        if (!this.#skipTo('?>', 2)) return this.#bad();
      } else if (xml.startsWith('<!', this.#at)) return this.#bad();
      else return this.#tag();
    }
    // the outermost element was never closed, or there is none
    return this.#bad();
  }

  /** Up to the next tag; false: only the space between elements, or what stands outside of all. */
  #takeText(): boolean {
    const from = this.#at;
    const to = this.#xml.indexOf('<', from);
    this.#at = to < 0 ? this.#xml.length : to;
    if (this.#open.length === 0) return false;
    const text = this.#xml.slice(from, this.#at);
    if (text.trim() === '') return false;
    this.text = plainText(text);
    return true;
  }

  #tag(): XmlToken {
    const xml = this.#xml;
    const isEnd = xml[this.#at + 1] === '/';
    const from = this.#at + (isEnd ? 2 : 1);
    let at = from;
    while (at < xml.length && at - from <= MAX_NAME && isNameChar(xml.charCodeAt(at))) at++;
    const whole = xml.slice(from, at);
    if (whole === '' || whole.length > MAX_NAME) return this.#bad();
    const end = this.#endOfTag(at);
    if (end < 0) return this.#bad();
    this.#at = end + 1;
    if (isEnd) return this.#open.at(-1) === whole ? this.#close(whole) : this.#bad();
    if (this.#open.length >= MAX_DEPTH || ++this.#count > MAX_ELEMENTS) return this.#bad();
    this.#open.push(whole);
    this.#empty = xml[end - 1] === '/';
    this.name = localName(whole);
    return 'open';
  }

  /** The place of the '>' that ends the tag; those in quoted attributes do not. */
  #endOfTag(from: number): number {
    const xml = this.#xml;
    let quote = 0;
    for (let at = from; at < xml.length; at++) {
      const code = xml.charCodeAt(at);
      if (quote !== 0) {
        if (code === quote) quote = 0;
      } else if (code === QUOTE || code === APOSTROPHE) quote = code;
      else if (code === GREATER) return at;
      else if (code === LESS) return -1;
    }
    return -1;
  }

  #close(whole: string): XmlToken {
    this.#open.pop();
    this.name = localName(whole);
    if (this.#open.length === 0) this.#over = 'end';
    return 'close';
  }

  #skipTo(mark: string, from: number): boolean {
    const at = this.#xml.indexOf(mark, this.#at + from);
    if (at < 0) return false;
    this.#at = at + mark.length;
    return true;
  }

  #bad(): XmlToken {
    this.#over = 'bad';
    return 'bad';
  }
}

/**
 * The text of each of these elements that holds nothing but text, wherever it stands; of several, the first. Null: not XML
 * as we read it.
 */
export function xmlTexts(xml: string, names: readonly string[]): Map<string, string> | null {
  const reader = new XmlReader(xml);
  const found = new Map<string, string>();
  let text = '';
  let leaf = false;
  for (;;) {
    const token = reader.next();
    if (token === 'end') return found;
    if (token === 'bad') return null;
    if (token === 'open') {
      text = '';
      leaf = true;
    } else if (token === 'text') text += reader.text;
    else {
      if (leaf && names.includes(reader.name) && !found.has(reader.name)) found.set(reader.name, text.trim());
      leaf = false;
    }
  }
}

export function xmlEscape(text: string): string {
  let escaped = '';
  for (const char of text) escaped += ESCAPES[char] ?? char;
  return escaped;
}

const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const LESS = 0x3c;
const GREATER = 0x3e;

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** &#x10ffff; */
const MAX_ENTITY = 8;

function plainText(text: string): string {
  let at = text.indexOf('&');
  if (at < 0) return text;
  let result = '';
  let from = 0;
  for (; at >= 0; at = text.indexOf('&', at + 1)) {
    const window = text.slice(at + 1, at + 2 + MAX_ENTITY);
    const semicolon = window.indexOf(';');
    const char = semicolon < 1 ? null : entity(window.slice(0, semicolon));
    if (char === null) continue;
    result += text.slice(from, at) + char;
    from = at + semicolon + 2;
  }
  return result + text.slice(from);
}

function entity(name: string): string | null {
  if (Object.hasOwn(ENTITIES, name)) return ENTITIES[name]!;
  const match = /^#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))$/.exec(name);
  if (match === null) return null;
  const code = match[1] === undefined ? Number(match[2]) : Number.parseInt(match[1], 16);
  return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : null;
}

function localName(whole: string): string {
  return whole.slice(whole.lastIndexOf(':') + 1);
}

/** Letters, digits, : _ - . and whatever is not ASCII. */
function isNameChar(code: number): boolean {
  return (
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x41 && code <= 0x5a) ||
    (code >= 0x2d && code <= 0x3a && code !== 0x2f) ||
    code === 0x5f ||
    code > 0x7f
  );
}
