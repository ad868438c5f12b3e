/** `shoal verify`: compares files with a torrent, piece by piece, on all cores. Reads only. */

import { verifyTorrent } from '@shoal/engine';
import { ExitCode } from './exit-code.ts';
import { formatBytes, plural, sanitize } from './format.ts';
import { Interrupt } from './interrupt.ts';
import { hexOrNull, JsonLines } from './json.ts';
import { ProgressLine } from './progress-line.ts';
import { loadTorrentFile } from './source.ts';

export interface VerifyOptions {
  readonly json: boolean;
}

export async function verify(torrent: string, path: string, options: VerifyOptions): Promise<ExitCode> {
  using interrupt = new Interrupt();
  const meta = await loadTorrentFile(torrent);
  using progress = new ProgressLine('verifying', options.json);
  const result = await verifyTorrent(meta, path, {
    signal: interrupt.signal,
    onProgress: (done, total) => progress.show(done, total),
  });
  progress.clear();
  const { pieces, good, bad, bytesGood } = result;
  const exitCode = bad.length === 0 ? ExitCode.Done : ExitCode.Failed;
  if (options.json) {
    const lines = new JsonLines();
    const hashes = { infoHash: hexOrNull(meta.infoHash), infoHashV2: hexOrNull(meta.infoHashV2) };
    lines.emit('verified', { ...hashes, pieces, good, bad, bytesGood });
    lines.end(exitCode);
  } else if (bad.length === 0) {
    process.stdout.write(
      `${sanitize(meta.name)}: all ${plural(pieces, 'piece')} are good, ${formatBytes(bytesGood)}\n`,
    );
  } else {
    process.stdout.write(
      `${sanitize(meta.name)}: ${bad.length} of ${plural(pieces, 'piece')} are missing or changed: ${ranges(bad)}\n` +
        `good: ${formatBytes(bytesGood)} of ${formatBytes(meta.bytes)}\n`,
    );
  }
  return exitCode;
}

const MAX_RANGES = 12;

/** [0, 1, 2, 7] -> '0-2, 7'; long lists are cut. */
export function ranges(indices: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < indices.length; ) {
    let last = i;
    while (last + 1 < indices.length && indices[last + 1] === indices[last]! + 1) last++;
    parts.push(last === i ? `${indices[i]}` : `${indices[i]}-${indices[last]}`);
    i = last + 1;
  }
  if (parts.length <= MAX_RANGES) return parts.join(', ');
  return `${parts.slice(0, MAX_RANGES).join(', ')} and ${parts.length - MAX_RANGES} more stretches`;
}
