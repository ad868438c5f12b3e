/**
 * Owns how long one uTP connection waits for an acknowledgement: mean and deviation of the round trip (RFC 6298), and the
 * time-out, which doubles each time it strikes.
 *
 * Limits: 1 s before the first measure; then 500 ms (BEP 29, libtorrent) to 6 s.
 */

const FIRST_MS = 1000;
const LEAST_MS = 500;
const MOST_MS = 6000;

export class RoundTrip {
  /** Mean; 0 before the first measure. */
  ms = 0;
  timeoutMs: number = FIRST_MS;
  #varMs = 0;

  measured(ms: number): void {
    if (this.ms === 0) {
      this.ms = Math.max(ms, 0.001);
      this.#varMs = ms / 2;
    } else {
      this.#varMs += (Math.abs(this.ms - ms) - this.#varMs) / 4;
      this.ms += (ms - this.ms) / 8;
    }
    this.timeoutMs = this.restingMs;
  }

  /** Something came through: no doubling any more. */
  progressed(): void {
    this.timeoutMs = this.restingMs;
  }

  doubled(mostMs: number = MOST_MS): void {
    this.timeoutMs = Math.min(2 * this.timeoutMs, Math.max(mostMs, this.restingMs));
  }

  /** The time-out without any doubling. */
  get restingMs(): number {
    return this.ms === 0 ? FIRST_MS : Math.min(MOST_MS, Math.max(LEAST_MS, this.ms + 4 * this.#varMs));
  }
}
