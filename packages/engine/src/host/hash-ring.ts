/**
 * The shared memory through which the network thread and one hash worker talk: a ring of commands one way, a ring of
 * replies the other. A message port costs some 10 us of both threads for each message; the rings cost a futex wake when
 * the other side sleeps, and one port message (the *bell*) for all replies the network thread has not looked at yet.
 *
 *     Int32: | 0 head | 1 tail | 2 reply head | 3 reply tail | 4 bell | .. 16: commands .. | replies of 16 words each |
 *
 *     command: op | job index | byteLength | leafCount | stream | last | count | slot 0 | slot 1 | ...
 *     reply:   job index | digest bytes | digest, at most 52 bytes
 *
 * Heads and tails count words (replies: entries) and wrap at 2^32. Each has one writer.
 */

export const RING_HEAD = 0;
export const RING_TAIL = 1;
export const RING_REPLY_HEAD = 2;
export const RING_REPLY_TAIL = 3;
/** 1: the network thread has been told that there are replies. */
export const RING_BELL = 4;
export const RING_COMMANDS = 16;
/** Power of two. Room for 120 pieces of 4 MiB. */
export const RING_COMMAND_WORDS = 32768;
export const RING_REPLIES: number = RING_COMMANDS + RING_COMMAND_WORDS;
/** Power of two. */
export const RING_REPLY_COUNT = 256;
export const RING_REPLY_WORDS = 16;
/** Longest digest in a reply; longer ones go by message. */
export const RING_DIGEST_BYTES: number = (RING_REPLY_WORDS - 2) * 4;
export const RING_BYTES: number = (RING_REPLIES + RING_REPLY_COUNT * RING_REPLY_WORDS) * 4;
export const COMMAND_HEAD_WORDS = 7;
/** Jobs of more slots go by message (a piece of 128 MiB). */
export const COMMAND_MAX_SLOTS = 8192;

export const HashOp = {
  /** One of HashKind (1..4): hash slots. */
  Abandon: 16,
  /** A message with the job waits at the port. */
  Message: 17,
} as const;

/** What a hash worker is born with. */
export interface HashWorkerData {
  readonly memory: SharedArrayBuffer;
  /** Byte offset of slot 0's payload. */
  readonly slotBase: number;
  readonly ring: SharedArrayBuffer;
}

/** A slot job too large for the ring. */
export interface HashSlotsMessage {
  readonly type: 'slots';
  readonly index: number;
  readonly kind: number;
  readonly slots: Int32Array;
  readonly byteLength: number;
  readonly leafCount: number;
  readonly stream: number;
  readonly last: boolean;
}

/** A stretch of a piece in a file; root null: zeros. */
export interface HashFileSpan {
  readonly root: string | null;
  readonly path: readonly string[];
  readonly offset: number;
  readonly length: number;
}

export interface HashFilesMessage {
  readonly type: 'files';
  readonly index: number;
  readonly kind: number;
  readonly spans: readonly HashFileSpan[];
  readonly pieceLength: number;
  readonly leafCount: number;
}

/** A digest too long for the ring, or a job with trouble. 0 instead of a message is the bell. */
export interface HashReplyMessage {
  readonly index: number;
  readonly code: string;
  readonly message: string;
  readonly digest: Uint8Array;
}
