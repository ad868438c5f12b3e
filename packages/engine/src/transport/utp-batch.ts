/** What was given to `Conn.send` and is not yet in packets: borrowed views, used up from the front. */

import { assert } from '../base/assert.ts';
import type { UtpOutbox } from './utp-outbox.ts';

export class UtpBatch {
  /** Bytes not taken yet. */
  left = 0;
  /** A batch was given, and that it was taken was not told. */
  open = false;
  readonly #views: Uint8Array[] = [];
  #view = 0;
  #at = 0;

  give(views: readonly Uint8Array[], count: number): void {
    assert(!this.open, 'two sends at once');
    this.open = true;
    for (let i = 0; i < count; i++) {
      this.#views[i] = views[i]!;
      this.left += views[i]!.length;
    }
    this.#view = 0;
    this.#at = 0;
  }

  /** Appends up to `room` bytes to the last packet. */
  moveTo(outbox: UtpOutbox, room: number): void {
    let free = room;
    while (free > 0 && this.left > 0) {
      const view = this.#views[this.#view]!;
      const take = Math.min(free, view.length - this.#at);
      outbox.append(take === view.length ? view : view.subarray(this.#at, this.#at + take));
      free -= take;
      this.#take(take);
    }
  }

  /** The next byte, left where it is. */
  peek(): number {
    while (this.#at === this.#views[this.#view]!.length) this.#take(0);
    return this.#views[this.#view]![this.#at]!;
  }

  takeOne(): void {
    this.#take(1);
  }

  /** Lets go of all views. */
  clear(): void {
    this.#views.length = 0;
    this.left = 0;
    this.open = false;
  }

  #take(bytes: number): void {
    this.left -= bytes;
    this.#at += bytes;
    if (this.#at < this.#views[this.#view]!.length) return;
    this.#view++;
    this.#at = 0;
  }
}
