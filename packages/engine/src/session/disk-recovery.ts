/**
 * What a torrent does while its disk fails: judges what cannot be read, and tries again by itself until it works.
 *
 * Invariant: a failed disk is first looked at, then written to; a check under way is not disturbed by either. A torrent
 * that is paused tries nothing by itself.
 */

import { type IoFault, PeerFault } from '../base/errors.ts';
import type { Entry } from './entry.ts';

/** How often a failed disk is tried again by itself. */
const RETRY_MS = 5000;
/** Faults that say nothing of the file. */
const SHORTAGES: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN']);

export class DiskRecovery {
  readonly #entry: Entry;
  #retryAtMs = Infinity;

  constructor(entry: Entry) {
    this.#entry = entry;
  }

  /** It will be tried again. */
  get isDue(): boolean {
    return this.#retryAtMs !== Infinity;
  }

  failed(fault: IoFault): void {
    const entry = this.#entry;
    if (!this.isDue) this.#again();
    entry.core.active.add(entry);
    entry.fail(fault);
    if (entry.state !== 'checking') entry.disk!.checkSuspects();
  }

  readFailed(piece: number, fault: IoFault): void {
    // too many reads at once, or the piece went a moment ago: no fault of the disk
    if (fault.code === 'EBUSY' || fault.code === 'EUNCLAIMED') return;
    const { disk, swarm } = this.#entry;
    // of a file that was changed all is in doubt; a file system that is away may come back as it was; else it is lost
    const away = fault.code === 'ENODEV';
    if (!disk!.suspect(piece, fault) && !away && !SHORTAGES.has(fault.code)) swarm.lose(piece);
    this.failed(fault);
    if (away) for (const peer of [...swarm.peers]) peer.link.close(PeerFault.Evicted, null);
  }

  /** It works, or nobody wants to know. */
  end(): void {
    this.#retryAtMs = Infinity;
  }

  /** Every second. */
  tick(now: number): void {
    if (now < this.#retryAtMs) return;
    this.#retryAtMs = Infinity;
    this.retry();
  }

  /** First whether it is there, then by what waits to be written. */
  retry(): void {
    const entry = this.#entry;
    const { disk, swarm } = entry;
    if (entry.error === null || disk === null || swarm.layout === null) {
      entry.error = null;
      return entry.enter();
    }
    this.#again();
    if (disk.checking) return;
    disk.probe((fault) => {
      entry.core.begin();
      if (entry.isStopping || disk.checking) return;
      if (fault === null) swarm.storeHealth.retry();
      else {
        this.#again();
        entry.fail(fault);
      }
    });
  }

  #again(): void {
    if (!this.#entry.paused) this.#retryAtMs = this.#entry.core.turn.now + RETRY_MS;
  }
}
