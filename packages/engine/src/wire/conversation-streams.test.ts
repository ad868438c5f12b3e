import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  drain,
  extended,
  FAST,
  greeting,
  HASH,
  HAVE_NONE,
  MY_ID,
  makePool,
  message,
  OWN,
  type Party,
  PLAIN,
  party,
  type Recorder,
  sum,
  THEIR_ID,
  words,
} from '../../test/wire-kit.ts';
import { Bitfield } from '../base/bitfield.ts';
import { concat } from '../base/bytes.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';

const index = fc.oneof(fc.nat(99), fc.constantFrom(100, 2097152, 0xffffffff));
const small = fc.uint8Array({ maxLength: 40 });
const legal: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.nat(3).map((id) => message(id)),
  fc.nat(99).map((i) => message(4, words(i))),
  fc
    .tuple(fc.constantFrom(6, 8, 16), fc.nat(99), fc.nat(1 << 20), fc.integer({ min: 1, max: 131072 }))
    .map(([id, piece, begin, length]) => message(id, words(piece, begin, length))),
  fc
    .tuple(fc.nat(99), fc.nat(1 << 20), fc.integer({ min: 1, max: 16384 }), fc.nat(255))
    .map(([piece, begin, length, seed]) =>
      message(7, concat([words(piece, begin), Uint8Array.from({ length }, (_, i) => i * seed)])),
    ),
  fc.constant(words(0)),
  fc.tuple(fc.integer({ min: 24, max: 255 }), small).map(([id, body]) => message(id, body)),
  fc.constantFrom(
    extended(0, 'd1:md11:lt_donthavei7e11:ut_metadatai9eee'),
    extended(1, 'd8:msg_typei0e5:piecei3ee'),
    extended(1, `d8:msg_typei1e5:piecei1e10:total_sizei16386ee${'q'.repeat(3000)}`),
    extended(2, words(98)),
    extended(3, Uint8Array.of(0)),
    extended(99, 'z'.repeat(500)),
  ),
);
const any: fc.Arbitrary<Uint8Array> = fc.oneof(
  { weight: 20, arbitrary: legal },
  { weight: 1, arbitrary: fc.tuple(fc.nat(24), small).map(([id, body]) => message(id, body)) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(24), index).map(([id, i]) => message(id, words(i, 0, 16384))) },
  { weight: 1, arbitrary: small },
);
const stream = fc
  .tuple(fc.constantFrom(FAST, PLAIN), fc.array(any, { maxLength: 30 }))
  .map(([reserved, rest]) => concat([greeting(reserved), ...(reserved === FAST ? [HAVE_NONE] : []), ...rest]));

/** Feeds `bytes` cut into lengths that `cuts` gives in turn; through the pool's own memory or the heap. */
function feed(bytes: Uint8Array, cuts: readonly number[], own: boolean): Recorder {
  const { slots, sink, conversation } = party();
  sink.on = (call) => {
    if (!call.startsWith('handshake')) return;
    conversation.handshake(HASH, MY_ID);
    conversation.extendedHandshake(OWN);
    conversation.setPieceCount(100);
  };
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const n = Math.min(cuts[i % cuts.length]!, bytes.length - at, own ? slots.receive.length : Infinity);
    const piece = bytes.subarray(at, at + n);
    if (own) slots.receive.set(piece);
    conversation.receive(i, own ? slots.receive.subarray(0, n) : piece);
    at += n;
    expect(conversation.heldBytes).toBeLessThanOrEqual(Math.min(Math.max(64, 2 * at), MAX_MESSAGE_BYTES + 4));
  }
  expect(slots.freeCount).toBe(slots.count - sink.inSlot);
  conversation.close();
  expect(slots.freeCount).toBe(slots.count);
  expect(sink.log.filter((call) => call.startsWith('fault')).length).toBeLessThanOrEqual(1);
  return sink;
}

describe('streams', () => {
  it('mean the same however they are cut', () => {
    fc.assert(
      fc.property(
        stream,
        fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 9000 })), { minLength: 1 }),
        fc.boolean(),
        (bytes, cuts, own) => {
          expect(feed(bytes, cuts, own).log).toEqual(feed(bytes, [bytes.length], false).log);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('mean the same byte by byte', () => {
    fc.assert(
      fc.property(stream, (bytes) => {
        expect(feed(bytes, [1], true).log).toEqual(feed(bytes, [bytes.length], false).log);
      }),
      { numRuns: 30 },
    );
  });

  it('of hostile bytes neither throw, leak nor fill memory', () => {
    fc.assert(
      fc.property(
        stream,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        fc.uint8Array({ maxLength: 200 }),
        fc.integer({ min: 1, max: 5000 }),
        (bytes, changes, tail, cut) => {
          const changed = bytes.slice();
          // the handshake stays, or most runs would end there
          for (const [where, value] of changes) changed[68 + (where % Math.max(1, changed.length - 68))] = value;
          feed(concat([changed, tail]), [cut], false);
          feed(concat([bytes.subarray(0, 68), tail, bytes.subarray(68)]), [cut], true);
        },
      ),
      { numRuns: 500 },
    );
  });
});

type Command = readonly [number, number, number, number];
const command: fc.Arbitrary<Command> = fc.tuple(fc.nat(17), fc.nat(99), fc.nat(1000), fc.nat(16383));

/** Gives a command and says what the other side must hear, if anything. */
function give(from: Party, [kind, piece, begin, n]: Command): string | null {
  const c = from.conversation;
  const length = n + 1;
  const flag = (n & 1) === 0;
  switch (kind) {
    case 0:
      return [c.amChoking, c.choke()][0] ? null : 'choke';
    case 1:
      return [c.amChoking, c.unchoke()][0] ? 'unchoke' : null;
    case 2:
      return [c.amInterested, c.interested()][0] ? null : 'interested';
    case 3:
      return [c.amInterested, c.notInterested()][0] ? 'notInterested' : null;
    case 4:
      c.have(piece);
      return `have ${piece}`;
    case 5:
      c.request(piece, begin, length);
      return `request ${piece} ${begin} ${length}`;
    case 6:
      c.cancel(piece, begin, length);
      return `cancel ${piece} ${begin} ${length}`;
    case 7:
      c.reject(piece, begin, length);
      return `reject ${piece} ${begin} ${length}`;
    case 8:
      c.suggest(piece);
      return `suggest ${piece}`;
    case 9:
      c.allowedFast(piece);
      return `allowedFast ${piece}`;
    case 10:
      c.keepAlive();
      return null;
    case 11:
      c.dontHave(piece);
      return `dontHave ${piece}`;
    case 12:
      c.uploadOnly(flag);
      return `uploadOnly ${flag}`;
    case 13:
      c.metadataRequest(piece);
      return `metadataRequest ${piece}`;
    case 14: {
      const data = new Uint8Array(length).fill(piece);
      c.metadataData(piece, 99999, data);
      return `metadataData ${piece} 99999 ${length} ${sum(data)}`;
    }
    default:
      return giveBlock(from, kind, piece, begin, length);
  }
}

function giveBlock(from: Party, kind: number, piece: number, begin: number, length: number): string | null {
  const { slots } = from;
  const c = from.conversation;
  // one is left to receive into
  if (slots.freeCount < 3) return null;
  const [a, b] = [slots.take(), slots.take()];
  slots.payload(a).fill(piece);
  slots.payload(b).fill(begin);
  let data = slots.payload(a).slice();
  if (kind === 15) {
    // a third party sends the same block at the same time
    slots.retain(a);
    c.pieceBlock(a, piece, begin);
    c.pieceBlock(a, piece, begin);
    slots.release(b);
    const call = `block ${piece} ${begin} ${BLOCK_BYTES} ${sum(data)}`;
    return `head ${piece} ${begin} ${BLOCK_BYTES}|${call}|head ${piece} ${begin} ${BLOCK_BYTES}|${call}`;
  }
  const offset = Math.min(begin, BLOCK_BYTES - length);
  if (kind === 16) {
    c.pieceSlice(a, offset, piece, begin, length);
    slots.release(b);
    data = data.subarray(offset, offset + length);
  } else {
    const from_ = BLOCK_BYTES - 1 - (begin % 50);
    c.pieceSpan(Int32Array.of(a, b), 2, from_, piece, begin, length);
    data = concat([data, slots.payload(b)]).slice(from_, from_ + length);
  }
  return `head ${piece} ${begin} ${length}|block ${piece} ${begin} ${length} ${sum(data)}`;
}

/** Moves one batch from one to the other in pieces of at most `cut`; commands may be given while it is out. */
function carry(from: Party, to: Party, maxBytes: number, cut: number, meanwhile: () => void): boolean {
  const batch = from.conversation.takeOut(maxBytes, 5);
  if (batch === null) return false;
  expect(batch.bytes).toBeLessThanOrEqual(Math.max(maxBytes, BLOCK_BYTES + 13));
  meanwhile();
  const bytes = concat(batch.views.slice(0, batch.count));
  for (let at = 0; at < bytes.length; at += cut) to.conversation.receive(6, bytes.subarray(at, at + cut));
  from.conversation.sentOut();
  return true;
}

describe('two conversations', () => {
  it('hear from each other just what was said, and give every slot back', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), command), { maxLength: 80 }),
        fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 60000 }), fc.integer({ min: 1, max: 40000 })), {
          minLength: 1,
          maxLength: 10,
        }),
        fc.boolean(),
        (commands, moves, closeEarly) => {
          const a = party(true, makePool(12));
          const b = party(false, makePool(12));
          const heard: [string[], string[]] = [[], []];
          introduce(a, b);
          let next = 0;
          const speak = () => {
            for (let i = 0; i < 5 && next < commands.length; i++) {
              const [byA, cmd] = commands[next++]!;
              const call = byA ? give(a, cmd) : give(b, cmd);
              if (call !== null) heard[byA ? 1 : 0].push(...call.split('|'));
            }
          };
          for (let i = 0; next < commands.length || queued(a, b) > 0; i++) {
            const [fromA, maxBytes, cut] = moves[(i >> 1) % moves.length]!;
            const turned = i % 2 === 1 ? !fromA : fromA;
            if (!carry(turned ? a : b, turned ? b : a, maxBytes, cut, speak)) speak();
            if (closeEarly && next >= commands.length) break;
          }
          if (!closeEarly) {
            expect(a.sink.log).toEqual(heard[0]);
            expect(b.sink.log).toEqual(heard[1]);
          } else if (a.conversation.queuedBytes > 0) a.conversation.takeOut(20000);
          a.conversation.close();
          b.conversation.close();
          expect([a.slots.freeCount, b.slots.freeCount]).toEqual([12, 12]);
        },
      ),
      { numRuns: 200 },
    );
  });
});

function queued(a: Party, b: Party): number {
  return a.conversation.queuedBytes + b.conversation.queuedBytes;
}

function introduce(a: Party, b: Party): void {
  b.sink.on = (call) => {
    if (call.startsWith('handshake')) b.conversation.handshake(HASH, THEIR_ID);
  };
  a.conversation.handshake(HASH, MY_ID);
  b.conversation.receive(1, drain(a.conversation));
  a.conversation.receive(1, drain(b.conversation));
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.conversation.setPieceCount(100);
    from.conversation.extendedHandshake(OWN);
    from.conversation.bitfield(new Bitfield(100));
    // each hears the other's numbers before it speaks
    to.conversation.receive(1, drain(from.conversation));
  }
  expect(a.sink.log.at(-1)).toBe('haveNone');
  a.sink.log = [];
  b.sink.log = [];
}
