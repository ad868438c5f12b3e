/** The canonical peer priority of BEP 40: both ends of a pair compute the same number, so that swarms mix evenly. */

import { crc32c } from '../base/hash.ts';

/**
 * Priority of the connection between two endpoints (addresses of 4 or 16 bytes, of the same family): higher is better.
 * Ports matter only between equal addresses. Addresses of different families: 0.
 */
export function peerPriority(a: Uint8Array, aPort: number, b: Uint8Array, bPort: number): number {
  if (a.length !== b.length) return 0;
  const { length } = a;
  let same = 0;
  while (same < length && a[same] === b[same]) same++;
  if (same === length) {
    const low = Math.min(aPort, bPort);
    const high = Math.max(aPort, bPort);
    return crc32c(Uint8Array.of(low >> 8, low & 255, high >> 8, high & 255));
  }
  // whole bytes: 2 of IPv4, 6 of IPv6, and one beyond what is equal from there on; of the rest every other bit
  const base = length === 4 ? 2 : 6;
  const whole = same < base ? base : same + 1;
  const firstIsLow = a[same]! < b[same]!;
  const pair = new Uint8Array(length * 2);
  mask(firstIsLow ? a : b, whole, pair, 0);
  mask(firstIsLow ? b : a, whole, pair, length);
  return crc32c(pair);
}

function mask(ip: Uint8Array, whole: number, target: Uint8Array, at: number): void {
  for (let i = 0; i < ip.length; i++) target[at + i] = i < whole ? ip[i]! : ip[i]! & 0x55;
}
