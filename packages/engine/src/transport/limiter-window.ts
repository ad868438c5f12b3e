/**
 * Owns the count of bytes of the last second, in slots of 50 ms, oldest forgotten first. A slot that has only partly gone
 * by counts whole, so any second counts in full and up to 50 ms before it too.
 */

const SLOT_MS = 50;
/** A second, and the slot that is under way. */
const SLOT_COUNT = 21;

export class LimiterWindow {
  /** Bytes of the last second, as of the last call. */
  sum = 0;
  readonly #slots: Float64Array = new Float64Array(SLOT_COUNT);
  /** Number of the slot under way, counted since time began. */
  #slot = 0;

  /** Forgets what is older than a second. */
  move(now: number): void {
    const slot = Math.floor(now / SLOT_MS);
    const gone = slot - this.#slot;
    if (gone <= 0) return;
    this.#slot = slot;
    if (gone >= SLOT_COUNT) {
      this.#slots.fill(0);
      this.sum = 0;
      return;
    }
    for (let i = 0; i < gone; i++) {
      const at = (slot - i) % SLOT_COUNT;
      this.sum -= this.#slots[at]!;
      this.#slots[at] = 0;
    }
  }

  /** Negative: takes some back, of the slot under way. */
  add(now: number, bytes: number): void {
    this.move(now);
    const at = this.#slot % SLOT_COUNT;
    const counted = Math.max(bytes, -this.#slots[at]!);
    this.#slots[at]! += counted;
    this.sum += counted;
  }

  /** When no more than `most` bytes lie in the last second. */
  fallsTo(most: number): number {
    let left = this.sum;
    if (left <= most) return this.#slot * SLOT_MS;
    for (let i = 1; i <= SLOT_COUNT; i++) {
      left -= this.#slots[(this.#slot + i) % SLOT_COUNT]!;
      if (left <= most) return (this.#slot + i) * SLOT_MS;
    }
    return (this.#slot + SLOT_COUNT) * SLOT_MS;
  }
}
