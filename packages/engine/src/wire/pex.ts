/**
 * Peer exchange messages (BEP 11), as bodies of extension messages: who else is connected to the torrent.
 *
 *     d 5:added 6n  7:added.f n  6:added6 18n  8:added6.f n  7:dropped 6n  8:dropped6 18n e
 *
 * What is read is only hearsay: addresses where nobody can live are left out, and what cannot be used counts as absent,
 * so that only a body that is no dictionary is a fault (as libtorrent judges). Missing flags are zeros; flags of another
 * length than their addresses make both worthless.
 *
 * Limits: of a message the first 100 usable addresses added and the first 100 dropped are taken, both families together
 * (libtorrent sends at most 100, others 50); a body above MAX_PEX_BYTES is not looked at, one above PEX_FLOOD_BYTES is a
 * breach (libtorrent's limit).
 */

import { isUsablePeerAddress } from '../base/ip.ts';
import { type BDict, type BencodeLimits, decodeDict, encode } from '../codec/bencode.ts';

/** What is said of a peer; bits. */
export const PexFlag = {
  /** Prefers encrypted connections. */
  Encryption: 1,
  /** Seed, or wants nothing (BEP 21). */
  Seed: 2,
  Utp: 4,
  /** Takes ut_holepunch (BEP 55). */
  Holepunch: 8,
  /** The sender reached it by dialing. */
  Reachable: 16,
} as const;

/** Addresses as in BEP 23 and BEP 7: 4 or 16 bytes and a port each. One byte of flags for each that is added. */
export interface PexMessage {
  readonly added4: Uint8Array;
  readonly flags4: Uint8Array;
  readonly added6: Uint8Array;
  readonly flags6: Uint8Array;
  readonly dropped4: Uint8Array;
  readonly dropped6: Uint8Array;
}

/** Most addresses of a message that are taken, or sent, each way. */
export const MAX_PEX_PEERS = 100;
/** Room for some 2,000 addresses: twenty times what is taken. */
export const MAX_PEX_BYTES = 51_200;
export const PEX_FLOOD_BYTES = 512_000;

export const PEX4_BYTES = 6;
export const PEX6_BYTES = 18;

const LIMITS: BencodeLimits = { depth: 4, tokens: 64 };
const NONE = new Uint8Array(0);

/** The body of a message; empty lists are left out. */
export function buildPex(message: PexMessage): Uint8Array {
  const some = (bytes: Uint8Array): Uint8Array | undefined => (bytes.length > 0 ? bytes : undefined);
  return encode({
    added: some(message.added4),
    'added.f': some(message.flags4),
    added6: some(message.added6),
    'added6.f': some(message.flags6),
    dropped: some(message.dropped4),
    dropped6: some(message.dropped6),
  });
}

/** Null: no bencoded dictionary. The arrays are the caller's. */
export function parsePex(body: Uint8Array): PexMessage | null {
  const dict = decodeDict(body, LIMITS);
  if (dict === null) return null;
  const four = addresses(dict, 'added', 'added.f', PEX4_BYTES, MAX_PEX_PEERS);
  const six = addresses(dict, 'added6', 'added6.f', PEX6_BYTES, MAX_PEX_PEERS - four.flags.length);
  const dropped4 = addresses(dict, 'dropped', null, PEX4_BYTES, MAX_PEX_PEERS);
  const dropped6 = addresses(dict, 'dropped6', null, PEX6_BYTES, MAX_PEX_PEERS - dropped4.flags.length);
  return {
    added4: four.peers,
    flags4: four.flags,
    added6: six.peers,
    flags6: six.flags,
    dropped4: dropped4.peers,
    dropped6: dropped6.peers,
  };
}

/** The usable addresses of a list, at most `limit`; a rest that is no whole address is ignored. */
function addresses(
  dict: BDict,
  key: string,
  flagsKey: string | null,
  size: number,
  limit: number,
): { readonly peers: Uint8Array; readonly flags: Uint8Array } {
  const list = dict.bytes(key) ?? NONE;
  const said = flagsKey === null ? null : dict.bytes(flagsKey);
  const count = Math.floor(list.length / size);
  if (said !== null && said.length !== count) return { peers: NONE, flags: NONE };
  const peers = new Uint8Array(Math.min(count, limit) * size);
  const flags = new Uint8Array(Math.min(count, limit));
  let taken = 0;
  for (let i = 0; i < count && taken < limit; i++) {
    const at = i * size;
    const port = (list[at + size - 2]! << 8) | list[at + size - 1]!;
    if (!isUsablePeerAddress(list.subarray(at, at + size - 2), port)) continue;
    for (let k = 0; k < size; k++) peers[taken * size + k] = list[at + k]!;
    flags[taken++] = said === null ? 0 : said[i]!;
  }
  return { peers: peers.subarray(0, taken * size), flags: flags.subarray(0, taken) };
}
