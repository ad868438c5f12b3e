/** Lines for a log or a pipe: what changes, and how far it is every five seconds. */

import type { Torrent, TorrentStats } from '@shoal/engine';
import type { ExitCode, Failure } from './exit-code.ts';
import { formatBytes, formatDuration, formatPercent, formatRate, plural, sanitize } from './format.ts';
import { elapsedSeconds, type Job, nowMs, type TransferView } from './view.ts';

const PROGRESS_EVERY_MS = 5000;

export class PlainView implements TransferView {
  readonly #out: (line: string) => void;
  readonly #err: (line: string) => void;
  readonly #resumes: boolean;
  #jobs: readonly Job[] = [];
  #lastMs = nowMs();

  constructor(
    resumes = true,
    out: (line: string) => void = (line) => process.stdout.write(line),
    err: (line: string) => void = (line) => process.stderr.write(line),
  ) {
    this.#resumes = resumes;
    this.#out = out;
    this.#err = err;
  }

  listening(host: string, port: number): void {
    this.#out(`listening on ${host.includes(':') ? `[${host}]` : host}:${port}\n`);
  }

  mapped(host: string | null, port: number, method: string): void {
    this.#out(`${mappedLine(host, port, method)}\n`);
  }

  note(text: string): void {
    this.#out(`${text}\n`);
  }

  version(job: Job, seq: number): void {
    this.#out(`${versionLine(job, seq)}\n`);
  }

  claimed(job: Job): void {
    if (job.torrent !== null) this.#out(`${claimLine(job.torrent)}\n`);
  }

  tick(jobs: readonly Job[], dhtNodes: number | null): void {
    this.#jobs = jobs;
    const now = nowMs();
    if (now - this.#lastMs < PROGRESS_EVERY_MS) return;
    this.#lastMs = now;
    for (const job of jobs) {
      if (job.torrent === null || job.state === 'failed' || job.torrent.stats().state === 'stopped') continue;
      this.#out(`${progressLine(job.torrent, dhtNodes)}\n`);
    }
  }

  done(job: Job): void {
    this.#out(`${doneLine(job)}\n`);
  }

  failed(job: Job | null, failure: Failure): void {
    this.#err(`${failureLine(job, failure)}\n`);
  }

  stopping(): void {
    this.#out('stopping\n');
  }

  end(_exitCode: ExitCode): void {
    for (const job of this.#jobs) if (job.state === 'interrupted') this.#out(`${stoppedLine(job, this.#resumes)}\n`);
  }
}

export function mappedLine(host: string | null, port: number, method: string): string {
  const by = method === 'upnp' ? 'UPnP' : method.toUpperCase();
  return host === null
    ? `reachable through the router at port ${port} (${by})`
    : `reachable at ${host}:${port} (${by})`;
}

export function versionLine(job: Job, seq: number): string {
  const torrent = job.torrent;
  return `version ${seq}: ${torrent?.infoHash ?? torrent?.infoHashV2 ?? sanitize(job.label)}`;
}

export function claimLine(torrent: Torrent): string {
  const stats = torrent.stats();
  const size = formatBytes(stats.bytesTotal);
  const name = sanitize(torrent.name);
  const wanted = torrent.files.filter(({ priority }) => priority > 0).length;
  const count = plural(torrent.files.length, 'file');
  const files = wanted === torrent.files.length ? count : `${wanted} of ${count}`;
  if (stats.bytesDone === 0) return `${name}: ${size} in ${files}`;
  if (stats.bytesDone === stats.bytesTotal) return `${name}: all ${size} in ${files} are there`;
  return `${name}: ${size} in ${files}, ${formatBytes(stats.bytesDone)} there already`;
}

export function progressLine(torrent: Torrent, dhtNodes: number | null): string {
  const stats = torrent.stats();
  const name = sanitize(torrent.name);
  const peers = plural(stats.peers, 'peer');
  if (stats.state === 'metadata') return `${name}: asking for the metadata, ${searchText(stats, dhtNodes)}`;
  if (stats.state === 'downloading' && stats.peers === 0) {
    const share = formatPercent(stats.bytesDone, stats.bytesTotal);
    return `${name}: ${share} of ${formatBytes(stats.bytesTotal)}, looking for peers, ${searchText(stats, dhtNodes)}`;
  }
  if (stats.state === 'checking') return `${name}: checking, ${Math.floor((stats.checking ?? 0) * 100)}%`;
  if (stats.state === 'seeding') return `${name}: seeding, up ${formatRate(stats.upRate)}, ${peers}`;
  const share = formatPercent(stats.bytesDone, stats.bytesTotal);
  const rates = `down ${formatRate(stats.downRate)}, up ${formatRate(stats.upRate)}`;
  return `${name}: ${share} of ${formatBytes(stats.bytesTotal)}, ${rates}, ${peers}, ${formatDuration(stats.eta)} left`;
}

/** How the search for peers goes: whom we talk to, whom we know, and whom we ask. */
export function searchText(stats: Pick<TorrentStats, 'peers' | 'candidates'>, dhtNodes: number | null): string {
  const peers = `${plural(stats.peers, 'peer')}, ${stats.candidates} more known`;
  return dhtNodes === null ? peers : `${peers}, ${plural(dhtNodes, 'DHT node')}`;
}

export function doneLine(job: Job): string {
  const torrent = job.torrent;
  if (torrent === null) return `${job.label}: done`;
  const stats = torrent.stats();
  const seconds = elapsedSeconds(job);
  const name = sanitize(torrent.name);
  const fails =
    stats.hashFails === 0 ? '' : `, ${plural(stats.hashFails, 'piece')} came corrupt and were fetched again`;
  if (stats.downloaded === 0) return `${name}: complete, ${formatBytes(stats.bytesTotal)}, all verified`;
  const rate = formatRate(stats.downloaded / Math.max(seconds, 0.001));
  const took = seconds < 60 ? `${seconds.toFixed(1)}s` : formatDuration(seconds);
  return `${name}: complete, ${formatBytes(stats.bytesTotal)} in ${took} (${rate}), all verified${fails}`;
}

/** Of a download that was interrupted. */
export function stoppedLine(job: Job, resumes: boolean): string {
  const stats = job.torrent?.stats();
  const name = sanitize(job.torrent?.name || job.label);
  if (stats === undefined || stats.bytesTotal === 0) return `${name}: stopped before it began`;
  const share = formatPercent(stats.bytesDone, stats.bytesTotal);
  return `${name}: stopped at ${share}${resumes ? '; the same command goes on from there' : ''}`;
}

export function failureLine(job: Job | null, failure: Failure): string {
  const about = job === null ? '' : `${sanitize(job.torrent?.name || job.label)}: `;
  return `shoal: ${about}${failure.message}`;
}
