/**
 * Keeps what a torrent has: writes its record down in time, one save at a time, what changes meanwhile goes into the next;
 * and brings its data to the medium while it flows in.
 *
 * Limits (DEMANDS K1: a kill loses at most 2 s or 16 MiB): a save each second while anything changes, and after each
 * `SAVE_BYTES` that were flushed.
 */

import type { IoFault } from '../base/errors.ts';
import type { Entry } from './entry.ts';
import { INLINE_TORRENT_BYTES, metaKey, recordBytes } from './record.ts';

/** How often what is claimed is written down (DEMANDS K1: at most 2 s of progress lost). */
const SAVE_MS = 1000;
/** So much more flushed is written down at once, so that little is lost however fast it comes; at most this often. */
const SAVE_BYTES = 4 << 20;
const SAVE_SOON_MS = 200;
/** How often data is synced to the medium while it flows in. */
const SYNC_MS = 15_000;

export class RecordKeeper {
  readonly #entry: Entry;
  /** Something changed since the last save began. */
  #dirty = false;
  #saving = false;
  #savedAtMs = 0;
  /** Flushed since then. */
  #unsavedBytes = 0;
  #metaSaved = false;
  #syncedAtMs = 0;
  /** Data came since the last sync. */
  #wrote = false;

  constructor(entry: Entry) {
    this.#entry = entry;
  }

  /** Nothing is left to be done. */
  get isIdle(): boolean {
    return !this.#dirty && !this.#wrote;
  }

  /** What the record says has changed. */
  touch(): void {
    this.#dirty = true;
  }

  /** There is something to sync. */
  wrote(): void {
    this.#wrote = true;
  }

  /** So many bytes more can be claimed. */
  flushed(bytes: number): void {
    this.#unsavedBytes += bytes;
    const sinceMs = this.#entry.core.turn.now - this.#savedAtMs;
    if (this.#unsavedBytes >= SAVE_BYTES && sinceMs >= SAVE_SOON_MS) this.save(false, null);
  }

  tick(now: number): void {
    if (this.#dirty && now - this.#savedAtMs >= SAVE_MS) this.save(false, null);
    const { disk } = this.#entry;
    if (disk === null || !this.#wrote || now - this.#syncedAtMs < SYNC_MS) return;
    this.#syncedAtMs = now;
    this.#wrote = false;
    if (disk.needsSync) disk.sync((fault) => this.#synced(fault));
  }

  /** `clean`: the last one of an orderly stop, which does not wait for one under way. */
  save(clean: boolean, done: (() => void) | null): void {
    if (this.#saving && !clean) return;
    const entry = this.#entry;
    this.#dirty = false;
    this.#saving = true;
    this.#savedAtMs = entry.core.turn.now;
    this.#unsavedBytes = 0;
    if (!this.#metaSaved && entry.meta !== null) this.#saveMeta();
    entry.core.ports.state.save(entry.key, recordBytes(entry, clean), (fault) => {
      entry.core.begin();
      this.#saving = false;
      if (this.#dirty) entry.core.active.add(entry);
      if (fault !== null) entry.options.sink.onWarning(entry, fault.message);
      done?.();
    });
  }

  #synced(fault: IoFault | null): void {
    const entry = this.#entry;
    entry.core.begin();
    if (fault !== null) entry.onDiskFault(fault);
    entry.touchRecord();
  }

  /** A large .torrent has a record of its own, so that the one saved each second stays small. */
  #saveMeta(): void {
    const entry = this.#entry;
    this.#metaSaved = true;
    if (entry.meta!.infoBytes.length <= INLINE_TORRENT_BYTES) return;
    entry.core.ports.state.save(metaKey(entry.key), entry.torrentBytes(), (fault) => {
      if (fault === null) return;
      this.#metaSaved = false;
      entry.options.sink.onWarning(entry, fault.message);
    });
  }
}
