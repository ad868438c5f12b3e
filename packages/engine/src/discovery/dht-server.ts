/**
 * Answers the queries of others (BEP 5, 32, 33, 42, 44, 51) out of the tables and stores. Writes one reply or error per
 * query into the shared writer; whether it is sent is the Dht's affair.
 *
 * Invariant: an answer never is longer than `cap` allows (7 times the query for addresses that may be forged, DEMANDS H2),
 * and nobody stores anything without a token that was sent to its address. What does not fit is cut: values first, then
 * nodes; an item goes before nodes.
 */

import { readU32 } from '../base/bytes.ts';
import { isUsablePeerAddress } from '../base/ip.ts';
import type { Crypto } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import { type DhtItem, DhtItems, itemTarget, MAX_SALT_BYTES, MAX_VALUE_BYTES, PutError } from './dht-items.ts';
import { DhtPeers } from './dht-peers.ts';
import { DhtTokens } from './dht-tokens.ts';
import { type KrpcMessage, Method, WANT4, WANT6 } from './krpc.ts';
import { Key, KrpcWriter, MAX_PACKET } from './krpc-write.ts';
import type { Filler } from './node-id.ts';
import { K, type RouteNode, type RoutingTable } from './routing-table.ts';

/** BEP 32; only items need more. */
const USUAL_PACKET = 1024;
/** libtorrent's figure. */
const MAX_VALUES = 100;
const MAX_SAMPLES = 20;
/** A sample is drawn anew after this time, and says so (BEP 51). */
const SAMPLE_MS = 60_000;
/** Well below the 5 minutes that a token is good for at least. */
const TOKEN_KEPT_MS = 30_000;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const BLOOM_FIELD = 6 + 4 + 256;
const TOKEN_FIELD = 7 + 2 + 8;
const NODES_FRAME = 8 + 4;
const VALUES_FRAME = 8 + 2;

const PUT_ERRORS: ReadonlyMap<number, string> = new Map([
  [PutError.Protocol, 'invalid item'],
  [PutError.ValueTooBig, 'message too big'],
  [PutError.Signature, 'invalid signature'],
  [PutError.SaltTooBig, 'salt too big'],
  [PutError.Cas, 'CAS mismatch, re-read value and try again'],
  [PutError.Seq, 'sequence number less than current'],
]);

export interface ServerOptions {
  readonly rng: Rng;
  readonly random: Filler;
  readonly crypto: Crypto;
  readonly writer: KrpcWriter;
  readonly maxHashes: number;
  readonly maxPeersPerHash: number;
  readonly maxItems: number;
}

export class DhtServer {
  readonly peers: DhtPeers;
  readonly items: DhtItems;
  readonly tokens: DhtTokens;
  readonly #writer: KrpcWriter;
  readonly #found: RouteNode[] = [];
  readonly #found6: RouteNode[] = [];
  readonly #issued: Uint8Array[] = [];
  readonly #issuedTo: Uint32Array = new Uint32Array(256);
  readonly #issuedUntil: Float64Array = new Float64Array(256);
  #samples: Uint8Array = new Uint8Array(0);
  #sampledAt = Number.NEGATIVE_INFINITY;

  constructor(options: ServerOptions) {
    this.peers = new DhtPeers(options.rng, options.maxHashes, options.maxPeersPerHash);
    this.items = new DhtItems(options.crypto, options.maxItems);
    this.tokens = new DhtTokens(options.random);
    this.#writer = options.writer;
  }

  tick(now: number): void {
    this.peers.tick(now);
    this.items.tick(now);
  }

  /**
   * Answers a query from `ip` (4 or 16 bytes, borrowed). `own`: the table of its family, `table4` and `table6` those that
   * run. `cap`: most bytes the answer may have.
   */
  answer(
    now: number,
    m: KrpcMessage,
    ip: Uint8Array,
    port: number,
    own: RoutingTable,
    table4: RoutingTable | null,
    table6: RoutingTable | null,
    cap: number,
  ): void {
    const missing = missingOf(m);
    if (missing !== null) return this.#error(203, `missing or invalid ${missing}`, m, ip, port);
    let want = m.want & (WANT4 | WANT6);
    if (m.want <= 0 || want === 0) want = ip.length === 4 ? WANT4 : WANT6;
    const near4 = (want & WANT4) !== 0 ? table4 : null;
    const near6 = (want & WANT6) !== 0 ? table6 : null;
    switch (m.method) {
      case Method.Ping:
        return this.#done(m, ip, port, own);
      case Method.FindNode:
        return this.#findNode(m, m.targetAt, ip, port, own, near4, near6, cap);
      case Method.GetPeers:
        return this.#getPeers(now, m, ip, port, own, near4, near6, cap);
      case Method.AnnouncePeer:
        return this.#announce(now, m, ip, port, own);
      case Method.Get:
        return this.#get(now, m, ip, port, own, near4, near6, cap);
      case Method.Put:
        return this.#put(now, m, ip, port, own);
      case Method.Sample:
        return this.#sample(now, m, ip, port, own, near4, near6, cap);
      case Method.Unknown: {
        // what the future asks about a place is answered by who is near it
        const target = m.targetAt >= 0 ? m.targetAt : m.infoHashAt;
        if (target < 0) return this.#error(204, 'method unknown', m, ip, port);
        return this.#findNode(m, target, ip, port, own, near4, near6, cap);
      }
    }
  }

  #findNode(
    m: KrpcMessage,
    target: number,
    ip: Uint8Array,
    port: number,
    own: RoutingTable,
    near4: RoutingTable | null,
    near6: RoutingTable | null,
    cap: number,
  ): void {
    const writer = this.#writer;
    const count = this.#choose(near4, near6, m.bytes, target, roomOf(m, ip, cap, USUAL_PACKET));
    writer.beginReply(ip, port);
    writer.id(Key.id, own.ownId);
    this.#writeNodes(near4, near6, count);
    writer.endReply(m.bytes, m.tidAt, m.tidLength);
  }

  #getPeers(
    now: number,
    m: KrpcMessage,
    ip: Uint8Array,
    port: number,
    own: RoutingTable,
    near4: RoutingTable | null,
    near6: RoutingTable | null,
    cap: number,
  ): void {
    const writer = this.#writer;
    const infoHash = m.view(m.infoHashAt, 20);
    let room = roomOf(m, ip, cap, USUAL_PACKET) - TOKEN_FIELD;
    const known = this.peers.has(infoHash);
    const blooms = known && m.scrape && room >= 2 * BLOOM_FIELD ? this.peers.blooms(now, infoHash) : null;
    if (blooms !== null) room -= 2 * BLOOM_FIELD;
    const count = this.#choose(near4, near6, m.bytes, m.infoHashAt, room);
    room -= nodesSize(near4, near6, count);
    const family = ip.length === 4 ? 4 : 6;
    const fit = Math.floor((room - VALUES_FRAME) / (family === 4 ? 8 : 21));
    const values =
      known && fit > 0 ? this.peers.peers(now, infoHash, family, Math.min(fit, MAX_VALUES), m.noSeed) : null;
    writer.beginReply(ip, port);
    if (blooms !== null) {
      writer.string(Key.peerBloom, blooms.peers);
      writer.string(Key.seedBloom, blooms.seeds);
    }
    writer.id(Key.id, own.ownId);
    this.#writeNodes(near4, near6, count);
    writer.string(Key.token, this.#issue(now, ip));
    if (values !== null && values.length > 0) writer.strings(Key.values, values);
    writer.endReply(m.bytes, m.tidAt, m.tidLength);
  }

  #announce(now: number, m: KrpcMessage, ip: Uint8Array, port: number, own: RoutingTable): void {
    const peerPort = m.impliedPort ? port : m.port;
    if (!Number.isInteger(peerPort) || !isUsablePeerAddress(ip, peerPort)) {
      this.#error(203, 'invalid port', m, ip, port);
    } else if (!this.#tokenIsGood(now, m, ip)) this.#error(203, 'invalid token', m, ip, port);
    else {
      this.peers.add(now, m.view(m.infoHashAt, 20), ip, peerPort, m.seed);
      this.#done(m, ip, port, own);
    }
  }

  #get(
    now: number,
    m: KrpcMessage,
    ip: Uint8Array,
    port: number,
    own: RoutingTable,
    near4: RoutingTable | null,
    near6: RoutingTable | null,
    cap: number,
  ): void {
    const writer = this.#writer;
    const item = this.items.get(now, m.view(m.targetAt, 20));
    const mutable = item !== null && item.publicKey !== null;
    let room = roomOf(m, ip, cap, MAX_PACKET) - TOKEN_FIELD;
    if (mutable) room -= SEQ_FIELD;
    const size = item === null ? 0 : item.value.length + 3 + (mutable ? 38 + 72 : 0);
    const whole = item !== null && size <= room && !(mutable && m.hasSeq && item.seq <= m.seq);
    if (whole) room -= size;
    const count = this.#choose(near4, near6, m.bytes, m.targetAt, room);
    writer.beginReply(ip, port);
    writer.id(Key.id, own.ownId);
    if (whole && mutable) writer.string(Key.publicKey, item.publicKey!);
    this.#writeNodes(near4, near6, count);
    if (mutable) writer.int(Key.seq, item.seq);
    if (whole && mutable) writer.string(Key.signature, item.signature!);
    writer.string(Key.token, this.#issue(now, ip));
    if (whole) {
      writer.raw(Key.value);
      writer.raw(item.value);
    }
    writer.endReply(m.bytes, m.tidAt, m.tidLength);
  }

  #put(now: number, m: KrpcMessage, ip: Uint8Array, port: number, own: RoutingTable): void {
    let code: number = 0;
    const mutable = m.keyAt >= 0;
    if (m.valueAt < 0) code = PutError.Protocol;
    else if (m.valueEnd - m.valueAt > MAX_VALUE_BYTES) code = PutError.ValueTooBig;
    else if (mutable && m.saltLength > MAX_SALT_BYTES) code = PutError.SaltTooBig;
    else if (mutable && (m.keyLength !== KEY_BYTES || !m.hasSeq || m.signatureAt < 0)) code = PutError.Protocol;
    else if (mutable && m.signatureLength !== SIGNATURE_BYTES) code = PutError.Signature;
    else if (mutable && m.hasCas && !Number.isSafeInteger(m.cas)) code = PutError.Protocol;
    else if (!this.#tokenIsGood(now, m, ip)) {
      this.#error(203, 'invalid token', m, ip, port);
      return;
    }
    if (code === 0) {
      const parts = {
        value: m.view(m.valueAt, m.valueEnd - m.valueAt),
        publicKey: mutable ? m.view(m.keyAt, m.keyLength) : null,
        salt: mutable && m.saltAt >= 0 ? m.view(m.saltAt, m.saltLength) : NO_BYTES,
        seq: mutable ? m.seq : 0,
        signature: mutable ? m.view(m.signatureAt, m.signatureLength) : null,
      };
      const item: DhtItem = { ...parts, target: itemTarget(parts) };
      code = this.items.put(now, item, mutable && m.hasCas ? m.cas : -1, ip);
    }
    if (code === 0) this.#done(m, ip, port, own);
    else this.#error(code, PUT_ERRORS.get(code) ?? 'refused', m, ip, port);
  }

  #sample(
    now: number,
    m: KrpcMessage,
    ip: Uint8Array,
    port: number,
    own: RoutingTable,
    near4: RoutingTable | null,
    near6: RoutingTable | null,
    cap: number,
  ): void {
    const writer = this.#writer;
    const total = this.peers.hashCount;
    // while all of them fit there is nothing to hold back
    if (total <= MAX_SAMPLES || now - this.#sampledAt >= SAMPLE_MS) {
      this.#samples = this.peers.sample(MAX_SAMPLES);
      this.#sampledAt = now;
    }
    let room = roomOf(m, ip, cap, USUAL_PACKET) - 20 - 20 - NODES_FRAME;
    const count = this.#choose(near4, near6, m.bytes, m.targetAt, room);
    room -= nodesSize(near4, near6, count);
    const samples = Math.max(0, Math.min(this.#samples.length / 20, Math.floor(room / 20)));
    writer.beginReply(ip, port);
    writer.id(Key.id, own.ownId);
    writer.int(Key.interval, SAMPLE_MS / 1000);
    this.#writeNodes(near4, near6, count);
    writer.int(Key.num, total);
    writer.string(Key.samples, this.#samples.subarray(0, 20 * samples));
    writer.endReply(m.bytes, m.tidAt, m.tidLength);
  }

  /** Finds the nodes to name, into the two lists; returns how many of each at most fit. */
  #choose(
    near4: RoutingTable | null,
    near6: RoutingTable | null,
    target: Uint8Array,
    targetAt: number,
    room: number,
  ): number {
    const each = (near4 === null ? 0 : 26) + (near6 === null ? 0 : 38);
    const frames = (near4 === null ? 0 : NODES_FRAME) + (near6 === null ? 0 : NODES_FRAME);
    const count = each === 0 ? 0 : Math.max(0, Math.min(K, Math.floor((room - frames) / each)));
    if (near4 !== null) this.#found.length = near4.closestFair(target, targetAt, count, this.#found, true);
    if (near6 !== null) this.#found6.length = near6.closestFair(target, targetAt, count, this.#found6, true);
    return count;
  }

  #writeNodes(near4: RoutingTable | null, near6: RoutingTable | null, count: number): void {
    const writer = this.#writer;
    if (count === 0) return;
    if (near4 !== null) {
      writer.beginString(Key.nodes, 26 * this.#found.length);
      for (let i = 0; i < this.#found.length; i++) writer.part(this.#found[i]!.compact);
    }
    if (near6 !== null) {
      writer.beginString(Key.nodes6, 38 * this.#found6.length);
      for (let i = 0; i < this.#found6.length; i++) writer.part(this.#found6[i]!.compact);
    }
  }

  /** Who asks much is given the token of a moment ago, which is good for minutes more: a hash costs as much as the rest. */
  #issue(now: number, ip: Uint8Array): Uint8Array {
    if (ip.length !== 4) return this.tokens.issue(now, ip);
    const key = readU32(ip, 0);
    const slot = Math.imul(key, 0x9e3779b1) >>> 24;
    const held = this.#issued[slot];
    if (held !== undefined && this.#issuedTo[slot] === key && now < this.#issuedUntil[slot]!) return held;
    const token = this.tokens.issue(now, ip);
    this.#issued[slot] = token;
    this.#issuedTo[slot] = key;
    this.#issuedUntil[slot] = now + TOKEN_KEPT_MS;
    return token;
  }

  #tokenIsGood(now: number, m: KrpcMessage, ip: Uint8Array): boolean {
    return m.tokenAt >= 0 && this.tokens.valid(now, ip, m.view(m.tokenAt, m.tokenLength));
  }

  #done(m: KrpcMessage, ip: Uint8Array, port: number, own: RoutingTable): void {
    this.#writer.beginReply(ip, port);
    this.#writer.id(Key.id, own.ownId);
    this.#writer.endReply(m.bytes, m.tidAt, m.tidLength);
  }

  #error(code: number, text: string, m: KrpcMessage, ip: Uint8Array, port: number): void {
    this.#writer.error(code, text, ip, port, m.bytes, m.tidAt, m.tidLength);
  }
}

const NO_BYTES: Uint8Array = new Uint8Array(0);
/** The key and a number of up to 16 digits. */
const SEQ_FIELD = 5 + 18;

/** What a query of this method must name and does not; null: nothing. */
function missingOf(m: KrpcMessage): string | null {
  if (m.idAt < 0) return 'id';
  switch (m.method) {
    case Method.GetPeers:
    case Method.AnnouncePeer:
      return m.infoHashAt < 0 ? 'info_hash' : null;
    case Method.FindNode:
    case Method.Get:
    case Method.Sample:
      return m.targetAt < 0 ? 'target' : null;
    default:
      return null;
  }
}

/** Bytes left for fields beside the id. */
function roomOf(m: KrpcMessage, ip: Uint8Array, cap: number, most: number): number {
  return Math.min(cap, most) - KrpcWriter.replyFrame(m.tidLength, ip.length) - 27;
}

function nodesSize(near4: RoutingTable | null, near6: RoutingTable | null, count: number): number {
  if (count === 0) return 0;
  return (near4 === null ? 0 : NODES_FRAME + 26 * count) + (near6 === null ? 0 : NODES_FRAME + 38 * count);
}
