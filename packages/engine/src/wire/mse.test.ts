import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, fromHex, toHex, utf8Encode } from '../base/bytes.ts';
import { PlatformCrypto } from '../base/platform-crypto.ts';
import { Rng } from '../base/random.ts';
import { SlotPool } from '../base/slot-pool.ts';
import { makeSlotMemory } from '../host/slot-memory.ts';
import { CryptoMethod, MseHandshake, type MseSink, secretHash } from './mse.ts';
import { Rc4 } from './rc4.ts';

const crypto = new PlatformCrypto();
const SECRET = new Uint8Array(20).fill(7);
const HANDSHAKE = concat([Uint8Array.of(19), utf8Encode('BitTorrent protocol'), new Uint8Array(48)]);
const BOTH = CryptoMethod.Plain | CryptoMethod.Rc4;

/** One side: what it sent, and how it ended. */
class Side implements MseSink {
  readonly machine: MseHandshake;
  readonly sent: Uint8Array[] = [];
  end: 'done' | 'plain' | 'fault' | null = null;
  incoming: Rc4 | null = null;
  outgoing: Rc4 | null = null;
  rest: Uint8Array = new Uint8Array(0);
  mayExchange = true;

  constructor(outgoing: boolean, methods: number, seed: number, takesPlain = true, first: Uint8Array = HANDSHAKE) {
    const rng = new Rng(Uint32Array.of(seed, 1, 2, 3));
    const known = { secret: outgoing ? SECRET : null, first: outgoing ? first : null };
    this.machine = new MseHandshake({ outgoing, methods, crypto, rng, slots: null, sink: this, takesPlain, ...known });
  }

  onMseSend(bytes: Uint8Array): void {
    this.sent.push(bytes);
  }
  mayExchangeKeys(): boolean {
    return this.mayExchange;
  }
  findSecret(hash: Uint8Array): Uint8Array | null {
    return toHex(hash) === toHex(secretHash(SECRET)) ? SECRET : null;
  }
  onMseDone(incoming: Rc4 | null, outgoing: Rc4 | null, rest: Uint8Array): void {
    expect(this.end).toBeNull();
    Object.assign(this, { end: 'done', incoming, outgoing, rest });
  }
  onMsePlain(first: Uint8Array): void {
    expect(this.end).toBeNull();
    Object.assign(this, { end: 'plain', rest: first });
  }
  onMseFault(): void {
    expect(this.end).toBeNull();
    this.end = 'fault';
  }
  takeSent(): Uint8Array {
    return concat(this.sent.splice(0));
  }
}

/** Carries bytes both ways in chunks of these sizes until nothing moves. */
function converse(a: Side, b: Side, sizes: readonly number[]): void {
  let turn = 0;
  a.machine.start();
  for (;;) {
    const toB = a.takeSent();
    const toA = b.takeSent();
    if (toA.length + toB.length === 0) return;
    for (const [side, bytes] of [
      [b, toB],
      [a, toA],
    ] as const) {
      for (let at = 0; at < bytes.length; ) {
        const size = sizes[turn++ % sizes.length]!;
        side.machine.receive(bytes.subarray(at, at + size));
        at += size;
      }
    }
  }
}

describe('RC4', () => {
  it('throws away 1,024 bytes and then follows the key stream of RFC 6229', () => {
    const key = fromHex('0102030405060708090a0b0c0d0e0f10')!;
    const out = new Uint8Array(32);
    new Rc4(key).crypt(out, 0, out, 0, 32);
    expect(toHex(out)).toBe('bdf0324e6083dcc6d3cedd3ca8c53c167e5cb90bc6802a7a3df2ddec55017396');
  });

  it('is the same however the bytes are cut and wherever they lie', () => {
    const key = fromHex('0102030405060708090a0b0c0d0e0f10')!;
    const clear = new Uint8Array(3000).map((_, i) => i * 31);
    const right = new Uint8Array(3000);
    const one = new Rc4(key);
    for (let i = 0; i < 3000; i++) one.crypt(right, i, clear, i, 1);
    const cut = fc.record({
      length: fc.integer({ max: 700, min: 0 }),
      at: fc.nat(9),
      to: fc.nat(9),
      same: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(cut, { maxLength: 8 }), (cuts) => {
        const cipher = new Rc4(key);
        let done = 0;
        for (const { length, at, to, same } of cuts) {
          const n = Math.min(length, 3000 - done);
          const source = new Uint8Array(800).subarray(at);
          source.set(clear.subarray(done, done + n), to);
          // elsewhere, or over itself
          const target = same ? source : new Uint8Array(1000).fill(1).subarray(at ^ 1);
          const from = to;
          const into = same ? to : to ^ 3;
          cipher.crypt(target, into, source, from, n);
          expect(toHex(target.subarray(into, into + n))).toBe(toHex(right.subarray(done, done + n)));
          expect([target[into - 1] ?? 1, target[into + n]]).toEqual(same ? [to > 0 ? 0 : 1, 0] : [1, 1]);
          done += n;
        }
      }),
    );
  });

  it('is the same by the kernel of the memory of slots', () => {
    const slots = new SlotPool(makeSlotMemory(1 << 20), 1 << 16, 8);
    const cut = fc.record({ length: fc.nat(3000), from: fc.nat(20), to: fc.nat(20), same: fc.boolean() });
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.array(cut, { maxLength: 8 }), (key, cuts) => {
        const plain = new Rc4(key);
        const cipher = new Rc4(key, slots);
        for (const { length, from, to, same } of cuts) {
          const source = slots.receive.subarray(from, from + length);
          source.forEach((_, i) => {
            source[i] = i * 31;
          });
          const right = new Uint8Array(length);
          plain.crypt(right, 0, source, 0, length);
          const target = same ? slots.receive : slots.rc4!.room.fill(1, 0, 3050);
          const into = same ? from : to;
          cipher.crypt(target, into, slots.receive, from, length);
          expect(toHex(target.subarray(into, into + length))).toBe(toHex(right));
          if (!same) expect([target[into - 1] ?? 1, target[into + length]]).toEqual([1, 1]);
        }
      }),
    );
  });
});

describe('the handshake', () => {
  it('agrees, whatever the pads and however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.nat(),
        fc.constantFrom(CryptoMethod.Plain, CryptoMethod.Rc4, BOTH),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 8 }),
        (seedA, seedB, methods, sizes) => {
          const a = new Side(true, methods, seedA);
          const b = new Side(false, BOTH, seedB);
          converse(a, b, sizes);
          expect([a.end, b.end]).toEqual(['done', 'done']);
          expect(toHex(b.rest)).toBe(toHex(HANDSHAKE));
          const plain = (methods & CryptoMethod.Plain) !== 0;
          expect([a.incoming === null, b.outgoing === null]).toEqual([plain, plain]);
          if (plain) return;
          const message = utf8Encode('a block of the stream');
          const wire = message.slice();
          b.outgoing!.crypt(wire, 0, wire, 0, wire.length);
          expect(toHex(wire)).not.toBe(toHex(message));
          a.incoming!.crypt(wire, 0, wire, 0, wire.length);
          expect(toHex(wire)).toBe(toHex(message));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('hands over what follows it in the same packet, decrypted', () => {
    const a = new Side(true, CryptoMethod.Rc4, 1, true, new Uint8Array(0));
    const b = new Side(false, BOTH, 2);
    a.machine.start();
    b.machine.receive(a.takeSent());
    a.machine.receive(b.takeSent());
    b.machine.receive(a.takeSent());
    expect(b.end).toBe('done');
    const more = utf8Encode('more');
    const wire = more.slice();
    b.outgoing!.crypt(wire, 0, wire, 0, wire.length);
    a.machine.receive(concat([b.takeSent(), wire]));
    expect(a.end).toBe('done');
    expect(toHex(a.rest)).toBe(toHex(more));
  });

  it('computes nothing for a stranger before it may, and goes on from there', () => {
    const a = new Side(true, CryptoMethod.Rc4, 5);
    const b = new Side(false, BOTH, 6);
    b.mayExchange = false;
    a.machine.start();
    const key = a.takeSent();
    b.machine.receive(key.subarray(0, 100));
    b.machine.receive(key.subarray(100));
    expect([b.takeSent().length, b.end]).toEqual([0, null]);
    b.machine.exchangeKeys();
    b.machine.exchangeKeys();
    a.machine.receive(b.takeSent());
    b.machine.receive(a.takeSent());
    expect(b.end).toBe('done');
  });

  it('never shows the name of the protocol or the info-hash', () => {
    const a = new Side(true, CryptoMethod.Rc4, 3);
    const b = new Side(false, BOTH, 4);
    a.machine.start();
    const first = a.takeSent();
    b.machine.receive(first);
    a.machine.receive(b.takeSent());
    const wire = toHex(concat([first, a.takeSent()]));
    expect(wire).not.toContain(toHex(utf8Encode('BitTorrent')));
    expect(wire).not.toContain(toHex(SECRET));
  });

  it('takes a plain beginning for what it is, or refuses it', () => {
    const b = new Side(false, BOTH, 5);
    for (const byte of HANDSHAKE.subarray(0, 19)) b.machine.receive(Uint8Array.of(byte));
    expect(b.end).toBeNull();
    b.machine.receive(HANDSHAKE.subarray(19));
    expect(b.end).toBe('plain');
    expect(toHex(b.rest)).toBe(toHex(HANDSHAKE));
    const strict = new Side(false, CryptoMethod.Rc4, 6, false);
    strict.machine.receive(HANDSHAKE);
    expect(strict.end).toBe('fault');
  });

  it('refuses keys that give the secret away', () => {
    const prime = fromHex(
      'ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563',
    )!;
    const one = new Uint8Array(96);
    one[95] = 1;
    const below = prime.slice();
    below[95]! -= 1;
    for (const key of [new Uint8Array(96), one, below, prime, new Uint8Array(96).fill(255)]) {
      const b = new Side(false, BOTH, 7);
      b.machine.receive(concat([key]));
      expect(b.end).toBe('fault');
      expect(b.takeSent().length).toBe(0);
    }
  });

  it('refuses an unknown torrent and a method it did not offer', () => {
    const a = new Side(true, CryptoMethod.Rc4, 8);
    const b = new Side(false, CryptoMethod.Plain, 9);
    converse(a, b, [4096]);
    expect(b.end).toBe('fault');
    const other = new Side(false, BOTH, 10);
    other.findSecret = () => null;
    converse(new Side(true, BOTH, 11), other, [4096]);
    expect(other.end).toBe('fault');
  });

  it('survives any bytes, holding no more than it needs', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.array(fc.uint8Array({ maxLength: 900 }), { maxLength: 12 }), (outgoing, chunks) => {
        const side = new Side(outgoing, BOTH, 12);
        if (outgoing) side.machine.start();
        for (const chunk of chunks) side.machine.receive(chunk);
        const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
        if (total > 96 + 532 + 20) expect(side.end).not.toBeNull();
      }),
    );
  });
});
