/**
 * Addresses that stand for host names which are looked up at a proxy: 198.18.0.0/15, which is kept for benchmarks
 * (RFC 2544) and is nobody's on the internet. They go through the engine as addresses do; the host puts the name in their
 * place when it speaks to the proxy, and nobody else is ever told of them.
 */

export const NAME_ADDRESS_COUNT: number = 1 << 17;

/** By number, 0 to NAME_ADDRESS_COUNT - 1. */
export function nameAddress(number: number): string {
  return `198.${18 + (number >>> 16)}.${(number >>> 8) & 255}.${number & 255}`;
}

/** Canonical text or 4 or 16 bytes. */
export function isNameAddress(ip: string | Uint8Array): boolean {
  if (typeof ip === 'string') return ip.startsWith('198.18.') || ip.startsWith('198.19.');
  return ip.length === 4 && ip[0] === 198 && (ip[1] === 18 || ip[1] === 19);
}
