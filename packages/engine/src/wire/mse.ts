/**
 * Message Stream Encryption (MSE/PE): the handshake before the handshake, both sides, sans-IO. It hides what is spoken
 * from those who only look; it does not say who is speaking.
 *
 *     A -> B   Ya PadA                                         96 bytes, 0..512
 *     B -> A   Yb PadB
 *     A -> B   H(req1 S)  H(req2 SKEY)^H(req3 S)  ENC(VC provide len(PadC) PadC len(IA) IA)
 *     B -> A   ENC(VC select len(PadD) PadD)
 *     both     the stream, RC4 or plain as selected
 *
 * S is the shared secret, SKEY the info-hash (20 bytes), VC eight zeros. Pads have random lengths, so each side looks for
 * a mark: B for H(req1 S), A for the cipher text of VC. What begins with BitTorrent's own handshake is plain.
 *
 * Invariants: not one byte of secrets is kept after the end; a finished or failed machine takes no more bytes.
 * Limits: buffers at most MAX_HELD bytes, so that a flood costs nothing; the owner bounds the time.
 */

import { concat, equal, utf8Encode } from '../base/bytes.ts';
import { sha1 } from '../base/hash.ts';
import type { Crypto } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import type { SlotPool } from '../base/slot-pool.ts';
import { mayBeHandshake } from './handshake.ts';
import { Rc4 } from './rc4.ts';

/** How the stream goes on; the bits of `crypto_provide`. */
export const CryptoMethod = { Plain: 1, Rc4: 2 } as const;
export type CryptoMethod = (typeof CryptoMethod)[keyof typeof CryptoMethod];

/** How a stream is hidden in the end: not at all, only its beginning, or all of it. */
export type Encryption = 'none' | 'handshake' | 'rc4';

export interface MseSink {
  /** Bytes for the other side; the sink keeps them. */
  onMseSend(bytes: Uint8Array): void;
  /** Of an incoming connection: its key is here. If not now, the owner calls `exchangeKeys` when it is time. */
  mayExchangeKeys(): boolean;
  /** Of an incoming connection: the torrent whose H(req2 SKEY) this is (20 bytes, borrowed), as its info-hash; null: none. */
  findSecret(hash: Uint8Array): Uint8Array | null;
  /**
   * Agreed. The ciphers are for the stream from here on, null where it is plain; `rest` is what came of it already,
   * decrypted.
   */
  onMseDone(incoming: Rc4 | null, outgoing: Rc4 | null, rest: Uint8Array): void;
  /** An incoming connection that begins as plain BitTorrent; `first` is all that came. */
  onMsePlain(first: Uint8Array): void;
  /** The other side does not speak it, or badly. */
  onMseFault(): void;
}

export interface MseOptions {
  readonly outgoing: boolean;
  /** Bits of CryptoMethod that we would take. Of several the plain one is selected: the hiding is done by then. */
  readonly methods: number;
  readonly crypto: Crypto;
  readonly rng: Rng;
  /** Where the bytes of the stream will mostly lie. */
  readonly slots: SlotPool | null;
  readonly sink: MseSink;
  /** Outgoing: the info-hash, and the first bytes of the stream (the handshake, 68 bytes), sent along encrypted. */
  readonly secret: Uint8Array | null;
  readonly first: Uint8Array | null;
  /** Incoming: whether plain BitTorrent is taken. */
  readonly takesPlain: boolean;
}

const KEY_BYTES = 96;
const SECRET_BYTES = 20;
const MAX_PAD = 512;
const VC_BYTES = 8;
/** Name and length of BitTorrent's own handshake. */
const PLAIN_MARK = 20;
/** A whole handshake and more than comes with it before we answer. */
const MAX_HELD = 4096;
/** IA is the handshake of 68 bytes; libtorrent sends it, some send none. */
const MAX_INITIAL = 1024;

const Step = { Start: 0, Key: 1, Mark: 2, Hash: 3, Offer: 4, Initial: 5, Answer: 6, Pad: 7, Over: 8 } as const;
type Step = (typeof Step)[keyof typeof Step];

export class MseHandshake {
  readonly #options: MseOptions;
  readonly #sink: MseSink;
  readonly #exponent: Uint8Array = new Uint8Array(SECRET_BYTES);
  #step: Step;
  #held: Uint8Array = new Uint8Array(0);
  #shared: Uint8Array = new Uint8Array(0);
  #mark: Uint8Array = new Uint8Array(0);
  #in: Rc4 | null = null;
  #out: Rc4 | null = null;
  #selected: number = 0;
  #padBytes = 0;
  /** Its key is here, and waits for the owner's leave. */
  #waits = false;
  /** Length of IA, -1 until it is known. */
  #initialBytes = -1;

  constructor(options: MseOptions) {
    this.#options = options;
    this.#sink = options.sink;
    this.#step = options.outgoing ? Step.Key : Step.Start;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** Outgoing: the connection is up. */
  start(): void {
    this.#options.rng.fill(this.#exponent);
    this.#sendKey();
  }

  /** Borrowed until return. */
  receive(bytes: Uint8Array): void {
    if (this.#step === Step.Over) return;
    this.#held = concat([this.#held, bytes]);
    if (!this.#waits) this.#go();
    if (this.#step < Step.Over && this.#held.length > MAX_HELD) this.#fail();
  }

  /** What waited for leave goes on. */
  exchangeKeys(): void {
    if (!this.#waits) return;
    this.#waits = false;
    this.#exchange();
    this.#go();
  }

  // --------------------------------------------------------------------------------------------------------- private

  #go(): void {
    let step: Step;
    do {
      step = this.#step;
      this.#advance();
    } while (this.#step !== step && this.#step < Step.Over);
  }

  #advance(): void {
    switch (this.#step) {
      case Step.Start:
        return this.#begin();
      case Step.Key:
        return this.#takeKey();
      case Step.Mark:
        return this.#options.outgoing ? this.#findAnswer() : this.#findMark();
      case Step.Hash:
        return this.#takeHash();
      case Step.Offer:
        return this.#takeOffer();
      case Step.Initial:
        return this.#takeInitial();
      case Step.Answer:
        return this.#takeAnswer();
      case Step.Pad:
        return this.#takePad();
    }
  }

  /** B: plain BitTorrent, or a key? */
  #begin(): void {
    const held = this.#held;
    if (mayBeHandshake(held, 0, Math.min(held.length, PLAIN_MARK))) {
      if (held.length < PLAIN_MARK) return;
      if (!this.#options.takesPlain) return this.#fail();
      this.#over();
      return this.#sink.onMsePlain(held);
    }
    if (held.length < PLAIN_MARK) return;
    if (isNoKey(held)) return this.#fail();
    this.#step = Step.Key;
  }

  #takeKey(): void {
    if (this.#held.length < KEY_BYTES) return;
    this.#waits = !this.#options.outgoing && !this.#sink.mayExchangeKeys();
    if (!this.#waits) this.#exchange();
  }

  #exchange(): void {
    if (!this.#options.outgoing) this.#options.rng.fill(this.#exponent);
    const shared = this.#options.crypto.mseShared(this.#exponent, this.#take(KEY_BYTES));
    if (shared === null) return this.#fail();
    this.#shared = shared;
    if (this.#options.outgoing) this.#sendOffer();
    else {
      this.#sendKey();
      this.#mark = hashOf('req1', shared);
    }
    this.#step = Step.Mark;
  }

  /** B: H(req1 S) ends PadA. */
  #findMark(): void {
    const at = indexOf(this.#held, this.#mark, MAX_PAD);
    if (at === NOT_YET) return;
    if (at === NOWHERE) return this.#fail();
    this.#take(at + this.#mark.length);
    this.#step = Step.Hash;
  }

  #takeHash(): void {
    if (this.#held.length < 20) return;
    const hash = this.#take(20).slice();
    const mask = hashOf('req3', this.#shared);
    for (let i = 0; i < 20; i++) hash[i]! ^= mask[i]!;
    const secret = this.#sink.findSecret(hash);
    if (secret === null) return this.#fail();
    this.#in = this.#cipher('keyA', secret);
    this.#out = this.#cipher('keyB', secret);
    this.#step = Step.Offer;
  }

  #takeOffer(): void {
    const fixed = VC_BYTES + 4 + 2;
    if (this.#held.length < fixed) return;
    const offer = this.#decrypt(fixed);
    if (!equal(offer.subarray(0, VC_BYTES), ZEROS)) return this.#fail();
    const provided = new DataView(offer.buffer, offer.byteOffset).getUint32(VC_BYTES);
    const usable = provided & this.#options.methods;
    this.#padBytes = (offer[VC_BYTES + 4]! << 8) | offer[VC_BYTES + 5]!;
    if (usable === 0 || this.#padBytes > MAX_PAD) return this.#fail();
    this.#selected = (usable & CryptoMethod.Plain) !== 0 ? CryptoMethod.Plain : CryptoMethod.Rc4;
    this.#step = Step.Initial;
  }

  /** B: PadC and IA. The whole is waited for, then answered. */
  #takeInitial(): void {
    const before = this.#padBytes + 2;
    if (this.#initialBytes < 0) {
      if (this.#held.length < before) return;
      const pad = this.#decrypt(before);
      this.#initialBytes = (pad[before - 2]! << 8) | pad[before - 1]!;
      if (this.#initialBytes > MAX_INITIAL) return this.#fail();
    }
    if (this.#held.length < this.#initialBytes) return;
    const initial = this.#decrypt(this.#initialBytes);
    this.#sendAnswer();
    this.#finish(initial);
  }

  /** A: the cipher text of VC ends PadB. */
  #findAnswer(): void {
    const at = indexOf(this.#held, this.#mark, MAX_PAD);
    if (at === NOT_YET) return;
    if (at === NOWHERE) return this.#fail();
    this.#take(at);
    this.#step = Step.Answer;
  }

  #takeAnswer(): void {
    const fixed = VC_BYTES + 4 + 2;
    if (this.#held.length < fixed) return;
    const answer = this.#decrypt(fixed);
    this.#selected = new DataView(answer.buffer, answer.byteOffset).getUint32(VC_BYTES);
    this.#padBytes = (answer[VC_BYTES + 4]! << 8) | answer[VC_BYTES + 5]!;
    const one = this.#selected === CryptoMethod.Plain || this.#selected === CryptoMethod.Rc4;
    if (!one || (this.#selected & this.#options.methods) === 0 || this.#padBytes > MAX_PAD) return this.#fail();
    this.#step = Step.Pad;
  }

  #takePad(): void {
    if (this.#held.length < this.#padBytes) return;
    this.#decrypt(this.#padBytes);
    this.#finish(new Uint8Array(0));
  }

  /** `initial`: what of the stream is decrypted already. */
  #finish(initial: Uint8Array): void {
    const held = this.#held;
    const plain = this.#selected === CryptoMethod.Plain;
    const incoming = plain ? null : this.#in;
    const outgoing = plain ? null : this.#out;
    const rest = concat([initial, held]);
    incoming?.crypt(rest, initial.length, rest, initial.length, held.length);
    this.#over();
    this.#sink.onMseDone(incoming, outgoing, rest);
  }

  #fail(): void {
    this.#over();
    this.#sink.onMseFault();
  }

  #over(): void {
    this.#step = Step.Over;
    this.#held = new Uint8Array(0);
    this.#shared.fill(0);
    this.#exponent.fill(0);
    this.#in = null;
    this.#out = null;
  }

  // ------------------------------------------------------------------------------------------------------ what is sent

  #sendKey(): void {
    this.#sink.onMseSend(concat([this.#options.crypto.msePublic(this.#exponent), this.#pad()]));
  }

  #sendOffer(): void {
    const { secret, first, methods } = this.#options;
    this.#out = this.#cipher('keyA', secret!);
    this.#in = this.#cipher('keyB', secret!);
    const proof = hashOf('req2', secret!);
    const mask = hashOf('req3', this.#shared);
    for (let i = 0; i < 20; i++) proof[i]! ^= mask[i]!;
    const pad = this.#pad();
    const initial = first ?? ZEROS.subarray(0, 0);
    const clear = new Uint8Array(VC_BYTES + 4 + 2 + pad.length + 2 + initial.length);
    const view = new DataView(clear.buffer);
    view.setUint32(VC_BYTES, methods);
    view.setUint16(VC_BYTES + 4, pad.length);
    clear.set(pad, VC_BYTES + 6);
    view.setUint16(VC_BYTES + 6 + pad.length, initial.length);
    clear.set(initial, VC_BYTES + 8 + pad.length);
    this.#out.crypt(clear, 0, clear, 0, clear.length);
    this.#sink.onMseSend(concat([hashOf('req1', this.#shared), proof, clear]));
    // what the other side's zeros will look like; the real cipher stays where it is until they are found
    const mark = new Uint8Array(VC_BYTES);
    this.#cipher('keyB', secret!).crypt(mark, 0, ZEROS, 0, VC_BYTES);
    this.#mark = mark;
  }

  #sendAnswer(): void {
    const pad = this.#pad();
    const clear = new Uint8Array(VC_BYTES + 4 + 2 + pad.length);
    const view = new DataView(clear.buffer);
    view.setUint32(VC_BYTES, this.#selected);
    view.setUint16(VC_BYTES + 4, pad.length);
    clear.set(pad, VC_BYTES + 6);
    this.#out!.crypt(clear, 0, clear, 0, clear.length);
    this.#sink.onMseSend(clear);
  }

  #cipher(word: string, secret: Uint8Array): Rc4 {
    return new Rc4(hashOf(word, this.#shared, secret), this.#options.slots);
  }

  #pad(): Uint8Array {
    const pad = new Uint8Array(this.#options.rng.below(MAX_PAD + 1));
    this.#options.rng.fill(pad);
    return pad;
  }

  // --------------------------------------------------------------------------------------------------- what is held

  #take(count: number): Uint8Array {
    const taken = this.#held.subarray(0, count);
    this.#held = this.#held.subarray(count);
    return taken;
  }

  #decrypt(count: number): Uint8Array {
    const taken = this.#take(count);
    const clear = new Uint8Array(count);
    this.#in!.crypt(clear, 0, taken, 0, count);
    return clear;
  }
}

/** H(req2 SKEY), by which the owner keeps its torrents, so that a connection costs one look-up however many there are. */
export function secretHash(infoHash: Uint8Array): Uint8Array {
  return hashOf('req2', infoHash);
}

/** Whether what a stream begins with is text or zeros: a key, which is random, is so once in 10^8 connections. */
function isNoKey(bytes: Uint8Array): boolean {
  let text = 0;
  let zeros = 0;
  for (let i = 0; i < PLAIN_MARK; i++) {
    const byte = bytes[i]!;
    if ((byte >= 32 && byte < 127) || byte === 10 || byte === 13) text++;
    else if (byte === 0) zeros++;
  }
  return text >= PLAIN_MARK - 1 || zeros === PLAIN_MARK;
}

const ZEROS: Uint8Array = new Uint8Array(VC_BYTES);
const NOT_YET = -1;
const NOWHERE = -2;

function hashOf(word: string, ...parts: readonly Uint8Array[]): Uint8Array {
  return sha1(concat([utf8Encode(word), ...parts]));
}

/** Where `mark` begins, at most `limit` bytes in; NOT_YET while it may still come. */
function indexOf(bytes: Uint8Array, mark: Uint8Array, limit: number): number {
  const last = Math.min(limit, bytes.length - mark.length);
  outer: for (let at = 0; at <= last; at++) {
    for (let i = 0; i < mark.length; i++) if (bytes[at + i] !== mark[i]) continue outer;
    return at;
  }
  return bytes.length >= limit + mark.length ? NOWHERE : NOT_YET;
}
