/**
 * The messages that carry the info dictionary between peers (BEP 9), as bodies of extension messages.
 *
 *     request  d8:msg_typei0e5:piecei<n>ee
 *     data     d8:msg_typei1e5:piecei<n>e10:total_sizei<bytes>ee | up to 16 KiB of the info dictionary
 *     reject   d8:msg_typei2e5:piecei<n>ee
 *
 * Limit: a data message carries at most METADATA_PIECE_BYTES.
 */

import { BDict, BencodeError, type BencodeLimits, type BValue, decodePrefix } from '../codec/bencode.ts';

export const METADATA_PIECE_BYTES = 16384;

export const MetadataKind = { Request: 0, Data: 1, Reject: 2 } as const;

const LIMITS: BencodeLimits = { depth: 4, tokens: 64 };

export interface MetadataMessage {
  /** A MetadataKind, or a number of the future that is to be ignored. */
  readonly kind: number;
  readonly piece: number;
  /** As said; -1: not said. */
  readonly totalSize: number;
  /** Offset of the data in the body. */
  readonly dataAt: number;
}

/** Null: it cannot be read. */
export function parseMetadataMessage(body: Uint8Array): MetadataMessage | null {
  const prefix = decodeHead(body);
  if (prefix === null || !(prefix.value instanceof BDict)) return null;
  const dataAt = prefix.end;
  const kind = prefix.value.int('msg_type');
  const piece = prefix.value.int('piece');
  if (kind === null || piece === null || piece < 0 || piece > 0x7fffffff) return null;
  if (kind === MetadataKind.Data && body.length - dataAt > METADATA_PIECE_BYTES) return null;
  return { kind, piece, totalSize: Math.max(prefix.value.int('total_size') ?? -1, -1), dataAt };
}

/** Request or reject: the whole body. Data: what goes before the bytes. ASCII. */
export function metadataHead(kind: number, piece: number, totalSize: number): string {
  const total = kind === MetadataKind.Data ? `10:total_sizei${totalSize}e` : '';
  return `d8:msg_typei${kind}e5:piecei${piece}e${total}e`;
}

function decodeHead(body: Uint8Array): { value: BValue; end: number } | null {
  try {
    return decodePrefix(body, LIMITS);
  } catch (error) {
    if (error instanceof BencodeError) return null;
    throw error;
  }
}
