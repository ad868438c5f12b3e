/**
 * The public face of the engine: promises, events and options around SessionCore. What only the real machine has
 * (reading a .torrent file, making paths absolute) comes in as a `Machine`, so that this file knows no `node:`.
 */

import { equal, toHex } from '../base/bytes.ts';
import { type IoFault, ShoalError } from '../base/errors.ts';
import { parseEndpoint } from '../base/ip.ts';
import type { Endpoint, Ports } from '../base/ports.ts';
import { parseMagnet } from '../codec/magnet.ts';
import { type Metainfo, parseTorrent } from '../codec/metainfo.ts';
import { decodeRecord, type ResumeRecord } from '../disk/resume.ts';
import { CandidateSource } from '../swarm/peer-book.ts';
import { type CoreSink, SessionCore } from './core.ts';
import { DhtClient } from './dht-client.ts';
import type { CoreDhtOptions } from './discovery.ts';
import type { EntryOptions } from './entry-options.ts';
import { EventStream } from './event-stream.ts';
import { metaKey, readOptions } from './record.ts';
import { Torrent } from './torrent.ts';
import type { AddOptions, SessionOptions, SessionStats, ShoalEvent, TorrentSource } from './types.ts';

/** What the public face needs of the machine besides the ports. */
export interface Machine {
  readonly ports: Ports;
  readonly hasIpv6: boolean;
  /** Rejects with ShoalError 'bad-torrent' naming the path. */
  readFile(path: string): Promise<Uint8Array>;
  absolute(path: string): string;
}

/** A .torrent fetched from a web server is at most this long (libtorrent's limit for files). */
const MAX_TORRENT_BYTES = 10_000_000;
const FETCH_MS = 30_000;
/** What a session waits for trackers to hear its good-bye. */
const GOODBYE_MS = 2000;

/** What is known of a source before its torrent is added. */
interface Known {
  readonly meta: Metainfo | null;
  readonly infoHash: Uint8Array | null;
  readonly infoHashV2: Uint8Array | null;
  readonly name: string;
  readonly trackers: readonly (readonly string[])[];
  readonly webSeeds: readonly string[];
  readonly peers: readonly { host: string; port: number }[];
  /** Indices into `meta.files`. */
  readonly select: readonly number[] | null;
}

export class Session implements AsyncDisposable, CoreSink {
  /** Internal: the synchronous heart. */
  readonly core: SessionCore;
  /** The DHT: items, peers, scrapes. */
  readonly dht: DhtClient;
  readonly #machine: Machine;
  readonly #torrents: Torrent[] = [];
  readonly #streams = new Set<EventStream<ShoalEvent>>();
  readonly #ready: Promise<void>;
  #listenersDue: number;
  readonly #listening: Promise<void>;
  #listened: () => void = () => {};
  #listenFault: IoFault | null = null;
  #closing: Promise<void> | null = null;

  constructor(machine: Machine, options: SessionOptions = {}) {
    checkOptions(options);
    this.#machine = machine;
    const bind = options.bind ?? (machine.hasIpv6 ? ['0.0.0.0', '::'] : ['0.0.0.0']);
    const port = options.port === undefined ? 0 : options.port;
    this.core = new SessionCore(
      {
        port,
        listenWhenChecked: options.listen === 'when-checked',
        bind,
        interfaceName: options.interface ?? null,
        maxConnections: options.maxConnections ?? 500,
        uploadSlots: options.uploadSlots ?? 8,
        downloadLimit: options.downloadLimit ?? 0,
        uploadLimit: options.uploadLimit ?? 0,
        dht: coreDht(options.dht),
        pex: options.pex ?? true,
        lsd: options.lsd ?? true,
        transport: options.transport ?? 'both',
        encryption: options.encryption ?? 'allow',
        announceMode: options.announceMode ?? 'tier',
        log: options.log ?? null,
      },
      machine.ports,
      this,
    );
    this.#listenersDue = port === null ? 0 : this.core.binding.addresses.length;
    this.dht = new DhtClient(this.core);
    this.#listening = new Promise((resolve, reject) => {
      this.#listened = () => {
        if (this.#listenersDue > 0) return;
        // one family is enough
        const deaf = this.core.listening.length === 0 ? this.#listenFault : null;
        if (deaf === null) resolve();
        else reject(new ShoalError('network', deaf.message));
      };
    });
    this.#listening.catch(() => {});
    this.#listened();
    this.#ready = this.#open();
    // whoever does not wait for `ready` hears of it from `add`
    this.#ready.catch(() => {});
  }

  /** Resolves when the session listens (if it does so at once) and its state is open. Rejects with ShoalError 'in-use' or 'network'. */
  ready(): Promise<void> {
    return this.#ready;
  }

  /** Resolves when it listens, at least in one family, or was told not to. Rejects with ShoalError 'network'. */
  listening(): Promise<void> {
    return this.#listening;
  }

  /** Where it listens. */
  get addresses(): readonly Endpoint[] {
    return this.core.listening;
  }

  get torrents(): readonly Torrent[] {
    return this.#torrents;
  }

  stats(): SessionStats {
    const { slots } = this.core.ports;
    let downRate = 0;
    let upRate = 0;
    let peers = 0;
    for (const { swarm } of this.core.entries) {
      downRate += swarm.down.rateBps;
      upRate += swarm.up.rateBps;
      peers += swarm.peers.length;
    }
    return {
      downRate,
      upRate,
      torrents: this.core.entries.length,
      peers,
      memoryUsed: (slots.count - slots.freeCount) * 16384,
      memoryTotal: slots.count * 16384,
    };
  }

  /** Listens on another port (0: any), and tells trackers and peers. Where it listens is in `addresses` soon after. */
  setPort(port: number): void {
    checkOptions({ port });
    this.core.setPort(port);
  }

  /** Bytes per second over all torrents, 0: none. */
  setLimits(limits: { down?: number; up?: number }): void {
    this.core.begin();
    if (limits.down !== undefined) this.core.downLimit.setRate(this.core.turn.now, limits.down);
    if (limits.up !== undefined) this.core.upLimit.setRate(this.core.turn.now, limits.up);
  }

  /** What happens to all torrents and the session, from now on. */
  events(signal?: AbortSignal): AsyncIterable<ShoalEvent> {
    const stream = new EventStream<ShoalEvent>((ended) => this.#streams.delete(ended), signal);
    this.#streams.add(stream);
    return stream;
  }

  /**
   * Adds a torrent and starts it. Resolves once it is added: its metadata may be missing still (magnets), what stands on
   * disk is being looked at. Rejects with ShoalError: 'bad-torrent', 'bad-magnet', 'bad-option', 'duplicate', 'network'.
   */
  async add(source: TorrentSource, options: AddOptions): Promise<Torrent> {
    if (typeof options?.folder !== 'string') throw new ShoalError('bad-option', 'a folder to download into is needed');
    options.signal?.throwIfAborted();
    await this.#ready;
    const known = await this.#learn(source, options.signal);
    const record = await this.#recordOf(known);
    if (this.#closing !== null) throw new ShoalError('closed', 'the session is closed');
    const folder = this.absolute(options.folder);
    // a record of the same torrent elsewhere says nothing about this folder
    return this.#start(this.#withRecord(known, record), record?.folder === folder ? record : null, options, folder);
  }

  /** Adds every torrent that the state knows, as it was. Those whose record is damaged are left out and reported. */
  async restore(): Promise<readonly Torrent[]> {
    await this.#ready;
    const keys = await asPromise<readonly string[]>((done) => this.core.ports.state.list(done));
    const records = await Promise.all(keys.filter((key) => /^[0-9a-f]+$/.test(key)).map((key) => this.#load(key)));
    const restored: Torrent[] = [];
    for (const record of records) {
      if (record === null || this.core.find(record.infoHash) !== null) continue;
      const known = this.#withRecord(recorded(record), record);
      restored.push(this.#start(known, record, { folder: record.folder }, record.folder));
    }
    return restored;
  }

  /** Stops everything: trackers hear `stopped` (2 s at most), what is verified is written, state is saved. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ----------------------------------------------------------------------------------- for Torrent, and the core's sink

  get hasListeners(): boolean {
    return this.#streams.size > 0;
  }

  say(event: ShoalEvent): void {
    for (const stream of [...this.#streams]) stream.push(event);
  }

  absolute(folder: string): string {
    return this.#machine.absolute(folder);
  }

  /** Indices into `meta.files` for indices into `torrent.files`, which leave pads out. */
  metaIndices(meta: Metainfo, files: readonly number[]): number[] {
    const real: number[] = [];
    meta.files.forEach((file, i) => {
      if (!file.pad) real.push(i);
    });
    return files.map((file) => {
      const index = real[file];
      if (index === undefined) {
        throw new ShoalError(
          'bad-option',
          `file ${file} is not among the torrent's ${real.length} files (0 to ${real.length - 1})`,
        );
      }
      return index;
    });
  }

  async removeTorrent(torrent: Torrent, data: boolean): Promise<void> {
    const { entry } = torrent;
    let failed: IoFault | null = null;
    if (data) failed = await new Promise((resolve) => entry.removeData(resolve));
    await this.#stop(torrent);
    for (const key of [entry.key, metaKey(entry.key)]) {
      await asPromise<null>((done) => this.core.ports.state.remove(key, (fault) => done(fault, null)));
    }
    if (failed !== null) throw new ShoalError('disk', failed.message);
  }

  onListening(address: Endpoint): void {
    this.say({ type: 'listening', address });
    this.#listenersDue--;
    this.#listened();
  }

  onListenFault(_local: Endpoint, fault: IoFault): void {
    this.#listenFault ??= fault;
    this.#listenersDue--;
    this.#listened();
  }

  // --------------------------------------------------------------------------------------------------------- private

  async #open(): Promise<void> {
    const fault = await new Promise<IoFault | null>((resolve) => this.core.ports.state.open(resolve));
    if (fault !== null) throw new ShoalError(fault.code === 'ELOCKED' ? 'in-use' : 'disk', fault.message);
    if (this.core.options.listenWhenChecked) return;
    this.core.listen();
    await this.#listening;
  }

  async #learn(source: TorrentSource, signal: AbortSignal | undefined): Promise<Known> {
    if (typeof source !== 'string') return knownTorrent(parseTorrent(source));
    if (/^magnet:/i.test(source.trim())) {
      const magnet = parseMagnet(source);
      return {
        ...magnet,
        meta: null,
        name: magnet.name ?? toHex(magnet.swarmHash),
        trackers: magnet.trackers.map((url) => [url]),
      };
    }
    if (/^https?:\/\//i.test(source)) return knownTorrent(parseTorrent(await this.#fetch(source, signal)));
    return knownTorrent(parseTorrent(await this.#machine.readFile(source)));
  }

  #fetch(url: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const request = {
        url,
        headers: {},
        origin: 'person' as const,
        timeoutMs: FETCH_MS,
        maxBytes: MAX_TORRENT_BYTES,
        maxRedirects: 5,
        family: null,
      };
      const handle = this.core.ports.http.get(request, (fault, response) => {
        if (fault !== null) reject(new ShoalError('network', fault.message));
        else if (response!.status !== 200)
          reject(new ShoalError('network', `${url}: the server says ${response!.status}`));
        else resolve(response!.body);
      });
      const onAbort = () => {
        handle.abort();
        reject(new ShoalError('aborted', 'aborted'));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  async #recordOf(known: Known): Promise<ResumeRecord | null> {
    const record = await this.#load(toHex(known.infoHash ?? known.infoHashV2!));
    return record;
  }

  #load(key: string): Promise<ResumeRecord | null> {
    return new Promise((resolve, reject) => {
      this.core.ports.state.load(key, (fault, bytes) => {
        if (fault?.code === 'ELOCKED') return reject(new ShoalError('in-use', fault.message));
        const record = bytes === null ? null : decodeRecord(bytes);
        // a large .torrent stands beside the record
        if (record === null || record.torrent !== null) return resolve(record);
        this.core.ports.state.load(metaKey(key), (_fault, torrent) => resolve({ ...record, torrent }));
      });
    });
  }

  /** A magnet whose metadata was fetched in an earlier run has it from there. */
  #withRecord(known: Known, record: ResumeRecord | null): Known {
    if (known.meta !== null || record?.torrent == null) return known;
    try {
      const meta = parseTorrent(record.torrent);
      if (!equal(meta.swarmHash, record.infoHash)) return known;
      return { ...known, meta, name: meta.name, trackers: known.trackers.length > 0 ? known.trackers : meta.trackers };
    } catch {
      return known;
    }
  }

  #start(known: Known, record: ResumeRecord | null, options: AddOptions, folder: string): Torrent {
    const hash = known.infoHash ?? known.infoHashV2!.slice(0, 20);
    if (this.core.find(hash) !== null) throw new ShoalError('duplicate', `${known.name} is in this session already`);
    const before = record === null ? null : readOptions(record.options);
    const torrent = new Torrent(this);
    let select = known.select;
    if (options.select !== undefined) {
      select = known.meta === null ? options.select : this.metaIndices(known.meta, options.select);
    }
    const trackers = before?.trackersEdited ? before.trackers : known.trackers;
    const entryOptions: EntryOptions = {
      meta: known.meta,
      infoHash: known.infoHash,
      infoHashV2: known.infoHashV2,
      name: known.name,
      folder,
      trackers: [...trackers, ...(options.trackers ?? []).map((url) => [url])],
      trackersEdited: before?.trackersEdited ?? false,
      webSeeds: known.webSeeds,
      select,
      selectSkipsPads: known.meta === null && options.select !== undefined,
      priorities: select === null ? (before?.priorities ?? null) : null,
      sequential: options.sequential ?? before?.sequential ?? false,
      firstAndLast: options.firstAndLast ?? false,
      preallocate: options.preallocate ?? 'sparse',
      existing: options.existing ?? 'check',
      downloadLimit: options.downloadLimit ?? before?.downloadLimit ?? 0,
      uploadLimit: options.uploadLimit ?? before?.uploadLimit ?? 0,
      paused: options.paused ?? before?.paused ?? false,
      record,
      prelude: null,
      sink: torrent,
    };
    const named = (options.peers ?? []).map(endpointOf);
    const entry = this.core.add(entryOptions);
    torrent.bind(entry);
    this.#torrents.push(torrent);
    entry.begin();
    for (const { host, port } of known.peers) entry.finder.addNamedPeer(host, port, CandidateSource.Magnet);
    for (const { host, port } of named) entry.finder.addNamedPeer(host, port, CandidateSource.Manual);
    return torrent;
  }

  #stop(torrent: Torrent): Promise<void> {
    return new Promise((resolve) => {
      this.core.begin();
      torrent.entry.stop(() => {
        this.core.remove(torrent.entry);
        const at = this.#torrents.indexOf(torrent);
        if (at >= 0) this.#torrents.splice(at, 1);
        torrent.ended();
        resolve();
      });
    });
  }

  async #close(): Promise<void> {
    await this.#ready.catch(() => {});
    this.core.stopListening();
    await Promise.all([...this.#torrents].map((torrent) => this.#stop(torrent)));
    await this.#farewell();
    await new Promise<void>((resolve) => this.core.closeUdp(resolve));
    for (const stream of [...this.#streams]) stream.end();
    await new Promise<void>((resolve) => this.core.ports.close(resolve));
  }

  /** Waits for the last announces, but not for long. */
  #farewell(): Promise<void> {
    const { announces } = this.core;
    if (announces.requestCount === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.core.alarm(GOODBYE_MS, () => {
        announces.abortAll();
        resolve();
      });
      announces.onIdle = () => {
        cancel();
        resolve();
      };
    });
  }
}

function knownTorrent(meta: Metainfo): Known {
  return { ...namesOf(meta), meta, peers: [], select: null };
}

function namesOf(meta: Metainfo): Omit<Known, 'meta' | 'peers' | 'select'> {
  const { infoHash, infoHashV2, name, trackers, webSeeds } = meta;
  return { infoHash, infoHashV2, name, trackers, webSeeds };
}

function recorded(record: ResumeRecord): Known {
  const { infoHashV2, trackers } = readOptions(record.options);
  const isV2 = infoHashV2 !== null && toHex(infoHashV2).startsWith(toHex(record.infoHash));
  return {
    meta: null,
    infoHash: isV2 ? null : record.infoHash,
    infoHashV2,
    name: record.name,
    trackers,
    webSeeds: [],
    peers: [],
    select: null,
  };
}

function endpointOf(text: string): { host: string; port: number } {
  const endpoint = parseEndpoint(text);
  if (endpoint === null) throw new ShoalError('bad-option', `"${text}" is not host:port`);
  return endpoint;
}

function coreDht(options: SessionOptions['dht']): CoreDhtOptions | null {
  if (options === false) return null;
  const { bootstrap, port, readOnly, uploadRate } = options === undefined || options === true ? {} : options;
  for (const node of bootstrap ?? []) endpointOf(node);
  return {
    bootstrap: bootstrap ?? null,
    port: port ?? null,
    readOnly: readOnly ?? false,
    uploadRateBps: uploadRate ?? 8000,
  };
}

function checkOptions(options: SessionOptions): void {
  const { port } = options;
  if (port !== undefined && port !== null && !(Number.isInteger(port) && port >= 0 && port <= 65535)) {
    throw new ShoalError('bad-option', `port ${port} is not between 0 and 65535`);
  }
  const { encryption, transport } = options;
  if (transport !== undefined && !['tcp', 'utp', 'both'].includes(transport)) {
    throw new ShoalError('bad-option', `transport is tcp, utp or both, not ${transport}`);
  }
  if (encryption !== undefined && !['off', 'allow', 'prefer', 'require'].includes(encryption)) {
    throw new ShoalError('bad-option', `encryption is off, allow, prefer or require, not ${encryption}`);
  }
  for (const name of ['downloadLimit', 'uploadLimit', 'memory', 'maxConnections', 'uploadSlots'] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isFinite(value) && value >= 0)) {
      throw new ShoalError('bad-option', `${name} is a number from 0 on, not ${value}`);
    }
  }
}

function asPromise<T>(start: (done: (fault: IoFault | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((fault, value) => (fault === null ? resolve(value) : reject(new ShoalError('disk', fault.message))));
  });
}
