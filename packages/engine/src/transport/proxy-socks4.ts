/**
 * SOCKS4 and its extension 4a, which takes names.
 *
 *     4 | 1 connect | port 2 | IPv4 4 | user 0 ( name 0 )       a name: the address is 0.0.0.1
 *     0 | 90 granted, 91..93 not | 6 bytes of no use
 *
 * Limits: IPv4 and names alone, no password. From: "SOCKS: A protocol for TCP proxy across firewalls" (Lee) and
 * "SOCKS 4A" (Lee).
 */

import { concat, utf8Encode, writeU16 } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import { ProxyDialogue, type ProxyTarget } from './proxy-dialogue.ts';

const REPLY_BYTES = 8;
const GRANTED = 90;
const BY_NAME = new Uint8Array([0, 0, 0, 1]);
const END = new Uint8Array(1);
const REFUSALS: Readonly<Record<number, string>> = {
  91: 'refused, or could not connect',
  92: 'refused: it found no identd here',
  93: 'refused: identd here names another user',
};

export class Socks4Dialogue extends ProxyDialogue {
  constructor(target: ProxyTarget, user: string | null) {
    super(REPLY_BYTES);
    const ip = parseIp(target.host);
    if (ip?.length === 16) {
      this.fail('EAFNOSUPPORT', 'cannot reach IPv6 addresses: SOCKS4 has none');
      return;
    }
    if (ip === null && !this.isName(target.host)) {
      this.fail('ENOTFOUND', 'was not asked: that is no host name');
      return;
    }
    const head = new Uint8Array([4, 1, 0, 0]);
    writeU16(head, 2, target.port);
    const name = ip === null ? [utf8Encode(target.host), END] : [];
    this.say(concat([head, ip ?? BY_NAME, utf8Encode(user ?? ''), END, ...name]));
  }

  protected step(bytes: Uint8Array): number {
    if (bytes.length > 0 && bytes[0] !== 0) return this.fail('EPROXY', 'does not speak SOCKS4');
    if (bytes.length > 1 && bytes[1] !== GRANTED) {
      const why = REFUSALS[bytes[1]!];
      return this.fail('EPROXY', why ?? 'does not speak SOCKS4');
    }
    if (bytes.length < REPLY_BYTES) return 0;
    this.state = 'open';
    return REPLY_BYTES;
  }
}
