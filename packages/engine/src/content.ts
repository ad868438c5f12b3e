/** Torrents without a session: made of files that are there, compared with files, found among files. */

import { promises as fs } from 'node:fs';
import { ShoalError } from './base/errors.ts';
import type { Ports } from './base/ports.ts';
import { Metainfo, parseTorrent } from './codec/metainfo.ts';
import { createHostPorts } from './host/index.ts';
import { type ContentPlace, locateContent, walkContent } from './host/walk.ts';
import { type CreatedTorrent, type CreateOptions, createFromContent } from './session/create.ts';
import { type VerifyOptions, type VerifyResult, verifyContent } from './session/verify.ts';

export {
  type ContentPlace,
  type CreatedTorrent,
  type CreateOptions,
  locateContent,
  type VerifyOptions,
  type VerifyResult,
};

/**
 * Makes a torrent of a file or folder, hashing on all cores. Links inside the folder stay links (BEP 47).
 * Rejects with ShoalError: 'bad-option' for what no torrent can be made of, 'disk', 'aborted'.
 */
export async function createTorrent(path: string, options: CreateOptions = {}): Promise<CreatedTorrent> {
  const content = await walkContent(path);
  return await withPorts(({ hasher, clock }) => createFromContent(hasher, content, options, clock.wall()));
}

/**
 * Compares a torrent (parsed, its bytes, or a .torrent file's path) with what is at `path`: the file or folder itself, or
 * the folder that holds it. What is missing counts as bad. Reads only.
 * Rejects with ShoalError: 'bad-torrent', 'disk' (nothing at `path`, or it cannot be read), 'aborted'.
 */
export async function verifyTorrent(
  torrent: Metainfo | Uint8Array | string,
  path: string,
  options: VerifyOptions = {},
): Promise<VerifyResult> {
  const meta = torrent instanceof Metainfo ? torrent : parseTorrent(await bytesOf(torrent));
  const place = await locateContent(meta, path);
  return await withPorts(({ hasher }) => verifyContent(hasher, meta, place, options));
}

async function bytesOf(torrent: Uint8Array | string): Promise<Uint8Array> {
  if (typeof torrent !== 'string') return torrent;
  return await fs.readFile(torrent).catch(() => {
    throw new ShoalError('bad-torrent', `${torrent}: cannot be read`);
  });
}

/** Files are hashed by the workers' own buffers; slots are not needed. */
const LEAST_MEMORY = 1 << 20;

async function withPorts<T>(work: (ports: Ports) => Promise<T>): Promise<T> {
  const ports = createHostPorts({ memory: LEAST_MEMORY });
  try {
    return await work(ports);
  } finally {
    await new Promise<void>((resolve) => ports.close(resolve));
  }
}
