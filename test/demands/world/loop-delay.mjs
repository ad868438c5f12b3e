/**
 * How long the event loop of this process is held up by its own work: a timer of 5 ms, and how much later it came. Of that
 * counts at most the CPU time that the process (all its threads) used meanwhile: on a machine that does other things, or
 * whose own time is taken away, the rest is not ours.
 */

const PERIOD_MS = 5;
/** Microseconds. */
const spent = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

export class LoopDelay {
  #delaysMs = [];
  #fromMs = performance.now();
  #spent = spent();
  #timer = null;

  /** Begins. It costs half a per cent of a core, so nobody measures who does not want to know. */
  watch() {
    this.#timer ??= setInterval(() => this.#sample(), PERIOD_MS).unref();
    this.reset();
  }

  get count() {
    return this.#delaysMs.length;
  }

  /** `share` 1: the longest. Milliseconds; NaN when it is not watched. */
  quantile(share) {
    if (this.#timer === null) return Number.NaN;
    const sorted = this.#delaysMs.toSorted((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
  }

  reset() {
    this.#delaysMs = [];
    this.#fromMs = performance.now();
    this.#spent = spent();
  }

  #sample() {
    const now = performance.now();
    const used = spent();
    const late = now - this.#fromMs - PERIOD_MS;
    this.#delaysMs.push(Math.max(0, Math.min(late, (used - this.#spent) / 1000)));
    this.#fromMs = now;
    this.#spent = used;
  }
}
