import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { latin1, utf8Encode } from '../base/bytes.ts';
import { Rng } from '../base/random.ts';
import { type BInput, decode, encode } from '../codec/bencode.ts';
import { KrpcKind, KrpcMessage, Method, WANT4, WANT6 } from './krpc.ts';
import { Key, KrpcWriter, WANT_BOTH } from './krpc-write.ts';

const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
const ID = bytesOf('abcdefghij0123456789');
const TARGET = bytesOf('mnopqrstuvwxyz123456');
const VERSION = bytesOf('SH01');

function read(bytes: Uint8Array | string): KrpcMessage {
  const message = new KrpcMessage();
  expect(message.parse(typeof bytes === 'string' ? bytesOf(bytes) : bytes)).toBe(true);
  return message;
}

const at = (m: KrpcMessage, from: number, length: number): string => (from < 0 ? '-' : latin1(m.view(from, length)));

describe('messages of BEP 5', () => {
  it('reads the queries', () => {
    const ping = read('d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe');
    expect([ping.kind, ping.method, at(ping, ping.tidAt, ping.tidLength)]).toEqual([KrpcKind.Query, Method.Ping, 'aa']);
    expect(at(ping, ping.idAt, 20)).toBe('abcdefghij0123456789');
    const find = read('d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe');
    expect([find.method, at(find, find.targetAt, 20)]).toEqual([Method.FindNode, 'mnopqrstuvwxyz123456']);
    const get = read('d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe');
    expect([get.method, at(get, get.infoHashAt, 20)]).toEqual([Method.GetPeers, 'mnopqrstuvwxyz123456']);
    const announce = read(
      'd1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e' +
        '5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe',
    );
    expect([announce.method, announce.port, announce.impliedPort]).toEqual([Method.AnnouncePeer, 6881, true]);
    expect(at(announce, announce.tokenAt, announce.tokenLength)).toBe('aoeusnth');
  });

  it('reads the replies and the error', () => {
    const values = read('d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re');
    expect([values.kind, values.values4, values.values6]).toEqual([KrpcKind.Reply, 2, 0]);
    expect(latin1(values.takeValues(6, 10))).toBe('axje.uidhtnm');
    expect(latin1(values.takeValues(6, 1))).toBe('axje.u');
    const error = read('d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee');
    expect([error.kind, error.errorCode, error.errorText()]).toEqual([KrpcKind.Error, 201, 'A Generic Error Ocurred']);
  });

  it('takes nodes in whole entries, mixed values, and addresses with and without a port', () => {
    const r = {
      id: ID,
      nodes: new Uint8Array(26 * 3 + 5),
      nodes6: new Uint8Array(38),
      values: ['123456', 'x', TARGET],
    };
    const m = read(encode({ t: 'aa', y: 'r', ip: '\u0001\u0002\u0003\u0004', r }));
    expect([m.nodesLength, m.nodes6Length, m.values4, m.values6, m.ipLength]).toEqual([78, 38, 1, 0, 4]);
    const six = encode({ t: 'aa', y: 'r', r: { id: ID, values: [new Uint8Array(18), [1], '123456', 5] } });
    const mixed = read(six);
    expect([mixed.values4, mixed.values6, latin1(mixed.takeValues(6, 9))]).toEqual([1, 1, '123456']);
  });

  it('reads want, read-only, scrape, and the fields of items with their raw value', () => {
    const m = read(
      encode({
        t: 'a',
        y: 'q',
        q: 'get_peers',
        ro: 1,
        a: { id: ID, want: ['n6', 'n9', 'n4', 7], scrape: 1, noseed: 1 },
      }),
    );
    expect([m.want, m.readOnly, m.scrape, m.noSeed]).toEqual([WANT4 | WANT6, true, true, true]);
    const item = { id: ID, k: ID, salt: 'salt', seq: 4, cas: 3, sig: TARGET, v: { a: [1, 'b'] }, token: 'tt' };
    const put = read(encode({ t: 'a', y: 'q', q: 'put', a: item }));
    expect([put.seq, put.cas, at(put, put.saltAt, put.saltLength)]).toEqual([4, 3, 'salt']);
    expect(at(put, put.valueAt, put.valueEnd - put.valueAt)).toBe('d1:ali1e1:bee');
    expect(at(read(encode({ t: 'a', y: 'q', q: 'put', a: { v: -5 } })), 0, 0)).toBe('');
  });
});

describe('what is no message', () => {
  it('is refused', () => {
    const good = 'd1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe';
    const message = new KrpcMessage();
    for (let i = 0; i < good.length; i++) expect(message.parse(bytesOf(good.slice(0, i)))).toBe(false);
    for (const bad of [
      `${good}e`,
      `l${good}e`,
      good.replace('1:y1:q', '1:y1:x'),
      good.replace('1:y1:q', ''),
      good.replace('1:t2:aa', ''),
      good.replace('1:t2:aa', '1:ti5e'),
      good.replace('1:t2:aa', `1:t65:${'t'.repeat(65)}`),
      good.replace('4:ping', '04:ping'),
      good.replace('4:ping', '99999:ping'),
      good.replace('2:id', '-2:id'),
      good.replace('1:y1:q', '2:zzi01e1:y1:q'),
      good.replace('1:y1:q', '2:zzi-0e1:y1:q'),
      good.replace('1:y1:q', '2:zzie1:y1:q'),
      good.replace('1:y1:q', '2:zzdi1ei1ee1:y1:q'),
      good.replace('1:y1:q', `2:zz${'l'.repeat(500)}${'e'.repeat(500)}1:y1:q`),
    ]) {
      expect([bad, message.parse(bytesOf(bad))]).toEqual([bad, false]);
    }
  });

  it('leaves nothing behind for the next message', () => {
    const message = new KrpcMessage();
    message.parse(
      bytesOf('d1:ad2:id20:abcdefghij01234567895:token1:x4:porti5e6:valuesl6:axje.uee1:q4:ping1:t2:aa1:y1:qe'),
    );
    message.parse(bytesOf('d1:q4:ping1:t2:bb1:y1:qe'));
    expect([message.idAt, message.tokenAt, message.port, message.values4]).toEqual([-1, -1, -1, 0]);
  });

  it('has fields of a wrong type or size count as missing', () => {
    const wrong: BInput[] = [5, 'short', [], {}, new Uint8Array(21)];
    for (const value of wrong) {
      const a = {
        id: value,
        info_hash: value,
        target: value,
        want: value,
        port: 'x',
        implied_port: 'x',
        token: [value],
      };
      const m = read(encode({ t: 'aa', y: 'q', q: 'get_peers', a }));
      expect([m.idAt, m.infoHashAt, m.targetAt, m.port, m.tokenAt]).toEqual([-1, -1, -1, -1, -1]);
    }
    expect(read(encode({ t: 'a', y: 'q', q: 'ping', a: { seq: 2n ** 60n } })).seq).toBeNaN();
  });

  it('of any kind never throws: 100,000 random buffers, and as many spoiled messages', () => {
    const rng = new Rng(Uint32Array.of(7, 7, 7, 7));
    const message = new KrpcMessage();
    const writer = new KrpcWriter(VERSION);
    const seeds = [
      bytesOf('d1:ad2:id20:abcdefghij01234567894:wantl2:n42:n6ee1:q9:find_node2:roi1e1:t2:aa1:v4:xxxx1:y1:qe'),
      bytesOf('d2:ip6:1234561:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re'),
      bytesOf('d1:eli203e4:oopse1:t2:aa1:y1:ee'),
    ];
    const letters = bytesOf('dlie0123456789:-atyqrv');
    for (let i = 0; i < 200_000; i++) {
      let bytes: Uint8Array;
      if (i % 2 === 0) {
        bytes = new Uint8Array(rng.below(i % 20 === 0 ? 1500 : 60));
        for (let k = 0; k < bytes.length; k++) bytes[k] = i % 4 === 0 ? rng.below(256) : letters[rng.below(22)]!;
        if (bytes.length > 0) bytes[0] = 100;
      } else {
        bytes = seeds[rng.below(seeds.length)]!.slice();
        for (let n = 1 + rng.below(3); n > 0; n--) bytes[rng.below(bytes.length)] = letters[rng.below(22)]!;
      }
      if (!message.parse(bytes)) continue;
      message.takeValues(6, 50);
      message.errorText();
      expect(message.tidAt + message.tidLength).toBeLessThanOrEqual(bytes.length);
    }
    expect(writer.length).toBe(0);
  });

  it('agrees with the bencode reader on any dictionary', () => {
    const value = fc.letrec<{ v: BInput }>((tie) => ({
      v: fc.oneof(
        { maxDepth: 3 },
        fc.integer(),
        fc.uint8Array({ maxLength: 30 }),
        fc.array(tie('v'), { maxLength: 3 }),
        fc.dictionary(fc.string({ maxLength: 4 }), tie('v'), { maxKeys: 3 }),
      ),
    })).v;
    const text = fc.string({ maxLength: 6 });
    fc.assert(
      fc.property(fc.dictionary(text, value, { maxKeys: 5 }), fc.dictionary(text, value, { maxKeys: 5 }), (a, more) => {
        const bytes = encode({ ...more, t: 'aa', y: 'q', q: 'ping', a: { ...a, id: ID } });
        const m = read(bytes);
        expect(at(m, m.idAt, 20)).toBe(latin1(ID));
        expect(decode(bytes)).toBeTruthy();
      }),
    );
  });
});

describe('what is written', () => {
  it('is canonical and reads back', () => {
    const writer = new KrpcWriter(VERSION);
    writer.beginQuery();
    writer.id(Key.id, ID);
    writer.id(Key.target, TARGET);
    writer.raw(WANT_BOTH);
    writer.endQuery(Method.FindNode, 0x61626364, true);
    expect(latin1(writer.take())).toBe(
      'd1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee1:q9:find_node2:roi1e' +
        '1:t4:abcd1:v4:SH011:y1:qe',
    );
    const tid = utf8Encode('..0123456789ab..');
    writer.beginReply(Uint8Array.of(49, 50, 51, 52), 0x3536);
    writer.id(Key.id, ID);
    writer.beginString(Key.nodes, 52);
    for (let i = 0; i < 2; i++) writer.part(new Uint8Array(26).fill(65));
    writer.strings(Key.values, [bytesOf('axje.u')]);
    writer.endReply(tid, 2, 12);
    expect(latin1(writer.take())).toBe(
      `d2:ip6:1234561:rd2:id20:abcdefghij01234567895:nodes52:${'A'.repeat(52)}6:valuesl6:axje.uee` +
        '1:t12:0123456789ab1:v4:SH011:y1:re',
    );
    writer.error(204, 'method unknown', Uint8Array.of(49, 50, 51, 52), 0x3536, tid, 2, 2);
    expect(latin1(writer.take())).toBe('d1:eli204e14:method unknowne2:ip6:1234561:t2:011:v4:SH011:y1:ee');
  });

  it('has frames as long as they are said to be', () => {
    const writer = new KrpcWriter(VERSION);
    for (const ip of [new Uint8Array(4), new Uint8Array(16)]) {
      for (const length of [0, 2, 9, 10, 64]) {
        writer.beginReply(ip, 1);
        writer.endReply(new Uint8Array(64), 0, length);
        expect(writer.length).toBe(KrpcWriter.replyFrame(length, ip.length));
      }
    }
  });
});
