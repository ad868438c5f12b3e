/**
 * A state folder that several processes share: each record has a folder and so a lock of its own, taken when the record
 * is first asked for. Two processes can work side by side on different torrents; on the same one the second is refused
 * (ELOCKED). For command lines that come and go; a session of thousands of torrents takes the plain FileState.
 *
 *     STATE/KEY/KEY.state, KEY.prev, lock ...    as in file-state.ts
 */

import { mkdirSync, readdirSync } from 'node:fs';
import type { IoFault } from '../base/errors.ts';
import type { StateStore } from '../base/ports.ts';
import { fault, faultOf } from './fault.ts';
import { FileState } from './file-state.ts';

type Done = (fault: IoFault | null) => void;

/** The store of one key. While it opens, what is asked of it waits. */
interface Part {
  readonly store: FileState;
  waiting: Done[] | null;
  /** Why it could not be opened; asking again tries again. */
  fault: IoFault | null;
}

const KEY = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/;

export class SplitState implements StateStore {
  readonly bootId: string;
  readonly #folder: string;
  readonly #parts = new Map<string, Part>();

  constructor(folder: string) {
    this.#folder = folder;
    this.bootId = new FileState(folder).bootId;
  }

  open(done: Done): void {
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      setImmediate(() => done(null));
    } catch (error) {
      const why = faultOf(error, `make the state folder ${this.#folder}`);
      setImmediate(() => done(why));
    }
  }

  /** Keys of all processes; another's cannot be loaded while it runs. */
  list(done: (fault: IoFault | null, keys: readonly string[]) => void): void {
    try {
      const entries = readdirSync(this.#folder, { withFileTypes: true });
      const keys = entries.filter((entry) => entry.isDirectory() && KEY.test(entry.name)).map(({ name }) => name);
      setImmediate(() => done(null, keys.sort()));
    } catch (error) {
      const why = faultOf(error, `read the state folder ${this.#folder}`);
      setImmediate(() => done(why, []));
    }
  }

  load(key: string, done: (fault: IoFault | null, bytes: Uint8Array | null) => void): void {
    this.#use(key, (why, store) => (why === null ? store.load(key, done) : done(why, null)));
  }

  save(key: string, bytes: Uint8Array, done: Done): void {
    this.#use(key, (why, store) => (why === null ? store.save(key, bytes, done) : done(why)));
  }

  remove(key: string, done: Done): void {
    this.#use(key, (why, store) => (why === null ? store.remove(key, done) : done(why)));
  }

  close(done: () => void): void {
    const parts = [...this.#parts.values()];
    this.#parts.clear();
    let waiting = 1;
    const one = (): void => {
      waiting -= 1;
      if (waiting === 0) done();
    };
    for (const { store, waiting: opening } of parts) {
      waiting += 1;
      if (opening === null) store.close(one);
      else opening.push(() => store.close(one));
    }
    setImmediate(one);
  }

  #use(key: string, then: (fault: IoFault | null, store: FileState) => void): void {
    let part = this.#parts.get(key);
    if (part === undefined || part.fault !== null) {
      part = { store: new FileState(`${this.#folder}/${key}`), waiting: [], fault: null };
      if (!KEY.test(key)) {
        const { store } = part;
        setImmediate(() => then(fault('EINVAL', `'${key}' is no key of a state record`), store));
        return;
      }
      this.#parts.set(key, part);
      this.#open(part);
    }
    const { store, waiting } = part;
    if (waiting === null) then(null, store);
    else waiting.push((why) => then(why, store));
  }

  #open(part: Part): void {
    part.store.open((why) => {
      const told = part.waiting ?? [];
      part.waiting = null;
      part.fault = why;
      for (const tell of told) tell(why);
    });
  }
}
