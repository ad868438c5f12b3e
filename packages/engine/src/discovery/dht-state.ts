/**
 * What the DHT remembers between runs: its id and nodes of each family, behind a checksum. Reading trusts nothing: another
 * length, form or checksum is no state at all, addresses nobody can have are left out, and what is restored is a list of
 * whom to ask, not a table.
 *
 *     20 bytes SHA-1 of what follows | d 1:4 d 2:id20:.. 5:nodes.. e 1:6 d .. e e
 */

import { concat, equal, utf8Encode } from '../base/bytes.ts';
import { sha1 } from '../base/hash.ts';
import { isUsablePeerAddress } from '../base/ip.ts';
import { type BDict, decodeDict, encode } from '../codec/bencode.ts';
import { ID_BYTES } from './node-id.ts';

/** Nodes kept of a family (Transmission's figure). */
export const MAX_SAVED = 300;
const MAX_STATE_BYTES = 1 << 20;
const SALT = utf8Encode('dht state 1');

export interface FamilyState {
  readonly id: Uint8Array;
  /** 26 or 38 bytes each. */
  readonly nodes: Uint8Array[];
}

export interface DhtState {
  readonly v4: FamilyState | null;
  readonly v6: FamilyState | null;
}

export function writeState(state: DhtState): Uint8Array {
  const parts = new Map<string, { id: Uint8Array; nodes: Uint8Array }>();
  if (state.v4 !== null) parts.set('4', { id: state.v4.id, nodes: concat(state.v4.nodes.slice(0, MAX_SAVED)) });
  if (state.v6 !== null) parts.set('6', { id: state.v6.id, nodes: concat(state.v6.nodes.slice(0, MAX_SAVED)) });
  const body = encode(parts);
  return concat([sha1(concat([SALT, body])), body]);
}

/** Null: not written by `writeState`, or changed since. */
export function readState(bytes: Uint8Array): DhtState | null {
  if (bytes.length < ID_BYTES || bytes.length > MAX_STATE_BYTES) return null;
  const body = bytes.subarray(ID_BYTES);
  if (!equal(sha1(concat([SALT, body])), bytes.subarray(0, ID_BYTES))) return null;
  const dict = decodeDict(body, { depth: 4, tokens: 100 });
  return dict === null ? null : { v4: readFamily(dict.dict('4'), 26), v6: readFamily(dict.dict('6'), 38) };
}

function readFamily(dict: BDict | null, size: number): FamilyState | null {
  const id = dict?.bytes('id');
  const packed = dict?.bytes('nodes');
  if (id === null || id === undefined || packed === null || packed === undefined || id.length !== ID_BYTES) return null;
  const nodes: Uint8Array[] = [];
  for (let at = 0; at + size <= packed.length && nodes.length < MAX_SAVED; at += size) {
    const node = new Uint8Array(packed.subarray(at, at + size));
    const port = (node[size - 2]! << 8) | node[size - 1]!;
    if (isUsablePeerAddress(node.subarray(ID_BYTES, size - 2), port)) nodes.push(node);
  }
  return { id: new Uint8Array(id), nodes };
}
