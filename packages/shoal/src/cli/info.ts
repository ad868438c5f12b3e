/**
 * `shoal info`: what is in a torrent, for people or as JSON. The metadata of a magnet link comes from peers; where nobody
 * can be asked, the link itself is shown.
 */

import { existsSync } from 'node:fs';
import type { Magnet, Metainfo, Publisher, TorrentFile } from '@shoal/engine';
import { type DiscoveryOptions, discoverySettings } from './discovery-options.ts';
import { ExitCode, type Failure, failureOf, UsageError } from './exit-code.ts';
import { formatBytes, padStart, plural, sanitize } from './format.ts';
import { Interrupt } from './interrupt.ts';
import { hexOrNull, JsonLines, type JsonValue } from './json.ts';
import { MetadataFetch } from './metadata-fetch.ts';
import { type PeerWayOptions, peerWaySettings, wayNotes } from './network-options.ts';
import { ProgressLine } from './progress-line.ts';
import { type LinkSource, type LoadedSource, loadSource } from './source.ts';
import { type Theme, themeOf } from './theme.ts';
import { saveTorrent, torrentTarget } from './torrent-target.ts';

export interface InfoOptions extends DiscoveryOptions, PeerWayOptions {
  readonly peer: readonly string[];
  readonly port: number;
  readonly timeout?: number;
  readonly saveTorrent?: string;
  readonly offline: boolean;
  readonly json: boolean;
}

/** Every source is shown or complained about; the exit code is that of the first complaint. */
export async function info(sources: readonly string[], options: InfoOptions): Promise<ExitCode> {
  using interrupt = new Interrupt();
  if (options.offline && options.saveTorrent !== undefined && sources.some(isTypedLink)) {
    throw new UsageError('--save-torrent of a magnet link asks peers; leave out --offline');
  }
  const saveTo = await torrentTarget(options.saveTorrent, sources.length);
  const discovery = discoverySettings(options);
  const session = {
    ...discovery,
    ...peerWaySettings(options),
    // it is gone in a moment: nobody should count on it (BEP 43)
    dht: typeof discovery.dht === 'object' ? { ...discovery.dht, readOnly: true } : false,
    port: options.port,
  };
  using progress = new ProgressLine('asking for the metadata:', options.json);
  const page = new Page(options.json, progress);
  for (const note of wayNotes(options)) page.note(note);
  const loaded = await Promise.all(sources.map((text) => loadSource(text).catch(failureOf)));
  const asking = !options.offline && loaded.some((source) => isLink(source));
  await using fetch = asking
    ? new MetadataFetch({
        session,
        peers: options.peer,
        // a file that is to be saved is waited for
        timeoutMs: options.timeout ?? (saveTo === null ? null : SAVE_LIMIT_MS),
        signal: interrupt.signal,
        onSearch: (text) => progress.say(text),
      })
    : null;
  // all are asked for at once, and shown in their order
  for (const source of loaded) if (fetch !== null && isLink(source)) void fetch.fetch(source).catch(() => {});
  for (const source of loaded) {
    if (interrupt.interrupted) break;
    if (!('label' in source)) page.fail(source);
    else await showSource(source, page, fetch, saveTo);
  }
  const exitCode = interrupt.interrupted ? ExitCode.Interrupted : page.exitCode;
  page.end(exitCode);
  return exitCode;
}

const SAVE_LIMIT_MS = 60_000;

/** A magnet link, or what is one when there is no file of that name. */
function isTypedLink(text: string): boolean {
  return /^magnet:/i.test(text) || (/^([0-9a-f]{40}|[0-9a-f]{64})$/i.test(text) && !existsSync(text));
}

function isLink(source: LoadedSource | Failure): source is LinkSource {
  return 'label' in source && (source.magnet !== null || source.publisher !== null);
}

async function showSource(
  source: LoadedSource,
  page: Page,
  fetch: MetadataFetch | null,
  saveTo: string | null,
): Promise<void> {
  try {
    let { meta } = source;
    if (isLink(source)) {
      meta = fetch === null ? null : await fetch.fetch(source);
      if (fetch !== null && meta === null) page.note(`${source.label}: ${NOBODY}`);
    } else if (meta === null) {
      throw new UsageError(`'${source.label}': info reads files and magnet links, not URLs`);
    }
    if (meta === null) page.link(source);
    else page.torrent(meta);
    if (meta !== null && saveTo !== null) {
      await saveTorrent(meta, saveTo);
      page.say(`saved ${sanitize(saveTo)}`);
    }
  } catch (error) {
    const failure = failureOf(error);
    if (failure.code === 'aborted') return;
    // what is known is shown also when more was hoped for
    if (failure.code === 'no-peers') page.link(source);
    page.fail({
      ...failure,
      message: failure.code === 'no-peers' ? `${source.label}: ${failure.message}` : failure.message,
    });
  }
}

const NOBODY = 'nobody could be asked for its metadata, so this is what the link itself says';

/** What is printed, and what becomes of the exit code. */
class Page {
  readonly #lines: JsonLines | null;
  readonly #theme: Theme = themeOf(process.stdout, process.env);
  readonly #progress: ProgressLine;
  #shown = 0;
  #first: Failure | null = null;

  constructor(json: boolean, progress: ProgressLine) {
    this.#lines = json ? new JsonLines() : null;
    this.#progress = progress;
  }

  get exitCode(): ExitCode {
    return this.#first?.exitCode ?? ExitCode.Done;
  }

  torrent(meta: Metainfo): void {
    if (this.#lines !== null) this.#lines.emit('torrent', torrentJson(meta));
    else this.#write(describeTorrent(meta, this.#theme));
  }

  link({ magnet, publisher }: LoadedSource): void {
    if (this.#lines !== null) {
      this.#lines.emit('magnet', magnet !== null ? magnetJson(magnet) : publisherJson(publisher!));
    } else
      this.#write(magnet !== null ? describeMagnet(magnet, this.#theme) : describePublisher(publisher!, this.#theme));
  }

  say(text: string): void {
    if (this.#lines === null) process.stdout.write(`\n${text}\n`);
  }

  note(text: string): void {
    this.#progress.clear();
    process.stderr.write(`shoal: note: ${text}\n`);
  }

  fail(failure: Failure): void {
    this.#first ??= failure;
    this.#lines?.failure(failure);
    this.#progress.clear();
    process.stderr.write(`shoal: ${failure.message}\n`);
  }

  end(exitCode: ExitCode): void {
    this.#progress.clear();
    this.#lines?.end(exitCode);
  }

  #write(text: readonly string[]): void {
    this.#progress.clear();
    process.stdout.write(`${this.#shown++ > 0 ? '\n' : ''}${text.join('\n')}\n`);
  }
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
  return { infoHash: hexOrNull(magnet.infoHash), infoHashV2: hexOrNull(magnet.infoHashV2), ...linkJson(magnet) };
}

function publisherJson(publisher: Publisher): Record<string, JsonValue> {
  const { publicKey, salt } = publisher;
  return {
    infoHash: null,
    infoHashV2: null,
    publicKey: hexOrNull(publicKey),
    salt: hexOrNull(salt),
    ...linkJson(publisher),
  };
}

function linkJson(link: Magnet | Publisher): Record<string, JsonValue> {
  return {
    name: link.name,
    trackers: link.trackers,
    webSeeds: link.webSeeds,
    peers: link.peers.map(hostPort),
    select: link.select,
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
  describeLink(magnet, fact);
  return lines;
}

function describePublisher(publisher: Publisher, theme: Theme): string[] {
  const lines = [theme.colors.bold(sanitize(publisher.name ?? 'link to a publisher'))];
  const fact = factWriter(lines, theme);
  fact('public key', hexOrNull(publisher.publicKey));
  fact('salt', hexOrNull(publisher.salt));
  describeLink(publisher, fact);
  return lines;
}

function describeLink(link: Magnet | Publisher, fact: FactWriter): void {
  listFacts(fact, 'trackers', link.trackers);
  listFacts(fact, 'web seeds', link.webSeeds);
  listFacts(fact, 'peers', link.peers.map(hostPort));
  fact('select', link.select === null ? null : link.select.join(', '));
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
