/**
 * The run that `get`, `seed` and `demo` share: one Session, one Job per source, one view. A job goes from *waiting* to
 * *running* to exactly one of *done*, *failed*, *interrupted*; the view hears of each step once. The session is always
 * closed, which tells trackers `stopped` and saves what is done.
 */

import { type AddOptions, Session, type SessionOptions, ShoalError, type TorrentSource } from '@shoal/engine';
import { ExitCode, type Failure, failureOf } from './exit-code.ts';
import { plural } from './format.ts';
import type { Interrupt } from './interrupt.ts';
import { SessionWatch } from './session-watch.ts';
import { saveTorrent } from './torrent-target.ts';
import { Troubles } from './troubles.ts';
import { type Job, nowMs, TICK_MS, type TransferView } from './view.ts';

export interface TransferItem {
  readonly label: string;
  readonly source: TorrentSource;
  readonly options: AddOptions;
  /** Where the .torrent is written once it is known; null: nowhere. */
  readonly saveTo: string | null;
  /** The link of a publisher, whose newer versions are taken too for as long as the run goes on; else null. */
  readonly publisher: string | null;
  /** Milliseconds between looks for a newer version; absent: the engine's choice. */
  readonly followEveryMs?: number;
}

export interface TransferRequest {
  readonly items: readonly TransferItem[];
  readonly session: SessionOptions;
  readonly view: TransferView;
  readonly interrupt: Interrupt;
  /** Wait for a first peer at most this long; null: for ever. */
  readonly timeoutMs: number | null;
  /** 'get' ends when all is done, 'get-and-seed' goes on until interrupted, 'seed' is done when interrupted. */
  readonly mode: 'get' | 'get-and-seed' | 'seed';
}

export async function transfer(request: TransferRequest): Promise<ExitCode> {
  const run = new Transfer(request);
  const exitCode = await run.run();
  request.view.end(exitCode);
  return exitCode;
}

/** A session that does not close in this time is left behind; it promises two seconds. */
export const CLOSE_LIMIT_MS = 5000;

class Transfer {
  readonly #request: TransferRequest;
  readonly #jobs: Job[];
  readonly #troubles: Troubles;
  #firstFailure: Failure | null = null;

  constructor(request: TransferRequest) {
    this.#request = request;
    this.#troubles = new Troubles((text) => request.view.note(text));
    this.#jobs = request.items.map(({ label }) => {
      return { label, torrent: null, state: 'waiting', startedMs: nowMs(), endedMs: null };
    });
  }

  async run(): Promise<ExitCode> {
    const { view, interrupt, mode } = this.#request;
    const session = new Session(this.#troubles.hear(this.#request.session));
    const watch = new SessionWatch(session, view);
    const ticker = setInterval(() => {
      watch.tick();
      view.tick(this.#jobs, dhtNodeCount(session));
    }, TICK_MS);
    const onStop = (): void => view.stopping();
    interrupt.signal.addEventListener('abort', onStop);
    try {
      await session.ready();
      const listening = session.listening().then(() => watch.listening());
      const jobs = Promise.all(this.#jobs.map((job, i) => this.#runJob(session, job, this.#request.items[i]!)));
      // A port that cannot be had ends the run; a job that ends before its files are checked never comes to listening.
      await Promise.race([jobs, listening.then(() => jobs)]);
      const anyDone = this.#jobs.some((job) => job.state === 'done');
      if (mode === 'get-and-seed' && anyDone) await interrupt.wait();
    } catch (error) {
      this.#fail(null, failureOf(error));
    } finally {
      await closeWithin(session, CLOSE_LIMIT_MS);
      interrupt.signal.removeEventListener('abort', onStop);
      clearInterval(ticker);
    }
    if (this.#jobs.some((job) => job.state === 'interrupted')) return ExitCode.Interrupted;
    return this.#firstFailure?.exitCode ?? ExitCode.Done;
  }

  async #runJob(session: Session, job: Job, item: TransferItem): Promise<void> {
    const { interrupt, mode } = this.#request;
    const patience = new AbortController();
    const signal = AbortSignal.any([interrupt.signal, patience.signal]);
    const watch = this.#watchForPeers(job, item, patience);
    try {
      job.state = 'running';
      if (item.publisher !== null && mode === 'get-and-seed') {
        await this.#follow(session, job, item, patience.signal);
      } else {
        job.torrent = await session.add(item.source, { ...item.options, signal });
        await this.#carry(job, item, signal);
      }
    } catch (error) {
      this.#ended(job, patience.signal.aborted ? patience.signal.reason : error);
    } finally {
      clearInterval(watch);
    }
  }

  /** One torrent, once the session has it. */
  async #carry(job: Job, item: TransferItem, signal: AbortSignal): Promise<void> {
    const { view, mode } = this.#request;
    const torrent = job.torrent!;
    const meta = await torrent.metadata(signal);
    if (item.saveTo !== null) await saveTorrent(meta, item.saveTo);
    await torrent.checked(signal);
    view.claimed(job);
    if (mode === 'seed') await this.#seedUntilInterrupted(job);
    else await torrent.done(signal);
    job.endedMs = nowMs();
    job.state = 'done';
    view.done(job);
  }

  /** What a publisher's key stands for, version after version, each a job in the place of the one before. */
  async #follow(session: Session, first: Job, item: TransferItem, impatient: AbortSignal): Promise<void> {
    const { interrupt } = this.#request;
    const signal = AbortSignal.any([interrupt.signal, impatient]);
    const every = item.followEveryMs === undefined ? {} : { everyMs: item.followEveryMs };
    const follower = session.follow(item.publisher!, { ...item.options, ...every, signal });
    let job = first;
    for await (const torrent of follower) {
      if (job.torrent !== null) {
        const next: Job = { label: job.label, torrent: null, state: 'running', startedMs: nowMs(), endedMs: null };
        this.#jobs[this.#jobs.indexOf(job)] = next;
        if (job.state === 'running') job.state = 'interrupted';
        job = next;
      }
      const taken = job;
      taken.torrent = torrent;
      this.#request.view.version(taken, follower.seq!);
      this.#carry(taken, item, signal).catch((error: unknown) => {
        // a version that was overtaken is nobody's business any more
        if (this.#jobs.includes(taken)) this.#ended(taken, impatient.aborted ? impatient.reason : error);
      });
    }
    if (impatient.aborted && job.torrent === null) throw impatient.reason;
    if (job.state === 'running' && job.torrent === null) this.#ended(job, new ShoalError('aborted', 'aborted'));
  }

  /** A job ends before it is done. */
  #ended(job: Job, error: unknown): void {
    job.endedMs = nowMs();
    if (this.#request.interrupt.interrupted) {
      // A seed that is stopped while it still looks at its files was not asked for anything it did not do.
      job.state = this.#request.mode === 'seed' ? 'done' : 'interrupted';
    } else {
      job.state = 'failed';
      this.#fail(job, failureOf(error));
    }
  }

  async #seedUntilInterrupted(job: Job): Promise<void> {
    const torrent = job.torrent!;
    const stats = torrent.stats();
    if (stats.piecesDone === 0 && stats.pieceCount > 0) {
      throw new ShoalError('bad-piece', 'nothing there matches the torrent');
    }
    if (stats.piecesDone < stats.pieceCount) {
      const missing = stats.pieceCount - stats.piecesDone;
      this.#request.view.note(`${missing} of ${stats.pieceCount} pieces are missing or changed; seeding the others`);
      // What differs may be the user's own work: a seed never repairs it.
      torrent.select([]);
    }
    const failed = new Promise<never>((_, reject) => {
      const watch = setInterval(() => {
        const { error, state } = torrent.stats();
        if (state !== 'error' || error === null) return;
        reject(new ShoalError('disk', error.message));
      }, TICK_MS);
      this.#request.interrupt.signal.addEventListener('abort', () => clearInterval(watch), { once: true });
    });
    await Promise.race([this.#request.interrupt.wait(), failed]);
  }

  /** Aborts `patience` when no peer came in time. Time spent checking files does not count. */
  #watchForPeers(job: Job, { publisher }: TransferItem, patience: AbortController): NodeJS.Timeout | undefined {
    const limitMs = this.#request.timeoutMs;
    if (limitMs === null) return undefined;
    let sinceMs = nowMs();
    const watch = setInterval(() => {
      const stats = job.torrent?.stats();
      if (job.state !== 'running') clearInterval(watch);
      else if (stats?.state === 'checking') sinceMs = nowMs();
      else if (stats !== undefined && (stats.peers > 0 || stats.downloaded > 0)) clearInterval(watch);
      else if (nowMs() - sinceMs >= limitMs) {
        clearInterval(watch);
        const why = this.#troubles.of(job.torrent);
        const isKey = publisher !== null;
        const missing =
          job.torrent !== null ? 'no peer' : isKey ? 'no torrent was found for this key' : 'no .torrent came';
        patience.abort(new ShoalError('no-peers', `${missing} within ${plural(limitMs / 1000, 'second')}${why}`));
      }
    }, TICK_MS / 2);
    return watch;
  }

  #fail(job: Job | null, failure: Failure): void {
    this.#firstFailure ??= failure;
    this.#request.view.failed(job, failure);
  }
}

function dhtNodeCount({ dht }: Session): number | null {
  if (!dht.enabled) return null;
  const { nodes4, nodes6 } = dht.stats();
  return nodes4 + nodes6;
}

export async function closeWithin(session: Session, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  try {
    await Promise.race([session.close(), limit]);
  } finally {
    clearTimeout(timer);
  }
}
