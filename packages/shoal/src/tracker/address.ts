/** Addresses of sockets as bytes and back. An IPv4 address in IPv6 clothes is always the IPv4 address. */

import { isIPv4, isIPv6 } from 'node:net';

/** Text as a socket names its other end; 4 or 16 bytes, or null. A zone ("%eth0") is dropped. */
export function ipBytes(text: string): Uint8Array | null {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  const zone = text.indexOf('%');
  const bare = zone < 0 ? text : text.slice(0, zone);
  if (!isIPv6(bare)) return null;
  const bytes = new Uint8Array(16);
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(bare);
  const plain = dotted === null ? bare : `${dotted[1]}${pair(dotted[2]!, dotted[3]!)}:${pair(dotted[4]!, dotted[5]!)}`;
  const [head = '', tail] = plain.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  for (let i = 0; i < front.length; i++) put(bytes, i, front[i]!);
  for (let i = 0; i < back.length; i++) put(bytes, 8 - back.length + i, back[i]!);
  const mapped = bytes.subarray(0, 10).every((b) => b === 0) && bytes[10] === 255 && bytes[11] === 255;
  return mapped ? bytes.slice(12) : bytes;
}

/** Canonical text (RFC 5952) of 4 or 16 bytes. */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i]! << 8) | bytes[i + 1]!).toString(16));
  // the URL parser shortens as RFC 5952 wants it
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

function pair(high: string, low: string): string {
  return ((Number(high) << 8) | Number(low)).toString(16);
}

function put(bytes: Uint8Array, i: number, group: string): void {
  const value = Number.parseInt(group, 16);
  bytes[2 * i] = value >>> 8;
  bytes[2 * i + 1] = value;
}
