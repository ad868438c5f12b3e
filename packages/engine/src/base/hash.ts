/**
 * Hashes of small things, at once: handshakes, info-hashes, tree nodes, priorities. Pieces go through the Hasher port.
 * The one file below the host that uses node:*, since the platform's hashing is many times faster than any in script.
 */

import { hash } from 'node:crypto';

/** 20 bytes. */
export function sha1(bytes: Uint8Array): Uint8Array {
  return fromLatin1(hash('sha1', bytes, 'binary'), 20);
}

/** 32 bytes. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return fromLatin1(hash('sha256', bytes, 'binary'), 32);
}

/** Castagnoli's polynomial, as BEP 40 and BEP 42 ask; not the one of zlib. Unsigned. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 255]!;
  return (crc ^ 0xffffffff) >>> 0;
}

const table: Uint32Array = new Uint32Array(256).map((_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c;
});

/** As text the digest comes without a Buffer and its memory outside the heap: quicker, and nothing to clean up. */
function fromLatin1(text: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
