/**
 * Paces the key exchanges that strangers begin, each of which costs a fifth of a millisecond or more: PER_TURN between two
 * turns of the event loop, PER_SECOND in the long run (DEMANDS W19). Who comes too soon waits, in order of coming; the
 * time that a handshake may take bounds how long, and the connections of the session how many.
 */

/** One that waits. */
export interface KeyExchanger {
  exchangeKeys(): void;
}

const PER_TURN = 16;
const PER_SECOND = 256;
/** May be begun after some quiet without a wait for time. */
const BURST = 64;

export class KeyExchanges {
  #leftOfTurn = PER_TURN;
  #tokens = BURST;
  #countedAtMs = 0;
  /** In order of coming. */
  readonly #waiting: Set<KeyExchanger> = new Set();

  /** Whether `one` may begin now; if not, it is told to go on later. */
  admit(one: KeyExchanger, now: number): boolean {
    if (this.#waiting.size === 0 && this.#take(now)) return true;
    this.#waiting.add(one);
    return false;
  }

  /** It is closed. */
  forget(one: KeyExchanger): void {
    this.#waiting.delete(one);
  }

  /** A turn has come: those who waited go on, as many as may. */
  run(now: number): void {
    this.#leftOfTurn = PER_TURN;
    for (const one of this.#waiting) {
      if (!this.#take(now)) break;
      this.#waiting.delete(one);
      one.exchangeKeys();
    }
  }

  nextAt(): number {
    if (this.#waiting.size === 0) return Number.POSITIVE_INFINITY;
    return this.#tokens >= 1 ? this.#countedAtMs : this.#countedAtMs + (1000 / PER_SECOND) * PER_TURN;
  }

  #take(now: number): boolean {
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#countedAtMs) * PER_SECOND) / 1000);
    this.#countedAtMs = now;
    if (this.#leftOfTurn === 0 || this.#tokens < 1) return false;
    this.#leftOfTurn--;
    this.#tokens--;
    return true;
  }
}
