/**
 * Whether a torrent's disk takes what is written. While it does not, nothing is requested and the memory goes to torrents
 * that can write.
 *
 * Invariant: what was under way when a write failed proves nothing; the disk works again when a write that `retry` let go
 * on has come to an end, or when nothing waits to be written.
 */

import type { IoFault } from '../base/errors.ts';
import type { Swarm } from './swarm.ts';
import type { SwarmSink } from './swarm-options.ts';

export class StoreHealth {
  /** The disk failed, and nothing shows that it works again. */
  broken = false;
  readonly #swarm: Swarm;
  readonly #sink: SwarmSink;
  /** What waits is being written again. */
  #retrying = false;

  constructor(swarm: Swarm, sink: SwarmSink) {
    this.#swarm = swarm;
    this.#sink = sink;
  }

  failed(fault: IoFault): void {
    this.broken = true;
    this.#retrying = false;
    for (const peer of this.#swarm.peers) this.#swarm.requests.giveUp(peer, 0);
    this.#keepLittle();
    this.#sink.onDiskFault(fault);
  }

  /** The disk may work again: what waits is written, and when that goes well `onDiskWorks` follows, perhaps at once. */
  retry(): void {
    const { store } = this.#swarm;
    this.#retrying = true;
    store?.retry();
    if (store === null || store.pendingSlots === 0) this.#works();
  }

  /** A piece was written. */
  wrote(): void {
    if (this.broken && this.#retrying) this.#works();
  }

  /** Every second. */
  tick(): void {
    if (this.broken) this.#keepLittle();
  }

  #works(): void {
    this.broken = false;
    for (const peer of this.#swarm.peers) this.#swarm.wake(peer);
    this.#sink.onDiskWorks();
  }

  /** What is dropped here is fetched again. */
  #keepLittle(): void {
    const swarm = this.#swarm;
    for (const partial of [...swarm.openPartials]) if (!partial.judging) swarm.abandon(partial);
    for (const piece of swarm.store!.shed(swarm.slots.count >> 4)) swarm.lose(piece);
  }
}
