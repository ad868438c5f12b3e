/**
 * The 68 bytes both sides begin with (BEP 3), and the reserved bits we set and look at.
 *
 *     0       1                     20         28          48        68
 *     | 0x13 | BitTorrent protocol | reserved | info-hash | peer id |
 *
 * The first 48 bytes can be answered before the peer id is in: NAT checks of trackers send no more.
 */

export const HANDSHAKE_BYTES = 68;
/** All that an answer needs. */
export const HANDSHAKE_HEAD_BYTES = 48;
export const RESERVED_AT = 20;
export const INFO_HASH_AT = 28;
export const PEER_ID_BYTES = 20;

/** In reserved[5]: extension protocol (BEP 10). */
const EXTENDED_BIT = 0x10;
/** In reserved[7]: the sender has a DHT node and takes PORT (BEP 5). */
const DHT_BIT = 0x01;
/** In reserved[7]: fast extension (BEP 6). */
const FAST_BIT = 0x04;
/** In reserved[7]: the sender also knows the torrent by its v2 info-hash (BEP 52). */
const V2_BIT = 0x10;

const PROTOCOL = Uint8Array.of(19, ...[...'BitTorrent protocol'].map((c) => c.charCodeAt(0)));

/** Writes 68 bytes. `v2` asks the other side to answer with the v2 info-hash when it can, `dht` for its DHT port. */
export function encodeHandshake(
  target: Uint8Array,
  at: number,
  infoHash: Uint8Array,
  peerId: Uint8Array,
  v2: boolean,
  dht: boolean,
): void {
  target.set(PROTOCOL, at);
  target.fill(0, at + RESERVED_AT, at + INFO_HASH_AT);
  target[at + RESERVED_AT + 5] = EXTENDED_BIT;
  target[at + RESERVED_AT + 7] = FAST_BIT | (v2 ? V2_BIT : 0) | (dht ? DHT_BIT : 0);
  target.set(infoHash, at + INFO_HASH_AT);
  target.set(peerId, at + HANDSHAKE_HEAD_BYTES);
}

/** Whether the first `count` bytes of a stream (any number) may be a handshake's. */
export function mayBeHandshake(bytes: Uint8Array, at: number, count: number): boolean {
  const n = Math.min(count, RESERVED_AT);
  for (let i = 0; i < n; i++) if (bytes[at + i] !== PROTOCOL[i]) return false;
  return true;
}

export function offersExtended(reserved: Uint8Array): boolean {
  return (reserved[5]! & EXTENDED_BIT) !== 0;
}

export function offersFast(reserved: Uint8Array): boolean {
  return (reserved[7]! & FAST_BIT) !== 0;
}

export function offersDht(reserved: Uint8Array): boolean {
  return (reserved[7]! & DHT_BIT) !== 0;
}

export function offersV2(reserved: Uint8Array): boolean {
  return (reserved[7]! & V2_BIT) !== 0;
}
