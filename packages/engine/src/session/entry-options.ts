/** What a torrent is added with, and what it tells whoever added it. */

import type { IoFault } from '../base/errors.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import type { ResumeRecord } from '../disk/resume.ts';
import type { OldFiles } from '../disk/reuse.ts';
import type { Entry } from './entry.ts';
import type { TorrentState } from './types.ts';

export interface EntryOptions {
  /** Known from a .torrent file; null for a magnet whose metadata must be fetched. */
  readonly meta: Metainfo | null;
  readonly infoHash: Uint8Array | null;
  readonly infoHashV2: Uint8Array | null;
  readonly name: string;
  readonly folder: string;
  readonly trackers: readonly (readonly string[])[];
  /** A user has changed them: they are not the torrent's own any more. */
  readonly trackersEdited: boolean;
  readonly webSeeds: readonly string[];
  /** Indices into `meta.files`, pads counted (or not); null: all. */
  readonly select: readonly number[] | null;
  readonly selectSkipsPads: boolean;
  /** Per file 0..7, from an earlier run; null: all alike. */
  readonly priorities: Uint8Array | null;
  readonly sequential: boolean;
  readonly firstAndLast: boolean;
  readonly preallocate: 'sparse' | 'full';
  readonly existing: 'check' | 'trust';
  readonly downloadLimit: number;
  readonly uploadLimit: number;
  /** Name of the group whose limits it shares, or null. */
  readonly group: string | null;
  readonly paused: boolean;
  /** What the state store had of it. */
  readonly record: ResumeRecord | null;
  /**
   * Called once the metadata is there, before anything on disk is looked at; the entry waits until `go`, and takes from the
   * old files what it may share with them. Null: it does not wait.
   */
  readonly prelude: Prelude | null;
  readonly sink: EntrySink;
}

export type Prelude = (meta: Metainfo, go: (old: OldFiles | null) => void) => void;

/** What the public face hears of a torrent. */
export interface EntrySink {
  onState(entry: Entry, state: TorrentState): void;
  onMetadata(entry: Entry, meta: Metainfo): void;
  onVerified(entry: Entry, piece: number): void;
  onDone(entry: Entry): void;
  onError(entry: Entry, fault: IoFault): void;
  onWarning(entry: Entry, message: string): void;
}
