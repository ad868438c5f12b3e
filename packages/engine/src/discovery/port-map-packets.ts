/**
 * The datagrams of NAT-PMP (RFC 6886, version 0) and PCP (RFC 6887, version 2), which share a port and tell each other
 * apart by their first byte.
 *
 *     NAT-PMP map   0 | op | 0 0 | internal u16 | external u16 | lifetime u32                      12 bytes
 *     reply         0 | 128 + op | result u16 | epoch u32 | internal | external | lifetime         16
 *     PCP map       2 | 1 | 0 0 | lifetime u32 | our address (16) | nonce (12) | protocol | 0 0 0 |
 *                   internal u16 | external u16 | external address (16)                            60
 *     reply         2 | 129 | 0 | result | lifetime u32 | epoch u32 | 0 (12) | as asked            60
 */

import { readU16, readU32, writeU16, writeU32 } from '../base/bytes.ts';
import { formatIp } from '../base/ip.ts';

export const PCP = 2;
export const NAT_PMP = 0;
/** Routers hear requests here, and tell all of their restarts at the other (both RFCs). */
export const ROUTER_PORT = 5351;
export const ANNOUNCE_PORT = 5350;
export const ANNOUNCE_GROUP = '224.0.0.1';

export type MapProtocol = 'tcp' | 'udp';

export interface MapAsk {
  readonly protocol: MapProtocol;
  readonly internalPort: number;
  /** 0: any. */
  readonly externalPort: number;
  /** 0: the mapping is to go. */
  readonly lifetimeS: number;
}

export interface MapReply {
  readonly version: number;
  /** Null: it is about no mapping, but an answer about the address (NAT-PMP) or an announcement (PCP). */
  readonly protocol: MapProtocol | null;
  /** 0: granted. */
  readonly result: number;
  /** Seconds since the router forgot what was mapped before. */
  readonly epochS: number;
  readonly internalPort: number;
  readonly externalPort: number;
  readonly lifetimeS: number;
  /** Canonical text; null where it was not said. */
  readonly externalIp: string | null;
  /** Of PCP, 12 bytes; borrowed. */
  readonly nonce: Uint8Array | null;
}

const PCP_HEADER = 24;
const PCP_MAP = 60;
/** RFC 6887, section 7. */
const PCP_MAX = 1100;
const REPLY = 128;
export const UNSUPPORTED_VERSION = 1;

/** IANA's numbers. */
const NUMBER_OF: Readonly<Record<MapProtocol, number>> = { tcp: 6, udp: 17 };

export function natPmpAddressPacket(): Uint8Array {
  return new Uint8Array(2);
}

export function natPmpMapPacket(ask: MapAsk): Uint8Array {
  const bytes = new Uint8Array(12);
  bytes[1] = ask.protocol === 'udp' ? 1 : 2;
  writeU16(bytes, 4, ask.internalPort);
  writeU16(bytes, 6, ask.externalPort);
  writeU32(bytes, 8, ask.lifetimeS);
  return bytes;
}

/** `local`: the address it is sent from, 4 or 16 bytes. `externalIp`: the one that is wished, or null. */
export function pcpMapPacket(
  ask: MapAsk,
  local: Uint8Array,
  nonce: Uint8Array,
  externalIp: Uint8Array | null,
): Uint8Array {
  const bytes = new Uint8Array(PCP_MAP);
  bytes[0] = PCP;
  bytes[1] = 1;
  writeU32(bytes, 4, ask.lifetimeS);
  putAddress(bytes, 8, local);
  bytes.set(nonce, 24);
  bytes[36] = NUMBER_OF[ask.protocol];
  writeU16(bytes, 40, ask.internalPort);
  writeU16(bytes, 42, ask.externalPort);
  // all zeros in the clothes of its family: any
  putAddress(bytes, 44, externalIp ?? new Uint8Array(local.length));
  return bytes;
}

/** Null: neither a whole reply of NAT-PMP nor of PCP. */
export function readMapReply(bytes: Uint8Array): MapReply | null {
  if (bytes.length < 4 || (bytes[1]! & REPLY) === 0) return null;
  return bytes[0] === NAT_PMP ? readNatPmp(bytes) : readPcp(bytes);
}

function readNatPmp(bytes: Uint8Array): MapReply | null {
  const op = bytes[1]! & 127;
  const result = readU16(bytes, 2);
  if (op > 2) {
    // how a router that knows only this version answers a request of another
    return result === UNSUPPORTED_VERSION ? { ...NOTHING, version: NAT_PMP, result } : null;
  }
  const whole = op === 0 ? 12 : 16;
  if (bytes.length < 8 || (result === 0 && bytes.length < whole)) return null;
  const reply = { ...NOTHING, version: NAT_PMP, result, epochS: readU32(bytes, 4) };
  if (op === 0) return { ...reply, externalIp: result === 0 ? formatIp(bytes.subarray(8, 12)) : null };
  const protocol = op === 1 ? 'udp' : 'tcp';
  if (bytes.length < whole) return { ...reply, protocol };
  return {
    ...reply,
    protocol,
    internalPort: readU16(bytes, 8),
    externalPort: readU16(bytes, 10),
    lifetimeS: readU32(bytes, 12),
  };
}

function readPcp(bytes: Uint8Array): MapReply | null {
  const { length } = bytes;
  if (length < PCP_HEADER || length > PCP_MAX || length % 4 !== 0) return null;
  const version = bytes[0]!;
  const result = bytes[3]!;
  if (version !== PCP) return result === UNSUPPORTED_VERSION ? { ...NOTHING, version, result } : null;
  const op = bytes[1]! & 127;
  const reply = { ...NOTHING, version, result, lifetimeS: readU32(bytes, 4), epochS: readU32(bytes, 8) };
  if (op === 0 || result === UNSUPPORTED_VERSION) return reply;
  if (op !== 1 || length < PCP_MAP) return null;
  const protocol = bytes[36] === NUMBER_OF.tcp ? 'tcp' : bytes[36] === NUMBER_OF.udp ? 'udp' : null;
  if (protocol === null) return null;
  return {
    ...reply,
    protocol,
    internalPort: readU16(bytes, 40),
    externalPort: readU16(bytes, 42),
    externalIp: formatIp(bytes.subarray(44, 60)),
    nonce: bytes.subarray(24, 36),
  };
}

const NOTHING: MapReply = {
  version: 0,
  protocol: null,
  result: 0,
  epochS: 0,
  internalPort: 0,
  externalPort: 0,
  lifetimeS: 0,
  externalIp: null,
  nonce: null,
};

/** IPv4 in the clothes of IPv6. */
function putAddress(bytes: Uint8Array, at: number, ip: Uint8Array): void {
  if (ip.length === 4) {
    bytes[at + 10] = 255;
    bytes[at + 11] = 255;
    bytes.set(ip, at + 12);
  } else bytes.set(ip, at);
}

export function resultText(version: number, result: number): string {
  const text = (version === PCP ? PCP_RESULTS : NAT_PMP_RESULTS)[result];
  return text ?? `error ${result}`;
}

const PCP_RESULTS: readonly string[] = [
  'granted',
  'another version is spoken',
  'not allowed',
  'the request was not understood',
  'mappings are not offered',
  'an option is not offered',
  'an option was not understood',
  'the router has no network',
  'the router has no room',
  'the protocol is not offered',
  'too many mappings are ours',
  'the port asked for is not to be had',
  'another router stands between',
  'too many peers',
];

const NAT_PMP_RESULTS: readonly string[] = [
  'granted',
  'another version is spoken',
  'not allowed',
  'the router has no network',
  'the router has no room',
  'mappings are not offered',
];
