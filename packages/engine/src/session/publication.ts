/**
 * What the key of a publisher stands for (BEP 46): asked of the DHT, judged, and remembered in the state store, so that
 * an item older than one seen in an earlier run counts for nothing, and the last one is known where no node answers.
 *
 * Invariant: a version that was remembered is followed by higher numbers alone.
 */

import { equal, toHex } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import { BDict, decode, encode } from '../codec/bencode.ts';
import type { Publisher } from '../codec/magnet.ts';
import { type DhtItem, mutableTarget, verifyItem } from '../discovery/dht-items.ts';
import type { SessionCore } from './core.ts';
import { type DhtClient, itemOf } from './dht-client.ts';
import { pause } from './waiting.ts';

/** A torrent that a key stands for, from one number on to the next. */
export interface Version {
  readonly seq: number;
  /** v1, 20 bytes, or null. */
  readonly infoHash: Uint8Array | null;
  /** v2, 32 bytes, or null; one of the two is there. */
  readonly infoHashV2: Uint8Array | null;
  /** What was signed. */
  readonly item: DhtItem;
}

type Key = Pick<Publisher, 'publicKey' | 'salt'>;

/** How long the newest version is looked for before it counts as not there: the DHT may be warming up. */
const PATIENCE_MS = 30_000;
const RETRY_MS = 1000;
const RETRY_CAP_MS = 8000;

export class Publication {
  readonly key: Key;
  /** The newest that is known. */
  version: Version | null = null;
  /** Name of the torrent, in the state, whose data is on disk: the last one that was checked. */
  base: string | null = null;
  readonly #core: SessionCore;
  readonly #target: Uint8Array;
  /** Another process keeps the record, or it cannot be read: nothing is saved. */
  #keeps = true;

  private constructor(core: SessionCore, key: Key) {
    this.#core = core;
    this.key = key;
    this.#target = mutableTarget(key.publicKey, key.salt);
  }

  /** With what earlier runs knew. */
  static load(core: SessionCore, key: Key): Promise<Publication> {
    const publication = new Publication(core, key);
    return new Promise((resolve) => {
      core.ports.state.load(publication.#stateKey, (fault, bytes) => {
        core.begin();
        if (fault !== null) publication.#keeps = false;
        else if (bytes !== null) publication.#restore(bytes);
        resolve(publication);
      });
    });
  }

  /** Takes a version over that is newer, and writes it down. False: it is not. */
  accept(version: Version): boolean {
    if (this.version !== null && version.seq <= this.version.seq) return false;
    this.version = version;
    this.#save();
    return true;
  }

  /** The data of this torrent is on disk now. */
  settle(base: string): void {
    if (this.base === base) return;
    this.base = base;
    this.#save();
  }

  /**
   * The newest version, as far as it can be found. Rejects with ShoalError: 'network' when nobody has one, 'bad-torrent'
   * when what was put stands for no torrent, 'aborted', 'closed', 'bad-option' (the session is without the DHT).
   */
  async newest(dht: DhtClient, signal: AbortSignal | undefined): Promise<Version> {
    const until = this.#core.ports.clock.now() + PATIENCE_MS;
    for (let waitMs = RETRY_MS; ; waitMs = Math.min(2 * waitMs, RETRY_CAP_MS)) {
      let trouble = new ShoalError('network', `no node of the DHT knows anything of the publisher ${this.name}`);
      try {
        const version = await this.ask(dht, signal);
        if (version !== null) this.accept(version);
      } catch (error) {
        const known = this.version !== null && error instanceof ShoalError && error.code === 'bad-torrent';
        if (!known && !(error instanceof ShoalError && error.code === 'network')) throw error;
        trouble = error;
      }
      if (this.version !== null) return this.version;
      if (this.#core.ports.clock.now() >= until) throw trouble;
      await pause(this.#core, waitMs, signal);
    }
  }

  /** Asks once; null: nobody has an item. */
  async ask(dht: DhtClient, signal: AbortSignal | undefined): Promise<Version | null> {
    const { publicKey, salt } = this.key;
    const item = await dht.getMutable(publicKey, { salt, ...(signal === undefined ? {} : { signal }) });
    if (item === null) return null;
    const version = versionOf(itemOf(item));
    if (version === null) {
      throw new ShoalError('bad-torrent', `what the publisher ${this.name} has put into the DHT stands for no torrent`);
    }
    return version;
  }

  get name(): string {
    return toHex(this.key.publicKey);
  }

  get #stateKey(): string {
    return `publisher-${toHex(this.#target)}`;
  }

  #save(): void {
    if (!this.#keeps || this.version === null) return;
    const { value, seq, signature } = this.version.item;
    const bytes = encode({
      base: this.base ?? undefined,
      seq,
      sig: signature!,
      v: value,
    });
    this.#core.ports.state.save(this.#stateKey, bytes, (fault) => {
      this.#core.begin();
      if (fault !== null) this.#core.options.log?.(`publisher ${this.name}: ${fault.message}`, null);
    });
  }

  #restore(bytes: Uint8Array): void {
    try {
      const dict = decode(bytes);
      if (!(dict instanceof BDict)) return;
      const { publicKey, salt } = this.key;
      const value = dict.bytes('v');
      const signature = dict.bytes('sig');
      const seq = dict.int('seq');
      if (value === null || signature === null || seq === null) return;
      const item = { value: value.slice(), publicKey, salt, seq, signature: signature.slice(), target: this.#target };
      if (!verifyItem(this.#core.ports.crypto, item)) return;
      this.version = versionOf(item);
      const base = dict.text('base');
      if (base !== null && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(base)) this.base = base;
    } catch {
      // as if there were none
    }
  }
}

/** Under which a torrent is kept in the state. */
export function nameOf({ infoHash, infoHashV2 }: Pick<Version, 'infoHash' | 'infoHashV2'>): string {
  return toHex(infoHash ?? infoHashV2!);
}

export function sameTorrent(a: Version, b: Version): boolean {
  return a.infoHash === null || b.infoHash === null
    ? a.infoHashV2 !== null && b.infoHashV2 !== null && equal(a.infoHashV2, b.infoHashV2)
    : equal(a.infoHash, b.infoHash);
}

/** The value is `{ ih: info-hash }`: 20 bytes (BEP 46), or the 32 of version 2. */
function versionOf(item: DhtItem): Version | null {
  const value = decode(item.value);
  const hash = value instanceof BDict ? value.bytes('ih') : null;
  if (hash?.length === 20) return { seq: item.seq, infoHash: hash.slice(), infoHashV2: null, item };
  if (hash?.length === 32) return { seq: item.seq, infoHash: null, infoHashV2: hash.slice(), item };
  return null;
}
