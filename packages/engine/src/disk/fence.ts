/**
 * Lets operations on a torrent's data run alone (move, remove, parts, restore, stop): each waits until all I/O under way
 * has ended, runs, and then lets through what came meanwhile.
 *
 *     commands -> held back | I/O under way ends | the operation | everything held back goes on
 *
 * Invariant: `io.held` is set from the first operation's coming to the last one's end; one runs at a time, in their order.
 */

import { assert } from '../base/assert.ts';
import type { Io } from './io.ts';

export type Operation = (end: () => void) => void;

export class Fence {
  readonly #io: Io;
  readonly #goOn: () => void;
  /** The first one may be running. */
  #operations: Operation[] = [];
  #isRunning = false;

  /** `goOn`: starts what was held back. */
  constructor(io: Io, goOn: () => void) {
    this.#io = io;
    this.#goOn = goOn;
  }

  /** An operation waits or runs. */
  get isClosed(): boolean {
    return this.#operations.length > 0;
  }

  run(operation: Operation): void {
    this.#operations.push(operation);
    this.#io.held = true;
    this.next();
  }

  /** Begins the next operation, if there is one and nothing is under way. */
  next(): void {
    if (this.#isRunning || this.#io.inFlight > 0) return;
    const operation = this.#operations[0];
    if (operation === undefined) return;
    this.#isRunning = true;
    operation(() => {
      assert(this.#isRunning, 'a fence ended twice');
      this.#isRunning = false;
      this.#operations.shift();
      if (this.#operations.length > 0) return this.next();
      this.#io.held = false;
      this.#goOn();
    });
  }
}
