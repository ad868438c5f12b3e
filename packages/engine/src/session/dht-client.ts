/**
 * The DHT as a program sees it (BEP 5, 33, 44, 46, 51): promises and iterators around the synchronous machine.
 *
 * Invariant: every promise ends: with its answer, with its signal, or with the session.
 */

import { fromHex, toHex, utf8Encode } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import { formatIp, parseEndpoint } from '../base/ip.ts';
import type { Endpoint } from '../base/ports.ts';
import { BDict, type BValue, decode } from '../codec/bencode.ts';
import { type BInput, encode } from '../codec/bencode-write.ts';
import type { Dht } from '../discovery/dht.ts';
import { type DhtItem, makeImmutable, makeMutable, mutableTarget, verifyItem } from '../discovery/dht-items.ts';
import type { SessionCore } from './core.ts';
import { EventStream } from './event-stream.ts';
import type { DhtItemInfo, DhtNode, DhtScrape, DhtStats, DhtValue } from './types.ts';
import { waitFor } from './waiting.ts';

export interface DhtCallOptions {
  /** Gives the operation up: what was asked of the network ends, a promise rejects with ShoalError 'aborted'. */
  readonly signal?: AbortSignal;
}

export interface DhtMutableOptions extends DhtCallOptions {
  /** Tells items of one key apart; text or bytes, at most 64. Default: none. */
  readonly salt?: string | Uint8Array;
}

export interface DhtPutMutableOptions extends DhtMutableOptions {
  /** The secret, 32 bytes (RFC 8032's seed). */
  readonly seed: Uint8Array;
  /** 0 .. 2^53 - 1. Default: one more than the newest that is found, 1 when there is none. */
  readonly seq?: number;
  /** Puts only where the newest is of this number (BEP 44): nobody else has put meanwhile. */
  readonly cas?: number;
}

export interface DhtPutResult {
  /** Where it is, 40 hex digits. */
  readonly target: string;
  /** Nodes that took it; 8 in a network of some size, 0 when none could be reached. */
  readonly stored: number;
}

/** What one node answered. */
export interface DhtSamples {
  /** 40 hex digits each. */
  readonly infoHashes: readonly string[];
  /** How many the node has in all. */
  readonly total: number;
  /** Seconds before it shows others. */
  readonly intervalS: number;
  readonly node: Endpoint;
}

/** How long an operation waits for the first node to answer at all. */
const READY_MS = 15_000;
const MAX_SALT = 64;
const MAX_VALUE = 1000;

/**
 * `session.dht`. All methods that ask the network first wait for a node to be there, 15 s at most. Besides what they say
 * themselves they end in ShoalError: 'bad-option' (arguments of another form, or a session without the DHT), 'network' (no
 * node answers), 'aborted', 'closed'.
 */
export class DhtClient {
  readonly #core: SessionCore;

  constructor(core: SessionCore) {
    this.#core = core;
  }

  /** False: the session is without it, by its options or its proxy. */
  get enabled(): boolean {
    return this.#core.discovery.dht !== null;
  }

  /** Resolves with true once a node has answered, at once if one has; with false when none did within 15 s. */
  async ready(options: DhtCallOptions = {}): Promise<boolean> {
    const dht = this.#dht();
    return waitFor<boolean>(this.#core, options.signal, (resolve) => {
      if (dht.nodeCount > 0) {
        resolve(true);
        return () => {};
      }
      const stop = () => {
        offNodes();
        offAlarm();
      };
      const end = (isReady: boolean) => {
        stop();
        resolve(isReady);
      };
      const offNodes = this.#core.discovery.onNodes(() => end(true));
      const offAlarm = this.#core.alarm(READY_MS, () => end(false));
      return stop;
    });
  }

  /** Tries a node, "host:port"; it is in the table once it answers. Throws ShoalError 'bad-option'. */
  addNode(address: string): void {
    const endpoint = parseEndpoint(address);
    if (endpoint === null) throw new ShoalError('bad-option', `"${address}" is not host:port`);
    this.#dht();
    this.#core.discovery.addNamedNode(endpoint.host, endpoint.port);
  }

  /** An immutable item (BEP 44) by its target (40 hex digits or 20 bytes); null: nobody who was asked has it. */
  async get(target: string | Uint8Array, options: DhtCallOptions = {}): Promise<DhtItemInfo | null> {
    return this.#get(bytesOf(target, 20, 'a target'), null, options);
  }

  /** The newest item (BEP 44) of a public key (64 hex digits or 32 bytes) and salt; null: nobody who was asked has one. */
  async getMutable(publicKey: string | Uint8Array, options: DhtMutableOptions = {}): Promise<DhtItemInfo | null> {
    const key = { publicKey: bytesOf(publicKey, 32, 'a public key'), salt: saltOf(options.salt) };
    return this.#get(mutableTarget(key.publicKey, key.salt), key, options);
  }

  /** Stores a value for everybody to get by its hash (BEP 44). At most 1,000 bytes, bencoded. Nodes keep it for two hours. */
  async put(value: DhtValue, options: DhtCallOptions = {}): Promise<DhtPutResult> {
    const item = makeImmutable(valueBytes(value));
    return { target: toHex(item.target), stored: await this.#put(item, -1, options) };
  }

  /**
   * Stores or replaces the value of a key (BEP 44). Rejects with 'network' also when every node refused: for a lower
   * number than they have, or another than `cas`.
   */
  async putMutable(
    value: DhtValue,
    options: DhtPutMutableOptions,
  ): Promise<DhtPutResult & { readonly publicKey: string; readonly seq: number }> {
    const bytes = valueBytes(value);
    const seed = bytesOf(options.seed, 32, 'a seed');
    const salt = saltOf(options.salt);
    const { crypto } = this.#core.ports;
    const publicKey = crypto.ed25519PublicKey(seed);
    let { seq } = options;
    if (seq === undefined) seq = ((await this.getMutable(publicKey, { ...options, salt }))?.seq ?? 0) + 1;
    if (!Number.isSafeInteger(seq) || seq < 0)
      throw new ShoalError('bad-option', `seq is a number from 0 on, not ${seq}`);
    const { cas = -1 } = options;
    if (options.cas !== undefined && !(Number.isSafeInteger(cas) && cas >= 0)) {
      throw new ShoalError('bad-option', `cas is a number from 0 on, not ${cas}`);
    }
    const item = makeMutable(crypto, seed, salt, seq, bytes);
    const stored = await this.#put(item, cas, options);
    return { target: toHex(item.target), stored, publicKey: toHex(publicKey), seq };
  }

  /** Puts an item again as it was got, which needs no secret: nodes forget what is not put for two hours. */
  async putAgain(item: DhtItemInfo, options: DhtCallOptions = {}): Promise<DhtPutResult> {
    const own = itemOf(item);
    if (!verifyItem(this.#core.ports.crypto, own)) throw new ShoalError('bad-option', 'the item is not genuine');
    return { target: item.target, stored: await this.#put(own, -1, options) };
  }

  /**
   * Peers of a torrent (40 hex digits or 20 bytes) as they are found, each once, 4,000 at most; announces nothing. Leaving
   * the loop, the signal and the session's close end the search and the iteration.
   */
  lookup(infoHash: string | Uint8Array, options: DhtCallOptions = {}): AsyncIterable<Endpoint> {
    const hash = bytesOf(infoHash, 20, 'an info-hash');
    const seen = new Set<string>();
    return this.#stream<Endpoint>(options, (push, end) => {
      const take = (peers: Uint8Array, width: number) => {
        for (let at = 0; at + width + 2 <= peers.length; at += width + 2) {
          const ip = formatIp(peers.subarray(at, at + width));
          const port = (peers[at + width]! << 8) | peers[at + width + 1]!;
          if (seen.has(`${ip} ${port}`)) continue;
          seen.add(`${ip} ${port}`);
          push({ ip, port });
        }
      };
      const sink = {
        onDhtPeers: (peers4: Uint8Array, peers6: Uint8Array) => {
          take(peers4, 4);
          take(peers6, 16);
        },
        onDhtPeersDone: end,
      };
      return this.#dht().getPeers(this.#core.turn.now, hash, sink, null);
    });
  }

  /** How large the swarm of an info-hash (40 hex digits or 20 bytes) is, by estimate (BEP 33). */
  async scrape(infoHash: string | Uint8Array, options: DhtCallOptions = {}): Promise<DhtScrape> {
    const hash = bytesOf(infoHash, 20, 'an info-hash');
    return this.#call<DhtScrape>(options, (resolve) =>
      this.#dht().scrape(this.#core.turn.now, hash, { onDhtScrape: resolve }),
    );
  }

  /** What nodes on the way to a target (40 hex digits or 20 bytes; default: a random one) store (BEP 51), one by one. */
  sample(target?: string | Uint8Array, options: DhtCallOptions = {}): AsyncIterable<DhtSamples> {
    const near = target === undefined ? this.#randomTarget() : bytesOf(target, 20, 'a target');
    return this.#stream<DhtSamples>(options, (push, end) => {
      const sink = {
        onDhtSamples: (hashes: Uint8Array, total: number, intervalS: number, ip: string, port: number) => {
          const infoHashes: string[] = [];
          for (let at = 0; at + 20 <= hashes.length; at += 20) infoHashes.push(toHex(hashes.subarray(at, at + 20)));
          push({ infoHashes, total, intervalS, node: { ip, port } });
        },
        onDhtSampleDone: end,
      };
      return this.#dht().sample(this.#core.turn.now, near, sink);
    });
  }

  /** The nodes in our tables, of both families. */
  nodes(): DhtNode[] {
    const { dht } = this.#core.discovery;
    if (dht === null) return [];
    return [...dht.nodes(4), ...dht.nodes(6)].map(({ id, ip, port }) => ({ id: toHex(id), address: { ip, port } }));
  }

  /** Zeros where the session is without the DHT. */
  stats(): DhtStats {
    const { dht } = this.#core.discovery;
    return dht === null ? NO_STATS : statsOf(dht);
  }

  // --------------------------------------------------------------------------------------------------------- private

  #dht(): Dht {
    const { dht } = this.#core.discovery;
    if (dht === null) throw new ShoalError('bad-option', 'this session is without the DHT');
    if (this.#core.closed) throw new ShoalError('closed', 'the session is closed');
    this.#core.begin();
    return dht;
  }

  async #get(
    target: Uint8Array,
    key: { publicKey: Uint8Array; salt: Uint8Array } | null,
    options: DhtCallOptions,
  ): Promise<DhtItemInfo | null> {
    const best = await this.#call<DhtItem | null>(options, (resolve) =>
      this.#dht().getItem(this.#core.turn.now, target, key, { onDhtItem: () => {}, onDhtItemDone: resolve }),
    );
    return best === null ? null : itemInfo(best);
  }

  async #put(item: DhtItem, cas: number, options: DhtCallOptions): Promise<number> {
    const { stored, errors } = await this.#call<{ stored: number; errors: readonly (readonly [number, string])[] }>(
      options,
      (resolve) => this.#dht().putItem(this.#core.turn.now, item, cas, { onDhtPut: resolve }),
    );
    const [refusal] = errors;
    if (stored === 0 && refusal !== undefined) {
      throw new ShoalError('network', `the nodes refused the item: ${refusal[1]} (${refusal[0]})`);
    }
    return stored;
  }

  /** Begins once the DHT is there. `begin` returns the id of what it began, which is cancelled when it is given up. */
  async #call<T>(options: DhtCallOptions, begin: (resolve: (value: T) => void) => number): Promise<T> {
    if (!(await this.ready(options))) throw noNode();
    return waitFor<T>(this.#core, options.signal, (resolve) => {
      const dht = this.#dht();
      const id = begin(resolve);
      return () => dht.cancel(id);
    });
  }

  async *#stream<T>(
    options: DhtCallOptions,
    begin: (push: (value: T) => void, end: () => void) => number,
  ): AsyncGenerator<T> {
    if (!(await this.ready(options))) throw noNode();
    if (options.signal?.aborted) return;
    const dht = this.#dht();
    let id = -1;
    const stream = new EventStream<T>(() => {
      this.#core.begin();
      dht.cancel(id);
    }, options.signal);
    id = begin(
      (value) => stream.push(value),
      () => stream.end(),
    );
    yield* stream;
  }

  #randomTarget(): Uint8Array {
    const target = new Uint8Array(20);
    this.#core.rng.fill(target);
    return target;
  }
}

const NO_STATS: DhtStats = {
  nodes4: 0,
  nodes6: 0,
  lookups: 0,
  queriesIn: 0,
  queriesOut: 0,
  bytesIn: 0,
  bytesOut: 0,
  hashesStored: 0,
  peersStored: 0,
  itemsStored: 0,
};

function statsOf({ stats }: Dht): DhtStats {
  const { nodes4, nodes6, lookups, queriesIn, queriesOut, bytesIn, bytesOut } = stats;
  const { hashesStored, peersStored, itemsStored } = stats;
  return {
    nodes4,
    nodes6,
    lookups,
    queriesIn,
    queriesOut,
    bytesIn,
    bytesOut,
    hashesStored,
    peersStored,
    itemsStored,
  };
}

/** Throws ShoalError 'bad-option'. */
export function itemOf(info: DhtItemInfo): DhtItem {
  return {
    value: info.bytes,
    publicKey: info.publicKey === null ? null : bytesOf(info.publicKey, 32, 'a public key'),
    salt: info.salt,
    seq: info.seq ?? 0,
    signature: info.signature === null ? null : bytesOf(info.signature, 64, 'a signature'),
    target: bytesOf(info.target, 20, 'a target'),
  };
}

export function itemInfo(item: DhtItem): DhtItemInfo {
  const mutable = item.publicKey !== null;
  return {
    target: toHex(item.target),
    value: plain(decode(item.value)),
    bytes: item.value,
    publicKey: mutable ? toHex(item.publicKey!) : null,
    salt: item.salt,
    seq: mutable ? item.seq : null,
    signature: item.signature === null ? null : toHex(item.signature),
  };
}

/** Dictionaries become objects without a prototype, so that no key of a stranger means anything. */
function plain(value: BValue): DhtValue {
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof BDict)) return value as DhtValue;
  const object: Record<string, DhtValue> = Object.create(null);
  const decoder = new TextDecoder();
  for (const [key, member] of value.entries()) object[decoder.decode(key)] = plain(member);
  return object;
}

function valueBytes(value: DhtValue): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = encode(value as BInput);
  } catch (error) {
    throw new ShoalError(
      'bad-option',
      `the value cannot be bencoded: ${error instanceof Error ? error.message : error}`,
    );
  }
  if (bytes.length > MAX_VALUE) {
    throw new ShoalError('bad-option', `the value is ${bytes.length} bytes long when bencoded, more than ${MAX_VALUE}`);
  }
  return bytes;
}

function saltOf(salt: string | Uint8Array | undefined): Uint8Array {
  const bytes = typeof salt === 'string' ? utf8Encode(salt) : (salt ?? new Uint8Array(0));
  if (bytes.length > MAX_SALT) throw new ShoalError('bad-option', `a salt is at most ${MAX_SALT} bytes long`);
  return bytes;
}

function bytesOf(value: string | Uint8Array, length: number, what: string): Uint8Array {
  const bytes = typeof value === 'string' ? fromHex(value) : value;
  if (!(bytes instanceof Uint8Array) || bytes.length !== length) {
    throw new ShoalError('bad-option', `${what} is ${2 * length} hex digits`);
  }
  return bytes;
}

function noNode(): ShoalError {
  return new ShoalError('network', 'no node of the DHT answers');
}
