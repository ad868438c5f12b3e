/** Writes bencode for the simulation's own torrents, trackers and peers, apart from the engine's so that each tests the other. */

import { concat, utf8Encode } from '../src/base/bytes.ts';

export type Plain = number | string | Uint8Array | readonly Plain[] | { readonly [key: string]: Plain };

export function bencode(value: Plain): Uint8Array {
  const parts: Uint8Array[] = [];
  put(value, parts);
  return concat(parts);
}

function put(value: Plain, parts: Uint8Array[]): void {
  if (typeof value === 'number') parts.push(utf8Encode(`i${value}e`));
  else if (typeof value === 'string') put(utf8Encode(value), parts);
  else if (value instanceof Uint8Array) parts.push(utf8Encode(`${value.length}:`), value);
  else if (Array.isArray(value)) {
    parts.push(utf8Encode('l'));
    for (const item of value as readonly Plain[]) put(item, parts);
    parts.push(utf8Encode('e'));
  } else {
    const entries = Object.entries(value as Record<string, Plain>);
    // keys of the simulation are ASCII, where order by UTF-16 unit is order by byte
    entries.sort((a, b) => (a[0] < b[0] ? -1 : 1));
    parts.push(utf8Encode('d'));
    for (const [key, item] of entries) {
      put(key, parts);
      put(item, parts);
    }
    parts.push(utf8Encode('e'));
  }
}
