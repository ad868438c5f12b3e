/**
 * Owns the rate limits above the torrents: the session's, with an alternative pair that can take its place at once, and
 * those of named groups between.
 *
 *     session -> group -> torrent        what a torrent is granted is taken from all three, or from none
 */

import { Limiter } from '../transport/limiter.ts';

/** Bytes per second, 0: none. What is left out stays as it is. */
export interface Rates {
  readonly down?: number;
  readonly up?: number;
}

export interface RatePair {
  down: number;
  up: number;
}

export interface LimitGroup {
  readonly name: string;
  readonly down: Limiter;
  readonly up: Limiter;
}

export class RateLimits {
  readonly down: Limiter;
  readonly up: Limiter;
  readonly normal: RatePair;
  readonly alternative: RatePair = { down: 0, up: 0 };
  #usesAlternative = false;
  readonly #groups = new Map<string, LimitGroup>();

  constructor(down: number, up: number) {
    this.normal = { down, up };
    this.down = new Limiter(down, null);
    this.up = new Limiter(up, null);
  }

  get usesAlternative(): boolean {
    return this.#usesAlternative;
  }

  set(now: number, rates: Rates): void {
    Object.assign(this.normal, defined(rates));
    this.#apply(now);
  }

  setAlternative(now: number, rates: Rates): void {
    Object.assign(this.alternative, defined(rates));
    this.#apply(now);
  }

  useAlternative(now: number, on: boolean): void {
    this.#usesAlternative = on;
    this.#apply(now);
  }

  /** Made without limits when it is first named. */
  group(name: string): LimitGroup {
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = { name, down: new Limiter(0, this.down), up: new Limiter(0, this.up) };
      this.#groups.set(name, group);
    }
    return group;
  }

  get groups(): LimitGroup[] {
    return [...this.#groups.values()];
  }

  #apply(now: number): void {
    const rates = this.#usesAlternative ? this.alternative : this.normal;
    this.down.setRate(now, rates.down);
    this.up.setRate(now, rates.up);
  }
}

function defined(rates: Rates): Partial<RatePair> {
  return {
    ...(rates.down === undefined ? {} : { down: rates.down }),
    ...(rates.up === undefined ? {} : { up: rates.up }),
  };
}
