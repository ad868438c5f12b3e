/**
 * What the network thread asks of the file thread, and its answers.
 *
 * What may come by the thousand travels packed, all requests of a turn in one message, since cloning an object costs more
 * than opening a file:
 *
 *     numbers: id | op | flags | offset | span words | spans ..  | id | op | ..
 *     texts:   folder (when flags say so) | name | ..
 *
 * The rest comes as one FileRequest a message. Messages and what is in them are done in order.
 */

export const FileOp = {
  /** Opens for reading; a, b, c: descriptor, device, inode. */
  OpenRead: 1,
  /** Opens for reading and writing, makes folders and file when missing unless `flag`; a, b, c as above. */
  OpenWrite: 2,
  /** Small file: open, write, close. `spans`: offset and length in shared memory, pair by pair. */
  Write: 3,
  /** Small file: open, read whole spans, close. */
  Read: 4,
  /** a: 1 there, 0 not; b: size; c: mtime ms; d: inode; e: 1 regular. */
  Stat: 5,
  /** Makes the file and sets its size to `offset`; with `flag` only makes it. a: size before. */
  Allocate: 6,
  /** Makes a symlink to `target` (below root). */
  Link: 7,
  /** Removes `paths`, then empty folders. a: files removed. */
  Remove: 8,
  /** Moves `paths` to `target[0]`. a: files moved. */
  Move: 9,
  /** Flushes the folders of `paths`. */
  SyncFolders: 10,
  /** Forgets that the root was seen. */
  Forget: 11,
  /** Closes the descriptor `offset`: a thread that tracks its descriptors would mind others closing them. */
  Close: 12,
  /** Copies to `paths[0]` below `target[0]`, where nothing stands. a: size. */
  Copy: 13,
} as const;

export const PACK_WORDS = 5;
/** Flags of a packed request: FileRequest.flag, executable, a folder comes first, no path at all. */
export const PACK_FLAG = 1;
export const PACK_EXECUTABLE = 2;
export const PACK_FOLDER = 4;
export const PACK_NO_PATH = 8;

export interface FilePack {
  readonly numbers: Float64Array;
  readonly texts: readonly string[];
}

export const ANSWER_WORDS = 6;

/** Answers: id, a, b, c, d, e of each; the faults among them as objects. */
export interface AnswerPack {
  readonly numbers: Float64Array;
  readonly faults: readonly FileReply[];
}

export interface FileRequest {
  readonly id: number;
  readonly op: number;
  readonly root: string;
  readonly path: readonly string[];
  readonly flag: boolean;
  readonly executable: boolean;
  readonly offset: number;
  readonly paths: readonly (readonly string[])[] | null;
  readonly target: readonly string[] | null;
}

export interface FileReply {
  readonly id: number;
  readonly code: string;
  readonly message: string;
}

export interface FileWorkerData {
  readonly memory: SharedArrayBuffer;
  /** How many folders it may keep open. */
  readonly maxFolders: number;
}
