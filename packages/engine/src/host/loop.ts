/**
 * Drives the session's turns: one setImmediate and one timer, whatever is asked.
 *
 * Invariant: a timer is armed for the asked deadline or for an earlier moment. A deadline that moves later leaves the
 * timer as it is; when it fires too soon it is armed again, which costs less than a clear and a set in each turn.
 * Limit: node turns delays beyond 2^31-1 ms into 1 ms, so longer ones are waited for in steps.
 */

import type { Clock, Loop } from '../base/ports.ts';

/** Longest step of a wait, far below node's limit: a suspended machine wakes up to a timer at most this late. */
const LONGEST_STEP_MS = 86_400_000;

export class HostLoop implements Loop {
  run: (() => void) | null = null;
  readonly #clock: Clock;
  #immediate: NodeJS.Immediate | null = null;
  #timer: NodeJS.Timeout | null = null;
  #armedMs = Number.POSITIVE_INFINITY;
  #deadlineMs = Number.POSITIVE_INFINITY;
  #closed = false;
  readonly #onImmediate: () => void = () => {
    this.#immediate = null;
    this.run?.();
  };
  readonly #onTimer: () => void = () => this.#fired();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  soon(): void {
    if (this.#immediate === null && !this.#closed) this.#immediate = setImmediate(this.#onImmediate);
  }

  wakeAt(atMs: number): void {
    if (this.#closed || Number.isNaN(atMs)) return;
    this.#deadlineMs = atMs;
    if (atMs >= this.#armedMs || atMs === Number.POSITIVE_INFINITY) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#arm();
  }

  close(): void {
    this.#closed = true;
    if (this.#immediate !== null) clearImmediate(this.#immediate);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#immediate = null;
    this.#timer = null;
  }

  #arm(): void {
    const now = this.#clock.now();
    const waitMs = Math.min(Math.max(Math.ceil(this.#deadlineMs - now), 1), LONGEST_STEP_MS);
    this.#armedMs = now + waitMs;
    this.#timer = setTimeout(this.#onTimer, waitMs);
  }

  #fired(): void {
    this.#timer = null;
    this.#armedMs = Number.POSITIVE_INFINITY;
    if (this.#deadlineMs === Number.POSITIVE_INFINITY) return;
    if (this.#clock.now() < this.#deadlineMs) {
      this.#arm();
      return;
    }
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    this.run?.();
  }
}
