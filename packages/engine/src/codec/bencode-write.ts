/**
 * The writing stage of bencoding: always canonical (keys sorted by their bytes, each once). A value that has no
 * bencoding (a fraction, a double key, a cycle) is refused with BencodeError.
 */

import { compare, utf8Encode } from '../base/bytes.ts';
import { BencodeError } from './bencode-tape.ts';

/** What `encode` takes. Text is written as UTF-8. Members of objects that are undefined are left out. */
export type BInput =
  | number
  | bigint
  | string
  | Uint8Array
  | RawBencode
  | readonly BInput[]
  | ReadonlyMap<string | Uint8Array, BInput>
  | { entries(): Iterable<[Uint8Array, BInput]> }
  | { readonly [key: string]: BInput | undefined };

/** Bytes that are bencoding already and go in as they are: an info dictionary whose hash must not change. */
export class RawBencode {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

export function encode(value: BInput): Uint8Array {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.take();
}

/** Deeper than anything `decode` returns; recursion this deep is harmless. */
const MAX_DEPTH = 200;

class Writer {
  #bytes: Uint8Array = new Uint8Array(256);
  #length = 0;

  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  value(value: BInput, depth: number): void {
    if (depth > MAX_DEPTH) throw new BencodeError(`nested more than ${MAX_DEPTH} deep`, this.#length);
    if (typeof value === 'number') {
      if (!Number.isSafeInteger(value)) throw new BencodeError(`${value} is no exact integer`, this.#length);
      this.#ascii(`i${value === 0 ? 0 : value}e`);
    } else if (typeof value === 'bigint') {
      this.#ascii(`i${value}e`);
    } else if (typeof value === 'string') {
      this.#string(utf8Encode(value));
    } else if (value instanceof Uint8Array) {
      this.#string(value);
    } else if (value instanceof RawBencode) {
      this.#raw(value.bytes);
    } else if (Array.isArray(value)) {
      this.#ascii('l');
      for (const item of value as readonly BInput[]) this.value(item, depth + 1);
      this.#ascii('e');
    } else {
      this.#dict(pairs(value as object), depth);
    }
  }

  #dict(entries: [Uint8Array, BInput][], depth: number): void {
    entries.sort((a, b) => compare(a[0], b[0]));
    this.#ascii('d');
    for (let i = 0; i < entries.length; i++) {
      const [key, value] = entries[i]!;
      if (i > 0 && compare(entries[i - 1]![0], key) === 0) throw new BencodeError('a double key', this.#length);
      this.#string(key);
      this.value(value, depth + 1);
    }
    this.#ascii('e');
  }

  #string(bytes: Uint8Array): void {
    this.#ascii(`${bytes.length}:`);
    this.#raw(bytes);
  }

  #ascii(text: string): void {
    this.#room(text.length);
    for (let i = 0; i < text.length; i++) this.#bytes[this.#length++] = text.charCodeAt(i);
  }

  #raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #room(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const bigger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + more));
    bigger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = bigger;
  }
}

function pairs(value: object): [Uint8Array, BInput][] {
  const found: [Uint8Array, BInput][] = [];
  if (typeof (value as { entries?: unknown }).entries === 'function') {
    for (const [key, item] of (value as ReadonlyMap<string | Uint8Array, BInput>).entries()) {
      found.push([typeof key === 'string' ? utf8Encode(key) : key, item]);
    }
    return found;
  }
  for (const [key, item] of Object.entries(value as Record<string, BInput | undefined>)) {
    if (item !== undefined) found.push([utf8Encode(key), item]);
  }
  return found;
}
