/**
 * SOCKS5 (RFC 1928) with user and password (RFC 1929): CONNECT, and UDP ASSOCIATE, whose datagrams proxy-udp.ts wraps.
 *
 *     5 | count | methods                     ->  5 | method, 255: none of them
 *     1 | length user | length password       ->  1 | 0: welcome                    where the method is 2
 *     5 | 1 connect, 3 UDP | 0 | host | port  ->  5 | 0: done | 0 | host | port
 *
 * A host is 1 and 4 bytes, 3 and a name after its length, or 4 and 16 bytes.
 */

import { concat, readU16, utf8Encode, writeU16 } from '../base/bytes.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import { ProxyDialogue, type ProxyTarget } from './proxy-dialogue.ts';

const Method = { None: 0, Password: 2 } as const;
const Command = { Connect: 1, Udp: 3 } as const;
export const HostKind = { V4: 1, Name: 3, V6: 4 } as const;
/** The longest answer: one that names a host. */
const MAX_REPLY_BYTES = 4 + 1 + 255 + 2;
const MAX_WORD_BYTES = 255;

/** RFC 1928, section 6. */
const REFUSALS: Readonly<Record<number, readonly [code: string, message: string]>> = {
  1: ['EPROXY', 'failed'],
  2: ['EPROXYDENIED', 'does not allow it'],
  3: ['ENETUNREACH', 'finds no way to that network'],
  4: ['EHOSTUNREACH', 'finds no way to that host'],
  5: ['ECONNREFUSED', 'was refused the connection'],
  6: ['EHOSTUNREACH', 'got no answer in time'],
  7: ['EPROXYDENIED', 'does not support the command'],
  8: ['EAFNOSUPPORT', 'does not support that kind of address'],
};

export interface ProxyUser {
  readonly user: string;
  readonly password: string;
}

export class Socks5Dialogue extends ProxyDialogue {
  readonly #target: ProxyTarget | null;
  readonly #user: ProxyUser | null;
  #asked: 'method' | 'password' | 'command' = 'method';

  /** `target` null: UDP ASSOCIATE. */
  constructor(target: ProxyTarget | null, user: ProxyUser | null) {
    super(MAX_REPLY_BYTES);
    this.#target = target;
    this.#user = user;
    if (target !== null && parseIp(target.host) === null && !this.isName(target.host)) {
      this.fail('ENOTFOUND', 'was not asked: that is no host name');
      return;
    }
    this.say(
      user === null ? new Uint8Array([5, 1, Method.None]) : new Uint8Array([5, 2, Method.None, Method.Password]),
    );
  }

  protected step(bytes: Uint8Array): number {
    switch (this.#asked) {
      case 'method':
        return this.#method(bytes);
      case 'password':
        return this.#welcome(bytes);
      case 'command':
        return this.#reply(bytes);
    }
  }

  #method(bytes: Uint8Array): number {
    if (bytes.length > 0 && bytes[0] !== 5) return this.fail('EPROXY', 'does not speak SOCKS5');
    if (bytes.length < 2) return 0;
    const method = bytes[1];
    if (method === Method.Password && this.#user !== null) {
      const user = wordOf(this.#user.user);
      const password = wordOf(this.#user.password);
      this.#asked = 'password';
      this.say(concat([new Uint8Array([1]), user, password]));
    } else if (method === Method.None) this.#command();
    else if (method !== 0xff) return this.fail('EPROXY', 'wants a way to log in that was not offered');
    else return this.fail('EPROXYAUTH', this.#user === null ? 'wants a user and a password' : 'takes no password');
    return 2;
  }

  #welcome(bytes: Uint8Array): number {
    if (bytes.length > 0 && bytes[0] !== 1) return this.fail('EPROXY', 'does not speak SOCKS5');
    if (bytes.length < 2) return 0;
    if (bytes[1] !== 0) return this.fail('EPROXYAUTH', 'does not know this user and password');
    this.#command();
    return 2;
  }

  #command(): void {
    this.#asked = 'command';
    const kind = this.#target === null ? Command.Udp : Command.Connect;
    // for UDP: whence we shall send, which is not known where there is a NAT between
    const { host, port } = this.#target ?? { host: '0.0.0.0', port: 0 };
    this.say(concat([new Uint8Array([5, kind, 0]), hostBytes(host, port)]));
  }

  #reply(bytes: Uint8Array): number {
    if (bytes.length > 0 && bytes[0] !== 5) return this.fail('EPROXY', 'does not speak SOCKS5');
    if (bytes.length > 1 && bytes[1] !== 0) {
      const [code, message] = REFUSALS[bytes[1]!] ?? ['EPROXY', `failed (${bytes[1]})`];
      return this.fail(code, message);
    }
    if (bytes.length < 4) return 0;
    const kind = bytes[3];
    if (kind !== HostKind.V4 && kind !== HostKind.V6 && kind !== HostKind.Name) {
      return this.fail('EPROXY', 'does not speak SOCKS5');
    }
    if (bytes.length < 5) return 0;
    const from = kind === HostKind.Name ? 5 : 4;
    const hostLength = kind === HostKind.V4 ? 4 : kind === HostKind.V6 ? 16 : bytes[4]!;
    const length = from + hostLength + 2;
    if (bytes.length < length) return 0;
    const port = readU16(bytes, length - 2);
    // what it calls by a name says nothing of use; unspecified: at its own address
    const ip = kind === HostKind.Name ? '0.0.0.0' : formatIp(bytes.subarray(from, from + hostLength));
    this.bound = { ip, port };
    this.state = 'open';
    return length;
  }
}

/** Kind, host and port as SOCKS5 writes them. A name is at most 255 bytes. */
export function hostBytes(host: string, port: number): Uint8Array {
  const ip = parseIp(host);
  const body = ip ?? wordOf(host);
  const bytes = new Uint8Array(1 + body.length + 2);
  bytes[0] = ip === null ? HostKind.Name : ip.length === 4 ? HostKind.V4 : HostKind.V6;
  bytes.set(body, 1);
  writeU16(bytes, 1 + body.length, port);
  return bytes;
}

/** After its length in one byte. */
function wordOf(text: string): Uint8Array {
  const bytes = utf8Encode(text).subarray(0, MAX_WORD_BYTES);
  return concat([new Uint8Array([bytes.length]), bytes]);
}
