/**
 * Counts bytes and knows their rate over the last 5 seconds. Right from the first second on, back to 0 five seconds
 * after the last byte. A meter that never counted holds no window, so that thousands of idle ones are cheap.
 */

const WINDOW = 5;
const BUCKET_MS = 1000;

export class Meter {
  /** Bytes since birth. */
  total = 0;
  /** Bytes per second, as of the last tick. */
  rateBps = 0;
  /** Added since the last tick. */
  #fresh = 0;
  /** Buckets, newest first: when it began, bytes. Null: nothing was counted, or all of it fell out of the window. */
  #window: Float64Array | null = null;

  /** Nothing was counted of late: the rate is 0 and stays so without a tick. */
  get idle(): boolean {
    return this.#fresh === 0 && this.#window === null;
  }

  add(bytes: number): void {
    this.total += bytes;
    this.#fresh += bytes;
  }

  /** To be called about once a second; more often is fine. */
  tick(now: number): void {
    let w = this.#window;
    if (w === null) {
      if (this.#fresh === 0) return;
      // what was counted before the first tick came within the tick's period
      w = new Float64Array(2 * WINDOW).fill(Number.NEGATIVE_INFINITY);
      w[0] = now - BUCKET_MS;
      w[1] = 0;
      this.#window = w;
    }
    w[1]! += this.#fresh;
    this.#fresh = 0;
    let bytes = 0;
    let since = now;
    for (let i = 0; i < 2 * WINDOW; i += 2) {
      if (w[i]! <= now - (WINDOW + 1) * BUCKET_MS) break;
      since = w[i]!;
      bytes += w[i + 1]!;
    }
    if (bytes === 0) {
      this.rateBps = 0;
      this.#window = null;
      return;
    }
    this.rateBps = (bytes * 1000) / Math.max(BUCKET_MS, now - since);
    if (now - w[0]! >= BUCKET_MS) {
      w.copyWithin(2, 0);
      w[0] = now;
      w[1] = 0;
    }
  }
}
