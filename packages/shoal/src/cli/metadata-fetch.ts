/**
 * Metadata of magnet links from peers, for `info`: a Session that takes part in the swarms of the links for as long as it
 * takes to hear their metadata, wants none of their files and writes nothing.
 */

import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Metainfo,
  Session,
  type SessionOptions,
  ShoalError,
  type Torrent,
  type TorrentStats,
} from '@shoal/engine';
import { plural } from './format.ts';
import { hexOrNull } from './json.ts';
import { searchText } from './plain.ts';
import type { LinkSource } from './source.ts';
import { CLOSE_LIMIT_MS, closeWithin } from './transfer.ts';
import { Troubles } from './troubles.ts';
import { nowMs, TICK_MS } from './view.ts';

export interface FetchOptions {
  readonly session: SessionOptions;
  /** "host:port". */
  readonly peers: readonly string[];
  /** How long to look for each; null: LIMIT_MS, and less where there is nobody to ask. */
  readonly timeoutMs: number | null;
  readonly signal: AbortSignal;
  /** How the search goes, several times a second. */
  readonly onSearch: (text: string) => void;
}

const LIMIT_MS = 60_000;
/** Without a sign of life from anywhere in this time there is no network: enough for names and a handshake across the world. */
const LIFELESS_MS = 8000;
/** The same where there is nothing to try: enough for the names of peers in the link. */
const WAYLESS_MS = 1000;

export class MetadataFetch implements AsyncDisposable {
  readonly #options: FetchOptions;
  readonly #session: Session;
  readonly #troubles = new Troubles();
  /** One search for links to the same torrent. */
  readonly #byKey = new Map<string, Promise<Metainfo | null>>();

  constructor(options: FetchOptions) {
    this.#options = options;
    const settings = { ...options.session, portMap: false, state: null, hashThreads: 1 };
    this.#session = new Session(this.#troubles.hear(settings));
  }

  /**
   * Null: nobody could be asked, which only is told apart when no time was set. Rejects with ShoalError 'no-peers' when
   * nobody who was asked gave it in time.
   */
  fetch({ source, magnet }: LinkSource): Promise<Metainfo | null> {
    const key = hexOrNull(magnet?.swarmHash ?? null) ?? source;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const fetched = this.#fetch(source);
    fetched.catch(() => {});
    this.#byKey.set(key, fetched);
    return fetched;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeWithin(this.#session, CLOSE_LIMIT_MS);
  }

  async #fetch(link: string): Promise<Metainfo | null> {
    const { peers, signal } = this.#options;
    const giveUp = new AbortController();
    const search = new Search(this.#session, this.#options, giveUp, this.#troubles);
    const either = AbortSignal.any([signal, giveUp.signal]);
    try {
      await this.#session.ready();
      // a folder that does not exist, of which nothing is wanted
      const folder = join(tmpdir(), `shoal-info-${randomBytes(8).toString('hex')}`);
      const torrent = await this.#session.add(link, { folder, select: [], peers, signal: either });
      search.torrent = torrent;
      const meta = await torrent.metadata(either);
      await torrent.remove();
      return meta;
    } catch (error) {
      if (signal.aborted || !giveUp.signal.aborted) throw error;
      if (giveUp.signal.reason instanceof ShoalError) throw giveUp.signal.reason;
      return null;
    } finally {
      search.end();
    }
  }
}

/** Watches one search, and ends it when it is in vain. */
class Search {
  torrent: Torrent | null = null;
  readonly #session: Session;
  readonly #options: FetchOptions;
  readonly #giveUp: AbortController;
  readonly #troubles: Troubles;
  readonly #startedMs = nowMs();
  readonly #ticker: NodeJS.Timeout;
  #alive = false;

  constructor(session: Session, options: FetchOptions, giveUp: AbortController, troubles: Troubles) {
    this.#troubles = troubles;
    this.#session = session;
    this.#options = options;
    this.#giveUp = giveUp;
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
  }

  end(): void {
    clearInterval(this.#ticker);
  }

  #tick(): void {
    const { torrent } = this;
    const stats = torrent?.stats() ?? null;
    const { dht } = this.#session;
    const { nodes4, nodes6 } = dht.stats();
    const dhtNodes = dht.enabled ? nodes4 + nodes6 : null;
    if (stats !== null) this.#options.onSearch(searchText(stats, dhtNodes));
    if (!this.#alive) {
      const trackers = torrent?.trackers() ?? [];
      const met =
        stats !== null && (stats.peers > 0 || stats.sources.lsd + stats.sources.pex + stats.sources.incoming > 0);
      this.#alive = met || (dhtNodes ?? 0) > 0 || trackers.some(({ status }) => status === 'working');
    }
    const elapsedMs = nowMs() - this.#startedMs;
    const limitMs = this.#options.timeoutMs ?? LIMIT_MS;
    if (elapsedMs >= limitMs) {
      const found = stats === null ? 0 : stats.peers + stats.candidates;
      const whom = found === 0 ? 'no peer was found' : `of ${plural(found, 'peer')} none gave the metadata`;
      this.#giveUp.abort(
        new ShoalError('no-peers', `${whom} within ${plural(limitMs / 1000, 'second')}${this.#troubles.of(torrent)}`),
      );
    } else if (this.#options.timeoutMs === null && !this.#alive) {
      if (elapsedMs >= (this.#hasWay(stats) ? LIFELESS_MS : WAYLESS_MS)) this.#giveUp.abort(null);
    }
  }

  /** Whether there is anywhere to look at all. */
  #hasWay(stats: TorrentStats | null): boolean {
    if (stats === null || this.torrent === null) return true;
    const { lsd } = this.#options.session;
    const known = stats.peers + stats.candidates > 0 || this.#options.peers.length > 0;
    return known || lsd !== false || this.#session.dht.enabled || this.torrent.trackers().length > 0;
  }
}
