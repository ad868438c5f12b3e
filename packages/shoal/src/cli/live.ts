/**
 * The live display: for each torrent a bar, its speed and what is left; for a single one also the curve of its speed, a
 * map of its pieces and its fastest peers. `frame` is a pure function of what is shown, so that tests can look at it.
 */

import type { PeerStats, TorrentStats } from '@shoal/engine';
import { pieceMap, progressBar, sparkline } from './bars.ts';
import type { ExitCode, Failure } from './exit-code.ts';
import {
  displayWidth,
  formatBytes,
  formatDuration,
  formatPercent,
  formatRate,
  padEnd,
  padStart,
  plural,
  sanitize,
  truncate,
} from './format.ts';
import { doneLine, failureLine, mappedLine, searchText, stoppedLine, versionLine } from './plain.ts';
import type { Screen } from './screen.ts';
import type { Theme } from './theme.ts';
import { type Job, nowMs, type TransferView } from './view.ts';

/** One torrent as the frame shows it. */
export interface Shown {
  readonly name: string;
  readonly fileCount: number;
  readonly stats: TorrentStats | null;
  /** How many the session knows; null: it uses no DHT. */
  readonly dhtNodes: number | null;
  readonly failed: boolean;
  /** Only for a single torrent; else empty. */
  readonly pieces: Uint8Array;
  readonly peers: readonly PeerStats[];
  readonly speeds: readonly number[];
}

export interface FrameSize {
  readonly columns: number;
  readonly rows: number;
}

const MAX_PEERS_SHOWN = 5;
const MAP_ROWS = 3;

export function frame(shown: readonly Shown[], size: FrameSize, hint: string, theme: Theme): string[] {
  const lines: string[] = [''];
  const single = shown.length === 1;
  const room = Math.max(1, Math.floor((size.rows - 5) / 2));
  for (const item of shown.slice(0, room)) lines.push(...summary(item, size.columns, single, theme));
  if (shown.length > room) lines.push(theme.colors.dim(`  and ${plural(shown.length - room, 'torrent')} more`));
  const only = shown[0];
  if (single && only !== undefined) lines.push(...details(only, size, size.rows - lines.length - 3, theme));
  lines.push('', theme.colors.dim(truncate(hint, size.columns)));
  return lines.map((line) => fit(line, size.columns));
}

function summary(item: Shown, columns: number, single: boolean, theme: Theme): string[] {
  const { bold, dim, red } = theme.colors;
  const stats = item.stats;
  const total =
    stats === null || stats.bytesTotal === 0
      ? ''
      : `${formatBytes(stats.bytesTotal)}, ${plural(item.fileCount, 'file')}`;
  const name = truncate(item.name, Math.max(8, columns - displayWidth(total) - 3));
  const head = padEnd(bold(name), columns - displayWidth(total) - 1) + dim(total);
  if (item.failed) return [head, red('  failed')];
  const { share, label } = progressOf(item);
  const facts = factsOf(item, theme);
  const barColumns = Math.min(50, columns - 12);
  const bar = `${progressBar(share, barColumns, theme)} ${padStart(label, 7)}`;
  if (single) return [head, `  ${bar}`, fit(`  ${facts}`, columns)];
  return [head, fit(`  ${progressBar(share, 16, theme)} ${padStart(label, 7)}  ${facts}`, columns)];
}

function progressOf(item: Shown): { share: number; label: string } {
  const stats = item.stats;
  if (stats === null || stats.state === 'metadata') return { share: 0, label: '' };
  if (stats.checking !== null) return { share: stats.checking, label: `${Math.floor(stats.checking * 100)}%` };
  if (stats.bytesTotal === 0) return { share: 1, label: '100%' };
  const share = stats.bytesDone / stats.bytesTotal;
  return { share, label: formatPercent(stats.bytesDone, stats.bytesTotal) };
}

function factsOf(item: Shown, theme: Theme): string {
  const stats = item.stats;
  const { green, cyan, yellow } = theme.colors;
  const down = theme.unicode ? '↓' : 'down';
  const up = theme.unicode ? '↑' : 'up';
  if (stats === null) return 'opening';
  const peers =
    stats.seeds > 0 ? `${plural(stats.peers, 'peer')} (${plural(stats.seeds, 'seed')})` : plural(stats.peers, 'peer');
  const rateUp =
    stats.upRate > 0 || stats.state === 'seeding' ? `${green(`${up} ${formatRate(stats.upRate)}`)}   ` : '';
  switch (stats.state) {
    case 'metadata':
      return `${yellow('asking for the metadata')}   ${searchText(stats, item.dhtNodes)}`;
    case 'checking':
      return yellow('checking what is there');
    case 'seeding':
      return `${green('seeding')}   ${rateUp}${peers}`;
    case 'error':
      return yellow(sanitize(stats.error?.message ?? 'stopped by an error'));
    case 'downloading': {
      const left = stats.eta === null ? '' : `${formatDuration(stats.eta)} left   `;
      if (stats.peers === 0) return `${yellow('looking for peers')}   ${searchText(stats, item.dhtNodes)}`;
      return `${cyan(`${down} ${formatRate(stats.downRate)}`)}   ${rateUp}${left}${peers}`;
    }
    default:
      return stats.state;
  }
}

/** Curve, map and peers of a single torrent, in `room` lines. */
function details(item: Shown, size: FrameSize, room: number, theme: Theme): string[] {
  const lines: string[] = [];
  const { dim } = theme.colors;
  const width = Math.min(size.columns - 4, 100);
  if (room >= 3 && item.speeds.length > 2 && item.stats?.state === 'downloading') {
    const curve = sparkline(item.speeds, Math.min(width - 20, 60), theme);
    if (curve !== '') lines.push(`  ${curve} ${dim(`peak ${formatRate(Math.max(...item.speeds))}`)}`);
  }
  if (room >= 6 && item.pieces.length > 1) {
    const rows = Math.min(MAP_ROWS, Math.ceil(item.pieces.length / (width * 2)));
    lines.push('', ...pieceMap(item.pieces, width, rows, theme).map((line) => `  ${line}`));
  }
  const fastest = [...item.peers].sort((a, b) => b.downRate + b.upRate - a.downRate - a.upRate);
  const peerRoom = Math.min(MAX_PEERS_SHOWN, room - lines.length - 1);
  if (peerRoom >= 1 && fastest.length > 0) {
    lines.push('', ...fastest.slice(0, peerRoom).map((peer) => fit(`  ${peerLine(peer, theme)}`, size.columns)));
  }
  return lines;
}

function peerLine(peer: PeerStats, theme: Theme): string {
  const { dim } = theme.colors;
  const host = peer.address.ip.includes(':') ? `[${peer.address.ip}]` : peer.address.ip;
  const address = padEnd(truncate(`${host}:${peer.address.port}`, 24), 24);
  const client = padEnd(truncate(sanitize(peer.client), 20), 20);
  const down = padStart(formatRate(peer.downRate), 11);
  const up = padStart(formatRate(peer.upRate), 11);
  const arrows = theme.unicode ? ['↓', '↑'] : ['down', 'up'];
  return `${dim(address)} ${client} ${arrows[0]}${down}  ${arrows[1]}${up}  ${Math.floor(peer.progress * 100)}%`;
}

/** Cuts a coloured line by dropping its colours when it is too long. */
function fit(line: string, columns: number): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are escape sequences
  return displayWidth(line) <= columns ? line : truncate(line.replace(/\x1b\[[0-9;]*m/g, ''), columns);
}

const DRAW_EVERY_MS = 100;
const SAMPLE_EVERY_MS = 500;
const MAX_SAMPLES = 120;
/** A map of more pieces than this is copied and counted less often than the rest is drawn. */
const MANY_PIECES = 20_000;

export class LiveView implements TransferView {
  readonly #screen: Screen;
  readonly #theme: Theme;
  readonly #speeds: number[] = [];
  #jobs: readonly Job[] = [];
  #dhtNodes: number | null = null;
  #stopping = false;
  #drawnMs = 0;
  #sampledMs = 0;
  #cachedPieces: Uint8Array = new Uint8Array(0);
  #mappedMs = 0;

  readonly #resumes: boolean;

  /** `resumes`: whether the same command goes on where this one stops. */
  constructor(screen: Screen, theme: Theme, resumes = true) {
    this.#screen = screen;
    this.#theme = theme;
    this.#resumes = resumes;
  }

  listening(): void {}

  mapped(host: string | null, port: number, method: string): void {
    this.#screen.print(mappedLine(host, port, method));
  }

  note(text: string): void {
    this.#screen.print(text);
  }

  version(job: Job, seq: number): void {
    this.#screen.print(versionLine(job, seq));
  }

  claimed(): void {
    this.#draw();
  }

  tick(jobs: readonly Job[], dhtNodes: number | null): void {
    this.#jobs = jobs;
    this.#dhtNodes = dhtNodes;
    if (nowMs() - this.#drawnMs >= DRAW_EVERY_MS) this.#draw();
  }

  done(job: Job): void {
    this.#draw();
    const mark = this.#theme.unicode ? '✓' : 'done:';
    this.#screen.print(`${this.#theme.colors.green(mark)} ${doneLine(job)}`);
  }

  failed(job: Job | null, failure: Failure): void {
    this.#screen.print(this.#theme.colors.red(failureLine(job, failure)));
  }

  stopping(): void {
    this.#stopping = true;
    this.#draw();
  }

  /** What lasts are the lines above the block; the block goes. */
  end(_exitCode: ExitCode): void {
    this.#screen.clear();
    for (const job of this.#jobs) if (job.state === 'interrupted') this.#screen.print(stoppedLine(job, this.#resumes));
    this.#screen.close();
  }

  #draw(): void {
    if (this.#jobs.length === 0) return;
    this.#drawnMs = nowMs();
    const shown = this.#jobs.map((job) => this.#look(job, this.#jobs.length === 1));
    const size = { columns: this.#screen.columns, rows: this.#screen.rows };
    this.#screen.draw(frame(shown, size, this.#hint(), this.#theme));
  }

  #hint(): string {
    if (this.#stopping) return 'Stopping: telling trackers and saving what is done. Ctrl-C again leaves at once.';
    return this.#resumes ? 'Ctrl-C stops; the same command goes on where it was.' : 'Ctrl-C stops and tidies up.';
  }

  #look(job: Job, single: boolean): Shown {
    const torrent = job.torrent;
    const stats = torrent?.stats() ?? null;
    if (single && stats !== null && this.#drawnMs - this.#sampledMs >= SAMPLE_EVERY_MS) {
      this.#sampledMs = this.#drawnMs;
      this.#speeds.push(stats.downRate);
      if (this.#speeds.length > MAX_SAMPLES) this.#speeds.shift();
    }
    if (single && torrent !== null && stats !== null) {
      const due = this.#drawnMs - this.#mappedMs >= (stats.pieceCount > MANY_PIECES ? 1000 : 0);
      if (due) this.#cachedPieces = torrent.pieces();
      if (due) this.#mappedMs = this.#drawnMs;
    }
    return {
      name: sanitize(torrent?.name || job.label),
      fileCount: torrent?.files.filter(({ priority }) => priority > 0).length ?? 0,
      stats,
      dhtNodes: this.#dhtNodes,
      failed: job.state === 'failed',
      pieces: single ? this.#cachedPieces : new Uint8Array(0),
      peers: single && torrent !== null ? torrent.peers() : [],
      speeds: single ? this.#speeds : [],
    };
  }
}
