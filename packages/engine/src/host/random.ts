/** Random bytes from the system's CSPRNG, drawn 4 KiB at a time; bytes given out are wiped from the store. */

import { randomFillSync } from 'node:crypto';
import type { Random } from '../base/ports.ts';

const STORE_BYTES = 4096;

export class HostRandom implements Random {
  readonly #store = new Uint8Array(STORE_BYTES);
  #used = STORE_BYTES;

  fill(target: Uint8Array): void {
    if (target.length > STORE_BYTES / 4) {
      // randomFillSync refuses shared memory, so draw beside it
      target.set(randomFillSync(new Uint8Array(target.length)));
      return;
    }
    if (this.#used + target.length > STORE_BYTES) {
      randomFillSync(this.#store);
      this.#used = 0;
    }
    const end = this.#used + target.length;
    target.set(this.#store.subarray(this.#used, end));
    this.#store.fill(0, this.#used, end);
    this.#used = end;
  }
}
