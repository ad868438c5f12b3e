/**
 * Follows a publisher (BEP 46): adds the torrent that its key stands for, and each newer one as it is published.
 *
 *     look: ask the DHT -> a newer number -> add its torrent -> its metadata comes -> the old version stops
 *                                          -> what both share is taken over (disk/reuse) -> check -> the rest is fetched
 *
 * The old version goes on until the metadata of the new one is there; a new one that is overtaken before that is dropped.
 * The item is put again now and then, which keeps it alive and needs no secret.
 *
 * Invariant: versions come in the order of their numbers; at most one of them writes below `folder`.
 */

import { fromHex, utf8Encode } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import { type Publisher, parsePublisher } from '../codec/magnet.ts';
import { MAX_SALT_BYTES } from '../discovery/dht-items.ts';
import type { OldFiles } from '../disk/reuse.ts';
import { itemInfo } from './dht-client.ts';
import type { Prelude } from './entry-options.ts';
import { ofVersion } from './known.ts';
import { nameOf, Publication, sameTorrent, type Version } from './publication.ts';
import type { Session } from './session.ts';
import type { Torrent } from './torrent.ts';
import type { AddOptions } from './types.ts';
import { pause } from './waiting.ts';

export interface FollowOptions extends AddOptions {
  /** Tells the torrents of one key apart, text or bytes, at most 64. Default: the link's. */
  readonly salt?: string | Uint8Array;
  /** How often a newer version is looked for, in milliseconds, give or take a tenth. Default half an hour. */
  readonly everyMs?: number;
  /**
   * What becomes of the version before: 'remove' (default): it leaves the session once the new one's metadata is there, and
   * the new one takes its place on disk where their names are the same; 'keep': it goes on seeding, and each version has
   * a folder of its own below `folder`, named by the first 8 hex digits of its info-hash.
   */
  readonly old?: 'remove' | 'keep';
}

const EVERY_MS = 1_800_000;
const MIN_EVERY_MS = 1000;
/** While no version is known. */
const UNKNOWN_MS = 60_000;
/** Nodes forget an item after two hours (BEP 44). */
const PUT_MS = 3_600_000;
const JITTER = 0.1;

/** Adds the torrent that a link stands for now, for `session.add`. */
export async function addPublished(session: Session, publisher: Publisher, options: AddOptions): Promise<Torrent> {
  const publication = await Publication.load(session.core, publisher);
  const version = await publication.newest(session.dht, options.signal);
  const { base } = publication;
  const folder = session.absolute(options.folder);
  const older = base === null || base === nameOf(version) ? undefined : torrentOf(session, base);
  if (older?.folder === folder) {
    throw new ShoalError('duplicate', `an older version, ${older.name}, is in this session and folder already`);
  }
  const prelude: Prelude = (_meta, go) => {
    if (base === null || base === nameOf(version)) return go(null);
    void session.archive.filesOf(base).then(go);
  };
  const torrent = await session.addKnown(ofVersion(publisher, version), options, prelude);
  void settled(session, publication, version, torrent, true);
  return torrent;
}

/** What `session.follow` gives: the torrents of a publisher, each as it becomes the newest. */
export class Follower implements AsyncIterable<Torrent> {
  readonly #session: Session;
  readonly #publisher: Publisher;
  readonly #options: FollowOptions;
  readonly #onEnd: () => void;
  readonly #stop = new AbortController();
  #publication: Publication | null = null;
  #version: Version | null = null;
  #torrent: Torrent | null = null;
  /** The last torrent whose metadata came, whose data stands on disk. */
  #settled: Torrent | null = null;
  /** Those that were added here, and are to be removed here. */
  readonly #own = new Set<Torrent>();
  #trouble: ShoalError | null = null;
  /** Ends the following, and the iteration. */
  #failure: unknown = null;
  /** Not given out yet. */
  #fresh: Torrent | null = null;
  #looks = new AbortController();
  readonly #waiting = new Set<() => void>();

  /** Made by `session.follow`. Throws ShoalError 'bad-magnet' and 'bad-option'. */
  constructor(session: Session, publisher: string | Uint8Array, options: FollowOptions, onEnd: () => void) {
    this.#session = session;
    this.#publisher = publisherOf(publisher, options.salt);
    this.#options = options;
    this.#onEnd = onEnd;
    if (!session.dht.enabled) throw new ShoalError('bad-option', 'this session is without the DHT');
    const { everyMs, old, signal } = options;
    if (everyMs !== undefined && !(everyMs >= MIN_EVERY_MS)) {
      throw new ShoalError('bad-option', `everyMs is a number from ${MIN_EVERY_MS} on, not ${everyMs}`);
    }
    if (old !== undefined && old !== 'remove' && old !== 'keep') {
      throw new ShoalError('bad-option', `old is remove or keep, not ${old}`);
    }
    signal?.addEventListener('abort', () => this.stop(), { once: true, signal: this.#stop.signal });
    void this.#run();
    if (signal?.aborted) this.stop();
  }

  /** The newest version's number, or null while none is known. */
  get seq(): number | null {
    return this.#version?.seq ?? null;
  }

  /** The newest version, or null while none is known. */
  get torrent(): Torrent | null {
    return this.#torrent;
  }

  /** Why the last look was in vain, or null. */
  get trouble(): ShoalError | null {
    return this.#trouble;
  }

  /** Looks for a newer version now. */
  look(): void {
    this.#looks.abort();
  }

  /** Follows no longer; the torrents stay as they are. */
  stop(): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.#looks.abort();
    this.#wake();
    this.#onEnd();
  }

  /**
   * The newest torrent, and each newer one; those that came and went meanwhile are left out. Ends when the follower or the
   * session does; leaving the loop stops the follower. Throws ShoalError when a version cannot be added.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Torrent, void> {
    try {
      for (;;) {
        const torrent = this.#fresh;
        this.#fresh = null;
        if (torrent !== null) yield torrent;
        else if (this.#failure !== null) throw this.#failure;
        else if (this.#stop.signal.aborted) return;
        else await new Promise<void>((resolve) => this.#waiting.add(resolve));
      }
    } finally {
      this.stop();
    }
  }

  // --------------------------------------------------------------------------------------------------------- private

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { core } = this.#session;
    try {
      await this.#session.ready();
      const publication = await Publication.load(core, this.#publisher);
      this.#publication = publication;
      this.#adopt(publication.base);
      let putAtMs = Infinity;
      while (!signal.aborted) {
        const version = await this.#look(publication);
        if (version !== null) await this.#take(publication, version);
        const now = core.ports.clock.now();
        if (this.#version !== null && putAtMs === Infinity) putAtMs = now + this.#jittered(PUT_MS);
        if (now >= putAtMs) {
          putAtMs = now + this.#jittered(PUT_MS);
          this.#putAgain(this.#version!);
        }
        this.#looks = new AbortController();
        const everyMs = this.#options.everyMs ?? EVERY_MS;
        const soonMs = this.#version === null ? Math.min(everyMs, UNKNOWN_MS) : everyMs;
        const waitMs = Math.min(this.#jittered(soonMs), putAtMs - now);
        await pause(core, waitMs, AbortSignal.any([signal, this.#looks.signal])).catch(() => {});
      }
    } catch (error) {
      if (!signal.aborted && !isClosed(error)) this.#failure = error;
    }
    this.stop();
    this.#wake();
  }

  /** A version newer than ours, or null. */
  async #look(publication: Publication): Promise<Version | null> {
    const { dht } = this.#session;
    const { signal } = this.#stop;
    try {
      let version: Version | null;
      if (this.#version === null) version = await publication.newest(dht, signal);
      else {
        version = await publication.ask(dht, signal);
        if (version !== null && !publication.accept(version)) version = null;
      }
      this.#trouble = null;
      return version;
    } catch (error) {
      if (!(error instanceof ShoalError) || isClosed(error) || signal.aborted) throw error;
      this.#trouble = error;
      return null;
    }
  }

  async #take(publication: Publication, version: Version): Promise<void> {
    const session = this.#session;
    const before = this.#version;
    this.#version = version;
    // the same torrent may be put anew under a higher number
    if (before !== null && sameTorrent(before, version)) return;
    const name = nameOf(version);
    const overtaken = this.#torrent;
    let torrent = torrentOf(session, name);
    if (torrent !== undefined) {
      this.#adopt(name);
      await this.#settle(torrent);
    } else {
      const prelude: Prelude = (_meta, go) => {
        void added
          .then((own) => this.#settle(own))
          .catch(() => null)
          .then(go);
      };
      const options = { ...this.#options, folder: this.#folderOf(name) };
      const added = session.addKnown(ofVersion(this.#publisher, version), options, prelude);
      torrent = await added;
      this.#own.add(torrent);
    }
    void settled(session, publication, version, torrent, this.#options.old !== 'keep');
    this.#torrent = torrent;
    this.#fresh = torrent;
    this.#wake();
    if (overtaken !== null && overtaken !== this.#settled && this.#isOwn(overtaken)) await overtaken.remove();
  }

  /** The metadata of a new version is there: the old one makes way. Gives where its data is. */
  async #settle(torrent: Torrent): Promise<OldFiles | null> {
    const session = this.#session;
    const old = this.#settled;
    this.#settled = torrent;
    if (old === null || old === torrent) {
      // from an earlier run, if any
      const base = this.#publication!.base;
      return base === null || base === torrent.entry.key ? null : session.archive.filesOf(base);
    }
    const { folder, meta } = old;
    if (this.#options.old !== 'keep' && this.#isOwn(old)) {
      this.#own.delete(old);
      await session.retire(old);
    }
    return meta === null ? null : { meta, folder };
  }

  /** A version that the session has from an earlier run, in the folder where we would put it, is as if added here. */
  #adopt(name: string | null): void {
    const torrent = name === null ? undefined : torrentOf(this.#session, name);
    if (torrent === undefined || torrent.folder !== this.#session.absolute(this.#folderOf(name!))) return;
    this.#own.add(torrent);
    this.#settled ??= torrent;
  }

  #folderOf(name: string): string {
    const { folder, old } = this.#options;
    return old === 'keep' ? `${folder}/${name.slice(0, 8)}` : folder;
  }

  #isOwn(torrent: Torrent): boolean {
    return this.#own.has(torrent) && this.#session.torrents.includes(torrent);
  }

  #putAgain(version: Version): void {
    this.#session.dht.putAgain(itemInfo(version.item), { signal: this.#stop.signal }).catch(() => {});
  }

  #jittered(ms: number): number {
    return ms * (1 + JITTER * (2 * this.#session.core.rng.float() - 1));
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}

/** Once a version has been checked it is what later ones build on; the one before need not be remembered then. */
async function settled(
  session: Session,
  publication: Publication,
  version: Version,
  torrent: Torrent,
  forgets: boolean,
): Promise<void> {
  try {
    await torrent.checked();
    const before = publication.base;
    publication.settle(nameOf(version));
    if (forgets && before !== null && before !== publication.base && torrentOf(session, before) === undefined) {
      await session.archive.forget(before);
    }
  } catch {
    // it was removed, or the session is closed: the old version is still what is built on
  }
}

function torrentOf(session: Session, name: string): Torrent | undefined {
  return session.torrents.find(({ infoHash, infoHashV2 }) => infoHash === name || infoHashV2 === name);
}

function publisherOf(publisher: string | Uint8Array, salt: string | Uint8Array | undefined): Publisher {
  const link = typeof publisher === 'string' && /^\s*magnet:/i.test(publisher) ? parsePublisher(publisher) : null;
  const publicKey = link?.publicKey ?? (typeof publisher === 'string' ? fromHex(publisher.trim()) : publisher);
  if (publicKey?.length !== 32) {
    throw new ShoalError(
      'bad-option',
      'a publisher is a public key of 64 hex digits, or magnet:?xs=urn:btpk: and such',
    );
  }
  const own = typeof salt === 'string' ? utf8Encode(salt) : (salt ?? link?.salt ?? new Uint8Array(0));
  if (own.length > MAX_SALT_BYTES) {
    throw new ShoalError('bad-option', `a salt is at most ${MAX_SALT_BYTES} bytes long`);
  }
  const nothing = { name: null, trackers: [], webSeeds: [], peers: [], select: null };
  return { ...nothing, ...link, publicKey, salt: own };
}

function isClosed(error: unknown): boolean {
  return error instanceof ShoalError && error.code === 'closed';
}
