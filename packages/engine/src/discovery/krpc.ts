/**
 * Reads KRPC messages (BEP 5, 32, 33, 42, 43, 44, 51) where they lie: one pass over the datagram notes where each known
 * field stands, and nothing is allocated. A message object is used again for the next datagram.
 *
 * Strict in form: one dictionary that fills the datagram, with valid lengths and integers, at most MAX_DEPTH deep. Lenient
 * in matter, as the network is: keys may come unsorted (the first of a double key counts), unknown ones are skipped, and a
 * known one of the wrong type or size counts as missing. Never throws; work is linear in the bytes given.
 */

import { latin1 } from '../base/bytes.ts';
import { COLON, D, E, I, L, MINUS, NINE, ZERO } from '../codec/bencode-bytes.ts';

/** No node sends more in one datagram (BEP 32 asks for 1,024); what is longer is not looked at. */
export const MAX_DATAGRAM = 4096;
/** Deep enough for any value of BEP 44 that somebody means. */
const MAX_DEPTH = 64;
/** A transaction id is echoed, so it must not be what fills the reply. */
const MAX_TID = 64;

export const KrpcKind = { Bad: 0, Query: 1, Reply: 2, Error: 3 } as const;
export type KrpcKind = (typeof KrpcKind)[keyof typeof KrpcKind];

export const Method = {
  Unknown: 0,
  Ping: 1,
  FindNode: 2,
  GetPeers: 3,
  AnnouncePeer: 4,
  Get: 5,
  Put: 6,
  Sample: 7,
} as const;
export type Method = (typeof Method)[keyof typeof Method];

/** Flags of `want`. */
export const WANT4 = 1;
export const WANT6 = 2;

export class KrpcMessage {
  bytes: Uint8Array = EMPTY;
  kind: KrpcKind = KrpcKind.Bad;
  method: Method = Method.Unknown;
  /** Sender says that it answers no queries (BEP 43). */
  readOnly = false;
  tidAt = 0;
  tidLength = -1;
  /** Our address as the sender sees it: 6 or 18 bytes with the port; -1: none. */
  ipAt = -1;
  ipLength = 0;
  /** Version tag of the sender. */
  versionAt = -1;
  versionLength = 0;

  /** 20 bytes each; -1: missing. */
  idAt = -1;
  targetAt = -1;
  infoHashAt = -1;
  tokenAt = -1;
  tokenLength = 0;
  /** -1: missing, NaN: no exact integer. */
  port = -1;
  impliedPort = false;
  seed = false;
  noSeed = false;
  scrape = false;
  /** WANT4 and WANT6; -1: no `want`. */
  want = -1;

  /** Of BEP 44. The value is a span of bencoding. */
  keyAt = -1;
  keyLength = 0;
  saltAt = -1;
  saltLength = 0;
  signatureAt = -1;
  signatureLength = 0;
  valueAt = -1;
  valueEnd = -1;
  hasSeq = false;
  seq = 0;
  hasCas = false;
  cas = 0;

  /** Whole multiples of 26 and 38 bytes. */
  nodesAt = -1;
  nodesLength = 0;
  nodes6At = -1;
  nodes6Length = 0;
  /** Inside the list: `values4` strings of 6 bytes and `values6` of 18, and what else stands there. */
  valuesAt = -1;
  valuesEnd = -1;
  values4 = 0;
  values6 = 0;
  /** 256 bytes each (BEP 33). */
  seedBloomAt = -1;
  peerBloomAt = -1;
  samplesAt = -1;
  samplesLength = 0;
  samplesTotal = -1;
  samplesIntervalS = -1;

  errorCode = 0;
  errorAt = -1;
  errorLength = 0;

  /** Where the last string or value read ends, and the last integer. */
  #end = 0;
  #int = 0;

  /** False: no KRPC message. What was given is borrowed as long as the fields are read. */
  parse(bytes: Uint8Array): boolean {
    this.#reset(bytes);
    const n = bytes.length;
    if (n < 12 || n > MAX_DATAGRAM || bytes[0] !== D) return false;
    let at = 1;
    while (bytes[at] !== E) {
      const key = this.#string(at);
      if (key < 0) return false;
      const length = this.#end - key;
      at = this.#top(key, length, this.#end);
      if (at < 0) return false;
    }
    if (at !== n - 1 || this.tidLength < 0) return false;
    return this.kind !== KrpcKind.Bad;
  }

  /** A copy of a stretch of the message. */
  copy(at: number, length: number): Uint8Array {
    return new Uint8Array(this.bytes.subarray(at, at + length));
  }

  view(at: number, length: number): Uint8Array {
    return this.bytes.subarray(at, at + length);
  }

  /** Text of an error, at most 100 bytes, one character a byte. */
  errorText(): string {
    return this.errorAt < 0 ? '' : latin1(this.view(this.errorAt, Math.min(this.errorLength, 100)));
  }

  /** The `values` of one size (6 or 18), joined; at most `max` of them. */
  takeValues(size: number, max: number): Uint8Array {
    const count = Math.min(max, size === 6 ? this.values4 : this.values6);
    if (count === 0) return EMPTY;
    const joined = new Uint8Array(count * size);
    let taken = 0;
    for (let at = this.valuesAt; at < this.valuesEnd && taken < count; ) {
      const data = this.#string(at);
      if (data < 0) at = this.#skip(at, 2);
      else at = this.#end;
      if (data < 0 || this.#end - data !== size) continue;
      joined.set(this.bytes.subarray(data, this.#end), size * taken++);
    }
    return joined;
  }

  /** One key of the outermost dictionary; returns where its value ends, or -1. */
  #top(key: number, length: number, at: number): number {
    const bytes = this.bytes;
    if (length === 1) {
      switch (bytes[key]) {
        case 97: // a
        case 114: // r
          return bytes[at] === D ? this.#fields(at + 1) : this.#skip(at, 1);
        case 101: // e
          return bytes[at] === L && this.errorCode === 0 ? this.#error(at + 1) : this.#skip(at, 1);
        case 113: {
          const data = this.#string(at);
          if (data < 0) return this.#skip(at, 1);
          this.method = methodOf(bytes, data, this.#end - data);
          return this.#end;
        }
        case 116: {
          const data = this.#string(at);
          if (data < 0 || this.#end - data > MAX_TID) return -1;
          if (this.tidLength < 0) {
            this.tidAt = data;
            this.tidLength = this.#end - data;
          }
          return this.#end;
        }
        case 118: {
          const data = this.#string(at);
          if (data < 0) return this.#skip(at, 1);
          this.versionAt = data;
          this.versionLength = this.#end - data;
          return this.#end;
        }
        case 121: {
          const data = this.#string(at);
          if (data < 0 || this.#end - data !== 1) return -1;
          const y = bytes[data];
          this.kind =
            y === 113 ? KrpcKind.Query : y === 114 ? KrpcKind.Reply : y === 101 ? KrpcKind.Error : KrpcKind.Bad;
          return this.#end;
        }
      }
    } else if (length === 2) {
      if (bytes[key] === 105 && bytes[key + 1] === 112) {
        const data = this.#string(at);
        if (data < 0) return this.#skip(at, 1);
        const size = this.#end - data;
        // some leave the port out
        if (size === 6 || size === 18 || size === 4 || size === 16) {
          this.ipAt = data;
          this.ipLength = size;
        }
        return this.#end;
      }
      if (bytes[key] === 114 && bytes[key + 1] === 111 && bytes[at] === I) {
        const end = this.#integer(at);
        this.readOnly = this.#int !== 0;
        return end;
      }
    }
    return this.#skip(at, 1);
  }

  /** The arguments of a query or the results of a reply: what is known of both has one meaning. */
  #fields(at: number): number {
    const bytes = this.bytes;
    while (bytes[at] !== E) {
      const key = this.#string(at);
      if (key < 0) return -1;
      const length = this.#end - key;
      const value = this.#end;
      const c = bytes[value]!;
      if (c >= ZERO && c <= NINE) {
        const data = this.#string(value);
        if (data < 0) return -1;
        at = this.#end;
        this.#stringField(key, length, value, data, at - data);
        continue;
      }
      if (c === I) {
        at = this.#integer(value);
        if (at < 0) return -1;
        this.#intField(key, length, value, at);
        continue;
      }
      if (length === 4 && c === L && is(bytes, key, WANT)) at = this.#wants(value + 1);
      else if (length === 6 && c === L && is(bytes, key, VALUES) && this.valuesAt < 0) at = this.#values(value + 1);
      else at = this.#skip(value, 2);
      if (at < 0) return -1;
      if (length === 1 && bytes[key] === 118 && this.valueAt < 0) {
        this.valueAt = value;
        this.valueEnd = at;
      }
    }
    return at + 1;
  }

  #stringField(key: number, length: number, start: number, data: number, size: number): void {
    const bytes = this.bytes;
    const first = bytes[key];
    switch (length) {
      case 1:
        if (first === 107 && this.keyAt < 0) {
          this.keyAt = data;
          this.keyLength = size;
        } else if (first === 118 && this.valueAt < 0) {
          this.valueAt = start;
          this.valueEnd = data + size;
        }
        return;
      case 2:
        if (first === 105 && bytes[key + 1] === 100 && size === 20 && this.idAt < 0) this.idAt = data;
        return;
      case 3:
        if (is(bytes, key, SIG) && this.signatureAt < 0) {
          this.signatureAt = data;
          this.signatureLength = size;
        }
        return;
      case 4:
        if (first === 66 && size === 256) {
          if (is(bytes, key, BFSD)) this.seedBloomAt = data;
          else if (is(bytes, key, BFPE)) this.peerBloomAt = data;
        } else if (is(bytes, key, SALT) && this.saltAt < 0) {
          this.saltAt = data;
          this.saltLength = size;
        }
        return;
      case 5:
        if (is(bytes, key, TOKEN) && this.tokenAt < 0) {
          this.tokenAt = data;
          this.tokenLength = size;
        } else if (is(bytes, key, NODES) && this.nodesAt < 0) {
          this.nodesAt = data;
          this.nodesLength = size - (size % 26);
        }
        return;
      case 6:
        if (is(bytes, key, TARGET)) {
          if (size === 20 && this.targetAt < 0) this.targetAt = data;
        } else if (is(bytes, key, NODES6) && this.nodes6At < 0) {
          this.nodes6At = data;
          this.nodes6Length = size - (size % 38);
        }
        return;
      case 7:
        if (is(bytes, key, SAMPLES) && this.samplesAt < 0) {
          this.samplesAt = data;
          this.samplesLength = size - (size % 20);
        }
        return;
      case 9:
        if (is(bytes, key, INFO_HASH) && size === 20 && this.infoHashAt < 0) this.infoHashAt = data;
    }
  }

  #intField(key: number, length: number, start: number, end: number): void {
    const bytes = this.bytes;
    const value = this.#int;
    switch (length) {
      case 1:
        if (bytes[key] === 118 && this.valueAt < 0) {
          this.valueAt = start;
          this.valueEnd = end;
        }
        return;
      case 3:
        if (is(bytes, key, SEQ) && !this.hasSeq) {
          this.hasSeq = true;
          this.seq = value;
        } else if (is(bytes, key, CAS) && !this.hasCas) {
          this.hasCas = true;
          this.cas = value;
        } else if (is(bytes, key, NUM)) this.samplesTotal = value >= 0 ? value : -1;
        return;
      case 4:
        if (is(bytes, key, PORT) && this.port === -1) this.port = value;
        else if (is(bytes, key, SEED)) this.seed = value === 1;
        return;
      case 6:
        if (is(bytes, key, NOSEED)) this.noSeed = value === 1;
        else if (is(bytes, key, SCRAPE)) this.scrape = value === 1;
        return;
      case 8:
        if (is(bytes, key, INTERVAL)) this.samplesIntervalS = value >= 0 ? value : -1;
        return;
      case 12:
        if (is(bytes, key, IMPLIED_PORT)) this.impliedPort = value !== 0;
    }
  }

  #wants(at: number): number {
    const bytes = this.bytes;
    if (this.want < 0) this.want = 0;
    while (bytes[at] !== E) {
      const data = this.#string(at);
      if (data < 0) {
        at = this.#skip(at, 3);
        if (at < 0) return -1;
        continue;
      }
      if (this.#end - data === 2 && bytes[data] === 110) {
        if (bytes[data + 1] === 52) this.want |= WANT4;
        else if (bytes[data + 1] === 54) this.want |= WANT6;
      }
      at = this.#end;
    }
    return at + 1;
  }

  #values(at: number): number {
    this.valuesAt = at;
    while (this.bytes[at] !== E) {
      const data = this.#string(at);
      if (data < 0) {
        at = this.#skip(at, 3);
        if (at < 0) return -1;
        continue;
      }
      const size = this.#end - data;
      if (size === 6) this.values4++;
      else if (size === 18) this.values6++;
      at = this.#end;
    }
    this.valuesEnd = at;
    return at + 1;
  }

  /** [code, text], and what else may follow. */
  #error(at: number): number {
    for (let i = 0; this.bytes[at] !== E; i++) {
      const start = at;
      at = this.#skip(at, 2);
      if (at < 0) return -1;
      if (i === 0 && this.bytes[start] === I) {
        this.#integer(start);
        this.errorCode = Number.isNaN(this.#int) ? -1 : this.#int;
      } else if (i === 1) {
        const data = this.#string(start);
        if (data < 0) continue;
        this.errorAt = data;
        this.errorLength = this.#end - data;
      }
    }
    return at + 1;
  }

  /** Past the value at `at`, or -1. */
  #skip(at: number, depth: number): number {
    const bytes = this.bytes;
    const c = bytes[at];
    if (c === undefined || depth > MAX_DEPTH) return -1;
    if (c === I) return this.#integer(at);
    if (c !== L && c !== D) return this.#string(at) < 0 ? -1 : this.#end;
    at++;
    while (bytes[at] !== E) {
      if (c === D) {
        if (this.#string(at) < 0) return -1;
        at = this.#end;
      }
      at = this.#skip(at, depth + 1);
      if (at < 0) return -1;
    }
    return at + 1;
  }

  /** Where the data of the string at `at` begins, or -1; sets `#end`. */
  #string(at: number): number {
    const bytes = this.bytes;
    let c = bytes[at];
    if (c === undefined || c < ZERO || c > NINE) return -1;
    let length = c - ZERO;
    c = bytes[++at];
    if (length > 0) {
      // MAX_DATAGRAM has four digits
      for (let digits = 1; c !== undefined && c >= ZERO && c <= NINE; digits++) {
        if (digits === 4) return -1;
        length = length * 10 + c - ZERO;
        c = bytes[++at];
      }
    }
    if (c !== COLON) return -1;
    const end = at + 1 + length;
    if (end > bytes.length) return -1;
    this.#end = end;
    return at + 1;
  }

  /** Past the integer at `at`, or -1; sets `#int`, to NaN where it is not exact. */
  #integer(at: number): number {
    const bytes = this.bytes;
    let from = at + 1;
    const negative = bytes[from] === MINUS;
    if (negative) from++;
    let end = from;
    let value = 0;
    for (;;) {
      const c = bytes[end];
      if (c === undefined || c < ZERO || c > NINE) break;
      value = value * 10 + c - ZERO;
      if (++end - from > 20) return -1;
    }
    if (end === from || bytes[end] !== E) return -1;
    if (bytes[from] === ZERO && (end - from > 1 || negative)) return -1;
    this.#int = value > Number.MAX_SAFE_INTEGER ? Number.NaN : negative ? -value : value;
    return end + 1;
  }

  #reset(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.kind = KrpcKind.Bad;
    this.method = Method.Unknown;
    this.readOnly = false;
    this.tidLength = -1;
    this.ipAt = -1;
    this.versionAt = -1;
    this.idAt = -1;
    this.targetAt = -1;
    this.infoHashAt = -1;
    this.tokenAt = -1;
    this.port = -1;
    this.impliedPort = false;
    this.seed = false;
    this.noSeed = false;
    this.scrape = false;
    this.want = -1;
    this.keyAt = -1;
    this.saltAt = -1;
    this.saltLength = 0;
    this.signatureAt = -1;
    this.valueAt = -1;
    this.hasSeq = false;
    this.hasCas = false;
    this.nodesAt = -1;
    this.nodesLength = 0;
    this.nodes6At = -1;
    this.nodes6Length = 0;
    this.valuesAt = -1;
    this.values4 = 0;
    this.values6 = 0;
    this.seedBloomAt = -1;
    this.peerBloomAt = -1;
    this.samplesAt = -1;
    this.samplesTotal = -1;
    this.samplesIntervalS = -1;
    this.errorCode = 0;
    this.errorAt = -1;
  }
}

const EMPTY: Uint8Array = new Uint8Array(0);

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

const BFPE = ascii('BFpe');
const BFSD = ascii('BFsd');
const CAS = ascii('cas');
const IMPLIED_PORT = ascii('implied_port');
const INFO_HASH = ascii('info_hash');
const INTERVAL = ascii('interval');
const NODES = ascii('nodes');
const NODES6 = ascii('nodes6');
const NOSEED = ascii('noseed');
const NUM = ascii('num');
const PORT = ascii('port');
const SALT = ascii('salt');
const SAMPLES = ascii('samples');
const SCRAPE = ascii('scrape');
const SEED = ascii('seed');
const SEQ = ascii('seq');
const SIG = ascii('sig');
const TARGET = ascii('target');
const TOKEN = ascii('token');
const VALUES = ascii('values');
const WANT = ascii('want');

/** Method names by number. */
export const METHOD_NAMES: readonly Uint8Array[] = [
  ascii(''),
  ascii('ping'),
  ascii('find_node'),
  ascii('get_peers'),
  ascii('announce_peer'),
  ascii('get'),
  ascii('put'),
  ascii('sample_infohashes'),
];

/** Whether `bytes` have this text at `at`; the caller has compared the lengths. */
function is(bytes: Uint8Array, at: number, text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
  return true;
}

function methodOf(bytes: Uint8Array, at: number, length: number): Method {
  let method: Method = Method.Unknown;
  switch (length) {
    case 3:
      method = bytes[at] === 103 ? Method.Get : Method.Put;
      break;
    case 4:
      method = Method.Ping;
      break;
    case 9:
      method = bytes[at] === 102 ? Method.FindNode : Method.GetPeers;
      break;
    case 13:
      method = Method.AnnouncePeer;
      break;
    case 17:
      method = Method.Sample;
      break;
    default:
      return Method.Unknown;
  }
  return is(bytes, at, METHOD_NAMES[method]!) ? method : Method.Unknown;
}
