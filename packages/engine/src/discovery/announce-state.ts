/**
 * What an Announcer knows of its trackers: each *tracker* has a *path* for each address family it is asked over, with its
 * own successes, failures and times; a *walk* is a line of trackers of which one is to answer, over one family.
 */

import {
  type Family,
  literalFamily,
  type TrackerFamilyStatus,
  type TrackerStatus,
  trackerProtocol,
} from './tracker.ts';

export interface Path {
  readonly tracker: Tracker;
  readonly family: Family;
  /** It answered well since the torrent started. */
  started: boolean;
  /** It knows us as incomplete, and we are complete. */
  completeDue: boolean;
  /** Failures in a row. */
  fails: number;
  /** The last failure was for want of an address of this family. */
  absent: boolean;
  /** Not asked before, while failing. */
  retryAt: number;
  /** Not asked before, while working. */
  minAt: number;
  /** The last round of its walk that it was asked in. */
  round: number;
  message: string | null;
  trackerId: Uint8Array | null;
  /** In its last answer. */
  peers: number;
  /** When the last announce ended; -1: none yet. */
  lastAt: number;
}

export interface Tracker {
  readonly url: string;
  readonly protocol: 'http' | 'udp';
  /** Why it cannot be asked at all, or null. */
  readonly unusable: string | null;
  /** Empty where it is unusable. */
  readonly paths: readonly Path[];
  scrapeAt: number;
  seeders: number | null;
  leechers: number | null;
  downloads: number | null;
}

export class Walk {
  readonly family: Family;
  /** What it goes along, live: the lists are the TrackerList's own. */
  readonly tiers: readonly (readonly Tracker[])[];
  /** What makes it the same walk after trackers were added or taken away. */
  readonly key: object;
  dueAt: number = Number.POSITIVE_INFINITY;
  round = 1;
  /** Who answered last, and has not failed since. */
  working: Path | null = null;

  constructor(family: Family, key: object, tiers: readonly (readonly Tracker[])[]) {
    this.family = family;
    this.key = key;
    this.tiers = tiers;
  }

  has(tracker: Tracker): boolean {
    return this.tiers.some((tier) => tier.includes(tracker));
  }

  /** In the order they are asked in. */
  *paths(): Generator<Path, void> {
    for (const tier of this.tiers) {
      for (const tracker of tier) {
        for (const path of tracker.paths) if (path.family === this.family) yield path;
      }
    }
  }
}

/** Null: no tracker's URL. */
export function makeTracker(text: string, families: readonly Family[]): Tracker | null {
  const url = text.trim();
  const protocol = trackerProtocol(url);
  if (protocol === null) return null;
  const literal = literalFamily(url);
  const usable = literal === null ? families : families.filter((family) => family === literal);
  let unusable: string | null = null;
  if (protocol === 'websocket') unusable = 'WebSocket trackers are not supported yet';
  else if (usable.length === 0) unusable = `this session has no IPv${literal ?? '4 and no IPv6'}`;
  const paths: Path[] = [];
  const tracker: Tracker = {
    url,
    protocol: protocol === 'udp' ? 'udp' : 'http',
    unusable,
    paths,
    scrapeAt: 0,
    seeders: null,
    leechers: null,
    downloads: null,
  };
  if (unusable === null) for (const family of usable) paths.push(makePath(tracker, family));
  return tracker;
}

/** `nextAt`: when the path is asked again by itself, or Infinity. */
export function trackerStatus(
  tracker: Tracker,
  tier: number,
  now: number,
  isAsking: (path: Path) => boolean,
  nextAt: (path: Path) => number,
): TrackerStatus {
  const families: TrackerFamilyStatus[] = [];
  let best: TrackerFamilyStatus | null = null;
  let bestRank = -1;
  let peers = 0;
  let lastMs: number | null = null;
  let nextMs: number | null = null;
  for (const path of tracker.paths) {
    const asking = isAsking(path);
    const next = asking ? Number.POSITIVE_INFINITY : nextAt(path);
    const status: TrackerFamilyStatus = {
      family: path.family,
      status: asking ? 'announcing' : path.fails > 0 ? 'failed' : path.started ? 'working' : 'idle',
      message: path.message,
      fails: path.fails,
      peers: path.peers,
      lastMs: path.lastAt < 0 ? null : Math.max(0, now - path.lastAt),
      nextMs: Number.isFinite(next) ? Math.max(0, next - now) : null,
    };
    families.push(status);
    peers += path.peers;
    lastMs = earlier(lastMs, status.lastMs);
    nextMs = earlier(nextMs, status.nextMs);
    const rank = path.absent && !asking ? 0 : RANKS[status.status];
    if (rank <= bestRank) continue;
    best = status;
    bestRank = rank;
  }
  return {
    url: tracker.url,
    tier,
    status: best?.status ?? 'failed',
    message: best === null ? tracker.unusable : best.message,
    seeders: tracker.seeders,
    leechers: tracker.leechers,
    downloads: tracker.downloads,
    fails: best?.fails ?? 0,
    peers,
    lastMs,
    nextMs,
    families,
  };
}

/** Which family speaks for a tracker. */
const RANKS = { idle: 1, failed: 2, announcing: 3, working: 4 } as const;

function makePath(tracker: Tracker, family: Family): Path {
  return {
    tracker,
    family,
    started: false,
    completeDue: false,
    fails: 0,
    absent: false,
    retryAt: 0,
    minAt: 0,
    round: 0,
    message: null,
    trackerId: null,
    peers: 0,
    lastAt: -1,
  };
}

function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}
