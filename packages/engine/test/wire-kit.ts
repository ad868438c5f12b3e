/** What the tests of wire/ share: messages made by hand, a sink that writes down every call, greeted conversations. */

import { concat, fromHex, toHex } from '../src/base/bytes.ts';
import type { PeerFault } from '../src/base/errors.ts';
import { BLOCK_BYTES, SlotPool } from '../src/base/slot-pool.ts';
import { Conversation } from '../src/wire/conversation.ts';
import type { ConversationSink, ExtendedHandshake } from '../src/wire/conversation-sink.ts';
import type { HolepunchMessage } from '../src/wire/holepunch.ts';
import type { PexMessage } from '../src/wire/pex.ts';

export const HASH = new Uint8Array(20).fill(0xaa);
export const OTHER_HASH = new Uint8Array(20).fill(0xbb);
export const MY_ID = new Uint8Array(20).fill(0x2d);
export const THEIR_ID = new Uint8Array(20).fill(0x2b);
export const FAST = '0000000000100004';
export const PLAIN = '0000000000000000';
export const PROTOCOL = '13426974546f7272656e742070726f746f636f6c';

export function hex(text: string): Uint8Array {
  return fromHex(text.replaceAll(' ', ''))!;
}

export function greeting(reserved: string, hash = HASH): Uint8Array {
  return concat([hex(PROTOCOL + reserved), hash, THEIR_ID]);
}

/** A message by hand, so that the encoders are not tested against themselves. */
export function message(id: number, body: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(5 + body.length);
  new DataView(bytes.buffer).setUint32(0, 1 + body.length);
  bytes[4] = id;
  bytes.set(body, 5);
  return bytes;
}

export function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value);
  return bytes;
}

export function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

export function extended(id: number, body: string | Uint8Array): Uint8Array {
  return message(20, concat([Uint8Array.of(id), typeof body === 'string' ? ascii(body) : body]));
}

export function sum(bytes: Uint8Array): number {
  let h = 17;
  for (let i = 0; i < bytes.length; i++) h = (Math.imul(h, 31) + bytes[i]!) | 0;
  return h;
}

export function makePool(count = 16): SlotPool {
  const buffer = new ArrayBuffer(SlotPool.bytesFor(65536, count));
  const bytes = new Uint8Array(buffer);
  return new SlotPool(
    { buffer, copy: (target, source, length) => bytes.copyWithin(target, source, source + length) },
    65536,
    count,
  );
}

/** Writes down every call; takes slots for blocks while there are, and gives them back. */
export class Recorder implements ConversationSink {
  log: string[] = [];
  refuseBlocks = false;
  inSlot = 0;
  readonly slots: SlotPool;
  on: (call: string) => void = () => {};

  constructor(slots: SlotPool) {
    this.slots = slots;
  }

  say(call: string): void {
    this.log.push(call);
    this.on(call);
  }

  onHandshake(infoHash: Uint8Array, reserved: Uint8Array): void {
    this.say(`handshake ${toHex(infoHash)} ${toHex(reserved)}`);
  }
  onPeerId(peerId: Uint8Array): void {
    this.say(`peerId ${toHex(peerId)}`);
  }
  onChoke(): void {
    this.say('choke');
  }
  onUnchoke(): void {
    this.say('unchoke');
  }
  onInterested(): void {
    this.say('interested');
  }
  onNotInterested(): void {
    this.say('notInterested');
  }
  onHave(piece: number): void {
    this.say(`have ${piece}`);
  }
  onBitfield(bits: Uint8Array): void {
    this.say(`bitfield ${bits.length} ${sum(bits)}`);
  }
  onHaveAll(): void {
    this.say('haveAll');
  }
  onHaveNone(): void {
    this.say('haveNone');
  }
  onRequest(piece: number, begin: number, length: number): void {
    this.say(`request ${piece} ${begin} ${length}`);
  }
  onCancel(piece: number, begin: number, length: number): void {
    this.say(`cancel ${piece} ${begin} ${length}`);
  }
  onBlockHead(piece: number, begin: number, length: number): number {
    const slot = this.refuseBlocks || length > BLOCK_BYTES ? -1 : this.slots.take();
    if (slot >= 0) this.inSlot++;
    this.say(`head ${piece} ${begin} ${length}`);
    return slot;
  }
  onBlock(piece: number, begin: number, length: number, slot: number): void {
    this.say(`block ${piece} ${begin} ${length} ${sum(this.slots.payload(slot).subarray(0, length))}`);
    this.slots.release(slot);
    this.inSlot--;
  }
  onBlockAbort(slot: number): void {
    this.say('abort');
    this.slots.release(slot);
    this.inSlot--;
  }
  onReject(piece: number, begin: number, length: number): void {
    this.say(`reject ${piece} ${begin} ${length}`);
  }
  onSuggest(piece: number): void {
    this.say(`suggest ${piece}`);
  }
  onAllowedFast(piece: number): void {
    this.say(`allowedFast ${piece}`);
  }
  onPort(port: number): void {
    this.say(`port ${port}`);
  }
  onExtendedHandshake(handshake: ExtendedHandshake): void {
    this.say(`extended ${JSON.stringify(handshake)}`);
  }
  onDontHave(piece: number): void {
    this.say(`dontHave ${piece}`);
  }
  onUploadOnly(uploadOnly: boolean): void {
    this.say(`uploadOnly ${uploadOnly}`);
  }
  onMetadataRequest(piece: number): void {
    this.say(`metadataRequest ${piece}`);
  }
  onMetadataData(piece: number, totalSize: number, data: Uint8Array): void {
    this.say(`metadataData ${piece} ${totalSize} ${data.length} ${sum(data)}`);
  }
  onMetadataReject(piece: number): void {
    this.say(`metadataReject ${piece}`);
  }
  onPex({ added4, flags4, added6, flags6, dropped4, dropped6 }: PexMessage): void {
    this.say(`pex ${[added4, flags4, added6, flags6, dropped4, dropped6].map(toHex).join()}`);
  }
  onHolepunch(message: HolepunchMessage): void {
    this.say(`holepunch ${message.kind} ${toHex(message.ip)} ${message.port} ${message.error}`);
  }
  onFault(fault: PeerFault): void {
    this.say(`fault ${fault}`);
  }
}

export interface Party {
  readonly slots: SlotPool;
  readonly sink: Recorder;
  readonly conversation: Conversation;
}

export function party(outgoing = false, slots = makePool()): Party {
  const sink = new Recorder(slots);
  return { slots, sink, conversation: new Conversation(slots, outgoing, sink) };
}

export const OWN = {
  client: 'Shoal 0.1',
  listenPort: 6881,
  reqq: 2000,
  metadataSize: 40000,
  uploadOnly: false,
  yourIp: '10.0.0.1',
  privateTorrent: false,
  pex: true,
  holepunch: true,
};

/** Greeted both ways, with our extension handshake out and taken; the log begins afterwards. */
export function greeted(reserved = FAST, pieceCount = 100): Party {
  const made = party();
  made.conversation.receive(1, greeting(reserved));
  made.conversation.handshake(HASH, MY_ID);
  made.conversation.extendedHandshake(OWN);
  if (pieceCount >= 0) made.conversation.setPieceCount(pieceCount);
  drain(made.conversation);
  made.sink.log = [];
  return made;
}

/** All output as one array. */
export function drain(conversation: Conversation, maxBytes = 1 << 30): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let batch = conversation.takeOut(maxBytes); batch !== null; batch = conversation.takeOut(maxBytes)) {
    const joined = concat(batch.views.slice(0, batch.count));
    if (joined.length !== batch.bytes) throw new Error('a batch that miscounts its bytes');
    parts.push(joined);
    conversation.sentOut();
  }
  return concat(parts);
}

export function said(conversation: Conversation): string {
  return toHex(drain(conversation));
}

export const HAVE_NONE: Uint8Array = message(15);
