/**
 * Floods one `Dht` with announces and puts from many addresses, each with a token it was given, so that everything asked
 * for must be looked at and stored. Half of the announces are for hashes nobody asked for before, half for 2,000 of them.
 */

import { writeU16, writeU32 } from '../src/base/bytes.ts';
import { PlatformCrypto } from '../src/base/platform-crypto.ts';
import { Rng } from '../src/base/random.ts';
import { encode } from '../src/codec/bencode.ts';
import { Dht } from '../src/discovery/dht.ts';
import { ExternalIp } from '../src/discovery/external-ip.ts';
import { read } from './dht-liar.ts';

/** Announces of one address: below what silences it. */
const EACH = 40;
const PORT = 6881;
const ID = new Uint8Array(20).fill(7);

export class DhtFlood {
  readonly dht: Dht;
  /** Taken. */
  announced = 0;
  put = 0;
  readonly #rng: Rng;
  #now = 1_000_000;
  #visitor = 0;
  #lastReply: Uint8Array = new Uint8Array(0);

  constructor(seed: number) {
    this.#rng = new Rng(Uint32Array.of(seed, 1, 2, 3));
    this.dht = new Dht({
      rng: new Rng(Uint32Array.of(seed, 4, 5, 6)),
      random: new Rng(Uint32Array.of(seed, 7, 8, 9)),
      crypto: new PlatformCrypto(),
      external: new ExternalIp(),
      sink: {
        onDhtSend: (bytes) => {
          this.#lastReply = bytes;
          return true;
        },
      },
      readOnly: false,
      version: Uint8Array.of(83, 105, 0, 1),
      uploadRateBps: 1e9,
      maxHashes: 2000,
      maxPeersPerHash: 500,
      maxItems: 700,
    });
    this.dht.start(this.#now, { v4: true, v6: false });
  }

  run(announces: number, puts: number): void {
    let announcesLeft = announces;
    let putsLeft = puts;
    const putsEach = Math.ceil((puts * EACH) / Math.max(1, announces));
    while (announcesLeft > 0 || putsLeft > 0) {
      const ip = this.#nextIp();
      const token = this.#token(ip);
      const announce = encode({
        t: 'aa',
        y: 'q',
        q: 'announce_peer',
        a: { id: ID, info_hash: new Uint8Array(20), port: PORT, token },
      });
      const hashAt = find(announce, 'info_hash20:') + 12;
      for (let i = 0; i < EACH && announcesLeft > 0; i++, announcesLeft--) {
        const known = this.#rng.below(2) === 0;
        announce.fill(0, hashAt, hashAt + 20);
        writeU32(announce, hashAt, known ? this.#rng.below(2000) : this.#rng.u32());
        if (!known) writeU32(announce, hashAt + 4, 1 + this.#rng.below(1e9));
        if (this.#isTaken(announce, ip)) this.announced++;
      }
      for (let i = 0; i < putsEach && putsLeft > 0; i++, putsLeft--) {
        const v = new Uint8Array(990);
        writeU32(v, 0, this.#rng.u32());
        if (this.#isTaken(encode({ t: 'aa', y: 'q', q: 'put', a: { id: ID, token, v } }), ip)) this.put++;
      }
      this.#now += 50;
      if (this.#now >= this.dht.nextAt()) this.dht.tick(this.#now);
    }
  }

  #isTaken(query: Uint8Array, ip: string): boolean {
    this.#lastReply = query;
    this.dht.datagram(this.#now, query, ip, PORT);
    const reply = this.#lastReply;
    // a reply begins with the asker's address, an error with "1:e"
    return reply !== query && reply[1] === 50 && reply[3] === 105;
  }

  #token(ip: string): Uint8Array {
    const info_hash = new Uint8Array(20);
    this.#rng.fill(info_hash);
    this.dht.datagram(this.#now, encode({ t: 'aa', y: 'q', q: 'get_peers', a: { id: ID, info_hash } }), ip, PORT);
    return new Uint8Array(read(this.#lastReply)!.dict('r')!.bytes('token')!);
  }

  #nextIp(): string {
    const n = this.#visitor++;
    const bytes = new Uint8Array(4);
    writeU16(bytes, 1, n);
    return `${20 + (n >>> 16)}.${bytes[1]}.${bytes[2]}.9`;
  }
}

function find(bytes: Uint8Array, text: string): number {
  for (let at = 0; at + text.length <= bytes.length; at++) {
    let i = 0;
    while (i < text.length && bytes[at + i] === text.charCodeAt(i)) i++;
    if (i === text.length) return at;
  }
  return -1;
}
