/** A file that is or was used: its descriptor, what was found out of it, and the accesses that wait for it. */

import type { FileRef } from '../base/ports.ts';
import type { FileAccess } from './file-access.ts';

/** How often no descriptor is found before that is a fault. */
const PATIENCE = 200;

export class KnownFile {
  readonly ref: FileRef;
  fd = -1;
  writable = false;
  /** Calls that use the descriptor. */
  busy = 0;
  opening = false;
  /** Close once not busy. */
  doomed = false;
  smallUses = 0;
  lookedMs = 0;
  device = 0;
  inode = 0;
  /** All that was written through here is on the medium. */
  synced = false;
  writes = 0;
  /** How often it may still find no descriptor. */
  patience: number = PATIENCE;
  /** Where the furthest write through here ended: a file that is shorter was cut underneath. */
  end = 0;
  readonly waiting: FileAccess[] = [];
  /** The write under way, and those behind it: the system lets one write into a file at a time and others spin. */
  writing: FileAccess | null = null;
  readonly toWrite: FileAccess[] = [];
  readonly whenIdle: (() => void)[] = [];

  constructor(ref: FileRef) {
    this.ref = ref;
  }

  /** For people. */
  get path(): string {
    return [this.ref.root, ...this.ref.path].join('/');
  }

  get idle(): boolean {
    return this.busy === 0 && !this.opening && this.waiting.length === 0;
  }

  /** The search for a descriptor is over. */
  restorePatience(): void {
    this.patience = PATIENCE;
  }
}
