/** `shoal create`: makes a .torrent file, hashing on all cores. */

import { access, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { createTorrent, type Metainfo, ShoalError } from '@shoal/engine';
import { ExitCode, UsageError } from './exit-code.ts';
import { formatBytes, plural, sanitize } from './format.ts';
import { Interrupt } from './interrupt.ts';
import { hexOrNull, JsonLines } from './json.ts';
import { ProgressLine } from './progress-line.ts';
import { packageVersion } from './version.ts';
import { writeWhole } from './write-whole.ts';

export interface CreateOptions {
  readonly output?: string;
  readonly tracker: readonly string[];
  readonly webSeed: readonly string[];
  readonly pieceSize?: number;
  readonly private: boolean;
  readonly v1: boolean;
  readonly v2: boolean;
  readonly hybrid: boolean;
  readonly comment?: string;
  readonly json: boolean;
}

export async function create(path: string, options: CreateOptions): Promise<ExitCode> {
  using interrupt = new Interrupt();
  const version = versionOf(options);
  const target = resolve(options.output ?? `${basename(resolve(path)) || 'torrent'}.torrent`);
  if (options.output === undefined && (await exists(target))) {
    throw new UsageError(`${sanitize(basename(target))} exists already; name the file with -o (which replaces it)`);
  }
  // told before everything is read
  const folder = await stat(dirname(target)).catch(() => null);
  if (folder === null || !folder.isDirectory()) {
    throw new ShoalError('disk', `-o: ${sanitize(dirname(target))} is not a folder`);
  }
  using progress = new ProgressLine('hashing', options.json);
  const { bytes, meta } = await createTorrent(path, {
    trackers: options.tracker,
    webSeeds: options.webSeed,
    private: options.private,
    version,
    createdBy: `Shoal/${packageVersion()}`,
    signal: interrupt.signal,
    onProgress: (done, total) => progress.show(done, total),
    ...(options.pieceSize === undefined ? {} : { pieceLength: options.pieceSize }),
    ...(options.comment === undefined ? {} : { comment: options.comment }),
  });
  await writeWhole(target, bytes);
  progress.clear();
  if (options.json) {
    const lines = new JsonLines();
    lines.emit('created', { path: target, infoHash: hexOrNull(meta.infoHash), infoHashV2: hexOrNull(meta.infoHashV2) });
    lines.end(ExitCode.Done);
  } else process.stdout.write(describe(target, meta));
  return ExitCode.Done;
}

function describe(target: string, meta: Metainfo): string {
  const files = plural(meta.files.filter((file) => !file.pad).length, 'file');
  const pieces = `${plural(meta.pieceCount, 'piece')} of ${formatBytes(meta.pieceLength)}`;
  const hashes = [
    ['info-hash', hexOrNull(meta.infoHash)],
    ['info-hash v2', hexOrNull(meta.infoHashV2)],
  ].filter(([, hash]) => hash !== null);
  const lines = [`created ${sanitize(target)}`, `  ${formatBytes(meta.bytes)} in ${files}, ${pieces}`];
  for (const [label, hash] of hashes) lines.push(`  ${label} ${hash}`);
  return `${lines.join('\n')}\n`;
}

function versionOf({ v1, v2, hybrid }: CreateOptions): 'v1' | 'v2' | 'hybrid' {
  if (Number(v1) + Number(v2) + Number(hybrid) > 1) throw new UsageError('--v1, --v2 and --hybrid exclude each other');
  return v2 ? 'v2' : hybrid ? 'hybrid' : 'v1';
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
