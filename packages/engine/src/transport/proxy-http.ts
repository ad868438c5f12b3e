/**
 * HTTP CONNECT (RFC 9110, section 9.3.6), with Basic authentication (RFC 7617).
 *
 * Limits: 8 KiB of answer. Whatever its fields say, an answer of 2xx has no body: what follows is the other side's.
 */

import { latin1, utf8Encode } from '../base/bytes.ts';
import { formatEndpoint, parseIp } from '../base/ip.ts';
import { ProxyDialogue, type ProxyTarget } from './proxy-dialogue.ts';
import type { ProxyUser } from './proxy-socks5.ts';

const MAX_HEAD_BYTES = 8192;
const VERSION = utf8Encode('HTTP/1.');
/** "HTTP/1.1 200" */
const STATUS_BYTES = 12;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

export class ConnectDialogue extends ProxyDialogue {
  constructor(target: ProxyTarget, user: ProxyUser | null) {
    super(MAX_HEAD_BYTES);
    if (parseIp(target.host) === null && !this.isName(target.host)) {
      this.fail('ENOTFOUND', 'was not asked: that is no host name');
      return;
    }
    const place = formatEndpoint(target.host, target.port);
    const login = user === null ? '' : `Proxy-Authorization: ${basicAuth(user)}\r\n`;
    this.say(utf8Encode(`CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n${login}\r\n`));
  }

  protected step(bytes: Uint8Array): number {
    for (let i = 0; i < Math.min(bytes.length, VERSION.length); i++) {
      if (bytes[i] !== VERSION[i]) return this.fail('EPROXY', 'does not speak HTTP');
    }
    if (bytes.length < STATUS_BYTES) return 0;
    const line = latin1(bytes.subarray(0, STATUS_BYTES));
    if (!/^HTTP\/1\.[01] \d{3}$/.test(line)) return this.fail('EPROXY', 'does not speak HTTP');
    const status = Number(line.slice(9));
    if (status < 200 || status > 299) return this.#refused(status);
    const end = endOf(bytes);
    if (end === 0) return 0;
    if (end > MAX_HEAD_BYTES) return this.fail('EPROXY', 'says too much');
    this.state = 'open';
    return end;
  }

  #refused(status: number): number {
    if (status === 407) return this.fail('EPROXYAUTH', 'does not know this user and password');
    if (status === 403 || status === 405) return this.fail('EPROXYDENIED', 'does not allow it');
    if (status === 502 || status === 503 || status === 504) return this.fail('EHOSTUNREACH', 'could not connect');
    // 502 to 504: it works, and did not come through to whom we named
    return this.fail(status >= 502 && status <= 504 ? 'EHOSTUNREACH' : 'EPROXY', `answers ${status}`);
  }
}

/** The value of a Proxy-Authorization field. */
export function basicAuth({ user, password }: ProxyUser): string {
  const bytes = utf8Encode(`${user}:${password}`);
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const word = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += ALPHABET[word >>> 18]! + ALPHABET[(word >>> 12) & 63]!;
    text += i + 1 < bytes.length ? ALPHABET[(word >>> 6) & 63]! : '=';
    text += i + 2 < bytes.length ? ALPHABET[word & 63]! : '=';
  }
  return `Basic ${text}`;
}

/** Behind the empty line, or 0. */
function endOf(bytes: Uint8Array): number {
  const last = Math.min(bytes.length, MAX_HEAD_BYTES + 4);
  for (let i = STATUS_BYTES + 3; i < last; i++) {
    if (bytes[i] === 10 && bytes[i - 1] === 13 && bytes[i - 2] === 10 && bytes[i - 3] === 13) return i + 1;
  }
  return 0;
}
