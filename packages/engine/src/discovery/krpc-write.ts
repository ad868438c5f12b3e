/**
 * Writes KRPC messages (BEP 5) into one buffer that is used again for each: what is written last is what `take` gives, as
 * a view that is good until the next message begins. Always canonical, keys in the order of their bytes; the caller gives
 * the fields of the inner dictionary in that order. A message never grows past MAX_PACKET: who writes a field of variable
 * length asks `room` first.
 *
 *     query:  d 1:a d2:id20:.. FIELDS e 1:q METHOD [2:roi1e] 1:t TID 1:v VERSION 1:y1:q e
 *     reply:  d 2:ip ADDRESS 1:r d FIELDS e 1:t TID 1:v VERSION 1:y1:r e
 *     error:  d 1:e l CODE TEXT e 2:ip ADDRESS 1:t TID 1:v VERSION 1:y1:e e
 */

import { assert } from '../base/assert.ts';
import { METHOD_NAMES, type Method } from './krpc.ts';

/** Nothing longer is sent (DEMANDS H2): it passes every link that carries IPv6 in one piece, or nearly. */
export const MAX_PACKET = 1400;

/** What frames a reply besides transaction id and address: see the drawing. */
const REPLY_FRAME = 1 + 6 + 4 + 1 + 3 + 9 + 7;

export class KrpcWriter {
  readonly #bytes: Uint8Array = new Uint8Array(MAX_PACKET + 200);
  readonly #version: Uint8Array;
  #length = 0;

  /** `version`: four bytes that name this program, or none. */
  constructor(version: Uint8Array) {
    assert(version.length === 4 || version.length === 0, 'a version tag is 4 bytes');
    this.#version = new Uint8Array(version);
  }

  get length(): number {
    return this.#length;
  }

  /** What was written, borrowed until the next message is begun. */
  take(): Uint8Array {
    assert(this.#length <= MAX_PACKET, 'a packet that is too long');
    return this.#bytes.subarray(0, this.#length);
  }

  // --------------------------------------------------------------------------------------------------------- frames

  /** The fields follow; those before `id` too, so `id` is the caller's. */
  beginQuery(): void {
    this.#length = 0;
    this.#raw(QUERY_HEAD);
  }

  endQuery(method: Method, tid: number, readOnly: boolean): void {
    this.#raw(QUERY_METHOD);
    this.#text(METHOD_NAMES[method]!);
    if (readOnly) this.#raw(READ_ONLY);
    this.#raw(TID);
    this.#byte(52);
    this.#byte(58);
    this.#byte(tid >>> 24);
    this.#byte(tid >>> 16);
    this.#byte(tid >>> 8);
    this.#byte(tid);
    this.#tail(113);
  }

  /** Bytes of a reply without any field, not even the id. */
  static replyFrame(tidLength: number, ipLength: number): number {
    return REPLY_FRAME + tidLength + (tidLength > 9 ? 3 : 2) + ipLength + (ipLength === 16 ? 3 : 2);
  }

  /** `ip`: 4 or 16 bytes. */
  beginReply(ip: Uint8Array, port: number): void {
    this.#length = 0;
    this.#byte(100);
    this.#address(ip, port);
    this.#raw(REPLY_HEAD);
  }

  endReply(bytes: Uint8Array, tidAt: number, tidLength: number): void {
    this.#byte(101);
    this.#raw(TID);
    this.#string(bytes, tidAt, tidLength);
    this.#tail(114);
  }

  error(
    code: number,
    text: string,
    ip: Uint8Array,
    port: number,
    bytes: Uint8Array,
    tidAt: number,
    tidLength: number,
  ): void {
    this.#length = 0;
    this.#raw(ERROR_HEAD);
    this.#number(code);
    this.#number(text.length, 58);
    for (let i = 0; i < text.length; i++) this.#byte(text.charCodeAt(i));
    this.#byte(101);
    this.#address(ip, port);
    this.#raw(TID);
    this.#string(bytes, tidAt, tidLength);
    this.#tail(101);
  }

  // --------------------------------------------------------------------------------------------------------- fields

  /** A key (`key` made it) and its 20 bytes. */
  id(key: Uint8Array, bytes: Uint8Array, at: number = 0): void {
    this.#raw(key);
    this.#raw(TWENTY);
    const to = this.#bytes;
    const from = this.#length;
    for (let i = 0; i < 20; i++) to[from + i] = bytes[at + i]!;
    this.#length = from + 20;
  }

  string(key: Uint8Array, bytes: Uint8Array): void {
    this.#raw(key);
    this.#string(bytes, 0, bytes.length);
  }

  int(key: Uint8Array, value: number): void {
    this.#raw(key);
    this.#byte(105);
    this.#number(value);
  }

  /** Bytes that are bencoding already, key and all or a value alone. */
  raw(bytes: Uint8Array): void {
    this.#raw(bytes);
  }

  /** The key and length of a string whose `length` bytes follow by `part`. */
  beginString(key: Uint8Array, length: number): void {
    this.#raw(key);
    this.#number(length, 58);
  }

  part(bytes: Uint8Array): void {
    const to = this.#bytes;
    const from = this.#length;
    const n = bytes.length;
    for (let i = 0; i < n; i++) to[from + i] = bytes[i]!;
    this.#length = from + n;
  }

  /** A list of strings. */
  strings(key: Uint8Array, strings: readonly Uint8Array[]): void {
    this.#raw(key);
    this.#byte(108);
    for (let i = 0; i < strings.length; i++) this.#string(strings[i]!, 0, strings[i]!.length);
    this.#byte(101);
  }

  // -------------------------------------------------------------------------------------------------------- private

  #address(ip: Uint8Array, port: number): void {
    const bytes = this.#bytes;
    this.#raw(ip.length === 4 ? IP4 : IP6);
    let at = this.#length;
    for (let i = 0; i < ip.length; i++) bytes[at++] = ip[i]!;
    bytes[at++] = port >>> 8;
    bytes[at++] = port;
    this.#length = at;
  }

  #tail(kind: number): void {
    if (this.#version.length > 0) {
      this.#raw(VERSION);
      this.#raw(this.#version);
    }
    this.#raw(KIND);
    this.#byte(kind);
    this.#byte(101);
  }

  #text(bytes: Uint8Array): void {
    this.#string(bytes, 0, bytes.length);
  }

  #string(bytes: Uint8Array, at: number, length: number): void {
    this.#number(length, 58);
    if (length > 64) {
      this.#bytes.set(bytes.subarray(at, at + length), this.#length);
      this.#length += length;
      return;
    }
    const to = this.#bytes;
    let end = this.#length;
    for (let i = 0; i < length; i++) to[end++] = bytes[at + i]!;
    this.#length = end;
  }

  /** Decimal, and what ends it: 'e' of an integer or ':' of a length. */
  #number(value: number, end: number = 101): void {
    if (value >= 0 && value < 10) {
      this.#byte(48 + value);
    } else {
      const text = String(value);
      for (let i = 0; i < text.length; i++) this.#byte(text.charCodeAt(i));
    }
    this.#byte(end);
  }

  #byte(value: number): void {
    this.#bytes[this.#length++] = value;
  }

  #raw(bytes: Uint8Array): void {
    const n = bytes.length;
    if (n > 64) {
      this.#bytes.set(bytes, this.#length);
      this.#length += n;
      return;
    }
    const to = this.#bytes;
    let end = this.#length;
    for (let i = 0; i < n; i++) to[end++] = bytes[i]!;
    this.#length = end;
  }
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

function key(text: string): Uint8Array {
  return ascii(`${text.length}:${text}`);
}

const QUERY_HEAD = ascii('d1:ad');
const QUERY_METHOD = ascii('e1:q');
const READ_ONLY = ascii('2:roi1e');
const TID = ascii('1:t');
const VERSION = ascii('1:v4:');
const KIND = ascii('1:y1:');
const IP4 = ascii('2:ip6:');
const IP6 = ascii('2:ip18:');
const REPLY_HEAD = ascii('1:rd');
const ERROR_HEAD = ascii('d1:eli');
const TWENTY = ascii('20:');

/** Keys, as the methods above take them. */
export const Key: Readonly<Record<KeyName, Uint8Array>> = {
  id: key('id'),
  target: key('target'),
  infoHash: key('info_hash'),
  token: key('token'),
  port: key('port'),
  impliedPort: key('implied_port'),
  seed: key('seed'),
  noSeed: key('noseed'),
  scrape: key('scrape'),
  nodes: key('nodes'),
  nodes6: key('nodes6'),
  values: key('values'),
  publicKey: key('k'),
  salt: key('salt'),
  seq: key('seq'),
  cas: key('cas'),
  signature: key('sig'),
  value: key('v'),
  seedBloom: key('BFsd'),
  peerBloom: key('BFpe'),
  samples: key('samples'),
  num: key('num'),
  interval: key('interval'),
  pad: key('pad'),
};

type KeyName =
  | 'id'
  | 'target'
  | 'infoHash'
  | 'token'
  | 'port'
  | 'impliedPort'
  | 'seed'
  | 'noSeed'
  | 'scrape'
  | 'nodes'
  | 'nodes6'
  | 'values'
  | 'publicKey'
  | 'salt'
  | 'seq'
  | 'cas'
  | 'signature'
  | 'value'
  | 'seedBloom'
  | 'peerBloom'
  | 'samples'
  | 'num'
  | 'interval'
  | 'pad';

/** `want` for both families, key and all. */
export const WANT_BOTH: Uint8Array = ascii('4:wantl2:n42:n6e');
