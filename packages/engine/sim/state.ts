/**
 * The StateStore port over records that outlive the process. A save takes effect at its end; a crash before that leaves
 * the old record or the new one, never a part. One process at a time holds the store.
 */

import { assert } from '../src/base/assert.ts';
import type { IoFault } from '../src/base/errors.ts';
import type { StateStore } from '../src/base/ports.ts';
import type { Rng } from '../src/base/random.ts';
import type { World } from './world.ts';

/** What is on the medium. */
export class SimRecords {
  readonly records: Map<string, Uint8Array> = new Map();
  holder: SimState | null = null;
  /** Bytes ever saved, and saves. */
  savedBytes = 0;
  saveCount = 0;
  /** Saves fail with this errno, or null. */
  failing: string | null = null;
  /** Of a save or load: write, sync, rename. */
  latencyMs = 3;
}

export class SimState implements StateStore {
  readonly bootId: string;
  readonly #world: World;
  readonly #disk: SimRecords;
  readonly #underWay: Map<number, { key: string; bytes: Uint8Array }> = new Map();
  #alive = true;
  #next = 0;

  constructor(world: World, disk: SimRecords, bootId: string) {
    this.#world = world;
    this.#disk = disk;
    this.bootId = bootId;
  }

  open(done: (fault: IoFault | null) => void): void {
    this.#later(() => {
      if (this.#disk.holder !== null && this.#disk.holder !== this) {
        done({ code: 'ELOCKED', message: 'the state is in use by another process' });
        return;
      }
      this.#disk.holder = this;
      done(null);
    });
  }

  list(done: (fault: IoFault | null, keys: readonly string[]) => void): void {
    this.#later(() => done(null, [...this.#disk.records.keys()].sort()));
  }

  load(key: string, done: (fault: IoFault | null, bytes: Uint8Array | null) => void): void {
    this.#later(() => done(null, this.#disk.records.get(key)?.slice() ?? null));
  }

  save(key: string, bytes: Uint8Array, done: (fault: IoFault | null) => void): void {
    assert(this.#disk.holder === this, 'a save without holding the state');
    const id = this.#next++;
    this.#underWay.set(id, { key, bytes: bytes.slice() });
    this.#later(() => {
      const save = this.#underWay.get(id)!;
      this.#underWay.delete(id);
      const code = this.#disk.failing;
      if (code === null) this.#put(save.key, save.bytes);
      done(code === null ? null : { code, message: `state of ${key}: ${code}` });
    });
  }

  remove(key: string, done: (fault: IoFault | null) => void): void {
    this.#later(() => {
      this.#disk.records.delete(key);
      done(null);
    });
  }

  close(done: () => void): void {
    this.#later(() => {
      if (this.#disk.holder === this) this.#disk.holder = null;
      done();
    });
  }

  /** Saves under way happened or not, as drawn, in their order. */
  crash(rng: Rng): void {
    this.#alive = false;
    for (const save of this.#underWay.values()) {
      if (rng.below(2) === 0) break;
      this.#put(save.key, save.bytes);
    }
    this.#underWay.clear();
    if (this.#disk.holder === this) this.#disk.holder = null;
  }

  #put(key: string, bytes: Uint8Array): void {
    this.#disk.records.set(key, bytes);
    this.#disk.savedBytes += bytes.length;
    this.#disk.saveCount++;
  }

  #later(then: () => void): void {
    this.#world.call(this.#disk.latencyMs, () => {
      if (this.#alive) then();
    });
  }
}
