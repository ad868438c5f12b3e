/**
 * Node ids of the DHT: the distance of BEP 5, ids bound to an address (BEP 42), and the network an address counts to.
 * Pure functions over bytes; an id is 20 bytes, a compact node 26 (IPv4) or 38 (IPv6): id, address, port.
 */

import { crc32c } from '../base/hash.ts';
import { isLocal } from '../base/ip.ts';
import type { Rng } from '../base/random.ts';

export const ID_BYTES = 20;

/** What BEP 42 keeps of an address before it is hashed: the further from the top, the more of it counts. */
const MASK4: Uint8Array = Uint8Array.of(0x03, 0x0f, 0x3f, 0xff);
const MASK6: Uint8Array = Uint8Array.of(0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff);

/** Who fills ids with random bytes: the Random port, or an Rng. */
export type Filler = Pick<Rng, 'fill'>;

/** A random id; with an address one that matches it (BEP 42). `r`: the last byte, for tests. */
export function makeNodeId(random: Filler, ip: Uint8Array | null, r: number = -1): Uint8Array {
  const id = new Uint8Array(ID_BYTES);
  random.fill(id);
  if (ip === null) return id;
  if (r >= 0) id[19] = r;
  const crc = prefixOf(ip, id[19]!);
  id[0] = crc >>> 24;
  id[1] = crc >>> 16;
  id[2] = ((crc >>> 8) & 0xf8) | (id[2]! & 7);
  return id;
}

/** Whether an id is one this address may have: its first 21 bits follow from the address and the last byte. */
export function idMatches(id: Uint8Array, ip: Uint8Array): boolean {
  const crc = prefixOf(ip, id[19]!);
  return id[0] === crc >>> 24 && id[1] === ((crc >>> 16) & 255) && ((id[2]! ^ (crc >>> 8)) & 0xf8) === 0;
}

/** `idMatches`, with local addresses exempt as BEP 42 has it: such an id may be trusted as far as its address. */
export function isSecure(id: Uint8Array, ip: Uint8Array): boolean {
  return isLocal(ip) || idMatches(id, ip);
}

/** Leading bits that two ids share, 0 .. 160. */
export function sharedBits(a: Uint8Array, b: Uint8Array, bAt: number = 0): number {
  for (let i = 0; i < ID_BYTES; i++) {
    const x = a[i]! ^ b[bAt + i]!;
    if (x !== 0) return 8 * i + Math.clz32(x) - 24;
  }
  return 160;
}

/** Order by distance to `target`: negative when a is closer, 0 when they are the same. */
export function compareDistance(a: Uint8Array, b: Uint8Array, target: Uint8Array, targetAt: number = 0): number {
  for (let i = 0; i < ID_BYTES; i++) {
    const t = target[targetAt + i]!;
    const d = (a[i]! ^ t) - (b[i]! ^ t);
    if (d !== 0) return d;
  }
  return 0;
}

/** A random id that shares exactly `bits` leading bits with `id` (all of it when 160). */
export function randomIdNear(random: Filler, id: Uint8Array, bits: number): Uint8Array {
  const near = new Uint8Array(ID_BYTES);
  random.fill(near);
  if (bits >= 160) return id.slice();
  const whole = bits >>> 3;
  for (let i = 0; i < whole; i++) near[i] = id[i]!;
  const rest = bits & 7;
  const keep = (0xff00 >>> rest) & 255;
  const flip = 0x80 >>> rest;
  near[whole] = (id[whole]! & keep) | (~id[whole]! & flip) | (near[whole]! & ~keep & ~flip & 255);
  return near;
}

/** The network an address counts to, as a key: its /24 (IPv4) or /64 (IPv6). */
export function networkOf(ip: Uint8Array): number | string {
  if (ip.length === 4) return (ip[0]! << 16) | (ip[1]! << 8) | ip[2]!;
  return String.fromCharCode(ip[0]!, ip[1]!, ip[2]!, ip[3]!, ip[4]!, ip[5]!, ip[6]!, ip[7]!);
}

/** CRC-32C of the masked address with the three low bits of `r` in its top; 4 bytes for IPv4, the high 8 of IPv6. */
function prefixOf(ip: Uint8Array, r: number): number {
  const mask = ip.length === 4 ? MASK4 : MASK6;
  const masked = ip.length === 4 ? masked4 : masked6;
  for (let i = 0; i < mask.length; i++) masked[i] = ip[i]! & mask[i]!;
  masked[0] = masked[0]! | ((r & 7) << 5);
  return crc32c(masked);
}

const masked4: Uint8Array = new Uint8Array(4);
const masked6: Uint8Array = new Uint8Array(8);
