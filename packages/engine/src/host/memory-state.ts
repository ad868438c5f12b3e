/** State that lasts as long as the session, for sessions that remember nothing. */

import type { IoFault } from '../base/errors.ts';
import type { StateStore } from '../base/ports.ts';

export class MemoryState implements StateStore {
  readonly bootId: string = 'memory';
  readonly #records = new Map<string, Uint8Array>();

  open(done: (fault: IoFault | null) => void): void {
    setImmediate(done, null);
  }

  list(done: (fault: IoFault | null, keys: readonly string[]) => void): void {
    setImmediate(() => done(null, [...this.#records.keys()]));
  }

  load(key: string, done: (fault: IoFault | null, bytes: Uint8Array | null) => void): void {
    setImmediate(() => done(null, this.#records.get(key)?.slice() ?? null));
  }

  save(key: string, bytes: Uint8Array, done: (fault: IoFault | null) => void): void {
    this.#records.set(key, bytes.slice());
    setImmediate(done, null);
  }

  remove(key: string, done: (fault: IoFault | null) => void): void {
    this.#records.delete(key);
    setImmediate(done, null);
  }

  close(done: () => void): void {
    setImmediate(done);
  }
}
