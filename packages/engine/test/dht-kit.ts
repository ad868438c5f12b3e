/** One `Dht` with the world played by the test: what it sends is caught, what comes is made by hand. */

import { concat, equal, fromHex, latin1, utf8Encode, writeU16 } from '../src/base/bytes.ts';
import { parseIp } from '../src/base/ip.ts';
import { PlatformCrypto } from '../src/base/platform-crypto.ts';
import { Rng } from '../src/base/random.ts';
import { BDict, type BInput, decode, encode } from '../src/codec/bencode.ts';
import { Dht, type DhtOptions } from '../src/discovery/dht.ts';
import { ExternalIp } from '../src/discovery/external-ip.ts';
import { makeNodeId } from '../src/discovery/node-id.ts';

export const crypto: PlatformCrypto = new PlatformCrypto();

export interface Sent {
  readonly bytes: Uint8Array;
  readonly ip: string;
  readonly port: number;
}

export class DhtBench {
  now = 1_000_000;
  readonly rng: Rng;
  readonly dht: Dht;
  readonly external: ExternalIp = new ExternalIp();
  /** Whether datagrams to an address leave at all. */
  reaches: (ip: string) => boolean = () => true;
  /** All that was sent and not taken yet. */
  sent: Sent[] = [];
  sentBytes = 0;
  #tid = 0;

  constructor(options: Partial<DhtOptions> = {}, seed: number = 1) {
    this.rng = new Rng(Uint32Array.of(seed, 5, 6, 7));
    this.dht = new Dht({
      rng: new Rng(Uint32Array.of(seed, 2, 3, 4)),
      random: new Rng(Uint32Array.of(seed, 8, 9, 1)),
      crypto,
      external: this.external,
      sink: {
        onDhtSend: (bytes, ip, port) => {
          if (!this.reaches(ip)) return false;
          this.sentBytes += bytes.length;
          this.sent.push({ bytes: new Uint8Array(bytes), ip, port });
          return true;
        },
      },
      readOnly: false,
      version: utf8Encode('Sh01'),
      uploadRateBps: 1_000_000_000,
      maxHashes: 2000,
      maxPeersPerHash: 500,
      maxItems: 700,
      ...options,
    });
  }

  start(): this {
    this.dht.start(this.now, { v4: true, v6: true });
    return this;
  }

  /** Lets time pass, in steps no longer than what it asks for. */
  pass(ms: number): void {
    const end = this.now + ms;
    while (this.now < end) {
      this.now = Math.max(this.now + 1, Math.min(end, this.dht.nextAt()));
      this.dht.tick(this.now);
    }
  }

  raw(bytes: Uint8Array, ip: string = '9.9.9.9', port: number = 6881): void {
    this.dht.datagram(this.now, bytes, ip, port);
  }

  /** A query; returns what was sent to the asker in answer, null: nothing. */
  query(method: string, args: Record<string, BInput>, ip: string = '9.9.9.9', port: number = 6881): BDict | null {
    const t = new Uint8Array(2);
    writeU16(t, 0, ++this.#tid & 0xffff);
    const before = this.sent.length;
    const id = args.id ?? idOf(ip);
    this.raw(encode({ t, y: 'q', q: method, a: { ...args, id } }), ip, port);
    for (let i = this.sent.length - 1; i >= before; i--) {
      const { bytes, ip: to, port: toPort } = this.sent[i]!;
      const message = readMessage(bytes);
      if (to === ip && toPort === port && message.text('y') !== 'q' && equal(message.bytes('t')!, t)) return message;
    }
    return null;
  }

  /** Takes what was sent: all queries, decoded. */
  takeQueries(): { message: BDict; method: string; ip: string; port: number }[] {
    const taken = this.sent;
    this.sent = [];
    return taken
      .map(({ bytes, ip, port }) => ({ message: readMessage(bytes), ip, port }))
      .filter(({ message }) => message.text('y') === 'q')
      .map((query) => ({ ...query, method: query.message.text('q')! }));
  }

  /** Answers a query of ours. */
  answer(query: { message: BDict; ip: string; port: number }, r: Record<string, BInput>, extra = {}): void {
    const t = query.message.bytes('t')!;
    this.raw(encode({ t, y: 'r', r: { id: idOf(query.ip), ...r }, ...extra }), query.ip, query.port);
  }

  /** A node that answers gets into the table. */
  befriend(ip: string, port: number = 6881, id: Uint8Array = idOf(ip)): void {
    this.dht.addNode(this.now, ip, port);
    for (const query of this.takeQueries()) if (query.ip === ip) this.answer(query, { id });
  }

  /** `count` good nodes, each in a network of its own. */
  populate(count: number): void {
    for (let i = 0; i < count; i++) this.befriend(publicIp(i));
  }

  /** Plays the network until nothing more is asked: `reply` says what each query is answered with; null: nothing. */
  play(reply: (query: { message: BDict; method: string; ip: string; port: number }) => Record<string, BInput> | null) {
    for (let round = 0; round < 3000; round++) {
      const queries = this.takeQueries();
      for (const query of queries) {
        const r = reply(query);
        if (r !== null) this.answer(query, r);
      }
      if (queries.length > 0) continue;
      this.pass(250);
      if (this.sent.length === 0 && round > 200) return;
    }
  }
}

/** A public address of its own /24 for each n below 50,000. */
export function publicIp(n: number): string {
  return `${20 + (n >>> 14)}.${(n >>> 7) & 127}.${n & 127}.7`;
}

const ids: Map<string, Uint8Array> = new Map();

/** The id a well-behaved node at this address has: always the same, true to BEP 42. */
export function idOf(ip: string): Uint8Array {
  let id = ids.get(ip);
  if (id === undefined) {
    const words = Uint32Array.from({ length: 4 }, (_, i) => Math.imul(hashOf(ip), 2 * i + 1) + i);
    id = makeNodeId(new Rng(words), parseIp(ip)!);
    ids.set(ip, id);
  }
  return id;
}

export function compactNode(ip: string, port: number = 6881, id: Uint8Array = idOf(ip)): Uint8Array {
  return concat([id, compactPeer(ip, port)]);
}

export function compactPeer(ip: string, port: number = 6881): Uint8Array {
  const tail = new Uint8Array(2);
  writeU16(tail, 0, port);
  return concat([parseIp(ip)!, tail]);
}

export function readMessage(bytes: Uint8Array): BDict {
  const value = decode(bytes, { canonical: true });
  if (!(value instanceof BDict)) throw new Error(`no message: ${latin1(bytes)}`);
  return value;
}

export function hash20(n: number): Uint8Array {
  const bytes = fromHex(n.toString(16).padStart(40, '0'))!;
  // spread, so that neighbours are far from each other
  bytes[0] = Math.imul(n, 0x9e3779b1) >>> 24;
  return bytes;
}

export function errorCode(message: BDict | null): number {
  return (message?.list('e')?.[0] as number | undefined) ?? 0;
}

function hashOf(text: string): number {
  let mix = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) mix = Math.imul(mix ^ text.charCodeAt(i), 0x01000193);
  return mix;
}
