/** Values of DHT items (BEP 44), from and to text: what is typed, what a terminal may show, what `--json` says. */

import type { DhtValue } from '@shoal/engine';
import { BDict, BencodeError, type BInput, type BValue, decode, encode } from '@shoal/engine/codec';
import { UsageError } from './exit-code.ts';
import { sanitize } from './format.ts';
import type { JsonValue } from './json.ts';

/** BEP 44. */
export const MAX_VALUE_BYTES = 1000;

/** VALUE as typed: text, or with `bencode` any bencoded value. Throws UsageError when it cannot be put. */
export function valueToPut(bytes: Uint8Array, bencode: boolean): DhtValue {
  const value = bencode ? plain(decodeTyped(bytes)) : bytes;
  const size = encode(value as BInput).length;
  if (size > MAX_VALUE_BYTES) {
    throw new UsageError(`the value takes ${size} bytes bencoded; the DHT holds at most ${MAX_VALUE_BYTES}`);
  }
  return value;
}

function decodeTyped(bytes: Uint8Array): BValue {
  try {
    return decode(bytes, { canonical: true });
  } catch (error) {
    if (error instanceof BencodeError) throw new UsageError(`the value is not bencoded: ${error.message}`);
    throw error;
  }
}

/** Dictionaries as plain objects, which is what programs give the engine. */
function plain(value: BValue): DhtValue {
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof BDict)) return value;
  const object: Record<string, DhtValue> = Object.create(null) as Record<string, DhtValue>;
  for (const [key, item] of value.entries()) {
    const text = textOf(key);
    if (text === null) throw new UsageError('a key in the value is not text');
    object[text] = plain(item);
  }
  return object;
}

/** For people: text as it is, line by line, whatever else in the shape of JSON. Nothing of it can steer a terminal. */
export function valueForPeople(bytes: Uint8Array): string {
  const value = decode(bytes);
  const text = value instanceof Uint8Array ? textOf(value) : null;
  if (text !== null) return text.split('\n').map(sanitize).join('\n');
  if (value instanceof Uint8Array) return hex(value);
  return sanitize(JSON.stringify(valueJson(bytes)));
}

/** Bencode on a terminal: what is not plain ASCII is escaped. */
export function bencodeForPeople(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('latin1')
    .replace(/[^\x20-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** Text is a string; bytes that are no UTF-8 are `{"hex": …}`; integers beyond 2^53 are strings of digits. */
export function valueJson(bytes: Uint8Array): JsonValue {
  return toJson(decode(bytes));
}

function toJson(value: BValue): JsonValue {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return textOf(value) ?? { hex: hex(value) };
  if (Array.isArray(value)) return value.map(toJson);
  const object: Record<string, JsonValue> = Object.create(null) as Record<string, JsonValue>;
  for (const [key, item] of value.entries()) object[textOf(key) ?? hex(key)] = toJson(item);
  return object;
}

/** Null: not UTF-8. */
function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
