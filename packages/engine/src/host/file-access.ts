/**
 * One read, write or sync of a file that is known here: what is to be moved, how far that is, and the writes that go out
 * with it.
 *
 * Limits: 512 buffers a call.
 */

import type { FileSink } from '../base/ports.ts';
import type { KnownFile } from './known-file.ts';

export const AccessKind = { Read: 0, Write: 1, Sync: 2 } as const;

/** Buffers a call; the system takes 1,024 and stops silently there. */
const MAX_VIEWS = 512;

export class FileAccess {
  readonly kind: number;
  readonly job: number;
  readonly file: KnownFile;
  readonly offset: number;
  readonly sink: FileSink;
  /** Writes that follow right behind in the file and go out with this one. */
  readonly followers: FileAccess[] = [];
  /** Bytes moved so far. */
  bytes = 0;
  #views: readonly Uint8Array[];
  /** Where that is: view index and bytes into it. */
  #view = 0;
  #at = 0;

  constructor(
    kind: number,
    job: number,
    file: KnownFile,
    offset: number,
    views: readonly Uint8Array[],
    sink: FileSink,
  ) {
    this.kind = kind;
    this.job = job;
    this.file = file;
    this.offset = offset;
    this.#views = views;
    this.sink = sink;
  }

  /** In bytes, with its followers. */
  get length(): number {
    let bytes = 0;
    for (const view of this.#views) bytes += view.length;
    return bytes;
  }

  get isDone(): boolean {
    return this.#view === this.#views.length;
  }

  /** What one call may move: all that is left, at most MAX_VIEWS views. */
  remaining(): readonly Uint8Array[] {
    if (this.#view === 0 && this.#at === 0 && this.#views.length <= MAX_VIEWS) return this.#views;
    const views = this.#views.slice(this.#view, this.#view + MAX_VIEWS);
    if (this.#at > 0) views[0] = views[0]!.subarray(this.#at);
    return views;
  }

  /** So many more bytes were moved. */
  advance(bytes: number): void {
    this.bytes += bytes;
    for (let left = bytes; left > 0; ) {
      const room = this.#views[this.#view]!.length - this.#at;
      if (left < room) {
        this.#at += left;
        break;
      }
      left -= room;
      this.#view += 1;
      this.#at = 0;
    }
    while (this.#view < this.#views.length && this.#views[this.#view]!.length === 0) this.#view += 1;
  }

  /** Takes off `queue` what is to be written right behind this, to go out in the same call. */
  join(queue: FileAccess[]): void {
    let end = this.offset + this.length;
    while (queue.length > 0 && queue[0]!.offset === end && this.#views.length + queue[0]!.#views.length <= MAX_VIEWS) {
      const follower = queue.shift()!;
      this.followers.push(follower);
      this.#views = [...this.#views, ...follower.#views];
      end += follower.length;
    }
  }
}
