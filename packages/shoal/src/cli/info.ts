/** `shoal info`: what a .torrent file or magnet link says, for people or as JSON. */

import type { Magnet, Metainfo, TorrentFile } from '@shoal/engine';
import { ExitCode, type Failure, failureOf, UsageError } from './exit-code.ts';
import { formatBytes, padStart, plural, sanitize } from './format.ts';
import { hexOrNull, JsonLines, type JsonValue } from './json.ts';
import { loadSource } from './source.ts';
import { type Theme, themeOf } from './theme.ts';

export interface InfoOptions {
  readonly json: boolean;
}

/** Every source is shown or complained about; the exit code is that of the first complaint. */
export async function info(sources: readonly string[], options: InfoOptions): Promise<ExitCode> {
  const lines = new JsonLines();
  const theme = themeOf(process.stdout, process.env);
  let first: Failure | null = null;
  let shown = 0;
  for (const text of sources) {
    try {
      const { meta, magnet, label } = await loadSource(text);
      if (meta === null && magnet === null)
        throw new UsageError(`'${label}': info reads files and magnet links, not URLs`);
      if (options.json) {
        if (meta !== null) lines.emit('torrent', torrentJson(meta));
        else if (magnet !== null) lines.emit('magnet', magnetJson(magnet));
      } else {
        const page = meta !== null ? describeTorrent(meta, theme) : describeMagnet(magnet!, theme);
        process.stdout.write(`${shown++ > 0 ? '\n' : ''}${page.join('\n')}\n`);
      }
    } catch (error) {
      const failure = failureOf(error);
      first ??= failure;
      if (options.json) lines.failure(failure);
      process.stderr.write(`shoal: ${failure.message}\n`);
    }
  }
  const exitCode = first?.exitCode ?? ExitCode.Done;
  if (options.json) lines.end(exitCode);
  return exitCode;
}

export function torrentJson(meta: Metainfo): Record<string, JsonValue> {
  return {
    infoHash: hexOrNull(meta.infoHash),
    infoHashV2: hexOrNull(meta.infoHashV2),
    name: meta.name,
    pieceLength: meta.pieceLength,
    pieceCount: meta.pieceCount,
    bytes: meta.bytes,
    private: meta.private,
    files: meta.files.map((file) => ({
      path: file.path,
      length: file.length,
      pad: file.pad,
      executable: file.executable,
      hidden: file.hidden,
      symlink: file.symlink,
    })),
    trackers: meta.trackers,
    webSeeds: meta.webSeeds,
    nodes: meta.nodes.map(hostPort),
    comment: meta.comment,
    createdBy: meta.createdBy,
    createdAt: meta.createdAt,
  };
}

export function magnetJson(magnet: Magnet): Record<string, JsonValue> {
  return {
    infoHash: hexOrNull(magnet.infoHash),
    infoHashV2: hexOrNull(magnet.infoHashV2),
    name: magnet.name,
    trackers: magnet.trackers,
    webSeeds: magnet.webSeeds,
    peers: magnet.peers.map(hostPort),
    select: magnet.select,
  };
}

function hostPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export function describeTorrent(meta: Metainfo, theme: Theme): string[] {
  const { bold } = theme.colors;
  const files = meta.files.filter((file) => !file.pad);
  const lines = [bold(sanitize(meta.name))];
  const fact = factWriter(lines, theme);
  fact('size', `${formatBytes(meta.bytes)} in ${plural(files.length, 'file')}`);
  fact('pieces', `${meta.pieceCount} of ${formatBytes(meta.pieceLength)}${meta.private ? ', private' : ''}`);
  fact('info-hash', hexOrNull(meta.infoHash));
  fact('info-hash v2', hexOrNull(meta.infoHashV2));
  fact('comment', meta.comment);
  fact('created', createdLine(meta));
  meta.trackers.forEach((tier, i) => {
    fact(i === 0 ? 'trackers' : '', tier.map(sanitize).join(', '));
  });
  listFacts(fact, 'web seeds', meta.webSeeds);
  listFacts(fact, 'nodes', meta.nodes.map(hostPort));
  lines.push('');
  const digits = String(Math.max(0, files.length - 1)).length;
  files.forEach((file, i) => {
    lines.push(`${padStart(String(i), digits + 2)}  ${padStart(formatBytes(file.length), 8)}  ${describeFile(file)}`);
  });
  return lines;
}

function describeMagnet(magnet: Magnet, theme: Theme): string[] {
  const lines = [theme.colors.bold(sanitize(magnet.name ?? 'magnet link without a name'))];
  const fact = factWriter(lines, theme);
  fact('info-hash', hexOrNull(magnet.infoHash));
  fact('info-hash v2', hexOrNull(magnet.infoHashV2));
  listFacts(fact, 'trackers', magnet.trackers);
  listFacts(fact, 'web seeds', magnet.webSeeds);
  listFacts(fact, 'peers', magnet.peers.map(hostPort));
  fact('select', magnet.select === null ? null : magnet.select.join(', '));
  return lines;
}

type FactWriter = (label: string, value: string | null) => void;

function factWriter(lines: string[], theme: Theme): FactWriter {
  return (label, value) => {
    if (value !== null && value !== '') lines.push(`  ${theme.colors.dim(label.padEnd(13))} ${sanitize(value)}`);
  };
}

function listFacts(fact: FactWriter, label: string, values: readonly string[]): void {
  values.forEach((value, i) => {
    fact(i === 0 ? label : '', value);
  });
}

function createdLine(meta: Metainfo): string | null {
  // Dates beyond what Date can tell are not shown rather than refused.
  const date = meta.createdAt === null ? null : new Date(meta.createdAt * 1000);
  const when = date === null || Number.isNaN(date.getTime()) ? '' : date.toISOString().slice(0, 16).replace('T', ' ');
  const by = meta.createdBy === null ? '' : `by ${meta.createdBy}`;
  return [when === '' ? '' : `${when} UTC`, by].filter((part) => part !== '').join(' ') || null;
}

function describeFile(file: TorrentFile): string {
  const marks = [file.executable ? 'executable' : '', file.hidden ? 'hidden' : ''].filter((mark) => mark !== '');
  if (file.symlink !== null) marks.push(`link to ${file.symlink.join('/')}`);
  return sanitize(file.path.join('/')) + (marks.length === 0 ? '' : `  (${sanitize(marks.join(', '))})`);
}
