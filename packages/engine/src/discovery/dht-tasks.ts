/**
 * The commands of the DHT: finding and announcing peers (BEP 5), scrape (BEP 33), items (BEP 44), sampling (BEP 51). Each
 * says what is asked of a node and what is made of its answer; the steps are those of Task.
 */

import { copyOf, equal, latin1 } from '../base/bytes.ts';
import { isLocal, isUsablePeerAddress, parseIp } from '../base/ip.ts';
import type { Crypto } from '../base/ports.ts';
import { BloomFilter } from './dht-bloom.ts';
import { type DhtItem, MAX_VALUE_BYTES, verifyItem } from './dht-items.ts';
import type { Candidate, Lookup } from './dht-lookup.ts';
import type { Call } from './dht-rpc.ts';
import { Task, type TaskHost } from './dht-task.ts';
import { type KrpcMessage, Method } from './krpc.ts';
import { Key } from './krpc-write.ts';

/** Of one lookup; more than any swarm can use at once, and a bound for what liars can make us keep. */
const MAX_PEERS = 4000;
/** Of one reply: none that fits a packet has more. */
const MAX_VALUES = 250;
const MAX_ERRORS = 16;
/** A query this much longer may be answered with any item: replies are at most 7 times as long as their queries. */
const ITEM_PADDING: Uint8Array = new Uint8Array(96);
const NO_BYTES: Uint8Array = new Uint8Array(0);

export interface DhtPeersSink {
  /** New ones of this lookup: 6 and 18 bytes a peer, usable addresses only; borrowed until return. */
  onDhtPeers(peers4: Uint8Array, peers6: Uint8Array): void;
  onDhtPeersDone(result: DhtPeersResult): void;
}

export interface DhtPeersResult {
  /** Nodes asked, and how many of them answered. */
  readonly queried: number;
  readonly answered: number;
  /** Nodes that took the announce. */
  readonly announced: number;
  /** How far from our own table the closest nodes stand. */
  readonly hops: number;
}

export interface DhtScrapeSink {
  /** Estimates of BEP 33; `nodes`: how many nodes they come from. */
  onDhtScrape(result: { seeds: number; peers: number; nodes: number }): void;
}

export interface DhtItemSink {
  /** A verified item, newer than all before. Authoritative: there can be no newer one (it is immutable). */
  onDhtItem(item: DhtItem, authoritative: boolean): void;
  onDhtItemDone(best: DhtItem | null): void;
}

export interface DhtPutSink {
  /** `stored`: nodes that took it. */
  onDhtPut(result: { stored: number; errors: [number, string][] }): void;
}

export interface DhtSampleSink {
  /** 20 bytes a hash, borrowed; `total`: how many that node has, `intervalS`: when it has others. */
  onDhtSamples(hashes: Uint8Array, total: number, intervalS: number, ip: string, port: number): void;
  onDhtSampleDone(): void;
}

/** Port 0: the port our packets come from. */
export interface DhtAnnounce {
  readonly port: number;
  /** Over IPv6; absent: the same. */
  readonly port6?: number;
  readonly seed: boolean;
}

export class PeersTask extends Task {
  readonly #sink: DhtPeersSink;
  readonly #announce: DhtAnnounce | null;
  readonly #seen = new Set<string>();
  #announced = 0;

  constructor(host: TaskHost, infoHash: Uint8Array, sink: DhtPeersSink, announce: DhtAnnounce | null) {
    super(host, infoHash);
    this.#sink = sink;
    this.#announce = announce;
  }

  protected override writeQuery(lookup: Lookup, _candidate: Candidate): Method {
    const writer = this.begin(lookup);
    writer.id(Key.infoHash, this.target);
    // a seed has no use for other seeds
    if (this.#announce?.seed === true) writer.int(Key.noSeed, 1);
    return Method.GetPeers;
  }

  protected override onReply(_now: number, call: Call, message: KrpcMessage): void {
    if (message.values4 + message.values6 === 0) return;
    const voucher = parseIp(call.ip);
    const mayBeLocal = voucher !== null && isLocal(voucher);
    const peers4 = this.#fresh(message.takeValues(6, MAX_VALUES), 6, mayBeLocal);
    const peers6 = this.#fresh(message.takeValues(18, MAX_VALUES), 18, mayBeLocal);
    if (peers4.length + peers6.length > 0) this.#sink.onDhtPeers(peers4, peers6);
  }

  protected override onFound(now: number, lookup: Lookup): void {
    const announce = this.#announce;
    if (announce === null) return;
    const port = lookup.family === 6 ? (announce.port6 ?? announce.port) : announce.port;
    for (const node of lookup.closest()) {
      this.store(now, node, () => {
        const writer = this.begin(lookup);
        if (port === 0) writer.int(Key.impliedPort, 1);
        writer.id(Key.infoHash, this.target);
        writer.int(Key.port, port);
        if (announce.seed) writer.int(Key.seed, 1);
        writer.string(Key.token, node.token!);
        return Method.AnnouncePeer;
      });
    }
  }

  protected override onStored(error: KrpcMessage | null): void {
    if (error === null) this.#announced++;
  }

  override onEnd(): void {
    const hops = this.lookups.reduce((most, lookup) => Math.max(most, lookup.hops), 0);
    const { queried, answered } = this;
    this.#sink.onDhtPeersDone({ queried, answered, announced: this.#announced, hops });
  }

  /** Those that may be dialled and were not seen in this lookup; in place. */
  #fresh(peers: Uint8Array, size: number, mayBeLocal: boolean): Uint8Array {
    let kept = 0;
    for (let at = 0; at < peers.length && this.#seen.size < MAX_PEERS; at += size) {
      const ip = peers.subarray(at, at + size - 2);
      const port = (peers[at + size - 2]! << 8) | peers[at + size - 1]!;
      // the network at large must not point us at hosts beside us
      if (!isUsablePeerAddress(ip, port) || (!mayBeLocal && isLocal(ip))) continue;
      const key = latin1(peers.subarray(at, at + size));
      if (this.#seen.has(key)) continue;
      this.#seen.add(key);
      peers.copyWithin(kept, at, at + size);
      kept += size;
    }
    return peers.subarray(0, kept);
  }
}

export class ScrapeTask extends Task {
  readonly #sink: DhtScrapeSink;
  readonly #seeds = new BloomFilter();
  readonly #peers = new BloomFilter();
  #nodes = 0;

  constructor(host: TaskHost, infoHash: Uint8Array, sink: DhtScrapeSink) {
    super(host, infoHash);
    this.#sink = sink;
  }

  protected override writeQuery(lookup: Lookup, _candidate: Candidate): Method {
    const writer = this.begin(lookup);
    writer.id(Key.infoHash, this.target);
    writer.int(Key.scrape, 1);
    return Method.GetPeers;
  }

  protected override onReply(_now: number, _call: Call, message: KrpcMessage): void {
    if (message.seedBloomAt >= 0 && message.peerBloomAt >= 0) {
      const seeds = message.view(message.seedBloomAt, 256);
      const peers = message.view(message.peerBloomAt, 256);
      // a full one says nothing and would drown the others
      if (isFull(seeds) || isFull(peers)) return;
      this.#seeds.merge(seeds);
      this.#peers.merge(peers);
      this.#nodes++;
    } else if (message.values4 + message.values6 > 0) {
      for (const size of [6, 18]) {
        const values = message.takeValues(size, MAX_VALUES);
        for (let at = 0; at < values.length; at += size) {
          const ip = values.subarray(at, at + size - 2);
          if (!this.#seeds.has(ip)) this.#peers.add(ip);
        }
      }
      this.#nodes++;
    }
  }

  override onEnd(): void {
    const seeds = Math.round(BloomFilter.estimate(this.#seeds.bytes));
    const peers = Math.round(BloomFilter.estimate(this.#peers.bytes));
    this.#sink.onDhtScrape({ seeds, peers, nodes: this.#nodes });
  }
}

export interface ItemKey {
  readonly publicKey: Uint8Array;
  readonly salt: Uint8Array;
}

export class GetTask extends Task {
  readonly #crypto: Crypto;
  readonly #key: ItemKey | null;
  readonly #sink: DhtItemSink;
  #best: DhtItem | null = null;

  constructor(host: TaskHost, target: Uint8Array, crypto: Crypto, key: ItemKey | null, sink: DhtItemSink) {
    super(host, target);
    this.#crypto = crypto;
    this.#key = key;
    this.#sink = sink;
  }

  protected override writeQuery(lookup: Lookup, _candidate: Candidate): Method {
    const writer = this.begin(lookup);
    writer.string(Key.pad, ITEM_PADDING);
    // what is no newer need not be sent again
    if (this.#best !== null) writer.int(Key.seq, this.#best.seq);
    writer.id(Key.target, this.target);
    return Method.Get;
  }

  protected override onReply(_now: number, call: Call, message: KrpcMessage): void {
    const length = message.valueEnd - message.valueAt;
    if (message.valueAt < 0 || length > MAX_VALUE_BYTES) return;
    const key = this.#key;
    const seq = key === null ? 0 : message.seq;
    if (key !== null && (!message.hasSeq || message.keyAt < 0 || message.signatureAt < 0)) return;
    // a signature costs much to check: only what would be newer is looked at
    if (this.#best !== null && !(seq > this.#best.seq)) return;
    if (key !== null && !equal(message.view(message.keyAt, message.keyLength), key.publicKey)) return;
    const item: DhtItem = {
      value: message.copy(message.valueAt, length),
      publicKey: key === null ? null : copyOf(key.publicKey),
      salt: key === null ? NO_BYTES : copyOf(key.salt),
      seq,
      signature: key === null ? null : message.copy(message.signatureAt, message.signatureLength),
      target: copyOf(this.target),
    };
    if (!verifyItem(this.#crypto, item)) return;
    call.candidate!.seq = seq;
    this.#best = item;
    this.#sink.onDhtItem(item, key === null);
    if (key === null) this.end();
  }

  override onEnd(): void {
    this.#sink.onDhtItemDone(this.#best);
  }
}

export class PutTask extends Task {
  readonly #item: DhtItem;
  readonly #cas: number;
  readonly #sink: DhtPutSink;
  readonly #errors: [number, string][] = [];
  #stored = 0;

  constructor(host: TaskHost, item: DhtItem, cas: number, sink: DhtPutSink) {
    super(host, item.target);
    this.#item = item;
    this.#cas = cas;
    this.#sink = sink;
  }

  protected override writeQuery(lookup: Lookup, _candidate: Candidate): Method {
    const writer = this.begin(lookup);
    // the value itself is of no interest, only who has one
    if (this.#item.publicKey !== null) writer.int(Key.seq, Number.MAX_SAFE_INTEGER);
    writer.id(Key.target, this.target);
    return Method.Get;
  }

  protected override onReply(_now: number, call: Call, message: KrpcMessage): void {
    if (message.hasSeq && Number.isSafeInteger(message.seq)) call.candidate!.seq = message.seq;
  }

  protected override onFound(now: number, lookup: Lookup): void {
    const item = this.#item;
    const writer = this.host.writer;
    for (const node of lookup.closest()) {
      this.store(now, node, () => {
        writer.beginQuery();
        // who holds nothing has nothing to compare with
        if (this.#cas >= 0 && item.publicKey !== null && node.seq >= 0) writer.int(Key.cas, this.#cas);
        writer.id(Key.id, this.host.ownId(lookup.family));
        if (item.publicKey !== null) {
          writer.string(Key.publicKey, item.publicKey);
          if (item.salt.length > 0) writer.string(Key.salt, item.salt);
          writer.int(Key.seq, item.seq);
          writer.string(Key.signature, item.signature!);
        }
        writer.string(Key.token, node.token!);
        writer.raw(Key.value);
        writer.raw(item.value);
        return Method.Put;
      });
    }
  }

  protected override onStored(error: KrpcMessage | null): void {
    if (error === null) this.#stored++;
    else if (this.#errors.length < MAX_ERRORS) this.#errors.push([error.errorCode, error.errorText()]);
  }

  override onEnd(): void {
    this.#sink.onDhtPut({ stored: this.#stored, errors: this.#errors });
  }
}

export class SampleTask extends Task {
  readonly #sink: DhtSampleSink;

  constructor(host: TaskHost, target: Uint8Array, sink: DhtSampleSink) {
    super(host, target);
    this.#sink = sink;
  }

  protected override writeQuery(lookup: Lookup, _candidate: Candidate): Method {
    const writer = this.begin(lookup);
    writer.id(Key.target, this.target);
    return Method.Sample;
  }

  protected override onReply(_now: number, call: Call, message: KrpcMessage): void {
    if (message.samplesAt < 0) return;
    const hashes = message.view(message.samplesAt, message.samplesLength);
    const sent = hashes.length / 20;
    const total = Math.max(message.samplesTotal, sent);
    const interval = message.samplesIntervalS;
    // 0 .. 6 hours (BEP 51)
    const intervalS = interval >= 0 ? Math.min(interval, 21_600) : 0;
    this.#sink.onDhtSamples(hashes, total, intervalS, call.ip, call.port);
  }

  override onEnd(): void {
    this.#sink.onDhtSampleDone();
  }
}

function isFull(bloom: Uint8Array): boolean {
  for (let i = 0; i < bloom.length; i++) if (bloom[i] !== 255) return false;
  return true;
}
