/**
 * The header that a datagram has on its way to and from a SOCKS5 proxy (RFC 1928, section 7):
 *
 *     0 0 | fragment 0 | host (kind, bytes) | port 2 | the datagram
 *
 * Limits: fragments are dropped, as the RFC lets us; a sender that is called by name is nobody we asked.
 */

import { readU16 } from '../base/bytes.ts';
import { formatIp } from '../base/ip.ts';
import { HostKind, hostBytes } from './proxy-socks5.ts';

const FIXED_BYTES = 3;

/** `host`: name or address. */
export function udpHeader(host: string, port: number): Uint8Array {
  const place = hostBytes(host, port);
  const header = new Uint8Array(FIXED_BYTES + place.length);
  header.set(place, FIXED_BYTES);
  return header;
}

/** Who sent a datagram, and where in what the proxy sent it begins. One object serves all. */
export class UdpOrigin {
  ip = '';
  port = 0;
  /** Where the datagram itself begins. */
  at = 0;

  /** False: it is none. */
  read(bytes: Uint8Array): boolean {
    if (bytes.length < FIXED_BYTES + 1 || bytes[0] !== 0 || bytes[1] !== 0 || bytes[2] !== 0) return false;
    const kind = bytes[3];
    const hostLength = kind === HostKind.V4 ? 4 : kind === HostKind.V6 ? 16 : 0;
    const from = FIXED_BYTES + 1;
    if (hostLength === 0 || bytes.length < from + hostLength + 2) return false;
    this.ip = formatIp(bytes.subarray(from, from + hostLength));
    this.port = readU16(bytes, from + hostLength);
    this.at = from + hostLength + 2;
    return true;
  }
}
