/** A v1 torrent written without Shoal: what clients and Shoal are given must not come from the code under test. */

import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Payload } from './payload.ts';

export type Bencodable = number | string | Uint8Array | readonly Bencodable[] | { readonly [key: string]: Bencodable };

export interface MadeTorrent {
  readonly path: string;
  readonly payload: Payload;
  readonly pieceLength: number;
  /** SHA-1 of each piece, one after the other. */
  readonly pieces: Buffer;
  /** v1, hex. */
  readonly infoHash: string;
  readonly private: boolean;
}

export interface TorrentOptions {
  readonly pieceLength: number;
  readonly tracker?: string;
  readonly private?: boolean;
  /** host:port of nodes of the DHT to begin with (BEP 5). */
  readonly nodes?: readonly string[];
  /** Of a torrent of the same payload and piece length, to hash only once. */
  readonly pieces?: Buffer;
}

export function makeTorrent(payload: Payload, path: string, options: TorrentOptions): MadeTorrent {
  const pieces = options.pieces ?? hashPieces(payload, options.pieceLength);
  const single = payload.files.length === 1 && payload.files[0]!.path.length === 0;
  const info = encode({
    ...(single
      ? { length: payload.bytes }
      : { files: payload.files.map((file) => ({ length: file.length, path: file.path })) }),
    name: payload.name,
    'piece length': options.pieceLength,
    pieces,
    ...(options.private === true ? { private: 1 } : {}),
  });
  const head = encode(options.tracker === undefined ? {} : { announce: options.tracker });
  const nodes = options.nodes?.map((node) => [node.split(':')[0]!, Number(node.split(':')[1])]);
  const tail = encode(nodes === undefined ? {} : { nodes });
  // in their order: announce, info, nodes
  const parts = [head.subarray(0, -1), Buffer.from('4:info'), info, tail.subarray(1)];
  writeFileSync(path, Buffer.concat(parts));
  return {
    path,
    payload,
    pieceLength: options.pieceLength,
    pieces,
    infoHash: createHash('sha1').update(info).digest('hex'),
    private: options.private === true,
  };
}

export function magnetOf(torrent: MadeTorrent, options: { tracker?: string; peers?: readonly string[] } = {}): string {
  const tracker = options.tracker === undefined ? '' : `&tr=${encodeURIComponent(options.tracker)}`;
  const peers = (options.peers ?? []).map((peer) => `&x.pe=${peer}`).join('');
  return `magnet:?xt=urn:btih:${torrent.infoHash}&dn=${encodeURIComponent(torrent.payload.name)}${tracker}${peers}`;
}

export function encode(value: Bencodable): Buffer {
  if (typeof value === 'number') return Buffer.from(`i${value}e`);
  if (typeof value === 'string') return encode(Buffer.from(value));
  if (value instanceof Uint8Array) return Buffer.concat([Buffer.from(`${value.length}:`), value]);
  if (isList(value)) return Buffer.concat([Buffer.from('l'), ...value.map(encode), Buffer.from('e')]);
  const parts = Object.keys(value)
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .flatMap((key) => [encode(key), encode(value[key]!)]);
  return Buffer.concat([Buffer.from('d'), ...parts, Buffer.from('e')]);
}

function isList(value: Bencodable): value is readonly Bencodable[] {
  return Array.isArray(value);
}

function hashPieces(payload: Payload, pieceLength: number): Buffer {
  const digests: Buffer[] = [];
  const buffer = Buffer.alloc(pieceLength);
  let filled = 0;
  for (const file of payload.files) {
    const fd = openSync(join(payload.folder, payload.name, ...file.path), 'r');
    for (;;) {
      const read = readSync(fd, buffer, filled, pieceLength - filled, null);
      if (read === 0) break;
      filled += read;
      if (filled < pieceLength) continue;
      digests.push(createHash('sha1').update(buffer).digest());
      filled = 0;
    }
    closeSync(fd);
  }
  if (filled > 0) digests.push(createHash('sha1').update(buffer.subarray(0, filled)).digest());
  return Buffer.concat(digests);
}
