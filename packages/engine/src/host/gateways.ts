/**
 * The routers of this machine. Node has no call for it: Linux writes its routes into /proc, elsewhere nothing is known.
 *
 * Limit: routing policies that depend on more than the destination are not seen.
 */

import { readFileSync } from 'node:fs';
import { formatIp } from '../base/ip.ts';
import type { NetGateway } from '../base/ports.ts';

/** Of a route: it is up, and leads to a router. */
const RTF_UP = 1;
const RTF_GATEWAY = 2;

/** More than any metric is. */
const BEFORE = 2 ** 33;

interface Found extends NetGateway {
  readonly metric: number;
}

export function hostGateways(): NetGateway[] {
  if (process.platform !== 'linux') return [];
  const found = [...gatewaysV4(read('/proc/net/route')), ...gatewaysV6(read('/proc/net/ipv6_route'))];
  const unique = new Map<string, NetGateway>();
  for (const { ip, interfaceName } of found.sort((a, b) => a.metric - b.metric)) {
    if (!unique.has(`${ip} ${interfaceName}`)) unique.set(`${ip} ${interfaceName}`, { ip, interfaceName });
  }
  return [...unique.values()];
}

/**
 * Of /proc/net/route: the columns Iface Destination Gateway Flags RefCnt Use Metric Mask .., addresses as numbers of this
 * machine's byte order. Routes of half the internet count too: that is how VPNs get before the default route.
 */
export function gatewaysV4(text: string): Found[] {
  const found: Found[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [interfaceName, destination, gateway, flags, , , metric, mask] = line.split('\t').map((cell) => cell.trim());
    if (mask === undefined || (Number.parseInt(flags!, 16) & (RTF_UP | RTF_GATEWAY)) !== (RTF_UP | RTF_GATEWAY))
      continue;
    const bytes = addressOf(gateway!);
    const isHalf = addressOf(mask)?.join('.') === '128.0.0.0';
    const isWide = isHalf || mask === '00000000';
    const isBeginning = ['0.0.0.0', '128.0.0.0'].includes(addressOf(destination!)?.join('.') ?? '');
    if (bytes === null || !isWide || !isBeginning) continue;
    found.push({ ip: formatIp(bytes), interfaceName: interfaceName!, metric: Number(metric) - (isHalf ? BEFORE : 0) });
  }
  return found;
}

/** Of /proc/net/ipv6_route: destination, its prefix, source, its prefix, next hop, metric, .., flags, interface. */
export function gatewaysV6(text: string): Found[] {
  const found: Found[] = [];
  for (const line of text.split('\n')) {
    const [, prefix, , , hop, metric, , , flags, interfaceName] = line.trim().split(/\s+/);
    if (interfaceName === undefined || prefix !== '00') continue;
    if ((Number.parseInt(flags!, 16) & (RTF_UP | RTF_GATEWAY)) !== (RTF_UP | RTF_GATEWAY)) continue;
    if (!/^[0-9a-f]{32}$/.test(hop!)) continue;
    const ip = formatIp(Buffer.from(hop!, 'hex'));
    const zone = /^fe[89ab]/.test(ip) ? `%${interfaceName}` : '';
    found.push({ ip: ip + zone, interfaceName, metric: Number.parseInt(metric!, 16) });
  }
  return found;
}

/** Eight hex digits in this machine's byte order. */
function addressOf(hex: string): Uint8Array | null {
  if (!/^[0-9A-Fa-f]{8}$/.test(hex)) return null;
  return new Uint8Array(new Uint32Array([Number.parseInt(hex, 16)]).buffer);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
