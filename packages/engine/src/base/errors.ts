/**
 * The three kinds of trouble. A *peer fault* closes that peer and is a number, so that the hot path makes no object. An
 * *io fault* belongs to a file, socket or server and is shown to the user with what it was about. *Our bug* throws
 * (`assert`). A `ShoalError` is what the public API rejects with.
 */

/** Something in the world did not work: a disk, a socket, a server. Shown to users; holds no stack. */
export interface IoFault {
  /** errno name where the system gave one (ENOSPC, ECONNREFUSED), else one of ours (ETIMEOUT, ETOOBIG, EIO_SHORT, ELOCKED, ...). */
  readonly code: string;
  /** One sentence for a person, naming the path or address. */
  readonly message: string;
}

export const PeerFault = {
  /** Not a BitTorrent handshake, or of another torrent. */
  BadHandshake: 1,
  /** It is ourselves. */
  SelfConnection: 2,
  /** Message longer than any legal one. */
  TooLong: 3,
  /** Message of a wrong length for its kind. */
  BadLength: 4,
  /** Piece index, begin or length outside the torrent. */
  OutOfRange: 5,
  /** Bitfield late, of wrong size or with spare bits set. */
  BadBitfield: 6,
  /** A message of the fast extension without it being agreed, or against its rules. */
  BadFast: 7,
  /** Extension message that cannot be read. */
  BadExtended: 8,
  /** More of something than any honest peer sends. */
  Flood: 9,
  /** Took part in too many corrupt pieces. */
  Corrupt: 10,
  /** Nothing heard for too long. */
  Timeout: 11,
  /** Rejects request after request. */
  Rejects: 12,
  /** Neither side has use for the other. */
  Redundant: 13,
  /** Does not take what it asked for. */
  StalledReader: 14,
  /** Room needed, or the torrent stops. */
  Evicted: 15,
  Banned: 16,
  /** Same peer twice. */
  Duplicate: 17,
  /** The transport failed or ended. */
  Closed: 18,
} as const;
export type PeerFault = (typeof PeerFault)[keyof typeof PeerFault];

/** Codes of public errors; the command line maps them to exit codes. */
export type ShoalErrorCode =
  | 'bad-torrent'
  | 'bad-magnet'
  | 'bad-option'
  | 'bad-piece'
  | 'disk'
  | 'in-use'
  | 'duplicate'
  | 'no-peers'
  | 'aborted'
  | 'closed'
  | 'network';

/** What the public API throws or rejects with. `message` is one sentence for a person. */
export class ShoalError extends Error {
  readonly code: ShoalErrorCode;

  constructor(code: ShoalErrorCode, message: string) {
    super(message);
    this.name = 'ShoalError';
    this.code = code;
  }
}
