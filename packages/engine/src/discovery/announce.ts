/**
 * Owns when and where one torrent announces itself: tiers (BEP 12), address families (BEP 7), events (BEP 3, 21),
 * back-off (BEP 31), intervals, and the state of each tracker. Sans-IO: it hands out requests through its sink, whatever
 * protocol carries them, and is given the answers.
 *
 *   walk:  due -> first tracker of the first tier that may be asked -> answered well -> to the front of its tier; wait
 *                 its interval
 *                                                                  -> failed -> it backs off; the next one, then the
 *                 next tier; when all have failed, wait for the one whose back-off ends first
 *
 * Each family walks for itself, so that a tracker without IPv6 does not keep us from one that has it. By the mode there is
 * one walk over all tiers, one for each tier, or one for each tracker. A torrent that is exclusive (private, BEP 27) has
 * one tracker at a time: whoever answers ends what goes on with others.
 *
 * Invariant: at most one announce of a walk is under way, and only `tick` starts one, so that the owner of many torrents
 * bounds the whole by ticking fewer. A path that answered well is not asked again before its min interval, but to be
 * told `completed` and `stopped`. Each path hears `started` first, and `stopped` once if it answered well, or may have
 * heard a `started` that was given up.
 *
 * Limits: those of TrackerList.
 */

import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import type { Rng } from '../base/random.ts';
import type { AnnounceFigures, AnnounceMode, AnnouncerOptions, AnnounceSink } from './announce-options.ts';
import { type Path, type Tracker, trackerStatus, Walk } from './announce-state.ts';
import {
  type AnnounceEvent,
  type AnnounceReply,
  type Family,
  failedReply,
  NO_FAMILY,
  type ScrapeReply,
  type TrackerStatus,
} from './tracker.ts';
import { scrapeUrl } from './tracker-http.ts';
import { TrackerList } from './tracker-list.ts';

export type { AnnounceFigures, AnnounceMode, AnnouncerOptions, AnnounceSink };

/** Whole exchange of an announce or scrape (DEMANDS N4). */
export const ANNOUNCE_TIMEOUT_MS = 30_000;
/** Nobody waits long for the answer to a good-bye (libtorrent's figure). */
export const STOP_TIMEOUT_MS = 5_000;
/** One that stops the moment it is complete says so first; its good-bye must not wait long for that. */
export const LAST_TIMEOUT_MS = 1_000;
/** Peers asked for (libtorrent's figure). */
export const NUM_WANT = 200;
/** Back-off by libtorrent's rule, 5 s + 5 s x fails^2 x 2.5, at most an hour. */
const BACKOFF_STEP_MS = 5_000;
const BACKOFF_GROWTH = 2.5;
const BACKOFF_MAX_MS = 3_600_000;
/** A resumed torrent waits this long for the tracker that still hears its good-bye. */
const BUSY_RETRY_MS = 1_000;
/** Regular announces come up to a tenth late, but no more than this, so that torrents added together drift apart. */
const SPREAD_MAX_MS = 120_000;
const SCRAPE_MIN_MS = 60_000;

export class Announcer {
  /** Port we take connections on; 0: none. */
  port = 0;
  /** Port that a router forwards to it, over IPv4; 0: none. */
  mappedPort = 0;
  /** Peers to ask for; a torrent with all the peers it may have asks for none. */
  numWant: number = NUM_WANT;
  supportCrypto = false;
  readonly #infoHash: Uint8Array;
  readonly #peerId: Uint8Array;
  readonly #key: number;
  readonly #families: readonly Family[];
  readonly #rng: Rng;
  readonly #sink: AnnounceSink;
  readonly #trackers: TrackerList;
  readonly #requests: Request[] = [];
  #walks: Walk[] = [];
  #mode: AnnounceMode;
  #exclusive: boolean;
  /** Of an exclusive torrent: who answered last. */
  #lastTracker: Tracker | null = null;
  #running = false;
  #completed = false;
  #lastId = 0;

  constructor(options: AnnouncerOptions) {
    assert(options.infoHash.length === 20 && options.peerId.length === 20, 'info-hash and peer id are 20 bytes');
    this.#infoHash = options.infoHash;
    this.#peerId = options.peerId;
    this.#key = options.key >>> 0;
    this.#families = options.families;
    this.#rng = options.rng;
    this.#sink = options.sink;
    this.#mode = options.mode;
    this.#exclusive = options.exclusive;
    this.#trackers = new TrackerList(options.families, options.tiers);
    for (const tier of this.#trackers.tiers) this.#rng.shuffle(tier);
    this.#arrange(0);
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** The answer to an announce, a refusal too, and the address it came from. Unknown ids are late. */
  answered(id: number, now: number, reply: AnnounceReply, remoteIp: string): void {
    const request = this.#takeRequest(id);
    if (request?.kind === Kind.Announce) this.#answered(request, now, reply, remoteIp);
    else if (request?.kind === Kind.Last) this.#lastSaid(request);
  }

  /** The answer to a scrape. */
  scraped(id: number, now: number, reply: ScrapeReply): void {
    const request = this.#takeRequest(id);
    if (request?.kind !== Kind.Scrape) return;
    const { tracker } = request.path;
    tracker.seeders = reply.seeders ?? tracker.seeders;
    tracker.leechers = reply.leechers ?? tracker.leechers;
    tracker.downloads = reply.completed ?? tracker.downloads;
    if (reply.failure !== null && request.path.fails === 0) request.path.message = `scrape: ${reply.failure}`;
    tracker.scrapeAt = Math.max(tracker.scrapeAt, now + reply.minIntervalMs);
  }

  /** The request did not get an answer. */
  failed(id: number, now: number, fault: IoFault): void {
    const request = this.#takeRequest(id);
    if (request?.kind === Kind.Last) return this.#lastSaid(request);
    if (request?.kind !== Kind.Announce) return;
    this.#answered(request, now, failedReply(fault.message), '');
    request.path.absent = fault.code === NO_FAMILY || fault.code === 'ENETUNREACH';
  }

  /** Starts the announce that is due, if one is; at most one. */
  tick(now: number): void {
    if (!this.#running) return;
    for (const walk of this.#walks) if (now >= walk.dueAt && this.#step(walk, now)) return;
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** The torrent is active. The first announce comes within `spreadMs`, so that many torrents started at once spread out. */
  start(now: number, spreadMs = 0): void {
    if (this.#running) return;
    this.#running = true;
    this.#forgive(now);
    const dueAt = now + spreadMs * this.#rng.float();
    for (const walk of this.#walks) {
      walk.round++;
      walk.dueAt = dueAt;
    }
  }

  /**
   * The torrent pauses, closes or is removed: what is under way is abandoned, and each tracker that knows us gets one
   * `stopped`, all at once, never repeated. `start` takes up again.
   */
  stop(_now: number): void {
    if (!this.#running) return;
    this.#running = false;
    for (const walk of this.#walks) {
      walk.dueAt = Number.POSITIVE_INFINITY;
      walk.working = null;
    }
    for (const tracker of this.#trackers.all()) this.#part(tracker);
  }

  /**
   * The torrent became complete, which it was not at the start: trackers that know us as incomplete hear so, once, and
   * soon. To be called when `fillFigures` says that nothing is left; a second call changes nothing.
   */
  completed(now: number): void {
    if (this.#completed) return;
    this.#completed = true;
    for (const walk of this.#walks) {
      for (const path of walk.paths()) {
        path.completeDue = path.started || this.#isAsking(path);
        if (path.completeDue && path === walk.working && this.#running) this.#due(walk, now);
      }
    }
  }

  /**
   * A user asks, or the torrent is short of peers, or the network is back: announces as soon as the min interval lets,
   * and forgets how long failed trackers were to be left alone (not how often they failed).
   */
  announceNow(now: number): void {
    if (!this.#running) return;
    this.#forgive(now);
    for (const walk of this.#walks) if (!this.#isUnderWay(walk)) this.#restart(walk, now);
  }

  /** Asks the trackers that work (or else the first) for their counts. False: none has them, or all were asked just now. */
  scrape(now: number): boolean {
    const paths = new Map<Tracker, Path>();
    for (const { working } of this.#walks) {
      if (working !== null && !paths.has(working.tracker)) paths.set(working.tracker, working);
    }
    const first = this.#trackers.firstUsable;
    if (paths.size === 0 && first !== null) paths.set(first, first.paths[0]!);
    let asked = false;
    for (const [tracker, path] of paths) {
      if (now < tracker.scrapeAt || (tracker.protocol === 'http' && scrapeUrl(tracker.url, []) === null)) continue;
      tracker.scrapeAt = now + SCRAPE_MIN_MS;
      this.#request(path, Kind.Scrape, '', ANNOUNCE_TIMEOUT_MS);
      asked = true;
    }
    return asked;
  }

  /** How trackers are used from now on. What goes on under another mode ends with a `stopped`. */
  setMode(now: number, mode: AnnounceMode, exclusive: boolean): void {
    if (mode === this.#mode && exclusive === this.#exclusive) return;
    const running = this.#running;
    this.stop(now);
    this.#mode = mode;
    this.#exclusive = exclusive;
    this.#arrange(now);
    if (running) this.start(now);
  }

  /** Adds to the end of a tier (default: a new last one). False: no tracker URL, known already, or MAX_TRACKERS reached. */
  addTracker(now: number, url: string, tier: number = this.#trackers.tiers.length): boolean {
    if (!this.#trackers.add(url, tier)) return false;
    this.#arrange(now);
    return true;
  }

  /** Forgets a tracker, with a `stopped` if it knows us. False: there is none of this URL. */
  removeTracker(now: number, url: string): boolean {
    const tracker = this.#trackers.remove(url);
    if (tracker === null) return false;
    this.#part(tracker);
    this.#arrange(now);
    return true;
  }

  /** Puts another in the place of one. False: the old one is not there, or the new one is none or known already. */
  replaceTracker(now: number, oldUrl: string, newUrl: string): boolean {
    const old = this.#trackers.replace(oldUrl, newUrl);
    if (old === null) return false;
    this.#part(old);
    this.#arrange(now);
    return true;
  }

  /** Has these and no others, in this order. Those that stay keep their state; those that go hear `stopped`. */
  setTrackers(now: number, tiers: readonly (readonly string[])[]): void {
    for (const tracker of this.#trackers.set(tiers)) this.#part(tracker);
    this.#arrange(now);
  }

  // --------------------------------------------------------------------------------------------------------- outputs

  /** When `tick` has something to start; Infinity: not before an answer or a command. */
  nextAt(): number {
    let at = Number.POSITIVE_INFINITY;
    for (const { dueAt } of this.#walks) at = Math.min(at, dueAt);
    return at;
  }

  /** Requests handed out and not answered. */
  get requestCount(): number {
    return this.#requests.length;
  }

  get trackerCount(): number {
    return this.#trackers.count;
  }

  /** The URLs in their present order, for writing down. */
  tiers(): string[][] {
    return this.#trackers.urls();
  }

  status(now: number): TrackerStatus[] {
    const isAsking = (path: Path): boolean => this.#isAsking(path);
    const nextAt = (path: Path): number => {
      if (!this.#running) return Number.POSITIVE_INFINITY;
      if (path.fails > 0) return path.retryAt;
      return this.#walks.find((walk) => walk.working === path)?.dueAt ?? Number.POSITIVE_INFINITY;
    };
    return this.#trackers.tiers.flatMap((tier, t) =>
      tier.map((tracker) => trackerStatus(tracker, t, now, isAsking, nextAt)),
    );
  }

  // --------------------------------------------------------------------------------------------------------- private

  /** Takes a due walk one step on. True: an announce was started. */
  #step(walk: Walk, now: number): boolean {
    for (let turn = 0; turn < 2; turn++) {
      const path = this.#candidate(walk, now);
      if (path !== null) {
        walk.dueAt = Number.POSITIVE_INFINITY;
        path.round = walk.round;
        this.#announce(path);
        return true;
      }
      if (now < walk.dueAt) return false;
      // all were tried: the walk begins anew, with those whose back-off has ended meanwhile
      walk.round++;
      walk.dueAt = this.#earliestRetry(walk, now);
      if (now < walk.dueAt) return false;
    }
    return false;
  }

  /** Who is to be asked now; null with `dueAt` moved ahead where the right one must still wait; null: all were tried. */
  #candidate(walk: Walk, now: number): Path | null {
    for (const path of walk.paths()) {
      if (path.round === walk.round || !this.#isAllowed(walk, path)) continue;
      if (path.fails > 0) {
        if (path.retryAt <= now && !this.#isBusy(path)) return path;
        continue;
      }
      if (this.#isBusy(path)) {
        walk.dueAt = now + BUSY_RETRY_MS;
        return null;
      }
      if (now < path.minAt && !path.completeDue) {
        walk.dueAt = path.minAt;
        return null;
      }
      return path;
    }
    return null;
  }

  #earliestRetry(walk: Walk, now: number): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const path of walk.paths()) {
      if (!this.#isAllowed(walk, path)) continue;
      const at = path.fails > 0 ? path.retryAt : path.minAt;
      earliest = Math.min(earliest, this.#isBusy(path) ? Math.max(at, now + BUSY_RETRY_MS) : at);
    }
    return earliest;
  }

  /** While another family has its tracker, an exclusive torrent asks no other one. */
  #isAllowed(walk: Walk, path: Path): boolean {
    if (!this.#exclusive) return true;
    for (const other of this.#walks) {
      if (other !== walk && other.working !== null && other.working.tracker !== path.tracker) return false;
    }
    return true;
  }

  #announce(path: Path): void {
    this.#sink.fillFigures(figures);
    // a tracker that has not met us learns of a finished torrent by `left`; for `completed` it must have seen us before
    if (!path.started || figures.left !== 0) path.completeDue = false;
    let event: AnnounceEvent = figures.partialSeed ? 'paused' : '';
    if (!path.started) event = 'started';
    else if (path.completeDue) event = 'completed';
    this.#request(path, Kind.Announce, event, ANNOUNCE_TIMEOUT_MS);
  }

  /** Ends what goes on with a tracker, and says good-bye where it knows us or may have heard of us. */
  #part(tracker: Tracker): void {
    for (const path of tracker.paths) {
      for (let i = this.#requests.length - 1; i >= 0; i--) {
        const request = this.#requests[i]!;
        if (request.path !== path || request.kind === Kind.Stop || request.kind === Kind.Last) continue;
        this.#takeRequest(request.id);
        if (!this.#sink.onAbandon(request.id) || request.kind !== Kind.Announce) continue;
        path.started = true;
        if (request.event === 'completed') path.completeDue = false;
      }
      const { started, completeDue } = path;
      path.started = false;
      path.completeDue = false;
      path.minAt = 0;
      if (!started) continue;
      this.#sink.fillFigures(figures);
      if (completeDue && figures.left === 0) this.#request(path, Kind.Last, 'completed', LAST_TIMEOUT_MS);
      else this.#request(path, Kind.Stop, 'stopped', STOP_TIMEOUT_MS);
    }
  }

  /** The `completed` of one that stops has been heard, or not: now its good-bye, unless it goes on after all. */
  #lastSaid({ path }: Request): void {
    if (this.#running && this.#trackers.find(path.tracker.url) === path.tracker) return;
    this.#sink.fillFigures(figures);
    this.#request(path, Kind.Stop, 'stopped', STOP_TIMEOUT_MS);
  }

  /** Hands out one request, an announce with the figures just filled in. */
  #request(path: Path, kind: Kind, event: AnnounceEvent, timeoutMs: number): void {
    const { tracker, family } = path;
    const id = ++this.#lastId;
    this.#requests.push({ id, path, kind, event });
    this.#sink.onAsk({
      id,
      protocol: tracker.protocol,
      url: tracker.url,
      family,
      timeoutMs,
      infoHash: this.#infoHash,
      announce:
        kind === Kind.Scrape
          ? null
          : {
              infoHash: this.#infoHash,
              peerId: this.#peerId,
              port: family === 4 && this.port !== 0 ? this.mappedPort || this.port : this.port,
              uploaded: figures.uploaded,
              downloaded: figures.downloaded,
              left: figures.left,
              event,
              numWant: kind === Kind.Stop || kind === Kind.Last ? 0 : this.numWant,
              key: this.#key,
              trackerId: path.trackerId,
              supportCrypto: this.supportCrypto,
            },
    });
  }

  #answered(request: Request, now: number, reply: AnnounceReply, remoteIp: string): void {
    const { path } = request;
    const { tracker } = path;
    const walk = this.#walks.find((one) => one.family === path.family && one.has(tracker))!;
    path.lastAt = now;
    path.absent = false;
    if (reply.failure !== null) {
      path.fails++;
      path.peers = 0;
      path.message = reply.failure;
      path.retryAt = now + (reply.retryInMs ?? this.#backoffMs(path.fails));
      if (walk.working === path) walk.working = null;
      // the next of the walk is started by the next tick
      walk.dueAt = now;
      // and so are those of other families that had nobody to ask beside this tracker
      if (this.#exclusive) for (const other of this.#walks) if (!Number.isFinite(other.dueAt)) this.#due(other, now);
      return;
    }
    const warning = reply.warning !== null && reply.warning !== path.message ? reply.warning : null;
    path.fails = 0;
    path.message = reply.warning;
    path.started = true;
    if (request.event === 'completed') path.completeDue = false;
    if (reply.trackerId !== null) path.trackerId = reply.trackerId;
    path.peers = reply.peers4.length / 6 + reply.peers6.length / 18 + reply.named.length;
    tracker.seeders = reply.seeders ?? tracker.seeders;
    tracker.leechers = reply.leechers ?? tracker.leechers;
    path.minAt = Math.ceil(now + reply.minIntervalMs);
    const spread = Math.min(reply.intervalMs * 0.1, SPREAD_MAX_MS);
    walk.dueAt = path.completeDue ? now : Math.ceil(now + reply.intervalMs + spread * this.#rng.float());
    walk.round++;
    walk.working = path;
    // one family leads, or two that find different trackers would shift them for ever
    if (path.family === this.#families[0] || tracker.paths.length === 1) this.#trackers.moveToFront(tracker);
    if (this.#exclusive) this.#exclude(walk, now);

    if (warning !== null) this.#sink.onTrackerWarning(tracker.url, warning);
    if (reply.externalIp !== null) this.#sink.onExternalIp(reply.externalIp, remoteIp);
    if (path.peers > 0) this.#sink.onPeers(reply.peers4, reply.peers6, reply.named);
  }

  /** The tracker that answered in this walk is the only one from now on. */
  #exclude(walk: Walk, now: number): void {
    const { tracker } = walk.working!;
    for (const other of this.#trackers.all()) if (other !== tracker && this.#isTold(other)) this.#part(other);
    for (const other of this.#walks) {
      if (other === walk) continue;
      if (other.working !== null && other.working.tracker !== tracker) other.working = null;
      if (other.working === null && !this.#isUnderWay(other)) this.#restart(other, now);
    }
    if (this.#lastTracker !== null && this.#lastTracker !== tracker) this.#sink.onTrackerSwitched();
    this.#lastTracker = tracker;
  }

  /** Makes the walks anew after the trackers or the mode changed; those that are the same go on. */
  #arrange(now: number): void {
    const before = this.#walks;
    const after: Walk[] = [];
    const add = (key: object, line: readonly (readonly Tracker[])[]): void => {
      for (const family of this.#families) {
        const same = before.find((walk) => walk.family === family && walk.key === key);
        after.push(same ?? new Walk(family, key, line));
      }
    };
    const { tiers } = this.#trackers;
    if (this.#mode === 'tier' || this.#exclusive) add(tiers, tiers);
    else if (this.#mode === 'all-tiers') for (const tier of tiers) add(tier, [tier]);
    else for (const tracker of this.#trackers.all()) add(tracker, [[tracker]]);
    this.#walks = after;
    for (const walk of after) {
      if (!before.includes(walk)) {
        const heir = before.find(({ family, working }) => {
          return family === walk.family && working !== null && walk.has(working.tracker);
        });
        walk.working = heir?.working ?? null;
        walk.dueAt = heir?.dueAt ?? Number.POSITIVE_INFINITY;
      } else if (walk.working !== null && !walk.has(walk.working.tracker)) walk.working = null;
      const idle = walk.working === null || walk.dueAt === Number.POSITIVE_INFINITY;
      if (this.#running && idle) this.#due(walk, now);
    }
  }

  /** Somewhere in the upper half of the rule's value, so that those who failed together come back apart. */
  #backoffMs(fails: number): number {
    const whole = Math.min(BACKOFF_MAX_MS, BACKOFF_STEP_MS * (1 + BACKOFF_GROWTH * fails * fails));
    return Math.ceil(whole * (0.5 + 0.5 * this.#rng.float()));
  }

  /** Failed trackers may be asked at once; how often they failed is kept. */
  #forgive(now: number): void {
    for (const { paths } of this.#trackers.all()) {
      for (const path of paths) path.retryAt = Math.min(path.retryAt, now);
    }
  }

  /** Due now, unless an announce of the walk is under way: its end decides when the next one is. */
  #due(walk: Walk, now: number): void {
    if (!this.#isUnderWay(walk)) walk.dueAt = Math.min(walk.dueAt, now);
  }

  /** Goes along the tiers from the beginning, now. */
  #restart(walk: Walk, now: number): void {
    walk.round++;
    walk.dueAt = now;
  }

  #takeRequest(id: number): Request | null {
    const at = this.#requests.findIndex((request) => request.id === id);
    return at < 0 ? null : this.#requests.splice(at, 1)[0]!;
  }

  #isUnderWay(walk: Walk): boolean {
    return this.#requests.some(({ path, kind }) => {
      return kind === Kind.Announce && path.family === walk.family && walk.has(path.tracker);
    });
  }

  /** An announce to it is under way. */
  #isAsking(path: Path): boolean {
    return this.#requests.some((request) => request.path === path && request.kind === Kind.Announce);
  }

  #isBusy(path: Path): boolean {
    return this.#requests.some((request) => request.path === path && request.kind !== Kind.Scrape);
  }

  /** It knows us, or is about to. */
  #isTold(tracker: Tracker): boolean {
    return tracker.paths.some((path) => path.started || this.#isAsking(path));
  }
}

const Kind = { Announce: 0, Stop: 1, Scrape: 2, Last: 3 } as const;
type Kind = (typeof Kind)[keyof typeof Kind];

interface Request {
  readonly id: number;
  readonly path: Path;
  readonly kind: Kind;
  readonly event: AnnounceEvent;
}

/** Where `fillFigures` writes; used up within the call that asks. */
const figures: AnnounceFigures = { uploaded: 0, downloaded: 0, left: 0, partialSeed: false };
