/**
 * What is wanted of a torrent, and whether all of it is here.
 *
 * Invariant: from the first `recount` on, `unflushedCount` is how many wanted pieces are not flushed. That none is left is
 * given out once, and again only after something more was wanted or was lost.
 */

import type { Bitfield } from '../base/bitfield.ts';

export class Goal {
  /** Wanted pieces that are not flushed. */
  unflushedCount = 0;
  /** 0..7 per piece; null: all alike. */
  priorities: Uint8Array | null = null;
  #isSaid = false;

  wants(piece: number): boolean {
    return this.priorities === null || this.priorities[piece] !== 0;
  }

  /** After `priorities`, `have` or `flushed` were exchanged. Returns how many wanted pieces are not had. */
  recount(have: Bitfield, flushed: Bitfield): number {
    let lacking = 0;
    this.unflushedCount = 0;
    for (let p = 0; p < have.length; p++) {
      if (!this.wants(p)) continue;
      if (!have.get(p)) lacking++;
      if (!flushed.get(p)) this.unflushedCount++;
    }
    this.#isSaid = false;
    return lacking;
  }

  flushed(piece: number): void {
    if (this.wants(piece)) this.unflushedCount--;
  }

  /** A flushed piece is lost. */
  unflushed(piece: number): void {
    if (!this.wants(piece)) return;
    this.unflushedCount++;
    this.#isSaid = false;
  }

  /** Whether everything wanted is flushed and that was not given out yet. */
  takeReached(): boolean {
    if (this.#isSaid || this.unflushedCount > 0) return false;
    this.#isSaid = true;
    return true;
  }
}
