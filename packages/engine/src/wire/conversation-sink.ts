/**
 * What a conversation tells its owner: one call per message, integers and borrowed bytes, nothing allocated on the
 * way of a block. The owner may give commands to the same conversation from inside a call (they only append output),
 * but never bytes.
 */

import type { PeerFault } from '../base/errors.ts';
import type { HolepunchMessage } from './holepunch.ts';
import type { PexMessage } from './pex.ts';

/** The extension handshake (BEP 10) as far as we use it; absent fields are -1, null or false. */
export interface ExtendedHandshake {
  /** `v`, at most 64 characters, control characters removed. */
  readonly client: string | null;
  /** `p`: the port it listens on. */
  readonly listenPort: number;
  /** `reqq`: how many requests it queues. */
  readonly reqq: number;
  /** `metadata_size`, bytes. Not yet trusted. */
  readonly metadataSize: number;
  /** `upload_only` (BEP 21); null: not said in this handshake. */
  readonly uploadOnly: boolean | null;
  /** `yourip`: how it sees us, canonical text. */
  readonly yourIp: string | null;
  /** `e`: whether it prefers encrypted connections; null: not said in this handshake. */
  readonly encryption: boolean | null;
}

export interface ConversationSink {
  /**
   * The head of the handshake is in (48 bytes): protocol, reserved bits, info-hash. For an incoming conversation the
   * owner looks the torrent up and answers with `conversation.handshake(...)`, or closes. `infoHash` is borrowed.
   */
  onHandshake(infoHash: Uint8Array, reserved: Uint8Array): void;
  /** The peer id (20 bytes, borrowed) is in: the handshake is complete, messages follow. */
  onPeerId(peerId: Uint8Array): void;

  onChoke(): void;
  onUnchoke(): void;
  onInterested(): void;
  onNotInterested(): void;
  onHave(piece: number): void;
  /** Borrowed. Its length was checked when the piece count is known, and only bounded otherwise. */
  onBitfield(bits: Uint8Array): void;
  onHaveAll(): void;
  onHaveNone(): void;
  /** begin and length are as sent: only length 1..131072 and index < 2^31 were checked. */
  onRequest(piece: number, begin: number, length: number): void;
  onCancel(piece: number, begin: number, length: number): void;
  /** The header of a block is in. Returns the slot to put the payload into, or -1 to discard it. */
  onBlockHead(piece: number, begin: number, length: number): number;
  /** The payload is in its slot. Not called for a discarded block. */
  onBlock(piece: number, begin: number, length: number, slot: number): void;
  /**
   * The conversation ended in the middle of a payload, or the block was given up: the slot is the owner's again, its
   * content worthless.
   */
  onBlockAbort(slot: number): void;
  onReject(piece: number, begin: number, length: number): void;
  onSuggest(piece: number): void;
  onAllowedFast(piece: number): void;
  /** BEP 5 PORT message. */
  onPort(port: number): void;
  onExtendedHandshake(handshake: ExtendedHandshake): void;
  /** BEP 54. */
  onDontHave(piece: number): void;
  /** BEP 21 live message of LT (`upload_only`). */
  onUploadOnly(uploadOnly: boolean): void;
  /** BEP 9. `totalSize` as sent. `data` is borrowed. */
  onMetadataRequest(piece: number): void;
  onMetadataData(piece: number, totalSize: number, data: Uint8Array): void;
  onMetadataReject(piece: number): void;
  /** BEP 11; only when it was offered. Usable addresses only, its arrays are the owner's. How often they come is not checked. */
  onPex(message: PexMessage): void;
  /** BEP 55; only when it was offered. */
  onHolepunch(message: HolepunchMessage): void;
  /** The peer broke the protocol; the conversation takes no more bytes. The owner closes the transport. */
  onFault(fault: PeerFault): void;
}
