/** The names of a torrent: SHA-1 (v1) and SHA-256 (v2) over the raw bytes of its info dictionary (BEP 3, BEP 52). */

import { sha1, sha256 } from '../base/hash.ts';

/** 20 bytes. */
export function infoHashV1(infoBytes: Uint8Array): Uint8Array {
  return sha1(infoBytes);
}

/** 32 bytes. */
export function infoHashV2(infoBytes: Uint8Array): Uint8Array {
  return sha256(infoBytes);
}

/** The 20 bytes used in handshakes, announces and the DHT: the v1 hash, else the first 20 bytes of the v2 hash. */
export function swarmHashOf(v1: Uint8Array | null, v2: Uint8Array | null): Uint8Array {
  return v1 ?? (v2 as Uint8Array).slice(0, 20);
}
