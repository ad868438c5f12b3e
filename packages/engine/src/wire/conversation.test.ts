import { describe, expect, it } from 'vitest';
import {
  ascii,
  drain,
  extended,
  FAST,
  greeted,
  greeting,
  HASH,
  HAVE_NONE,
  MY_ID,
  message,
  OTHER_HASH,
  OWN,
  PLAIN,
  PROTOCOL,
  party,
  said,
  sum,
  THEIR_ID,
  words,
} from '../../test/wire-kit.ts';
import { Bitfield } from '../base/bitfield.ts';
import { concat, toHex } from '../base/bytes.ts';
import { PeerFault } from '../base/errors.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';

function faultOf(bytes: Uint8Array, reserved = FAST, pieceCount = 100): string | undefined {
  const { sink, conversation, slots } = greeted(reserved, pieceCount);
  conversation.receive(2, bytes);
  conversation.receive(3, message(9, Uint8Array.of(1, 2)));
  conversation.close();
  expect(slots.freeCount).toBe(slots.count);
  return sink.log.find((call) => call.startsWith('fault'))?.slice(6);
}

describe('handshake', () => {
  it('is written as BEP 3 says, with the extension and fast bits, and the v2 bit when asked', () => {
    const { conversation } = party(true);
    conversation.handshake(HASH, MY_ID);
    expect(said(conversation)).toBe(`${PROTOCOL}${FAST}${toHex(HASH)}${toHex(MY_ID)}`);
    const v2 = party(true).conversation;
    v2.handshake(HASH, MY_ID, { v2: true });
    expect(said(v2).slice(40, 56)).toBe('0000000000100014');
    const dht = party(true).conversation;
    dht.handshake(HASH, MY_ID, { dht: true });
    expect(said(dht).slice(40, 56)).toBe('0000000000100005');
  });

  it('can be answered after 48 bytes', () => {
    const { sink, conversation } = party();
    sink.on = (call) => {
      if (call.startsWith('handshake')) conversation.handshake(HASH, MY_ID);
    };
    conversation.receive(1, greeting(FAST).subarray(0, 48));
    expect(sink.log).toEqual([`handshake ${toHex(HASH)} ${FAST}`]);
    expect(drain(conversation).length).toBe(68);
    conversation.receive(2, THEIR_ID);
    expect(sink.log[1]).toBe(`peerId ${toHex(THEIR_ID)}`);
    expect([conversation.fast, conversation.extended, conversation.lastReceivedMs]).toEqual([true, true, 2]);
  });

  it('faults at the first wrong byte and on an answer for another torrent', () => {
    const web = party();
    web.conversation.receive(1, ascii('G'));
    expect(web.sink.log).toEqual([`fault ${PeerFault.BadHandshake}`]);
    const late = party();
    for (const byte of ascii('\x13BitTorrent protocoX')) late.conversation.receive(1, Uint8Array.of(byte));
    expect(late.sink.log).toEqual([`fault ${PeerFault.BadHandshake}`]);
    const other = party(true);
    other.conversation.handshake(HASH, MY_ID);
    other.conversation.receive(1, greeting(FAST, OTHER_HASH));
    expect(other.sink.log).toEqual([`fault ${PeerFault.BadHandshake}`]);
    const upgraded = party(true);
    upgraded.conversation.handshake(HASH, MY_ID, { v2: true });
    upgraded.conversation.receive(1, greeting(FAST, OTHER_HASH));
    expect(upgraded.sink.log.length).toBe(2);
  });
});

describe('what is said', () => {
  it('matches the vectors', () => {
    const { conversation: c, slots } = greeted();
    const vectors: [() => void, string][] = [
      [() => c.unchoke(), '00000001 01'],
      [() => c.choke(), '00000001 00'],
      [() => c.interested(), '00000001 02'],
      [() => c.notInterested(), '00000001 03'],
      [() => c.have(0x01020304), '00000005 04 01020304'],
      [() => c.request(1, 0x4000, 0x4000), '0000000d 06 00000001 00004000 00004000'],
      [() => c.cancel(1, 0x4000, 0x4000), '0000000d 08 00000001 00004000 00004000'],
      [() => c.suggest(7), '00000005 0d 00000007'],
      [() => c.reject(2, 0, 5), '0000000d 10 00000002 00000000 00000005'],
      [() => c.allowedFast(0x10000), '00000005 11 00010000'],
      [() => c.keepAlive(), '00000000'],
    ];
    for (const [command, bytes] of vectors) {
      command();
      expect(said(c)).toBe(bytes.replaceAll(' ', ''));
    }
    const slot = slots.take();
    slots.payload(slot).set([1, 2, 3, 4, 5]);
    c.pieceSlice(slot, 1, 3, 0x8001, 3);
    expect(said(c)).toBe('0000000c0700000003 00008001 020304'.replaceAll(' ', ''));
    const whole = slots.take();
    slots.payload(whole).fill(9);
    c.pieceBlock(whole, 0x01020304, 0x00c08000);
    expect(said(c)).toBe(`00004009070102030400c08000${'09'.repeat(BLOCK_BYTES)}`);
    expect(slots.freeCount).toBe(slots.count);
  });

  it('says choke and interest only when they change', () => {
    const { conversation: c } = greeted();
    c.choke();
    c.notInterested();
    expect(c.queuedBytes).toBe(0);
    c.unchoke();
    c.unchoke();
    c.interested();
    c.interested();
    expect(said(c)).toBe('00000001010000000102');
    expect([c.amChoking, c.amInterested]).toEqual([false, true]);
  });

  it('says what we have in the shortest way agreed', () => {
    const some = new Bitfield(10);
    some.set(0);
    some.set(9);
    const all = new Bitfield(10);
    all.setAll();
    const say = (have: Bitfield, reserved: string) => {
      const { conversation } = greeted(reserved);
      conversation.bitfield(have);
      return said(conversation);
    };
    expect(say(some, FAST)).toBe('00000003058040');
    expect(say(all, FAST)).toBe('000000010e');
    expect(say(new Bitfield(10), FAST)).toBe('000000010f');
    expect(say(new Bitfield(0), FAST)).toBe('000000010f');
    expect(say(all, PLAIN)).toBe('0000000305ffc0');
    expect(say(new Bitfield(10), PLAIN)).toBe('');
  });

  it('keeps fast and extension messages from peers without them', () => {
    const { conversation: c } = greeted(PLAIN);
    c.reject(1, 0, 16384);
    c.allowedFast(1);
    c.suggest(1);
    c.extendedHandshake(OWN);
    c.dontHave(1);
    c.metadataRequest(0);
    c.uploadOnly(true);
    expect(c.queuedBytes).toBe(0);
  });

  it('joins slots into one block', () => {
    const { conversation: c, slots } = greeted();
    const lent = Int32Array.of(slots.take(), slots.take(), slots.take());
    for (let i = 0; i < 3; i++) slots.payload(lent[i]!).fill(i + 1);
    c.pieceSpan(lent, 3, 16383, 5, 49151, 16386);
    const out = drain(c);
    expect(toHex(out.subarray(0, 15))).toBe('0000400b07000000050000bfff0102');
    expect(toHex(out.subarray(-2))).toBe('0203');
    expect(out.length).toBe(13 + 16386);
    expect(slots.freeCount).toBe(slots.count);
  });
});

describe('what is heard', () => {
  const HEARD: [string, Uint8Array, string][] = [
    ['choke', message(0), 'choke'],
    ['unchoke', message(1), 'unchoke'],
    ['interested', message(2), 'interested'],
    ['not interested', message(3), 'notInterested'],
    ['have', message(4, words(99)), 'have 99'],
    ['request', message(6, words(99, 16384, 131072)), 'request 99 16384 131072'],
    ['cancel', message(8, words(1, 2, 3)), 'cancel 1 2 3'],
    ['port', message(9, Uint8Array.of(0x1a, 0xe1)), 'port 6881'],
    ['suggest', message(13, words(4)), 'suggest 4'],
    ['reject', message(16, words(1, 2, 3)), 'reject 1 2 3'],
    ['allowed fast', message(17, words(4)), 'allowedFast 4'],
    ['keep-alive', words(0), ''],
    ['unknown id', message(77, new Uint8Array(5000)), ''],
    ['hash request, not spoken', message(21, new Uint8Array(48)), ''],
    ['unknown extension', extended(200, 'rubbish'), ''],
    ['donthave', extended(2, words(98)), 'dontHave 98'],
    ['upload_only', extended(3, Uint8Array.of(1)), 'uploadOnly true'],
    ['ut_metadata request', extended(1, 'd8:msg_typei0e5:piecei3ee'), 'metadataRequest 3'],
    ['ut_metadata reject', extended(1, 'd8:msg_typei2e5:piecei3ee'), 'metadataReject 3'],
    ['ut_metadata of the future', extended(1, 'd8:msg_typei9e5:piecei3ee'), ''],
    [
      'ut_metadata data',
      extended(1, 'd8:msg_typei1e5:piecei1e10:total_sizei16386eexy'),
      `metadataData 1 16386 2 ${sum(ascii('xy'))}`,
    ],
  ];
  it.each(HEARD)('%s', (_name, bytes, call) => {
    const { sink, conversation } = greeted();
    conversation.receive(2, HAVE_NONE);
    conversation.receive(2, concat([bytes, message(4, words(50))]));
    expect(sink.log).toEqual(['haveNone', ...(call === '' ? [] : [call]), 'have 50']);
  });

  it('keeps the flags of the peer', () => {
    const { conversation: c } = greeted(PLAIN);
    expect([c.peerChoking, c.peerInterested]).toEqual([true, false]);
    c.receive(2, concat([message(1), message(2)]));
    expect([c.peerChoking, c.peerInterested]).toEqual([false, true]);
    c.receive(2, concat([message(0), message(3)]));
    expect([c.peerChoking, c.peerInterested]).toEqual([true, false]);
  });

  it('puts a block into its slot, skips a refused one, and takes blocks up to 128 KiB as refused', () => {
    const { sink, conversation, slots } = greeted();
    const payload = Uint8Array.from({ length: 16384 }, (_, i) => i * 7);
    conversation.receive(2, concat([HAVE_NONE, message(7, concat([words(1, 16384), payload]))]));
    expect(sink.log.slice(1)).toEqual(['head 1 16384 16384', `block 1 16384 16384 ${sum(payload)}`]);
    sink.refuseBlocks = true;
    conversation.receive(2, message(7, concat([words(1, 0), new Uint8Array(131072)])));
    conversation.receive(2, message(1));
    expect(sink.log.slice(3)).toEqual(['head 1 0 131072', 'unchoke']);
    expect(slots.freeCount).toBe(slots.count);
  });

  it('passes a bitfield raw until the piece count is known', () => {
    const { sink, conversation } = greeted(PLAIN, -1);
    conversation.receive(2, concat([message(5, Uint8Array.of(1, 2, 255)), message(4, words(2097151))]));
    expect(sink.log).toEqual([`bitfield 3 ${sum(Uint8Array.of(1, 2, 255))}`, 'have 2097151']);
  });

  it('takes a bitfield or have all instead of many haves, as aria2 sends them', () => {
    const { sink, conversation } = greeted();
    const bits = Uint8Array.of(1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    conversation.receive(2, concat([HAVE_NONE, message(4, words(7)), message(5, bits), message(14)]));
    expect(sink.log).toEqual(['haveNone', 'have 7', `bitfield 13 ${sum(bits)}`, 'haveAll']);
  });

  it('lets extension and port messages come before the bitfield', () => {
    const { sink, conversation } = greeted(FAST, 8);
    conversation.receive(2, concat([extended(0, 'de'), message(9, Uint8Array.of(0, 1)), words(0), message(14)]));
    expect(sink.log.length).toBe(3);
    expect(sink.log[2]).toBe('haveAll');
  });

  it('offers no metadata of a private torrent and skips who asks all the same', () => {
    const { sink, conversation } = party();
    conversation.receive(1, greeting(FAST));
    conversation.handshake(HASH, MY_ID);
    conversation.extendedHandshake({ ...OWN, privateTorrent: true });
    expect(new TextDecoder('latin1').decode(drain(conversation))).not.toMatch(/metadata|pex/);
    sink.log = [];
    conversation.receive(2, extended(1, 'd8:msg_typei0e5:piecei3ee'));
    conversation.receive(2, extended(4, 'd5:added6:\x01\x02\x03\x04\x1a\xe1e'));
    expect(sink.log).toEqual([]);
  });
});

describe('extension numbers', () => {
  it('are the receiver`s, additive, and taken back by 0', () => {
    const { conversation: c } = greeted();
    c.receive(2, extended(0, 'd1:md11:lt_donthavei7e11:ut_metadatai9ee13:metadata_sizei100e1:v1:xe'));
    expect([c.supports.dontHave, c.supports.metadata, c.supports.uploadOnly]).toEqual([true, true, false]);
    c.dontHave(5);
    expect(said(c)).toBe('000000061407 00000005'.replaceAll(' ', ''));
    c.receive(2, extended(0, 'd1:md11:upload_onlyi3e11:ut_metadatai0eee'));
    expect([c.supports.dontHave, c.supports.metadata, c.supports.uploadOnly]).toEqual([true, false, true]);
    expect([c.remote.client, c.remote.metadataSize]).toEqual(['x', 100]);
    c.metadataRequest(1);
    c.uploadOnly(true);
    expect(said(c)).toBe('00000003140301');
    c.receive(2, extended(3, Uint8Array.of(1)));
    expect(c.remote.uploadOnly).toBe(true);
  });

  it('carry metadata', () => {
    const { conversation: c } = greeted();
    c.receive(2, extended(0, 'd1:md11:ut_metadatai9eee'));
    c.metadataRequest(2);
    c.metadataReject(2);
    c.metadataData(1, 16386, ascii('xy'));
    const expected = [
      'd8:msg_typei0e5:piecei2ee',
      'd8:msg_typei2e5:piecei2ee',
      'd8:msg_typei1e5:piecei1e10:total_sizei16386eexy',
    ];
    expect(said(c)).toBe(toHex(concat(expected.map((body) => extended(9, body)))));
  });
});

describe('breaches', () => {
  const first = (bytes: Uint8Array) => concat([HAVE_NONE, bytes]);
  const BREACHES: [string, Uint8Array, PeerFault, string?, number?][] = [
    ['length of 4 GiB', words(0xffffffff), PeerFault.TooLong],
    ['length just over the cap', words(MAX_MESSAGE_BYTES + 1), PeerFault.TooLong],
    ['choke with a body', first(message(0, Uint8Array.of(1))), PeerFault.BadLength],
    ['short have', first(message(4, Uint8Array.of(1))), PeerFault.BadLength],
    ['have outside', first(message(4, words(100))), PeerFault.OutOfRange],
    ['have outside anything', message(4, words(2097152)), PeerFault.OutOfRange, PLAIN, -1],
    ['request of nothing', first(message(6, words(1, 0, 0))), PeerFault.OutOfRange],
    ['request too long', first(message(6, words(1, 0, 131073))), PeerFault.OutOfRange],
    ['request of no piece', first(message(6, words(0xffffffff, 0, 1))), PeerFault.OutOfRange],
    ['request beyond', first(message(6, words(1, 0x80000000, 1))), PeerFault.OutOfRange],
    ['short request', first(message(6, words(1, 0))), PeerFault.BadLength],
    ['block without payload', first(message(7, words(1, 0))), PeerFault.BadLength],
    ['block too long', first(concat([words(131072 + 10), Uint8Array.of(7)])), PeerFault.TooLong],
    ['block of no piece', first(message(7, words(100, 0, 1))), PeerFault.OutOfRange],
    ['block beyond', first(message(7, words(1, 0x80000000, 1))), PeerFault.OutOfRange],
    ['bitfield too short', message(5, new Uint8Array(12)), PeerFault.BadBitfield],
    ['bitfield too long', message(5, new Uint8Array(14)), PeerFault.BadBitfield],
    ['bitfield with spare bits', message(5, new Uint8Array(13).fill(255)), PeerFault.BadBitfield],
    ['bitfield beyond the cap', concat([words(262146), Uint8Array.of(5)]), PeerFault.TooLong, PLAIN, -1],
    ['bitfield late and too short', first(message(5, new Uint8Array(12))), PeerFault.BadBitfield],
    ['have none twice', first(HAVE_NONE), PeerFault.BadFast],
    ['fast, but no bitfield of any kind', message(4, words(1)), PeerFault.BadFast],
    ['fast, but a block first', message(7, words(1, 0, 1)), PeerFault.BadFast],
    ['have all without fast', message(14), PeerFault.BadFast, PLAIN],
    ['suggest without fast', message(13, words(1)), PeerFault.BadFast, PLAIN],
    ['reject without fast', message(16, words(1, 0, 1)), PeerFault.BadFast, PLAIN],
    ['allowed fast without fast', message(17, words(1)), PeerFault.BadFast, PLAIN],
    ['extended without a number', message(20), PeerFault.BadLength],
    ['extension handshake that is none', extended(0, 'i5e'), PeerFault.BadExtended],
    ['extension handshake cut off', extended(0, 'd1:md'), PeerFault.BadExtended],
    ['nested bomb', extended(0, 'l'.repeat(240000)), PeerFault.BadExtended],
    ['token bomb', extended(0, `l${'i1e'.repeat(80000)}e`), PeerFault.BadExtended],
    ['metadata message that is none', extended(1, 'le'), PeerFault.BadExtended],
    ['metadata for no piece', extended(1, 'd8:msg_typei0e5:piecei-1ee'), PeerFault.BadExtended],
    ['metadata too much', extended(1, `d8:msg_typei1e5:piecei0ee${'x'.repeat(16385)}`), PeerFault.BadExtended],
    ['donthave outside', extended(2, words(100)), PeerFault.OutOfRange],
    ['donthave short', extended(2, Uint8Array.of(1)), PeerFault.BadLength],
    ['upload_only long', extended(3, words(1)), PeerFault.BadLength],
  ];
  it.each(BREACHES)('%s', (_name, bytes, fault, reserved, pieceCount) => {
    expect(faultOf(bytes, reserved, pieceCount)).toBe(String(fault));
  });

  it('are told once, and nothing is read after them', () => {
    const { sink, conversation } = greeted();
    conversation.receive(2, concat([message(99), HAVE_NONE, HAVE_NONE, message(1), HAVE_NONE]));
    conversation.receive(2, message(1));
    expect(sink.log).toEqual(['haveNone', `fault ${PeerFault.BadFast}`]);
  });

  it('hold no memory for a length that is only announced', () => {
    const { conversation } = greeted(FAST, -1);
    conversation.receive(
      2,
      concat([words(MAX_MESSAGE_BYTES), Uint8Array.of(20, 1), ascii('d8:msg_typei9e5:piecei3ee')]),
    );
    expect(conversation.heldBytes).toBeLessThanOrEqual(256);
    conversation.receive(2, concat([new Uint8Array(1000)]));
    expect(conversation.heldBytes).toBeLessThanOrEqual(4096);
    conversation.receive(2, new Uint8Array(MAX_MESSAGE_BYTES));
    expect(conversation.heldBytes).toBeLessThanOrEqual(1024);
    conversation.close();
    expect(conversation.heldBytes).toBe(0);
  });

  it('that are ours throw', () => {
    const { sink, conversation } = greeted(PLAIN);
    sink.on = () => conversation.receive(3, message(1));
    expect(() => conversation.receive(2, message(1))).toThrow(/shoal bug/);
    expect(() => party().conversation.have(1)).toThrow(/shoal bug/);
    const twice = greeted().conversation;
    twice.keepAlive();
    twice.takeOut(1000);
    twice.keepAlive();
    expect(() => twice.takeOut(1000)).toThrow(/shoal bug/);
  });
});

describe('closing', () => {
  it('aborts the payload under way, also from inside a sink call', () => {
    const block = message(7, concat([words(1, 0), new Uint8Array(16384)]));
    const half = greeted(PLAIN);
    half.conversation.receive(2, block.subarray(0, 5000));
    expect(half.slots.freeCount).toBe(half.slots.count - 1);
    half.conversation.close();
    half.conversation.close();
    half.conversation.receive(2, block);
    expect(half.sink.log).toEqual(['head 1 0 16384', 'abort']);
    expect(half.slots.freeCount).toBe(half.slots.count);
    const within = greeted(PLAIN);
    within.sink.on = (call) => {
      if (call.startsWith('head')) within.conversation.close();
    };
    within.conversation.receive(2, concat([block, message(1)]));
    expect(within.sink.log).toEqual(['head 1 0 16384', 'abort']);
    expect(within.slots.freeCount).toBe(within.slots.count);
  });

  it('leaves a batch that is out alone until it is sent, when asked', () => {
    const { conversation: c, slots } = greeted();
    c.pieceBlock(slots.take(), 1, 0);
    c.takeOut(1 << 20);
    c.pieceBlock(slots.take(), 1, 16384);
    c.closeInput();
    expect(slots.freeCount).toBe(slots.count - 1);
    c.pieceBlock(slots.take(), 1, 0);
    expect(slots.freeCount).toBe(slots.count - 1);
    c.sentOut();
    expect(slots.freeCount).toBe(slots.count);
    c.close();
    c.have(1);
    expect(c.takeOut(1000)).toBe(null);
  });

  it('a reader that stands still is a fault, not a heap', () => {
    const { sink, conversation: c, slots } = greeted();
    for (let i = 0; i < 200_000; i++) c.have(i);
    expect(c.overflowed).toBe(true);
    expect(c.queuedBytes).toBeLessThanOrEqual(1 << 20);
    c.receive(2, concat([HAVE_NONE, words(10009), Uint8Array.of(7), words(1, 0), new Uint8Array(5)]));
    expect(sink.log).toEqual(['haveNone', 'head 1 0 10000', 'abort', `fault ${PeerFault.StalledReader}`]);
    expect(slots.freeCount).toBe(slots.count);
  });
});
