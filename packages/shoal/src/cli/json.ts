/** `--json`: one object a line on stdout, each with `v` and `type`. Fields are only ever added within a version. */

import type { Torrent } from '@shoal/engine';
import type { ExitCode, Failure } from './exit-code.ts';
import { elapsedSeconds, type Job, nowMs, type TransferView } from './view.ts';

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };
export type WriteLine = (line: string) => void;

/** Hex or null, for every object that is about one torrent. */
export interface TorrentHashes extends Record<string, JsonValue> {
  readonly infoHash: string | null;
  readonly infoHashV2: string | null;
}

export class JsonLines {
  readonly #write: WriteLine;

  constructor(write: WriteLine = (line) => process.stdout.write(line)) {
    this.#write = write;
  }

  emit(type: string, fields: Readonly<Record<string, JsonValue>>): void {
    this.#write(`${JSON.stringify({ v: 1, type, ...fields })}\n`);
  }

  failure(failure: Failure, hashes: TorrentHashes | null = null): void {
    this.emit('error', { ...hashes, code: failure.code, message: failure.message });
  }

  end(exitCode: ExitCode): void {
    this.emit('end', { exitCode });
  }
}

export function hashesOf(torrent: Pick<Torrent, 'infoHash' | 'infoHashV2'>): TorrentHashes {
  return { infoHash: torrent.infoHash, infoHashV2: torrent.infoHashV2 };
}

export function hexOrNull(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : Buffer.from(bytes).toString('hex');
}

const PROGRESS_EVERY_MS = 1000;

/** `get` and `seed` with --json. */
export class JsonView implements TransferView {
  readonly #lines: JsonLines;
  /** When each job printed its last `progress`; one that has not claimed yet is absent. */
  readonly #progressAt = new Map<Job, number>();

  constructor(lines: JsonLines) {
    this.#lines = lines;
  }

  listening(host: string, port: number): void {
    this.#lines.emit('listening', { host, port });
  }

  mapped(host: string | null, port: number, method: string): void {
    this.#lines.emit('mapped', { host, port, method });
  }

  note(text: string): void {
    process.stderr.write(`shoal: note: ${text}\n`);
  }

  version(job: Job, seq: number): void {
    if (job.torrent !== null) this.#lines.emit('version', { ...hashesOf(job.torrent), seq });
  }

  claimed(job: Job): void {
    this.#progress(job);
  }

  tick(jobs: readonly Job[]): void {
    const now = nowMs();
    for (const job of jobs) {
      if (job.torrent === null || job.state === 'failed' || job.state === 'interrupted') continue;
      const last = this.#progressAt.get(job);
      // Before the claim only a magnet that waits for its metadata speaks.
      if (last === undefined && job.torrent.stats().state !== 'metadata') continue;
      if (now - (last ?? job.startedMs) >= PROGRESS_EVERY_MS) this.#progress(job);
    }
  }

  done(job: Job): void {
    const torrent = job.torrent;
    if (torrent === null) return;
    const stats = torrent.stats();
    this.#lines.emit('done', {
      ...hashesOf(torrent),
      name: torrent.name,
      bytes: stats.bytesTotal,
      seconds: Math.round(elapsedSeconds(job) * 1000) / 1000,
      downloaded: stats.downloaded,
      uploaded: stats.uploaded,
      hashFails: stats.hashFails,
      resumed: stats.resumed,
    });
  }

  failed(job: Job | null, failure: Failure): void {
    const torrent = job?.torrent ?? null;
    this.#lines.failure(failure, torrent === null ? null : hashesOf(torrent));
  }

  stopping(): void {}

  end(exitCode: ExitCode): void {
    this.#lines.end(exitCode);
  }

  #progress(job: Job): void {
    const torrent = job.torrent;
    if (torrent === null) return;
    // Kept to the second rather than to the tick, so that lines do not drift.
    const last = this.#progressAt.get(job);
    const now = nowMs();
    this.#progressAt.set(
      job,
      last === undefined || now - last > 2 * PROGRESS_EVERY_MS ? now : last + PROGRESS_EVERY_MS,
    );
    const { bytesDone, bytesTotal, downRate, upRate, peers, sources, state } = torrent.stats();
    this.#lines.emit('progress', {
      ...hashesOf(torrent),
      bytesDone,
      bytesTotal,
      downRate: Math.round(downRate),
      upRate: Math.round(upRate),
      peers,
      sources: { ...sources },
      state,
    });
  }
}
