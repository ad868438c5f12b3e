/**
 * A torrent as a program sees it: promises, iterators and plain numbers around the synchronous Entry. Holds no state of
 * the transfer itself.
 */

import { toHex } from '../base/bytes.ts';
import { type IoFault, ShoalError } from '../base/errors.ts';
import { parseEndpoint } from '../base/ip.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import { trackerProtocol } from '../discovery/tracker.ts';
import { CandidateSource } from '../swarm/peer-book.ts';
import type { Entry } from './entry.ts';
import type { EntrySink } from './entry-options.ts';
import { EventStream } from './event-stream.ts';
import { FileStream, type StreamOptions } from './file-stream.ts';
import { fileBytesIn } from './selection.ts';
import type { Session } from './session.ts';
import { peerStats, torrentStats } from './torrent-stats.ts';
import type { PeerStats, ShoalEvent, TorrentState, TorrentStats, TrackerStats } from './types.ts';

/** A file of a torrent. Pads are not among them. */
export class TorrentFileHandle {
  /** Index in `torrent.files`. */
  readonly index: number;
  /** Where it is below the download folder, '/' between components. */
  readonly path: string;
  readonly name: string;
  /** Bytes. */
  readonly length: number;
  readonly #entry: Entry;
  readonly #metaIndex: number;

  constructor(entry: Entry, index: number, metaIndex: number) {
    const file = entry.meta!.files[metaIndex]!;
    this.index = index;
    this.path = file.path.join('/');
    this.name = file.path[file.path.length - 1]!;
    this.length = file.length;
    this.#entry = entry;
    this.#metaIndex = metaIndex;
  }

  /** Verified and flushed bytes. */
  get bytesDone(): number {
    const { layout, meta, swarm } = this.#entry;
    return swarm.flushed === null ? 0 : fileBytesIn(meta!, layout!, this.#metaIndex, swarm.flushed);
  }

  /** 0: not wanted; 1..7, 4 by default. */
  get priority(): number {
    return this.#entry.priorities?.[this.#metaIndex] ?? 4;
  }

  set priority(priority: number) {
    if (!Number.isInteger(priority) || priority < 0 || priority > 7) {
      throw new ShoalError('bad-option', `priority of a file is 0 to 7, not ${priority}`);
    }
    const entry = this.#entry;
    const all = entry.priorities?.slice() ?? new Uint8Array(entry.meta!.files.length).fill(4);
    all[this.#metaIndex] = priority;
    entry.setPriorities(all);
  }

  /**
   * The bytes from `start` to before `end` (default: all), as they arrive; what is read next is fetched before everything
   * else. Ends with an error if the torrent fails or is closed. A web ReadableStream, so also an async iterable.
   */
  stream(options: StreamOptions = {}): ReadableStream<Uint8Array> {
    return new FileStream(this.#entry, this.#metaIndex, options).readable;
  }
}

export class Torrent implements EntrySink {
  readonly #session: Session;
  /** Told of every event, and with null of the end. Null: nobody listens, as most of the time in a large session. */
  #listeners: Set<(event: ShoalEvent | null) => void> | null = null;
  #entry: Entry | null = null;
  #files: readonly TorrentFileHandle[] | null = null;

  /** Made by `session.add`. */
  constructor(session: Session) {
    this.#session = session;
  }

  /** Called once by the session. @internal */
  bind(entry: Entry): void {
    this.#entry = entry;
  }

  /** @internal What this wraps. */
  get entry(): Entry {
    return this.#entry!;
  }

  /** v1, hex, or null. */
  get infoHash(): string | null {
    const hash = this.entry.infoHash ?? this.entry.meta?.infoHash ?? null;
    return hash === null ? null : toHex(hash);
  }

  /** v2, hex, or null. */
  get infoHashV2(): string | null {
    const hash = this.entry.infoHashV2 ?? this.entry.meta?.infoHashV2 ?? null;
    return hash === null ? null : toHex(hash);
  }

  /** The torrent's name, or the magnet's while the metadata is missing. */
  get name(): string {
    return this.entry.name;
  }

  get state(): TorrentState {
    return this.entry.state;
  }

  get folder(): string {
    return this.entry.folder;
  }

  /** Null while the metadata is missing. */
  get meta(): Metainfo | null {
    return this.entry.meta;
  }

  /** Empty while the metadata is missing. Pads left out. */
  get files(): readonly TorrentFileHandle[] {
    const { meta } = this.entry;
    if (meta === null) return [];
    if (this.#files === null) {
      const files: TorrentFileHandle[] = [];
      meta.files.forEach((file, i) => {
        if (!file.pad) files.push(new TorrentFileHandle(this.entry, files.length, i));
      });
      this.#files = files;
    }
    return this.#files;
  }

  stats(): TorrentStats {
    return torrentStats(this.entry);
  }

  peers(): PeerStats[] {
    return peerStats(this.entry);
  }

  trackers(): TrackerStats[] {
    return this.entry.finder.announcer.status(this.entry.core.turn.now);
  }

  /** A byte per piece: 0 missing, 1 partial, 2 verified, 3 flushed. */
  pieces(): Uint8Array {
    const { swarm } = this.entry;
    const map = new Uint8Array(this.entry.meta?.pieceCount ?? 0);
    for (let p = 0; p < map.length; p++) {
      if (swarm.flushed?.get(p)) map[p] = 3;
      else if (swarm.have?.get(p)) map[p] = 2;
    }
    for (const partial of swarm.openPartials) map[partial.piece] = 1;
    return map;
  }

  /** Resolves with the metadata when it is known. Rejects with ShoalError 'bad-torrent' when it cannot be used. */
  metadata(signal?: AbortSignal): Promise<Metainfo> {
    return this.#until(() => {
      this.#refuseBroken();
      return this.entry.meta;
    }, signal);
  }

  /** Resolves when what stood in the folder has been looked at: `stats().bytesDone` is what is claimed. */
  checked(signal?: AbortSignal): Promise<void> {
    return this.#until(() => {
      const { error, swarm } = this.entry;
      if (swarm.layout === null && error?.code === 'EBADTORRENT') throw diskError(error);
      return swarm.layout !== null || null;
    }, signal).then(() => undefined);
  }

  /** Resolves when everything wanted is verified and flushed. Rejects when the torrent fails or is closed. */
  done(signal?: AbortSignal): Promise<void> {
    return this.#until(() => {
      const { error, state, swarm } = this.entry;
      if (state === 'error' && error !== null) throw diskError(error);
      return (swarm.layout !== null && state !== 'checking' && swarm.goal.unflushedCount === 0) || null;
    }, signal).then(() => undefined);
  }

  /** Statistics now and every interval (default 1 s); ends when everything wanted is there, or the torrent stops. */
  async *progress(options: { intervalMs?: number; signal?: AbortSignal } = {}): AsyncGenerator<TorrentStats, void> {
    const { intervalMs = 1000, signal } = options;
    while (!signal?.aborted) {
      const stats = this.stats();
      yield stats;
      if (stats.state === 'stopped' || stats.state === 'seeding') return;
      await new Promise<void>((resolve) => {
        const events = this.#listen(() => {
          if (this.state !== 'stopped' && this.state !== 'seeding') return;
          cancel();
          resolve();
        });
        const alarm = this.#session.core.alarm(intervalMs, () => {
          cancel();
          resolve();
        });
        const onAbort = () => {
          cancel();
          resolve();
        };
        const cancel = () => {
          events();
          alarm();
          signal?.removeEventListener('abort', onAbort);
        };
        signal?.addEventListener('abort', onAbort, { once: true });
      });
    }
  }

  /** What happens to this torrent, from now on, until it is closed. */
  events(signal?: AbortSignal): AsyncIterable<ShoalEvent> {
    let unlisten: () => void = () => {};
    const stream = new EventStream<ShoalEvent>(() => unlisten(), signal);
    unlisten = this.#listen((event) => (event === null ? stream.end() : stream.push(event)));
    return stream;
  }

  /** Tries a peer, "host:port". */
  addPeer(address: string): void {
    const endpoint = parseEndpoint(address);
    if (endpoint === null) throw new ShoalError('bad-option', `"${address}" is not host:port`);
    this.entry.finder.addNamedPeer(endpoint.host, endpoint.port, CandidateSource.Manual);
  }

  /** Wants these files (indices into `files`) and no others. */
  select(files: readonly number[]): void {
    this.entry.select(this.#session.metaIndices(this.entry.meta!, files));
  }

  setSequential(on: boolean): void {
    this.entry.setSequential(on);
  }

  /** Bytes per second, 0: none. */
  setLimits(limits: { down?: number; up?: number }): void {
    const { now } = this.entry.core.turn;
    if (limits.down !== undefined) this.entry.downLimit.setRate(now, limits.down);
    if (limits.up !== undefined) this.entry.upLimit.setRate(now, limits.up);
  }

  /** Shares the limits of this group from now on (see `session.setGroupLimits`); null: of none. */
  setGroup(name: string | null): void {
    this.entry.core.begin();
    this.entry.setGroup(name);
  }

  pause(): void {
    this.entry.core.begin();
    this.entry.pause();
  }

  resume(): void {
    this.entry.core.begin();
    this.entry.resume();
  }

  /** Hashes what is on disk again; the state is 'checking' meanwhile. */
  recheck(): void {
    this.entry.core.begin();
    this.entry.recheck();
  }

  /** Announces now, as far as the trackers allow. */
  announce(): void {
    this.entry.core.begin();
    this.entry.finder.again();
  }

  /** Asks the working tracker for its counts (BEP 48), which `trackers()` shows later. False: it has no scrape, or was asked just now. */
  scrape(): boolean {
    this.entry.core.begin();
    return this.entry.finder.announcer.scrape(this.entry.core.turn.now);
  }

  /**
   * Adds trackers, each as a new last tier; returns how many were not known before. Edits of trackers are remembered in
   * the state, and count when the torrent is added again. Throws ShoalError 'bad-option' for what is no tracker's URL.
   */
  addTrackers(urls: readonly string[]): number {
    for (const url of urls) checkTracker(url);
    let added = 0;
    this.entry.finder.editTrackers((announcer, now) => {
      for (const url of urls) if (announcer.addTracker(now, url)) added++;
      return added > 0;
    });
    return added;
  }

  /** Forgets a tracker, which hears `stopped` if it knows us. False: there is none of this URL. */
  removeTracker(url: string): boolean {
    return this.entry.finder.editTrackers((announcer, now) => announcer.removeTracker(now, url));
  }

  /** Puts another in the place of one. False: the old one is not there, or the new one is already. */
  replaceTracker(oldUrl: string, newUrl: string): boolean {
    checkTracker(newUrl);
    return this.entry.finder.editTrackers((announcer, now) => announcer.replaceTracker(now, oldUrl, newUrl));
  }

  /** Has these trackers and no others, tier by tier, in this order. */
  setTrackers(tiers: readonly (readonly string[])[]): void {
    for (const tier of tiers) for (const url of tier) checkTracker(url);
    this.entry.finder.editTrackers((announcer, now) => {
      announcer.setTrackers(now, tiers);
      return true;
    });
  }

  /** Moves the data to another folder; the transfer waits meanwhile. Rejects, and all stays where it was, on a fault. */
  move(folder: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.entry.move(this.#session.absolute(folder), (fault) =>
        fault === null ? resolve() : reject(diskError(fault)),
      );
    });
  }

  /** Takes it out of the session; with `data`, deletes what was downloaded. Rejects with ShoalError 'disk' and 'closed'. */
  remove(options: { data?: boolean } = {}): Promise<void> {
    return this.#session.removeTorrent(this, options.data ?? false);
  }

  // ------------------------------------------------------------------------------------------------------ entry sink

  /** @internal */
  onState(_entry: Entry, state: TorrentState): void {
    this.#say({ type: 'state', infoHash: this.#key, state });
  }

  /** @internal */
  onMetadata(_entry: Entry, meta: Metainfo): void {
    this.#say({ type: 'metadata', infoHash: this.#key, name: meta.name });
  }

  /** @internal */
  onVerified(_entry: Entry, piece: number): void {
    if (this.#listeners !== null || this.#session.hasListeners) {
      this.#say({ type: 'piece', infoHash: this.#key, pieces: [piece] });
    }
  }

  /** @internal */
  onDone(): void {
    this.#say({ type: 'done', infoHash: this.#key });
  }

  /** @internal */
  onError(_entry: Entry, error: IoFault): void {
    this.#say({ type: 'error', infoHash: this.#key, error });
  }

  /** @internal */
  onWarning(_entry: Entry, message: string): void {
    this.#say({ type: 'warning', infoHash: this.#key, message });
  }

  /** The session is done with it. @internal */
  ended(): void {
    for (const listener of [...(this.#listeners ?? [])]) listener(null);
  }

  // --------------------------------------------------------------------------------------------------------- private

  get #key(): string {
    return this.entry.key;
  }

  /** Without metadata nothing but another link helps. */
  #refuseBroken(): void {
    const { error, meta, state } = this.entry;
    if (state === 'error' && meta === null && error !== null) throw diskError(error);
  }

  #say(event: ShoalEvent): void {
    this.#session.say(event);
    for (const listener of [...(this.#listeners ?? [])]) listener(event);
  }

  #listen(listener: (event: ShoalEvent | null) => void): () => void {
    const listeners = this.#listeners ?? new Set();
    this.#listeners = listeners;
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners === listeners) this.#listeners = null;
    };
  }

  /** Resolves when `test` gives something; rejects when it throws, on abort, or when the torrent is closed. */
  #until<T>(test: () => T | null, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      let stop: () => void = () => {};
      const onAbort = () => {
        stop();
        reject(new ShoalError('aborted', 'aborted'));
      };
      const look = (): boolean => {
        try {
          const value = test();
          if (value !== null) {
            resolve(value);
            return true;
          }
          if (this.state === 'stopped' && this.#entry?.isStopping)
            throw new ShoalError('closed', 'the torrent was closed');
          return false;
        } catch (error) {
          reject(error);
          return true;
        }
      };
      if (signal?.aborted) return reject(new ShoalError('aborted', 'aborted'));
      if (look()) return;
      const cancel = this.#listen((event) => {
        if (event?.type !== 'piece' && look()) stop();
      });
      stop = () => {
        cancel();
        signal?.removeEventListener('abort', onAbort);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

function checkTracker(url: string): void {
  if (trackerProtocol(url.trim()) === null) throw new ShoalError('bad-option', `"${url}" is not a tracker's URL`);
}

/** An io fault as the public API throws it. */
export function diskError(fault: IoFault): ShoalError {
  return new ShoalError(fault.code === 'EBADTORRENT' ? 'bad-torrent' : 'disk', fault.message);
}
