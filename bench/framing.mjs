/**
 * What the peer protocol costs without sockets: small messages and 16 KiB blocks in and out of one Conversation, the
 * pool in plain memory and in memory shared with workers. Reads end at odd places, so that heads and payloads are split
 * and never aligned with their slots. `npm run build` first; `node --expose-gc bench/framing.mjs [seconds per line]`.
 */

import { SlotPool } from '../packages/engine/dist/src/base/slot-pool.js';
import { makeSlotMemory } from '../packages/engine/dist/src/host/slot-memory.js';
import { Conversation } from '../packages/engine/dist/src/wire/conversation.js';
import { SilentSink } from '../packages/engine/dist/src/wire/silent-sink.js';

const SECONDS = Number(process.argv[2] ?? 1);
const RECEIVE_BYTES = 262144;
const SLOTS = 1024;
const BLOCK = 16384;

class Sink extends SilentSink {
  count = 0;
  constructor(slots) {
    super();
    this.slots = slots;
    this.held = new Int32Array(SLOTS / 2).fill(-1);
  }
  onHave() {
    this.count++;
  }
  onRequest() {
    this.count++;
  }
  onBlockHead() {
    return this.slots.take();
  }
  onBlock(_piece, _begin, _length, slot) {
    // held for a while, as until the hash is known: the next block goes elsewhere in memory
    const at = this.count++ & (this.held.length - 1);
    if (this.held[at] >= 0) this.slots.release(this.held[at]);
    this.held[at] = slot;
  }
}

function plainMemory(bytes) {
  const buffer = new ArrayBuffer(bytes);
  const all = new Uint8Array(buffer);
  return { buffer, copy: (target, source, length) => all.copyWithin(target, source, source + length) };
}

function open(memory) {
  const slots = new SlotPool(memory(SlotPool.bytesFor(RECEIVE_BYTES, SLOTS)), RECEIVE_BYTES, SLOTS);
  const sink = new Sink(slots);
  const conversation = new Conversation(slots, true, sink);
  const other = new Conversation(slots, false, new SilentSink());
  other.handshake(new Uint8Array(20), new Uint8Array(20));
  conversation.handshake(new Uint8Array(20), new Uint8Array(20));
  for (const [from, to] of [
    [other, conversation],
    [conversation, other],
  ]) {
    to.receive(0, from.takeOut(1 << 20).views[0]);
    from.sentOut();
  }
  conversation.setPieceCount(100000);
  // the bitfield that has to come first
  conversation.receive(0, Uint8Array.of(0, 0, 0, 1, 15));
  return { slots, sink, conversation, other };
}

/** Lays messages one after the other into the receive buffer and cuts them into reads at odd places. */
function reads(slots, messages, cuts) {
  let end = 1;
  for (const message of messages) {
    slots.receive.set(message, end);
    end += message.length;
  }
  const marks = [1, ...cuts.map((share) => 1 + Math.floor((end - 1) * share)), end];
  return marks.slice(1).map((mark, i) => slots.receive.subarray(marks[i], mark));
}

function request(piece, begin) {
  const bytes = new Uint8Array(17);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 13);
  bytes[4] = 6;
  view.setUint32(5, piece);
  view.setUint32(9, begin);
  view.setUint32(13, BLOCK);
  return bytes;
}

function have(piece) {
  const bytes = new Uint8Array(9);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 5);
  bytes[4] = 4;
  view.setUint32(5, piece);
  return bytes;
}

function block(piece, begin) {
  const bytes = new Uint8Array(13 + BLOCK).fill(piece);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 9 + BLOCK);
  bytes[4] = 7;
  view.setUint32(5, piece);
  view.setUint32(9, begin);
  return bytes;
}

/** Runs `once` (which returns how many things it did) for a while; things per second, the best of three. */
function rate(once) {
  let best = 0;
  for (let run = 0; run < 4; run++) {
    const start = process.hrtime.bigint();
    const until = start + BigInt(Math.round((SECONDS * 1e9) / 3));
    let done = 0;
    let now = start;
    while (now < until) {
      for (let i = 0; i < 32; i++) done += once();
      now = process.hrtime.bigint();
    }
    const perSecond = done / (Number(now - start) / 1e9);
    if (run > 0 && perSecond > best) best = perSecond;
  }
  return best;
}

function show(name, perSecond, bytesEach) {
  const gib = (perSecond * bytesEach) / 2 ** 30;
  console.log(
    `${name.padEnd(44)} ${(perSecond / 1e6).toFixed(2).padStart(8)} M/s ${gib.toFixed(2).padStart(8)} GiB/s ${(1 / gib).toFixed(4).padStart(8)} s/GiB`,
  );
}

function receiving(name, memory, messages, cuts, bytesEach) {
  const { slots, sink, conversation } = open(memory);
  const parts = reads(slots, messages, cuts);
  let now = 0;
  const perSecond = rate(() => {
    const before = sink.count;
    for (let i = 0; i < parts.length; i++) conversation.receive(++now, parts[i]);
    return sink.count - before;
  });
  show(name, perSecond, bytesEach);
}

function sending(name, memory, say, bytesEach) {
  const { slots, conversation } = open(memory);
  const perSecond = rate(() => {
    const count = say(conversation, slots);
    while (conversation.takeOut(1 << 20) !== null) conversation.sentOut();
    return count;
  });
  show(name, perSecond, bytesEach);
}

/** Memory of conversations that have greeted and fallen silent. */
function idle() {
  if (globalThis.gc === undefined) return;
  const { slots } = open(makeSlotMemory);
  const sink = new SilentSink();
  const kept = [];
  globalThis.gc();
  globalThis.gc();
  const before = process.memoryUsage();
  const greeting = new Uint8Array(68).fill(0);
  greeting.set([19, ...Buffer.from('BitTorrent protocol')]);
  for (let i = 0; i < 10000; i++) {
    const c = new Conversation(slots, false, sink);
    c.receive(0, greeting);
    c.handshake(new Uint8Array(20), new Uint8Array(20));
    c.takeOut(1 << 20);
    c.sentOut();
    c.trim();
    kept.push(c);
  }
  globalThis.gc();
  const after = process.memoryUsage();
  const each = (after.heapUsed + after.external - before.heapUsed - before.external) / kept.length;
  console.log(`${'idle conversation'.padEnd(44)} ${Math.round(each)} bytes`);
}

idle();
for (const [kind, memory] of [
  ['plain', plainMemory],
  ['shared', makeSlotMemory],
]) {
  const requests = Array.from({ length: 3000 }, (_, i) => request(i, i * 16));
  const haves = Array.from({ length: 3000 }, (_, i) => have(i));
  const blocks = Array.from({ length: 15 }, (_, i) => block(i, i * BLOCK));
  receiving(`in, ${kind}: requests`, memory, requests, [0.3333, 0.777], 17);
  receiving(`in, ${kind}: haves`, memory, haves, [0.3333, 0.777], 9);
  receiving(`in, ${kind}: blocks, 240 KiB reads`, memory, blocks, [], BLOCK);
  receiving(`in, ${kind}: blocks, 60 KiB reads`, memory, blocks, [0.2501, 0.5003, 0.7507], BLOCK);
  const segments = Array.from({ length: 168 }, (_, i) => (i + 1) / 169);
  receiving(`in, ${kind}: blocks, 1.4 KiB reads`, memory, blocks, segments, BLOCK);
}

sending(
  'out: requests',
  makeSlotMemory,
  (c) => {
    for (let i = 0; i < 64; i++) c.request(i, i * 16, BLOCK);
    return 64;
  },
  17,
);
sending(
  'out: blocks',
  makeSlotMemory,
  (c, slots) => {
    for (let i = 0; i < 64; i++) c.pieceBlock(slots.take(), i, i * BLOCK);
    return 64;
  },
  BLOCK,
);
