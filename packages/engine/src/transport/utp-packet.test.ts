import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isUtp, PacketType, seqDiff, UtpHeader, writeFixed, writePadding, writeVarying } from './utp-packet.ts';

const bytes = (...parts: (number | number[])[]): Uint8Array => Uint8Array.from(parts.flat());

describe('a uTP packet', () => {
  it('is laid out as BEP 29 draws it', () => {
    const b = new Uint8Array(20);
    writeFixed(b, PacketType.Data, 0, 0x1234, 0xfffe);
    writeVarying(b, 0x89abcdef, 0x80000001, 0x00100000, 0xabcd);
    const want = [0x01, 0, 0x12, 0x34, 0x89, 0xab, 0xcd, 0xef, 0x80, 0, 0, 1, 0, 0x10, 0, 0, 0xff, 0xfe, 0xab, 0xcd];
    expect([...b]).toEqual(want);
    const h = new UtpHeader();
    expect(h.read(b)).toBe(true);
    expect(h).toMatchObject({ type: 0, id: 0x1234, micros: 0x89abcdef, diff: 0x80000001, window: 1 << 20 });
    expect(h).toMatchObject({ seq: 0xfffe, ack: 0xabcd, payloadAt: 20, sackBytes: 0, closeReason: 0 });
  });

  it('may hold extensions, known and unknown, in any order', () => {
    const head = [0x21, 2, ...new Array(18).fill(0)];
    const old = [99, 8, ...new Array(8).fill(7)];
    const unknown = [1, 3, 1, 2, 3];
    const sack = [3, 4, 0xff, 0, 0, 0x80];
    const reason = [0, 4, 0, 0, 1, 2];
    const h = new UtpHeader();
    const b = bytes(head, old, unknown, sack, reason, [42]);
    expect(h.read(b)).toBe(true);
    expect([h.type, h.sackBytes, b[h.sackAt], h.closeReason, b[h.payloadAt]]).toEqual([2, 4, 0xff, 0x102, 42]);
  });

  it('takes 0x7fffffff for no sample, as old uTorrent means it', () => {
    const b = new Uint8Array(20);
    writeFixed(b, PacketType.State, 0, 1, 1);
    writeVarying(b, 1, 0x7fffffff, 0, 0);
    const h = new UtpHeader();
    expect([h.read(b), h.diff]).toEqual([true, 0]);
  });

  it('is told from what else comes to the socket', () => {
    const of = (first: number, length = 20): boolean => isUtp(bytes(first, new Array(length - 1).fill(0)));
    expect([of(0x01), of(0x11), of(0x21), of(0x31), of(0x41)]).toEqual([true, true, true, true, true]);
    // the DHT's 'd', an announce answer, version 0 and 2, a sixth type, too short
    expect([of(0x64), of(0x00), of(0x10), of(0x02), of(0x51), of(0x21, 19)]).toEqual(new Array(6).fill(false));
  });

  it('that is damaged never throws, and never points outside', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(4), (rest, type) => {
        const h = new UtpHeader();
        const b = bytes((type << 4) | 1, [...rest]);
        if (!h.read(b)) return;
        expect(h.payloadAt).toBeLessThanOrEqual(b.length);
        if (h.sackBytes > 0) expect(h.sackAt + h.sackBytes).toBeLessThanOrEqual(b.length);
      }),
    );
  });

  it('padded to any length is skipped whole, and cut anywhere is no packet', () => {
    fc.assert(
      fc.property(fc.integer({ min: 22, max: 3000 }), fc.nat(), (end, cut) => {
        const b = new Uint8Array(end + 1);
        writeFixed(b, PacketType.Data, 0, 1, 1);
        writePadding(b, end);
        const h = new UtpHeader();
        expect([h.read(b), h.payloadAt]).toEqual([true, end]);
        expect(h.read(b.subarray(0, 20 + (cut % (end - 20))))).toBe(false);
      }),
    );
  });

  it('counts in a circle', () => {
    expect([seqDiff(1, 65535), seqDiff(65535, 1), seqDiff(5, 5), seqDiff(0, 32768)]).toEqual([2, -2, 0, -32768]);
  });
});
