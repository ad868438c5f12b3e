/**
 * The trackers of a torrent in their tiers (BEP 12), in the order they are asked in.
 *
 * Invariants: a URL stands here once; no tier is empty. `tiers` is one and the same array for ever, and each tier's for as
 * long as that tier lives.
 *
 * Limits: MAX_TRACKERS.
 */

import { makeTracker, type Tracker } from './announce-state.ts';
import type { Family } from './tracker.ts';

/** Real lists end below 150; a magnet of 10,000 must not cost what it names. */
export const MAX_TRACKERS = 500;

export class TrackerList {
  /** Live, and read only for others. */
  readonly tiers: Tracker[][] = [];
  readonly #families: readonly Family[];

  constructor(families: readonly Family[], tiers: readonly (readonly string[])[]) {
    this.#families = families;
    this.#fill(tiers, new Map());
  }

  get count(): number {
    let count = 0;
    for (const tier of this.tiers) count += tier.length;
    return count;
  }

  /** The first that can be asked at all, or null. */
  get firstUsable(): Tracker | null {
    for (const tracker of this.all()) if (tracker.unusable === null) return tracker;
    return null;
  }

  *all(): Generator<Tracker, void> {
    for (const tier of this.tiers) yield* tier;
  }

  urls(): string[][] {
    return this.tiers.map((tier) => tier.map((tracker) => tracker.url));
  }

  find(url: string): Tracker | null {
    for (const tracker of this.all()) if (tracker.url === url) return tracker;
    return null;
  }

  /** At the end of a tier, or as a new last one. False: no tracker's URL, known already, or MAX_TRACKERS reached. */
  add(url: string, tier: number): boolean {
    const tracker = this.#make(url);
    if (tracker === null || this.count >= MAX_TRACKERS) return false;
    if (tier < this.tiers.length) this.tiers[Math.max(0, tier)]!.push(tracker);
    else this.tiers.push([tracker]);
    return true;
  }

  /** Returns who went; null: there is none of this URL. */
  remove(url: string): Tracker | null {
    const tracker = this.find(url.trim());
    for (let t = this.tiers.length - 1; t >= 0 && tracker !== null; t--) {
      const at = this.tiers[t]!.indexOf(tracker);
      if (at >= 0) this.tiers[t]!.splice(at, 1);
      if (this.tiers[t]!.length === 0) this.tiers.splice(t, 1);
    }
    return tracker;
  }

  /** Returns who went; null: the old one is not there, or the new one is no tracker's URL or known already. */
  replace(oldUrl: string, newUrl: string): Tracker | null {
    const old = this.find(oldUrl.trim());
    const tracker = this.#make(newUrl);
    if (old === null || tracker === null) return null;
    for (const tier of this.tiers) {
      const at = tier.indexOf(old);
      if (at >= 0) tier[at] = tracker;
    }
    return old;
  }

  /** These and no others, in this order. Those that stay keep their state; returns those that went. */
  set(tiers: readonly (readonly string[])[]): Tracker[] {
    const before = new Map<string, Tracker>();
    for (const tracker of this.all()) before.set(tracker.url, tracker);
    this.tiers.length = 0;
    this.#fill(tiers, before);
    return [...before.values()].filter((tracker) => this.find(tracker.url) === null);
  }

  moveToFront(tracker: Tracker): void {
    for (const tier of this.tiers) {
      const at = tier.indexOf(tracker);
      if (at <= 0) continue;
      tier.splice(at, 1);
      tier.unshift(tracker);
      return;
    }
  }

  /** Takes over the URLs that can be used, each once; `known`: trackers that are here already. */
  #fill(tiers: readonly (readonly string[])[], known: ReadonlyMap<string, Tracker>): void {
    const taken = new Set<string>();
    for (const urls of tiers) {
      const tier: Tracker[] = [];
      for (const url of urls) {
        if (taken.size >= MAX_TRACKERS) break;
        const tracker = known.get(url.trim()) ?? makeTracker(url, this.#families);
        if (tracker === null || taken.has(tracker.url)) continue;
        taken.add(tracker.url);
        tier.push(tracker);
      }
      if (tier.length > 0) this.tiers.push(tier);
    }
  }

  /** Null: no tracker's URL, or known already. */
  #make(url: string): Tracker | null {
    const tracker = makeTracker(url, this.#families);
    return tracker === null || this.find(tracker.url) !== null ? null : tracker;
  }
}
