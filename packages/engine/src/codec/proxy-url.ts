/**
 * Proxies as users name them: `socks5://user:password@host:port`, the parts before the host percent-encoded where they
 * must be. Ports have defaults: 1080, and 8080 for HTTP. Refusals never repeat what was given: it may hold a password.
 */

import { utf8DecodeStrict, utf8Encode } from '../base/bytes.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import type { ProxyKind } from '../base/proxy.ts';

export interface ProxyUrl {
  readonly kind: ProxyKind;
  readonly host: string;
  readonly port: number;
  readonly user: string | null;
  readonly password: string | null;
}

/** Names are looked up at the proxy in any case, so that both forms mean the same. */
const KINDS: Readonly<Record<string, ProxyKind>> = {
  socks4: 'socks4',
  socks4a: 'socks4',
  socks5: 'socks5',
  socks5h: 'socks5',
  http: 'http',
};
const URL_FORM = /^([a-z0-9]+):\/\/(?:([^@/?#]*)@)?(\[[0-9a-f:.]+\]|[^\s:/?#@[\]]+)(?::(\d{1,5}))?\/?$/i;
/** RFC 1929. */
const MAX_WORD_BYTES = 255;

/** A proxy, or what is wrong with the text. */
export function parseProxyUrl(text: string): ProxyUrl | string {
  const match = URL_FORM.exec(text.trim());
  if (match === null)
    return 'write a proxy as socks5://host:port, with user:password@ before the host if it wants that';
  const scheme = match[1]!.toLowerCase();
  const kind = KINDS[scheme];
  if (kind === undefined) return `a proxy is socks4, socks4a, socks5 or http, not ${scheme}`;
  const port = match[4] === undefined ? (kind === 'http' ? 8080 : 1080) : Number(match[4]);
  if (port < 1 || port > 65535) return `${port} is no port of a proxy`;
  const bare = match[3]!.startsWith('[') ? match[3]!.slice(1, -1) : match[3]!;
  const ip = parseIp(bare);
  if (ip === null && (match[3]!.startsWith('[') || !/^[\w.-]{1,253}$/.test(bare))) return 'the proxy has no host';
  const host = ip === null ? bare : formatIp(ip);
  if (match[2] === undefined || match[2] === '') return { kind, host, port, user: null, password: null };
  const colon = match[2].indexOf(':');
  const user = decodeWord(colon < 0 ? match[2] : match[2].slice(0, colon));
  const password = colon < 0 ? null : decodeWord(match[2].slice(colon + 1));
  if (user === null || user === '' || (colon >= 0 && password === null)) {
    return "the proxy's user or password is not written as a URL has it (a % is %25), or too long";
  }
  if (kind === 'socks4' && password !== null) return 'SOCKS4 has no passwords';
  if (kind === 'http' && user.includes(':')) return "an HTTP proxy's user has no colon";
  return { kind, host, port, user, password };
}

/** Null: not to be decoded, or longer than any proxy takes, or with a NUL, which ends words of SOCKS4. */
function decodeWord(text: string): string | null {
  if (/%(?![0-9a-f]{2})/i.test(text)) return null;
  const raw = utf8Encode(text);
  const bytes: number[] = [];
  for (let i = 0; i < raw.length; i++) {
    const isEscape = raw[i] === 0x25;
    bytes.push(isEscape ? Number.parseInt(String.fromCharCode(raw[i + 1]!, raw[i + 2]!), 16) : raw[i]!);
    if (isEscape) i += 2;
  }
  if (bytes.length > MAX_WORD_BYTES || bytes.includes(0) || bytes.includes(10) || bytes.includes(13)) return null;
  return utf8DecodeStrict(Uint8Array.from(bytes));
}
