/**
 * The torrents that the state store remembers: a record each, and beside it the .torrent where that is too large for it.
 *
 * Invariant: a record that is damaged counts as none; the store has set it aside and said so.
 */

import { type IoFault, ShoalError } from '../base/errors.ts';
import type { StateStore } from '../base/ports.ts';
import { decodeRecord, type ResumeRecord } from '../disk/resume.ts';
import type { OldFiles } from '../disk/reuse.ts';
import { ofRecord, withRecord } from './known.ts';
import { metaKey } from './record.ts';

export class Archive {
  readonly #state: StateStore;

  constructor(state: StateStore) {
    this.#state = state;
  }

  /** Under this name (hex info-hash); null: nothing. Rejects with ShoalError 'in-use'. */
  load(key: string): Promise<ResumeRecord | null> {
    return new Promise((resolve, reject) => {
      this.#state.load(key, (fault, bytes) => {
        if (fault?.code === 'ELOCKED') return reject(new ShoalError('in-use', fault.message));
        const record = bytes === null ? null : decodeRecord(bytes);
        if (record === null || record.torrent !== null) return resolve(record);
        this.#state.load(metaKey(key), (_fault, torrent) => resolve({ ...record, torrent }));
      });
    });
  }

  /** Every record that can be read. Rejects with ShoalError 'disk' or 'in-use'. */
  async loadAll(): Promise<ResumeRecord[]> {
    const keys = await asPromise<readonly string[]>((done) => this.#state.list(done));
    const records = await Promise.all(keys.filter((key) => /^[0-9a-f]+$/.test(key)).map((key) => this.load(key)));
    return records.filter((record) => record !== null);
  }

  /** Where the data of the torrent of this name is; null: of none. */
  async filesOf(key: string): Promise<OldFiles | null> {
    const record = await this.load(key).catch(() => null);
    const known = record === null ? null : withRecord(ofRecord(record), record);
    return known?.meta == null ? null : { meta: known.meta, folder: record!.folder };
  }

  /** Remembers it no longer. Rejects with ShoalError 'disk'. */
  async forget(key: string): Promise<void> {
    for (const each of [key, metaKey(key)]) {
      await asPromise<null>((done) => this.#state.remove(each, (fault) => done(fault, null)));
    }
  }
}

function asPromise<T>(start: (done: (fault: IoFault | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((fault, value) => (fault === null ? resolve(value) : reject(new ShoalError('disk', fault.message))));
  });
}
