/**
 * Owns when and where one torrent announces itself: tiers (BEP 12), events (BEP 3, 21), back-off, intervals, and the state
 * of each tracker. Sans-IO: it hands out URLs through its sink and is given the answers.
 *
 *   walk:  due -> first tracker of the first tier that may be asked -> answered well -> to the front of its tier; wait
 *                 its interval
 *                                                                  -> failed -> it backs off; the next one, then the
 *                 next tier; when all have failed, wait for the one whose back-off ends first
 *
 * Invariant: at most one announce of a walk is under way, and only `tick` starts one, so that the owner of many torrents
 * bounds the whole by ticking fewer. A tracker that answered well is not asked again before its min interval, but to be
 * told `completed` and `stopped`. Each tracker hears `started` first, and `stopped` once if it ever answered well.
 *
 * Limits: MAX_TRACKERS a torrent. Which protocol carries an announce is decided by the URL's scheme in `#ask` alone.
 */

import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import type { Rng } from '../base/random.ts';
import {
  type AnnounceAsk,
  type AnnounceEvent,
  type AnnounceReply,
  failedReply,
  type NamedPeer,
  type TrackerProtocol,
  type TrackerStatus,
  trackerProtocol,
} from './tracker.ts';
import { announceUrl, parseAnnounce, parseScrape, scrapeUrl } from './tracker-http.ts';

/** Whole exchange of an announce or scrape (DEMANDS N4). */
export const ANNOUNCE_TIMEOUT_MS = 30_000;
/** Nobody waits long for the answer to a good-bye (libtorrent's figure). */
export const STOP_TIMEOUT_MS = 5_000;
/** Peers asked for (libtorrent's figure). */
export const NUM_WANT = 200;
/** Real lists end below 150; a magnet of 10,000 must not cost what it names. */
export const MAX_TRACKERS = 500;
/** Back-off by libtorrent's rule, 5 s + 5 s x fails^2 x 2.5, at most an hour. */
const BACKOFF_STEP_MS = 5_000;
const BACKOFF_GROWTH = 2.5;
const BACKOFF_MAX_MS = 3_600_000;
/** A resumed torrent waits this long for the tracker that still hears its good-bye. */
const BUSY_RETRY_MS = 1_000;
/** Regular announces come up to a tenth late, but no more than this, so that torrents added together drift apart. */
const SPREAD_MAX_MS = 120_000;
const SCRAPE_MIN_MS = 60_000;

/** What an announce says of the transfer; filled by the torrent at the moment of asking. Session totals in bytes. */
export interface AnnounceFigures {
  uploaded: number;
  downloaded: number;
  /** Wanted and missing; of a partial seed, missing of the whole torrent; -1 while the metadata is missing. */
  left: number;
  /** BEP 21: has all it wants, but not all there is. */
  partialSeed: boolean;
}

export interface AnnounceSink {
  /** Get this URL; then say `response` or `failed` with the same id. May be queued, and must not be answered from inside. */
  onAnnounce(id: number, url: string, timeoutMs: number): void;
  /** The answer to this request is of no interest any more; none shall be given. */
  onAbandon(id: number): void;
  /** 6 and 18 bytes a peer, usable addresses only; borrowed until return. Names are rare and still need resolving. */
  onPeers(peers4: Uint8Array, peers6: Uint8Array, named: readonly NamedPeer[]): void;
  /** How a tracker sees us (BEP 24): one vote. */
  onExternalIp(ip: Uint8Array, trackerIp: string): void;
  /** Another tracker answers now than before. A private torrent drops the peers of the old one (BEP 27). */
  onTrackerSwitched(): void;
  /** A new warning of a tracker, cleaned for display. */
  onTrackerWarning(url: string, message: string): void;
  /** Asks for the figures of the moment. */
  fillFigures(into: AnnounceFigures): void;
}

export interface AnnouncerOptions {
  readonly infoHash: Uint8Array;
  readonly peerId: Uint8Array;
  /** 32 random bits, kept for the life of the torrent. */
  readonly key: number;
  /** As the torrent or magnet has them; blank, broken and doubled URLs are passed over, empty tiers too. */
  readonly tiers: readonly (readonly string[])[];
  /** May be shared by all torrents of a session. */
  readonly rng: Rng;
  readonly sink: AnnounceSink;
}

export class Announcer {
  /** Port we take connections on; 0: none. */
  port = 0;
  /** Peers to ask for; a torrent with all the peers it may have asks for none. */
  numWant: number = NUM_WANT;
  supportCrypto = false;
  readonly #infoHash: Uint8Array;
  readonly #peerId: Uint8Array;
  readonly #key: number;
  readonly #rng: Rng;
  readonly #sink: AnnounceSink;
  readonly #tiers: Tracker[][] = [];
  readonly #requests: Request[] = [];
  #running = false;
  #completed = false;
  #dueAt = Number.POSITIVE_INFINITY;
  #walk = 1;
  #lastId = 0;
  #working: Tracker | null = null;

  constructor(options: AnnouncerOptions) {
    assert(options.infoHash.length === 20 && options.peerId.length === 20, 'info-hash and peer id are 20 bytes');
    this.#infoHash = options.infoHash;
    this.#peerId = options.peerId;
    this.#key = options.key >>> 0;
    this.#rng = options.rng;
    this.#sink = options.sink;
    const known = new Set<string>();
    for (const urls of options.tiers) {
      const tier: Tracker[] = [];
      for (const url of urls) {
        if (known.size >= MAX_TRACKERS) break;
        const tracker = makeTracker(url);
        if (tracker === null || known.has(tracker.url)) continue;
        known.add(tracker.url);
        tier.push(tracker);
      }
      if (tier.length === 0) continue;
      this.#rng.shuffle(tier);
      this.#tiers.push(tier);
    }
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** The answer to a request: HTTP status and body (decompressed), and the address it came from. Unknown ids are late. */
  response(id: number, now: number, status: number, body: Uint8Array, remoteIp: string): void {
    const request = this.#takeRequest(id);
    if (request === null) return;
    if (request.kind === Kind.Announce) {
      this.#answered(request, now, parseAnnounce(status, body, remoteIp), remoteIp);
    } else if (request.kind === Kind.Scrape) {
      const reply = parseScrape(status, body, this.#infoHash);
      const tracker = request.tracker;
      if (reply.seeders !== null) tracker.seeders = reply.seeders;
      if (reply.leechers !== null) tracker.leechers = reply.leechers;
      if (reply.failure !== null && tracker.fails === 0) tracker.message = `scrape: ${reply.failure}`;
      tracker.scrapeAt = Math.max(tracker.scrapeAt, now + reply.minIntervalMs);
    }
  }

  /** The request did not get an answer. */
  failed(id: number, now: number, fault: IoFault): void {
    const request = this.#takeRequest(id);
    if (request === null) return;
    if (request.kind === Kind.Announce) this.#answered(request, now, failedReply(fault.message), '');
  }

  /** Starts the announce that is due, if one is; at most one. */
  tick(now: number): void {
    if (!this.#running || now < this.#dueAt) return;
    for (let turn = 0; turn < 2; turn++) {
      const tracker = this.#candidate(now);
      if (tracker !== null) {
        this.#dueAt = Number.POSITIVE_INFINITY;
        tracker.walk = this.#walk;
        this.#announce(tracker);
        return;
      }
      if (now < this.#dueAt) return;
      // all were tried: the walk begins anew, with those whose back-off has ended meanwhile
      this.#walk++;
      this.#dueAt = this.#earliestRetry(now);
      if (now < this.#dueAt) return;
    }
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** The torrent is active. The first announce comes within `spreadMs`, so that many torrents started at once spread out. */
  start(now: number, spreadMs = 0): void {
    if (this.#running) return;
    this.#running = true;
    this.#forgive(now);
    this.#walk++;
    this.#dueAt = now + spreadMs * this.#rng.float();
  }

  /**
   * The torrent pauses, closes or is removed: what is under way is abandoned, and each tracker that had answered well
   * gets one `stopped`, all at once, never repeated. `start` takes up again.
   */
  stop(_now: number): void {
    if (!this.#running) return;
    this.#running = false;
    this.#dueAt = Number.POSITIVE_INFINITY;
    for (let i = this.#requests.length - 1; i >= 0; i--) {
      if (this.#requests[i]!.kind !== Kind.Stop) this.#abandon(this.#requests[i]!);
    }
    for (const tier of this.#tiers) for (const tracker of tier) this.#sayStopped(tracker);
    this.#working = null;
  }

  /**
   * The torrent became complete, which it was not at the start: trackers that know us as incomplete hear so, once, and
   * soon. To be called when `fillFigures` says that nothing is left; a second call changes nothing.
   */
  completed(now: number): void {
    if (this.#completed) return;
    this.#completed = true;
    for (const tier of this.#tiers) {
      for (const tracker of tier) {
        tracker.completeDue = tracker.started || this.#announceUnderWay(tracker);
        if (tracker.completeDue && tracker === this.#working && this.#running) this.#due(now);
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
    if (this.#walkUnderWay()) return;
    this.#walk++;
    this.#dueAt = now;
  }

  /** Asks the working tracker (or else the first) for its counts. False: it has no scrape, or was asked just now. */
  scrape(now: number): boolean {
    const tracker = this.#working ?? this.#firstUsable();
    if (tracker === null || now < tracker.scrapeAt) return false;
    const url = scrapeUrl(tracker.url, [this.#infoHash]);
    if (url === null) return false;
    tracker.scrapeAt = now + SCRAPE_MIN_MS;
    this.#sink.onAnnounce(this.#newRequest(tracker, Kind.Scrape, ''), url, ANNOUNCE_TIMEOUT_MS);
    return true;
  }

  /** Adds to the end of a tier (default: a new last one). False: no tracker URL, known already, or MAX_TRACKERS reached. */
  addTracker(now: number, url: string, tier: number = this.#tiers.length): boolean {
    const tracker = makeTracker(url);
    if (tracker === null || this.#find(tracker.url) !== null || this.trackerCount >= MAX_TRACKERS) return false;
    if (tier < this.#tiers.length) this.#tiers[Math.max(0, tier)]!.push(tracker);
    else this.#tiers.push([tracker]);
    if (this.#running && this.#working === null) this.#due(now);
    return true;
  }

  /** Forgets a tracker, with a `stopped` if it knows us. False: there is none of this URL. */
  removeTracker(now: number, url: string): boolean {
    const tracker = this.#find(url.trim());
    if (tracker === null) return false;
    for (let i = this.#requests.length - 1; i >= 0; i--) {
      const request = this.#requests[i]!;
      if (request.tracker === tracker && request.kind !== Kind.Stop) this.#abandon(request);
    }
    this.#sayStopped(tracker);
    for (let t = this.#tiers.length - 1; t >= 0; t--) {
      const at = this.#tiers[t]!.indexOf(tracker);
      if (at >= 0) this.#tiers[t]!.splice(at, 1);
      if (this.#tiers[t]!.length === 0) this.#tiers.splice(t, 1);
    }
    if (this.#working === tracker) this.#working = null;
    if (this.#running && (this.#working === null || this.#dueAt === Number.POSITIVE_INFINITY)) this.#due(now);
    return true;
  }

  // --------------------------------------------------------------------------------------------------------- outputs

  /** When `tick` has something to start; Infinity: not before an answer or a command. */
  nextAt(): number {
    return this.#dueAt;
  }

  /** Requests handed out and not answered. */
  get requestCount(): number {
    return this.#requests.length;
  }

  get trackerCount(): number {
    let count = 0;
    for (const tier of this.#tiers) count += tier.length;
    return count;
  }

  /** The URLs in their present order, for writing down. */
  tiers(): string[][] {
    return this.#tiers.map((tier) => tier.map((tracker) => tracker.url));
  }

  status(now: number): TrackerStatus[] {
    const all: TrackerStatus[] = [];
    for (let t = 0; t < this.#tiers.length; t++) {
      for (const tracker of this.#tiers[t]!) {
        const failed = tracker.fails > 0 || tracker.protocol !== 'http';
        const asking = this.#announceUnderWay(tracker);
        const next = failed ? tracker.retryAt : tracker === this.#working ? this.#dueAt : Number.POSITIVE_INFINITY;
        all.push({
          url: tracker.url,
          tier: t,
          status: asking ? 'announcing' : failed ? 'failed' : tracker.started ? 'working' : 'idle',
          message: tracker.protocol === 'http' ? tracker.message : UNSUPPORTED[tracker.protocol],
          seeders: tracker.seeders,
          leechers: tracker.leechers,
          nextMs: this.#running && !asking && Number.isFinite(next) ? Math.max(0, next - now) : null,
        });
      }
    }
    return all;
  }

  // --------------------------------------------------------------------------------------------------------- private

  /** Who is to be asked now; null with `#dueAt` moved ahead where the right one must still wait; null: all were tried. */
  #candidate(now: number): Tracker | null {
    for (const tier of this.#tiers) {
      for (const tracker of tier) {
        if (tracker.protocol !== 'http' || tracker.walk === this.#walk) continue;
        if (tracker.fails > 0) {
          if (tracker.retryAt <= now && !this.#busy(tracker)) return tracker;
          continue;
        }
        if (this.#busy(tracker)) {
          this.#dueAt = now + BUSY_RETRY_MS;
          return null;
        }
        if (now < tracker.minAt && !tracker.completeDue) {
          this.#dueAt = tracker.minAt;
          return null;
        }
        return tracker;
      }
    }
    return null;
  }

  #earliestRetry(now: number): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const tier of this.#tiers) {
      for (const tracker of tier) {
        if (tracker.protocol !== 'http') continue;
        const at = tracker.fails > 0 ? tracker.retryAt : tracker.minAt;
        earliest = Math.min(earliest, this.#busy(tracker) ? Math.max(at, now + BUSY_RETRY_MS) : at);
      }
    }
    return earliest;
  }

  #announce(tracker: Tracker): void {
    this.#sink.fillFigures(figures);
    // a tracker that has not met us learns of a finished torrent by `left`; for `completed` it must have seen us before
    if (!tracker.started || figures.left !== 0) tracker.completeDue = false;
    let event: AnnounceEvent = figures.partialSeed ? 'paused' : '';
    if (!tracker.started) event = 'started';
    else if (tracker.completeDue) event = 'completed';
    this.#ask(tracker, Kind.Announce, event, this.numWant, ANNOUNCE_TIMEOUT_MS);
  }

  #sayStopped(tracker: Tracker): void {
    const known = tracker.started;
    tracker.started = false;
    tracker.completeDue = false;
    tracker.minAt = 0;
    if (!known) return;
    this.#sink.fillFigures(figures);
    this.#ask(tracker, Kind.Stop, 'stopped', 0, STOP_TIMEOUT_MS);
  }

  /** Hands out one request with the figures just filled in. */
  #ask(tracker: Tracker, kind: Kind, event: AnnounceEvent, numWant: number, timeoutMs: number): void {
    const ask: AnnounceAsk = {
      infoHash: this.#infoHash,
      peerId: this.#peerId,
      port: this.port,
      uploaded: figures.uploaded,
      downloaded: figures.downloaded,
      left: figures.left,
      event,
      numWant,
      key: this.#key,
      trackerId: tracker.trackerId,
      supportCrypto: this.supportCrypto,
    };
    const id = this.#newRequest(tracker, kind, event);
    this.#sink.onAnnounce(id, announceUrl(tracker.url, ask), timeoutMs);
  }

  #answered(request: Request, now: number, reply: AnnounceReply, remoteIp: string): void {
    const tracker = request.tracker;
    if (reply.failure !== null) {
      tracker.fails++;
      tracker.message = reply.failure;
      tracker.retryAt = now + (reply.retryInMs ?? this.#backoffMs(tracker.fails));
      // the next of the walk is started by the next tick
      this.#dueAt = now;
      return;
    }
    const warning = reply.warning !== null && reply.warning !== tracker.message ? reply.warning : null;
    tracker.fails = 0;
    tracker.message = reply.warning;
    tracker.started = true;
    if (request.event === 'completed') tracker.completeDue = false;
    if (reply.trackerId !== null) tracker.trackerId = reply.trackerId;
    tracker.seeders = reply.seeders ?? tracker.seeders;
    tracker.leechers = reply.leechers ?? tracker.leechers;
    tracker.minAt = Math.ceil(now + reply.minIntervalMs);
    const spread = Math.min(reply.intervalMs * 0.1, SPREAD_MAX_MS);
    this.#dueAt = tracker.completeDue ? now : Math.ceil(now + reply.intervalMs + spread * this.#rng.float());
    this.#walk++;
    this.#moveToFront(tracker);
    const before = this.#working;
    this.#working = tracker;

    if (before !== null && before !== tracker) this.#sink.onTrackerSwitched();
    if (warning !== null) this.#sink.onTrackerWarning(tracker.url, warning);
    if (reply.externalIp !== null) this.#sink.onExternalIp(reply.externalIp, remoteIp);
    if (reply.peers4.length + reply.peers6.length + reply.named.length > 0) {
      this.#sink.onPeers(reply.peers4, reply.peers6, reply.named);
    }
  }

  /** Somewhere in the upper half of the rule's value, so that those who failed together come back apart. */
  #backoffMs(fails: number): number {
    const whole = Math.min(BACKOFF_MAX_MS, BACKOFF_STEP_MS * (1 + BACKOFF_GROWTH * fails * fails));
    return Math.ceil(whole * (0.5 + 0.5 * this.#rng.float()));
  }

  /** Failed trackers may be asked at once; how often they failed is kept. */
  #forgive(now: number): void {
    for (const tier of this.#tiers) {
      for (const tracker of tier) if (tracker.protocol === 'http' && tracker.retryAt > now) tracker.retryAt = now;
    }
  }

  #moveToFront(tracker: Tracker): void {
    for (const tier of this.#tiers) {
      const at = tier.indexOf(tracker);
      if (at <= 0) continue;
      tier.splice(at, 1);
      tier.unshift(tracker);
      return;
    }
  }

  /** Due now, unless a walk is under way: its end decides when the next one is. */
  #due(now: number): void {
    if (!this.#walkUnderWay()) this.#dueAt = Math.min(this.#dueAt, now);
  }

  #newRequest(tracker: Tracker, kind: Kind, event: AnnounceEvent): number {
    const id = ++this.#lastId;
    this.#requests.push({ id, tracker, kind, event });
    return id;
  }

  #takeRequest(id: number): Request | null {
    const at = this.#requests.findIndex((request) => request.id === id);
    return at < 0 ? null : this.#requests.splice(at, 1)[0]!;
  }

  #abandon(request: Request): void {
    this.#takeRequest(request.id);
    this.#sink.onAbandon(request.id);
  }

  #walkUnderWay(): boolean {
    return this.#requests.some((request) => request.kind === Kind.Announce);
  }

  #announceUnderWay(tracker: Tracker): boolean {
    return this.#requests.some((request) => request.tracker === tracker && request.kind === Kind.Announce);
  }

  #busy(tracker: Tracker): boolean {
    return this.#requests.some((request) => request.tracker === tracker && request.kind !== Kind.Scrape);
  }

  #find(url: string): Tracker | null {
    for (const tier of this.#tiers) for (const tracker of tier) if (tracker.url === url) return tracker;
    return null;
  }

  #firstUsable(): Tracker | null {
    for (const tier of this.#tiers) for (const tracker of tier) if (tracker.protocol === 'http') return tracker;
    return null;
  }
}

const Kind = { Announce: 0, Stop: 1, Scrape: 2 } as const;
type Kind = (typeof Kind)[keyof typeof Kind];

interface Request {
  readonly id: number;
  readonly tracker: Tracker;
  readonly kind: Kind;
  readonly event: AnnounceEvent;
}

interface Tracker {
  readonly url: string;
  readonly protocol: TrackerProtocol;
  /** It answered well since the torrent started. */
  started: boolean;
  /** It knows us as incomplete, and we are complete. */
  completeDue: boolean;
  /** Failures in a row. */
  fails: number;
  /** Not asked before, while failing. */
  retryAt: number;
  /** Not asked before, while working. */
  minAt: number;
  scrapeAt: number;
  /** The last walk it was asked in. */
  walk: number;
  message: string | null;
  trackerId: Uint8Array | null;
  seeders: number | null;
  leechers: number | null;
}

const UNSUPPORTED: Record<Exclude<TrackerProtocol, 'http'>, string> = {
  udp: 'UDP trackers are not supported yet',
  websocket: 'WebSocket trackers are not supported yet',
};

/** Where `fillFigures` writes; used up within the call that asks. */
const figures: AnnounceFigures = { uploaded: 0, downloaded: 0, left: 0, partialSeed: false };

function makeTracker(text: string): Tracker | null {
  const url = text.trim();
  const protocol = trackerProtocol(url);
  if (protocol === null) return null;
  return {
    url,
    protocol,
    started: false,
    completeDue: false,
    fails: 0,
    retryAt: protocol === 'http' ? 0 : Number.POSITIVE_INFINITY,
    minAt: 0,
    scrapeAt: 0,
    walk: 0,
    message: null,
    trackerId: null,
    seeders: null,
    leechers: null,
  };
}
