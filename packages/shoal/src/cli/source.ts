/** SOURCE as written on the command line, told apart and read: a .torrent file, a magnet link, a bare info-hash, a URL. */

import { open, stat } from 'node:fs/promises';
import {
  type Magnet,
  type Metainfo,
  type Publisher,
  parseMagnet,
  parsePublisher,
  parseTorrent,
  ShoalError,
  type TorrentSource,
} from '@shoal/engine';
import { UsageError } from './exit-code.ts';
import { sanitize } from './format.ts';

export interface LoadedSource {
  /** As written, safe to print. */
  readonly label: string;
  /** What a Session takes. */
  readonly source: TorrentSource;
  /** Exactly one of these is there, none for a URL. */
  readonly meta: Metainfo | null;
  readonly magnet: Magnet | null;
  readonly publisher: Publisher | null;
}

/** One whose metadata peers must give. */
export interface LinkSource extends LoadedSource {
  readonly source: string;
}

export async function loadSource(text: string): Promise<LoadedSource> {
  if (text === '') throw new UsageError('a source is empty; it is a .torrent file, a magnet link or an info-hash');
  const label = sanitize(text.length > 200 ? `${text.slice(0, 199)}…` : text);
  const loaded = { label, source: text, meta: null, magnet: null, publisher: null };
  if (/^magnet:/i.test(text)) {
    return named(label, () => {
      const publisher = parsePublisher(text);
      return publisher === null ? { ...loaded, magnet: parseMagnet(text) } : { ...loaded, publisher };
    });
  }
  if (/^https?:\/\//i.test(text)) return loaded;
  const bytes = await readTorrentFile(text);
  if (bytes !== null) return { ...loaded, source: bytes, meta: named(label, () => parseTorrent(bytes)) };
  const link = magnetOfHash(text);
  if (link !== null) return { ...loaded, source: link, magnet: parseMagnet(link) };
  throw new ShoalError('bad-torrent', `${label}: no such file`);
}

/** TORRENT where only a .torrent file makes sense. */
export async function loadTorrentFile(text: string): Promise<Metainfo> {
  const loaded = await loadSource(text);
  if (loaded.meta !== null) return loaded.meta;
  throw new UsageError(`'${loaded.label}' is not a .torrent file; this command needs one`);
}

/** More than the largest torrent seen in the wild; v2 torrents of 2^21 pieces have 64 MiB of hashes. */
const MAX_TORRENT_BYTES = 256 * 1024 * 1024;

/** Null: no such file. Whatever else stands in the way is a ShoalError. */
async function readTorrentFile(path: string): Promise<Uint8Array | null> {
  await refusePipe(path);
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    if (code === 'ENOENT' || code === 'ENAMETOOLONG') return null;
    throw new ShoalError('bad-torrent', `${sanitize(path)}: cannot be opened (${code})`);
  }
  try {
    const found = await file.stat();
    if (found.isDirectory()) throw new ShoalError('bad-torrent', `${sanitize(path)}: is a folder, not a .torrent file`);
    // one that never ends, like /dev/zero
    if (found.isCharacterDevice() || found.isBlockDevice())
      throw new ShoalError('bad-torrent', `${sanitize(path)}: is a device, not a .torrent file`);
    if (found.size > MAX_TORRENT_BYTES)
      throw new ShoalError('bad-torrent', `${sanitize(path)}: too large for a .torrent file`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** Opening a named pipe waits for who writes, deaf to Ctrl-C. Those of the shell (/dev/fd/63, /dev/stdin) have one. */
async function refusePipe(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found?.isFIFO() !== true || /^\/(dev|proc)\//.test(path)) return;
  throw new ShoalError('bad-torrent', `${sanitize(path)}: is a pipe; give it as /dev/stdin < ${sanitize(path)}`);
}

/** What it throws names the source. */
function named<T>(label: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof ShoalError) throw new ShoalError(error.code, `${label}: ${error.message}`);
    throw error;
  }
}

/** A v1 (40 hex) or v2 (64 hex) info-hash alone is a magnet link too. */
function magnetOfHash(text: string): string | null {
  if (/^[0-9a-f]{40}$/i.test(text)) return `magnet:?xt=urn:btih:${text.toLowerCase()}`;
  if (/^[0-9a-f]{64}$/i.test(text)) return `magnet:?xt=urn:btmh:1220${text.toLowerCase()}`;
  return null;
}
