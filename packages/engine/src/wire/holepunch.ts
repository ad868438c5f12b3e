/**
 * The holepunch message (BEP 55), as body of an extension message: a third peer that both sides are connected to tells
 * each of them where the other is.
 *
 *     | kind 1 | family 1: 0 IPv4, 1 IPv6 | address 4 or 16 | port 2 | error 4 |
 *
 * The error stands in every message, 0 where there is none. A message without it is read as if it were 0.
 */

import { readU16, readU32, writeU16, writeU32 } from '../base/bytes.ts';
import { isUsablePeerAddress } from '../base/ip.ts';

export const HolepunchKind = {
  /** Bring me together with this one. */
  Rendezvous: 0,
  /** Dial it now, by uTP. */
  Connect: 1,
  Error: 2,
} as const;

export const HolepunchError = { None: 0, NoSuchPeer: 1, NotConnected: 2, NoSupport: 3, NoSelf: 4 } as const;

export interface HolepunchMessage {
  /** A HolepunchKind. */
  readonly kind: number;
  /** 4 or 16 bytes. */
  readonly ip: Uint8Array;
  readonly port: number;
  /** A HolepunchError, or a number of the future; 0 but for errors. */
  readonly error: number;
}

/** Longest body: of IPv6. */
export const MAX_HOLEPUNCH_BYTES = 24;

const HEAD_BYTES = 2;

export function buildHolepunch(message: HolepunchMessage): Uint8Array {
  const { ip } = message;
  const at = HEAD_BYTES + ip.length;
  const body = new Uint8Array(at + 6);
  body[0] = message.kind;
  body[1] = ip.length === 4 ? 0 : 1;
  body.set(ip, HEAD_BYTES);
  writeU16(body, at, message.port);
  writeU32(body, at + 2, message.error);
  return body;
}

/** Null: it cannot be read, is of an unknown kind, or names an address where nobody can live. */
export function parseHolepunch(body: Uint8Array): HolepunchMessage | null {
  const kind = body[0]!;
  if (body.length < HEAD_BYTES || kind > HolepunchKind.Error || body[1]! > 1) return null;
  const at = HEAD_BYTES + (body[1] === 0 ? 4 : 16);
  if (body.length < at + 2) return null;
  const ip = body.slice(HEAD_BYTES, at);
  const port = readU16(body, at);
  if (!isUsablePeerAddress(ip, port)) return null;
  const error = kind === HolepunchKind.Error && body.length >= at + 6 ? readU32(body, at + 2) : 0;
  return { kind, ip, port, error };
}
