/**
 * IP addresses as bytes (4 or 16, network order) and as canonical text (RFC 5952). An IPv4 address in IPv6 clothes
 * (::ffff:a.b.c.d) is always the IPv4 address, so that one host has one text; text equality is address equality.
 */

/** A host name or IP text (v6 without brackets), and a port of 1..65535. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Null: not an IP address. Strict: four decimal parts without leading zeros; no zone ids. */
export function parseIp(text: string): Uint8Array | null {
  if (text.length > 45) return null;
  if (!text.includes(':')) return parseV4(text);
  const v6 = parseV6(text);
  return v6 !== null && isMapped(v6) ? v6.slice(12) : v6;
}

/** Of 4 or 16 bytes. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (isMapped(bytes)) return formatIp(bytes.subarray(12));
  let bestAt = -1;
  let bestRun = 1;
  for (let i = 0; i < 8; ) {
    let run = 0;
    while (i + run < 8 && group(bytes, i + run) === 0) run++;
    if (run > bestRun) {
      bestAt = i;
      bestRun = run;
    }
    i += run + 1;
  }
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (i === bestAt) {
      text += '::';
      i += bestRun - 1;
      continue;
    }
    if (text !== '' && !text.endsWith(':')) text += ':';
    text += group(bytes, i).toString(16);
  }
  return text;
}

/** "host:port" or "[v6]:port". Null: no port, a port outside 1..65535, or no host. IP hosts come back canonical. */
export function parseEndpoint(text: string): HostPort | null {
  const colon = text.lastIndexOf(':');
  if (colon < 1) return null;
  const digits = text.slice(colon + 1);
  if (digits.length < 1 || digits.length > 5) return null;
  let port = 0;
  for (let i = 0; i < digits.length; i++) {
    const d = digits.charCodeAt(i) - 48;
    if (d < 0 || d > 9) return null;
    port = port * 10 + d;
  }
  if (port < 1 || port > 65535) return null;
  const host = text.slice(0, colon);
  if (host.startsWith('[')) {
    if (!host.endsWith(']') || !host.includes(':')) return null;
    const ip = parseIp(host.slice(1, -1));
    return ip === null ? null : { host: formatIp(ip), port };
  }
  const ip = parseIp(host);
  if (ip !== null && ip.length === 4) return { host: formatIp(ip), port };
  return isHostName(host) ? { host, port } : null;
}

export function formatEndpoint(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether a peer may live there: not port 0, unspecified, multicast or broadcast. */
export function isUsablePeerAddress(bytes: Uint8Array, port: number): boolean {
  if (port < 1 || port > 65535) return false;
  if (bytes.length === 4) return bytes[0] !== 0 && bytes[0]! < 224;
  if (bytes.length !== 16 || bytes[0] === 0xff) return false;
  if (isMapped(bytes)) return isUsablePeerAddress(bytes.subarray(12), port);
  for (let i = 0; i < 16; i++) if (bytes[i] !== 0) return true;
  return false;
}

/** This machine itself. Canonical text, or 4 or 16 bytes. */
export function isLoopback(ip: string | Uint8Array): boolean {
  if (typeof ip === 'string') return ip.startsWith('127.') || ip === '::1';
  const bytes = plainIp(ip);
  if (bytes.length === 4) return bytes[0] === 127;
  for (let i = 0; i < 15; i++) if (bytes[i] !== 0) return false;
  return bytes[15] === 1;
}

/** An IPv4 address in IPv6 clothes as its 4 bytes (a view), any other as it is. */
export function plainIp(bytes: Uint8Array): Uint8Array {
  return bytes.length === 16 && isMapped(bytes) ? bytes.subarray(12) : bytes;
}

/** Loopback, link-local or private (RFC 1918, 3927, 4193, 6598). */
export function isLocal(bytes: Uint8Array): boolean {
  const a = bytes[0]!;
  const b = bytes[1]!;
  if (bytes.length === 4) {
    if (a === 10 || a === 127) return true;
    if (a === 172) return b >= 16 && b < 32;
    if (a === 192) return b === 168;
    if (a === 169) return b === 254;
    return a === 100 && b >= 64 && b < 128;
  }
  if (isMapped(bytes)) return isLocal(bytes.subarray(12));
  return (a & 0xfe) === 0xfc || (a === 0xfe && (b & 0xc0) === 0x80) || isLoopback(bytes);
}

/** Two IPv6 addresses: of the same /64, which is what one link has (RFC 4291, section 2.5.4). */
export function isSameSubnet(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== 16 || b.length !== 16) return false;
  for (let i = 0; i < 8; i++) if (a[i] !== b[i]) return false;
  return true;
}

function parseV4(text: string): Uint8Array | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = parts[i]!;
    if (part.length < 1 || part.length > 3 || (part.length > 1 && part.startsWith('0'))) return null;
    let value = 0;
    for (let k = 0; k < part.length; k++) {
      const d = part.charCodeAt(k) - 48;
      if (d < 0 || d > 9) return null;
      value = value * 10 + d;
    }
    if (value > 255) return null;
    bytes[i] = value;
  }
  return bytes;
}

function parseV6(text: string): Uint8Array | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = groups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? groups(halves[1]!, true) : [];
  if (head === null || tail === null) return null;
  const known = head.length + tail.length;
  if (halves.length === 1 ? known !== 8 : known > 7) return null;
  const bytes = new Uint8Array(16);
  for (let i = 0; i < head.length; i++) put(bytes, i, head[i]!);
  for (let i = 0; i < tail.length; i++) put(bytes, 8 - tail.length + i, tail[i]!);
  return bytes;
}

/** The 16-bit groups of a stretch without '::'; `last` allows an IPv4 ending. */
function groups(text: string, last: boolean): number[] | null {
  if (text === '') return [];
  const parts = text.split(':');
  const found: number[] = [];
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (last && i === parts.length - 1 && part.includes('.')) {
      const v4 = parseV4(part);
      if (v4 === null) return null;
      found.push((v4[0]! << 8) | v4[1]!, (v4[2]! << 8) | v4[3]!);
      continue;
    }
    if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return null;
    found.push(Number.parseInt(part, 16));
  }
  return found.length <= 8 ? found : null;
}

function group(bytes: Uint8Array, i: number): number {
  return (bytes[2 * i]! << 8) | bytes[2 * i + 1]!;
}

function put(bytes: Uint8Array, i: number, value: number): void {
  bytes[2 * i] = value >>> 8;
  bytes[2 * i + 1] = value;
}

function isMapped(bytes: Uint8Array): boolean {
  if (bytes.length !== 16 || bytes[10] !== 255 || bytes[11] !== 255) return false;
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Letters, digits, '-', '_', '.', at most 253; international names come in their ASCII form. */
function isHostName(text: string): boolean {
  return text.length <= 253 && /^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?$/.test(text) && !text.includes('..');
}
