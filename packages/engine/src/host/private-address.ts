/** Addresses that a stranger on the internet has no business to lead us to (RFC 6890 and its v6 kin). */

import net from 'node:net';

const blocked: net.BlockList = new net.BlockList();
for (const [ip, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  blocked.addSubnet(ip, bits, 'ipv4');
}
for (const [ip, bits] of [
  ['::', 127],
  ['fc00::', 7],
  ['fe80::', 9],
  ['ff00::', 8],
] as const) {
  blocked.addSubnet(ip, bits, 'ipv6');
}

/** True also for what is no address at all. v4 inside v6 (mapped, compatible, NAT64, 6to4) counts as the v4. */
export function isPrivateAddress(ip: string): boolean {
  const family = net.isIP(ip);
  if (family === 4) return blocked.check(ip, 'ipv4');
  if (family !== 6) return true;
  const bare = ip.split('%', 1)[0]!;
  if (blocked.check(bare, 'ipv6')) return true;
  const inner = innerV4(bare);
  return inner !== null && blocked.check(inner, 'ipv4');
}

/** Names that mean this machine or its network, wherever they are looked up. */
export function isLocalName(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, '');
  return !name.includes('.') || /\.(localhost|local|internal|lan|home|home\.arpa)$/.test(name);
}

function innerV4(ip: string): string | null {
  // the URL parser writes any v6 in its one canonical form
  const groups = expand(new URL(`http://[${ip}]/`).hostname.slice(1, -1));
  const at = (i: number): number => groups[i] ?? 0;
  const zeros = groups.slice(0, 5).every((g) => g === 0);
  if (zeros && (at(5) === 0xffff || at(5) === 0)) return v4(at(6), at(7));
  if (at(0) === 0x64 && at(1) === 0xff9b) return v4(at(6), at(7));
  if (at(0) === 0x2002) return v4(at(1), at(2));
  return null;
}

function v4(high: number, low: number): string {
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

function expand(ip: string): number[] {
  const [head = '', tail] = ip.split('::') as [string, string?];
  const parse = (text: string): number[] => (text === '' ? [] : text.split(':').map((g) => Number.parseInt(g, 16)));
  const front = parse(head);
  if (tail === undefined) return front;
  const back = parse(tail);
  return [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
}
