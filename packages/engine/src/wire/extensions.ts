/**
 * The extension handshake (BEP 10), and the numbers of the messages that hang on it: ut_metadata (BEP 9), ut_pex (BEP 11),
 * lt_donthave (BEP 54), upload_only (BEP 21), ut_holepunch (BEP 55).
 *
 * Message numbers are the receiver's: ours (ExtendedId) name what we receive, the peer's (RemoteExtensions) what we send.
 * A later handshake adds to the earlier ones; number 0 takes a message back. What cannot be used in a handshake counts
 * as absent; only one that is no dictionary at all is a fault.
 *
 * Limits: values are cut or clamped as their constants say; nesting and tokens by the decoder's limits.
 */

import { utf8Decode } from '../base/bytes.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import { type BencodeLimits, decodeDict, encode } from '../codec/bencode.ts';
import type { ExtendedHandshake } from './conversation-sink.ts';

/** The numbers under which we receive. */
export const ExtendedId = { Handshake: 0, UtMetadata: 1, DontHave: 2, UploadOnly: 3, UtPex: 4, Holepunch: 5 } as const;

/** Largest metadata taken or believed in: libtorrent's limit for a torrent file is of this size (DEMANDS W14: 16-30 MiB). */
export const MAX_METADATA_BYTES: number = 30 * 1048576;
/** More is never used; rtorrent's and libtorrent's own figures are 2,048 and 2,000. */
const MAX_REQQ = 65535;
const MAX_CLIENT_CHARACTERS = 64;
/** Room for what an honest handshake holds, many times over; a bomb ends early (DEMANDS W15). */
const LIMITS: BencodeLimits = { depth: 8, tokens: 2000 };

/** What we say in our handshake. Absent: -1 or null. */
export interface OwnHandshake {
  readonly client: string | null;
  readonly listenPort: number;
  readonly reqq: number;
  readonly metadataSize: number;
  readonly uploadOnly: boolean;
  /** The peer's address as we see it, as text. */
  readonly yourIp: string | null;
  /** Its peers and its metadata are the tracker's alone to give (BEP 27): neither ut_pex nor ut_metadata is offered. */
  readonly privateTorrent: boolean;
  /** Offers ut_pex. */
  readonly pex: boolean;
  /** Offers ut_holepunch. */
  readonly holepunch: boolean;
}

/** The peer's numbers for the messages we may send; 0: it does not take them. */
export class RemoteExtensions {
  metadataId = 0;
  dontHaveId = 0;
  uploadOnlyId = 0;
  pexId = 0;
  holepunchId = 0;

  get metadata(): boolean {
    return this.metadataId !== 0;
  }

  get dontHave(): boolean {
    return this.dontHaveId !== 0;
  }

  get uploadOnly(): boolean {
    return this.uploadOnlyId !== 0;
  }

  get pex(): boolean {
    return this.pexId !== 0;
  }

  get holepunch(): boolean {
    return this.holepunchId !== 0;
  }
}

export const NO_HANDSHAKE: ExtendedHandshake = {
  client: null,
  listenPort: -1,
  reqq: -1,
  metadataSize: -1,
  uploadOnly: null,
  yourIp: null,
  encryption: null,
};

/** The dictionary we send. */
export function buildExtendedHandshake(own: OwnHandshake): Uint8Array {
  return encode({
    m: {
      lt_donthave: ExtendedId.DontHave,
      upload_only: ExtendedId.UploadOnly,
      ut_holepunch: own.holepunch ? ExtendedId.Holepunch : undefined,
      ut_metadata: own.privateTorrent ? undefined : ExtendedId.UtMetadata,
      ut_pex: own.pex && !own.privateTorrent ? ExtendedId.UtPex : undefined,
    },
    metadata_size: own.metadataSize > 0 && !own.privateTorrent ? own.metadataSize : undefined,
    p: own.listenPort > 0 ? own.listenPort : undefined,
    reqq: own.reqq > 0 ? own.reqq : undefined,
    // said also when it is not so: a later handshake takes back an earlier one
    upload_only: own.uploadOnly ? 1 : 0,
    v: own.client ?? undefined,
    yourip: own.yourIp === null ? undefined : (parseIp(own.yourIp) ?? undefined),
  });
}

/**
 * Reads a handshake and brings `remote` up to date. Returns what this handshake says, or null when it is no bencoded
 * dictionary within the limits.
 */
export function parseExtendedHandshake(body: Uint8Array, remote: RemoteExtensions): ExtendedHandshake | null {
  const dict = decodeDict(body, LIMITS);
  if (dict === null) return null;
  const m = dict.dict('m');
  if (m !== null) {
    remote.metadataId = messageNumber(m.int('ut_metadata'), remote.metadataId);
    remote.dontHaveId = messageNumber(m.int('lt_donthave'), remote.dontHaveId);
    remote.uploadOnlyId = messageNumber(m.int('upload_only'), remote.uploadOnlyId);
    remote.pexId = messageNumber(m.int('ut_pex'), remote.pexId);
    remote.holepunchId = messageNumber(m.int('ut_holepunch'), remote.holepunchId);
  }
  const uploadOnly = dict.int('upload_only');
  const yourIp = dict.bytes('yourip');
  const encryption = dict.int('e');
  return {
    client: clientText(dict.bytes('v')),
    listenPort: within(dict.int('p'), 65535),
    reqq: Math.min(within(dict.int('reqq'), Number.MAX_SAFE_INTEGER), MAX_REQQ),
    metadataSize: within(dict.int('metadata_size'), MAX_METADATA_BYTES),
    uploadOnly: uploadOnly === null ? null : uploadOnly !== 0,
    yourIp: yourIp !== null && (yourIp.length === 4 || yourIp.length === 16) ? formatIp(yourIp) : null,
    encryption: encryption === null ? null : encryption !== 0,
  };
}

/** `later` over `earlier`, field by field. */
export function mergeHandshakes(earlier: ExtendedHandshake, later: ExtendedHandshake): ExtendedHandshake {
  return {
    client: later.client ?? earlier.client,
    listenPort: later.listenPort > 0 ? later.listenPort : earlier.listenPort,
    reqq: later.reqq > 0 ? later.reqq : earlier.reqq,
    metadataSize: later.metadataSize > 0 ? later.metadataSize : earlier.metadataSize,
    uploadOnly: later.uploadOnly ?? earlier.uploadOnly,
    yourIp: later.yourIp ?? earlier.yourIp,
    encryption: later.encryption ?? earlier.encryption,
  };
}

/** A number of the `m` dictionary; what is none leaves the old one standing. */
function messageNumber(value: number | null, old: number): number {
  return value !== null && value >= 0 && value <= 255 ? value : old;
}

/** -1: not an integer of 1 .. max. */
function within(value: number | null, max: number): number {
  return value !== null && value >= 1 && value <= max ? value : -1;
}

/** Names are shown to people: nothing that steers a terminal or turns the writing round. */
function clientText(value: Uint8Array | null): string | null {
  if (value === null) return null;
  const text = utf8Decode(value.subarray(0, 4 * MAX_CLIENT_CHARACTERS)).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '');
  if (text === '') return null;
  return text.length <= MAX_CLIENT_CHARACTERS ? text : [...text].slice(0, MAX_CLIENT_CHARACTERS).join('');
}
