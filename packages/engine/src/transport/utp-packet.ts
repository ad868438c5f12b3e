/**
 * The uTP packet: 20 bytes of header, a chain of extensions, payload (BEP 29).
 *
 *      0       4       8               16              24              32
 *     | type  | ver 1 | extension     | connection id                 |
 *     | timestamp, microseconds                                       |
 *     | difference of the timestamps, microseconds                    |
 *     | receive window, bytes                                         |
 *     | sequence number               | acknowledge number            |
 *     | next extension | length | bytes of this one ...               |
 *
 * Unknown extensions are skipped by their length. That makes padding possible which every receiver skips and none can cut
 * short unnoticed: a packet whose chain runs past its end is dropped. Large MTU probes are padded so (utp-mtu.ts).
 */

/** Bytes of the fixed header. */
export const UTP_HEADER_BYTES = 20;

export const PacketType = { Data: 0, Fin: 1, State: 2, Reset: 3, Syn: 4 } as const;
export type PacketType = (typeof PacketType)[keyof typeof PacketType];

const VERSION = 1;
/** Selective acknowledgement (BEP 29). */
export const EXTENSION_SACK = 1;
/** Why a connection is closed: 2 bytes reserved, 2 of reason (libtorrent). */
const EXTENSION_CLOSE_REASON = 3;
/** Of no meaning; an id that nobody uses, to be skipped. */
const EXTENSION_PADDING = 0x70;
/** Most bytes of mask that are sent: 1,024 packets, what receivers keep out of order. */
export const MAX_SACK_BYTES = 128;
/** "No sample yet" of old uTorrent, which should be 0. */
const NO_SAMPLE = 0x7fffffff;

/** a - b for sequence numbers that wrap at 2^16: -32768 .. 32767. */
export function seqDiff(a: number, b: number): number {
  return ((a - b) << 16) >> 16;
}

/** True for what has the shape of uTP: enough to tell it from DHT messages and tracker answers on the same socket. */
export function isUtp(bytes: Uint8Array): boolean {
  if (bytes.length < UTP_HEADER_BYTES) return false;
  const first = bytes[0]!;
  return (first & 15) === VERSION && first >>> 4 <= PacketType.Syn;
}

/** One packet as read; the same object is used for all of them. */
export class UtpHeader {
  type = 0;
  id = 0;
  micros = 0;
  /** The sender's measure of the way from us to him; 0: none. */
  diff = 0;
  window = 0;
  seq = 0;
  ack = 0;
  /** Where the payload begins. */
  payloadAt = 0;
  /** Where the mask of the selective acknowledgement begins, and its bytes; 0 bytes: none. */
  sackAt = 0;
  sackBytes = 0;
  /** 0: none given. */
  closeReason = 0;

  /** False: no uTP, or its extensions run past the end. */
  read(b: Uint8Array): boolean {
    if (!isUtp(b)) return false;
    this.type = b[0]! >>> 4;
    this.id = (b[2]! << 8) | b[3]!;
    this.micros = ((b[4]! << 24) | (b[5]! << 16) | (b[6]! << 8) | b[7]!) >>> 0;
    const diff = ((b[8]! << 24) | (b[9]! << 16) | (b[10]! << 8) | b[11]!) >>> 0;
    this.diff = diff === NO_SAMPLE ? 0 : diff;
    this.window = ((b[12]! << 24) | (b[13]! << 16) | (b[14]! << 8) | b[15]!) >>> 0;
    this.seq = (b[16]! << 8) | b[17]!;
    this.ack = (b[18]! << 8) | b[19]!;
    this.sackBytes = 0;
    this.closeReason = 0;
    this.payloadAt = UTP_HEADER_BYTES;
    return b[1] === 0 || this.#extensions(b, b[1]!);
  }

  #extensions(b: Uint8Array, first: number): boolean {
    let at = UTP_HEADER_BYTES;
    let extension = first;
    while (extension !== 0) {
      if (at + 2 > b.length) return false;
      const next = b[at]!;
      const length = b[at + 1]!;
      at += 2;
      if (at + length > b.length) return false;
      if (extension === EXTENSION_SACK) {
        this.sackAt = at;
        this.sackBytes = length;
      } else if (extension === EXTENSION_CLOSE_REASON && length === 4) {
        this.closeReason = (b[at + 2]! << 8) | b[at + 3]!;
      }
      extension = next;
      at += length;
    }
    this.payloadAt = at;
    return true;
  }
}

/** Writes type, extension and id: what stays the same when a packet is sent again. */
export function writeFixed(b: Uint8Array, type: PacketType, extension: number, id: number, seq: number): void {
  b[0] = (type << 4) | VERSION;
  b[1] = extension;
  b[2] = id >>> 8;
  b[3] = id;
  b[16] = seq >>> 8;
  b[17] = seq;
}

/** Writes what is new with each sending. */
export function writeVarying(b: Uint8Array, micros: number, diff: number, window: number, ack: number): void {
  b[4] = micros >>> 24;
  b[5] = micros >>> 16;
  b[6] = micros >>> 8;
  b[7] = micros;
  b[8] = diff >>> 24;
  b[9] = diff >>> 16;
  b[10] = diff >>> 8;
  b[11] = diff;
  b[12] = window >>> 24;
  b[13] = window >>> 16;
  b[14] = window >>> 8;
  b[15] = window;
  b[18] = ack >>> 8;
  b[19] = ack;
}

/** Fills b[20 .. end) with a chain of padding and marks it in the header. At least 2 bytes. */
export function writePadding(b: Uint8Array, end: number): void {
  b[1] = EXTENSION_PADDING;
  let at = UTP_HEADER_BYTES;
  while (at < end) {
    let take = Math.min(257, end - at);
    // what is left must hold the two bytes of one more
    if (end - at - take === 1) take--;
    b[at] = at + take < end ? EXTENSION_PADDING : 0;
    b[at + 1] = take - 2;
    b.fill(0, at + 2, at + take);
    at += take;
  }
}
