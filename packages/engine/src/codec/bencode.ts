/**
 * Bencoding (BEP 3), strict: one spelling per value. Refused are leading zeros, -0, empty numbers, lengths past the end,
 * bytes after the value, integers that fit no 64-bit type. Dictionaries with keys unsorted or double exist in the wild,
 * so they are read (the first of a double key counts) and marked as not `canonical`; `limits.canonical` refuses them.
 *
 * Reading has two stages. `scan` walks the bytes once, without recursion, into a `Tape`: two integers per token, no
 * object per value, so that a torrent of 3 million tokens costs 24 MB and not a gigabyte. `decode` builds values from
 * the tape; big documents are read from the tape itself.
 *
 * Limits: depth 100 and 3 million tokens (libtorrent's). Only BencodeError is thrown.
 */

import { latin1, utf8Decode, utf8Encode } from '../base/bytes.ts';
import { BencodeError, type BencodeLimits, scan, scanPrefix, type Tape } from './bencode-tape.ts';

export { BencodeError, type BencodeLimits, scan, scanPrefix, Tape } from './bencode-tape.ts';
export { type BInput, encode, RawBencode } from './bencode-write.ts';

/** Integers are numbers when exact as such, else bigint. Byte strings are views of the input. */
export type BValue = number | bigint | Uint8Array | BValue[] | BDict;

/** Reads exactly one value that fills `bytes`. */
export function decode(bytes: Uint8Array, limits?: BencodeLimits): BValue {
  return build(scan(bytes, limits));
}

/** Reads the dictionary that fills `bytes`, as strangers send it; null: it is none, or beyond the limits. */
export function decodeDict(bytes: Uint8Array, limits?: BencodeLimits): BDict | null {
  try {
    const value = decode(bytes, limits);
    return value instanceof BDict ? value : null;
  } catch (error) {
    if (error instanceof BencodeError) return null;
    throw error;
  }
}

/** Reads the one value that `bytes` begin with; `end` is the byte after it (BEP 9 data messages). */
export function decodePrefix(bytes: Uint8Array, limits?: BencodeLimits): { value: BValue; end: number } {
  const tape = scanPrefix(bytes, limits);
  return { value: build(tape), end: tape.end(0) };
}

/**
 * A dictionary as it was read: keys are raw bytes, in the order of the input. Text keys given to the methods mean their
 * UTF-8 bytes. Nothing is inherited from anywhere: `__proto__` is a key like any other.
 */
export class BDict {
  /** Keys strictly ascending here and in everything inside. */
  canonical = true;
  readonly #bytes: Uint8Array;
  /** One character per byte, so that their order as text is the order of the bytes. */
  readonly #keys: string[] = [];
  readonly #values: BValue[] = [];
  /** Start and end of each value in the input. */
  readonly #spans: number[] = [];
  /** Key -> place, made when a dictionary is large enough to need it. */
  #places: Map<string, number> | null = null;

  /** Made by `decode`. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get size(): number {
    return this.#keys.length;
  }

  has(key: string | Uint8Array): boolean {
    return this.#place(key) >= 0;
  }

  get(key: string | Uint8Array): BValue | undefined {
    const place = this.#place(key);
    return place < 0 ? undefined : this.#values[place];
  }

  /** The value if it is a byte string, else null. */
  bytes(key: string | Uint8Array): Uint8Array | null {
    const value = this.get(key);
    return value instanceof Uint8Array ? value : null;
  }

  /** The value as text (bad UTF-8 becomes U+FFFD) if it is a byte string, else null. */
  text(key: string | Uint8Array): string | null {
    const value = this.get(key);
    return value instanceof Uint8Array ? utf8Decode(value) : null;
  }

  /** The value if it is an integer within +-2^53, else null. */
  int(key: string | Uint8Array): number | null {
    const value = this.get(key);
    return typeof value === 'number' ? value : null;
  }

  list(key: string | Uint8Array): readonly BValue[] | null {
    const value = this.get(key);
    return Array.isArray(value) ? value : null;
  }

  dict(key: string | Uint8Array): BDict | null {
    const value = this.get(key);
    return value instanceof BDict ? value : null;
  }

  /** Where the raw value stands in the input. */
  span(key: string | Uint8Array): { start: number; end: number } | null {
    const place = this.#place(key);
    return place < 0 ? null : { start: this.#spans[2 * place]!, end: this.#spans[2 * place + 1]! };
  }

  /** The raw value, as a view of the input. */
  raw(key: string | Uint8Array): Uint8Array | null {
    const span = this.span(key);
    return span === null ? null : this.#bytes.subarray(span.start, span.end);
  }

  /** Keys as raw bytes. */
  *keys(): Generator<Uint8Array> {
    for (const key of this.#keys) yield fromLatin1(key);
  }

  *entries(): Generator<[Uint8Array, BValue]> {
    for (let i = 0; i < this.#keys.length; i++) yield [fromLatin1(this.#keys[i]!), this.#values[i]!];
  }

  /** For `decode`: appends what was read. False: the key is not above the one before it. */
  append(key: string, value: BValue, start: number, end: number): boolean {
    const keys = this.#keys;
    const ascending = keys.length === 0 || keys[keys.length - 1]! < key;
    keys.push(key);
    this.#values.push(value);
    this.#spans.push(start, end);
    return ascending;
  }

  #place(key: string | Uint8Array): number {
    const wanted = typeof key === 'string' ? binaryKey(key) : latin1(key);
    const keys = this.#keys;
    if (keys.length <= 12) return keys.indexOf(wanted);
    if (this.#places === null) {
      this.#places = new Map();
      for (let i = keys.length - 1; i >= 0; i--) this.#places.set(keys[i]!, i);
    }
    return this.#places.get(wanted) ?? -1;
  }
}

/** Builds the values of a tape bottom up, with a stack of its own instead of recursion. */
function build(tape: Tape): BValue {
  const open: (BValue[] | BDict)[] = [];
  const openToken: number[] = [];
  const openKey: string[] = [];
  let key = '';
  for (let t = 0; ; t++) {
    let value: BValue;
    let token = t;
    if (tape.isEnd(t)) {
      value = open.pop()!;
      token = openToken.pop()!;
      key = openKey.pop()!;
    } else {
      const parent = open.at(-1);
      if (parent instanceof BDict && key === NO_KEY) {
        key = latin1(tape.string(t));
        continue;
      }
      if (tape.isDict(t) || tape.isList(t)) {
        open.push(tape.isDict(t) ? new BDict(tape.bytes) : []);
        openToken.push(t);
        openKey.push(key);
        key = NO_KEY;
        continue;
      }
      value = tape.isInt(t) ? tape.int(t) : tape.string(t);
    }
    const parent = open.at(-1);
    if (parent === undefined) return value;
    if (parent instanceof BDict) {
      if (!parent.append(key, value, tape.start(token), tape.end(token))) {
        for (const outer of open) if (outer instanceof BDict) outer.canonical = false;
      }
    } else {
      parent.push(value);
    }
    key = NO_KEY;
  }
}

/** No key of one character per byte holds this character. */
const NO_KEY = '\u{ffff}';

function binaryKey(text: string): string {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return latin1(utf8Encode(text));
  return text;
}

function fromLatin1(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
