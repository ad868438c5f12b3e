/**
 * `@shoal/engine`: a BitTorrent engine for Node.js.
 *
 *     import { Session } from '@shoal/engine';
 *     await using session = new Session();
 *     const torrent = await session.add('debian.torrent', { folder: '.' });
 *     await torrent.done();
 */

import { constants, promises as fs } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { ShoalError } from './base/errors.ts';
import { createHostPorts } from './host/index.ts';
import { Session as BaseSession, type Machine } from './session/session.ts';
import type { SessionOptions } from './session/types.ts';

export { type IoFault, ShoalError, type ShoalErrorCode } from './base/errors.ts';
export type { HostPort } from './base/ip.ts';
export type { Endpoint } from './base/ports.ts';
export {
  formatMagnet,
  formatPublisher,
  type Magnet,
  type Publisher,
  parseMagnet,
  parsePublisher,
} from './codec/magnet.ts';
export { Metainfo, parseTorrent, type TorrentFile } from './codec/metainfo.ts';
export {
  type ContentPlace,
  type CreatedTorrent,
  type CreateOptions,
  createTorrent,
  locateContent,
  type VerifyOptions,
  type VerifyResult,
  verifyTorrent,
} from './content.ts';
export {
  type DhtCallOptions,
  DhtClient,
  type DhtMutableOptions,
  type DhtPutMutableOptions,
  type DhtPutResult,
  type DhtSamples,
} from './session/dht-client.ts';
export type { StreamOptions } from './session/file-stream.ts';
export type { Follower, FollowOptions } from './session/follow.ts';
export type { Rates } from './session/limits.ts';
export { Torrent, type TorrentFileHandle } from './session/torrent.ts';
export type * from './session/types.ts';

/** Downloads and seeds torrents. Several may live in one process; each has its own connections, memory and threads. */
export class Session extends BaseSession {
  /** Listens at once; throws ShoalError 'bad-option' for options that make no sense. */
  constructor(options: SessionOptions = {}) {
    super(machine(options), options);
  }
}

/** Unpacked, a list of the whole internet is smaller. */
const MAX_FILTER_BYTES = 512 << 20;

function gunzipped(bytes: Uint8Array): Promise<Uint8Array> {
  return promisify(gunzip)(bytes, { maxOutputLength: MAX_FILTER_BYTES });
}

async function readHead(path: string, maxBytes: number): Promise<Uint8Array> {
  try {
    // a FIFO would be waited for
    const file = await fs.open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      const { buffer, bytesRead } = await file.read(new Uint8Array(maxBytes), 0, maxBytes, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    throw new ShoalError('bad-option', `cannot be read (${why})`);
  }
}

function machine(options: SessionOptions): Machine {
  return {
    ports: createHostPorts({
      ...(options.memory === undefined ? {} : { memory: options.memory }),
      ...(options.hashThreads === undefined ? {} : { hashThreads: options.hashThreads }),
      stateLock: options.stateLock ?? 'folder',
      state: options.state === undefined || options.state === null ? null : resolve(options.state),
    }),
    hasIpv6: Object.values(networkInterfaces()).some((list) => list?.some((address) => address.family === 'IPv6')),
    readIpFilter: async (path) => {
      try {
        const bytes = await fs.readFile(path);
        return bytes[0] === 0x1f && bytes[1] === 0x8b ? await gunzipped(bytes) : bytes;
      } catch (error) {
        const why = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
        const what = why.startsWith('Z_') ? 'cannot be unpacked: cut short or damaged' : 'cannot be read';
        throw new ShoalError('bad-option', `the block list ${path} ${what} (${why})`);
      }
    },
    absolute: (path) => resolve(path),
    readHead,
    readFile: async (path) => {
      try {
        return await fs.readFile(path);
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
        throw new ShoalError('bad-torrent', `${path}: cannot be read (${code})`);
      }
    },
  };
}
