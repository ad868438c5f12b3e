/** A ConversationSink that takes no notice: blocks are discarded. For those who listen to a few calls only. */

import type { PeerFault } from '../base/errors.ts';
import type { ConversationSink, ExtendedHandshake } from './conversation-sink.ts';
import type { HolepunchMessage } from './holepunch.ts';
import type { PexMessage } from './pex.ts';

export class SilentSink implements ConversationSink {
  onHandshake(_infoHash: Uint8Array, _reserved: Uint8Array): void {}
  onPeerId(_peerId: Uint8Array): void {}
  onChoke(): void {}
  onUnchoke(): void {}
  onInterested(): void {}
  onNotInterested(): void {}
  onHave(_piece: number): void {}
  onBitfield(_bits: Uint8Array): void {}
  onHaveAll(): void {}
  onHaveNone(): void {}
  onRequest(_piece: number, _begin: number, _length: number): void {}
  onCancel(_piece: number, _begin: number, _length: number): void {}
  onBlockHead(_piece: number, _begin: number, _length: number): number {
    return -1;
  }
  onBlock(_piece: number, _begin: number, _length: number, _slot: number): void {}
  onBlockAbort(_slot: number): void {}
  onReject(_piece: number, _begin: number, _length: number): void {}
  onSuggest(_piece: number): void {}
  onAllowedFast(_piece: number): void {}
  onPort(_port: number): void {}
  onExtendedHandshake(_handshake: ExtendedHandshake): void {}
  onDontHave(_piece: number): void {}
  onUploadOnly(_uploadOnly: boolean): void {}
  onMetadataRequest(_piece: number): void {}
  onMetadataData(_piece: number, _totalSize: number, _data: Uint8Array): void {}
  onMetadataReject(_piece: number): void {}
  onPex(_message: PexMessage): void {}
  onHolepunch(_message: HolepunchMessage): void {}
  onFault(_fault: PeerFault): void {}
}
