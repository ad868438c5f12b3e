/**
 * The public face of the engine: promises, events and options around SessionCore. What only the real machine has
 * (reading a .torrent file, making paths absolute) comes in as a `Machine`, so that this file knows no `node:`.
 */

import { toHex } from '../base/bytes.ts';
import { type IoFault, ShoalError } from '../base/errors.ts';
import { IpRangesBuilder } from '../base/ip-ranges.ts';
import type { Endpoint, Ports } from '../base/ports.ts';
import { readIpFilter } from '../codec/ip-filter.ts';
import { parseMagnet, parsePublisher } from '../codec/magnet.ts';
import { type Metainfo, parseTorrent } from '../codec/metainfo.ts';
import type { ResumeRecord } from '../disk/resume.ts';
import { type ClientRule, ClientRules } from '../swarm/client-rules.ts';
import { CandidateSource } from '../swarm/peer-book.ts';
import { Archive } from './archive.ts';
import { type CoreSink, SessionCore } from './core.ts';
import { DhtClient } from './dht-client.ts';
import type { EntryOptions, Prelude } from './entry-options.ts';
import { EventStream } from './event-stream.ts';
import { addPublished, Follower, type FollowOptions } from './follow.ts';
import { type Known, ofMagnet, ofRecord, ofTorrent, withRecord } from './known.ts';
import type { Rates } from './limits.ts';
import { PortFile } from './port-file.ts';
import { readOptions } from './record.ts';
import { checkOptions, checkRates, coreOptions, endpointOf, proxyOf } from './session-options.ts';
import { Torrent } from './torrent.ts';
import type {
  AddOptions,
  BanInfo,
  IpFilterInfo,
  PortMappingInfo,
  SessionOptions,
  SessionStats,
  ShoalEvent,
  TorrentSource,
} from './types.ts';
import { waitFor } from './waiting.ts';

/** What the public face needs of the machine besides the ports. */
export interface Machine {
  readonly ports: Ports;
  readonly hasIpv6: boolean;
  /** Rejects with ShoalError 'bad-torrent' naming the path. */
  readFile(path: string): Promise<Uint8Array>;
  /** The text of a block list, unpacked. Rejects with ShoalError 'bad-option' naming the path. */
  readIpFilter(path: string): Promise<Uint8Array>;
  absolute(path: string): string;
  /** The first bytes of a file. Rejects with ShoalError 'bad-option' saying why not. */
  readHead(path: string, maxBytes: number): Promise<Uint8Array>;
}

/** A .torrent fetched from a web server is at most this long (libtorrent's limit for files). */
const MAX_TORRENT_BYTES = 10_000_000;
const FETCH_MS = 30_000;
/** What a session waits for trackers to hear its good-bye. */
const GOODBYE_MS = 2000;

export class Session implements AsyncDisposable, CoreSink {
  /** @internal The synchronous heart. */
  readonly core: SessionCore;
  /** @internal What the state remembers of torrents. */
  readonly archive: Archive;
  /** The DHT: items, peers, scrapes. */
  readonly dht: DhtClient;
  readonly #machine: Machine;
  readonly #torrents: Torrent[] = [];
  readonly #streams = new Set<EventStream<ShoalEvent>>();
  readonly #followers = new Set<Follower>();
  readonly #removals = new Set<Promise<unknown>>();
  readonly #ready: Promise<void>;
  readonly #listening: Promise<void>;
  #listened: () => void = () => {};
  /** For `listening`, when the session is closed before. */
  #unheard: () => void = () => {};
  #listenFault: IoFault | null = null;
  #closing: Promise<void> | null = null;
  #portFile: PortFile | null = null;

  constructor(machine: Machine, options: SessionOptions = {}) {
    checkOptions(options);
    this.#machine = machine;
    this.core = new SessionCore(coreOptions(options, machine.hasIpv6), machine.ports, this);
    this.archive = new Archive(machine.ports.state);
    this.dht = new DhtClient(this.core);
    this.#listening = new Promise((resolve, reject) => {
      this.#listened = () => {
        // one family is enough
        const deaf = this.core.listening.length === 0 ? this.#listenFault : null;
        if (deaf === null) resolve();
        else reject(new ShoalError('network', deaf.message));
      };
      this.#unheard = () => reject(new ShoalError('closed', 'the session is closed'));
    });
    this.#listening.catch(() => {});
    const listens = this.core.options.port !== null && this.core.wayOf('incoming') === 'direct';
    if (!listens || this.core.binding.addresses.length === 0) this.#listened();
    const { portFile } = options;
    if (portFile !== undefined) {
      const notice = (message: string) => this.say({ type: 'notice', message });
      this.#portFile = new PortFile(this.core, this.absolute(portFile), machine.readHead, notice);
    }
    this.#ready = this.#open(options.ipFilter);
    // whoever does not wait for `ready` hears of it from `add`
    this.#ready.catch(() => {});
  }

  /** Resolves when the session listens (if it does so at once) and its state is open. Rejects with ShoalError 'in-use' or 'network'. */
  ready(): Promise<void> {
    return this.#ready;
  }

  /**
   * Resolves when it listens, at least in one family, or was told not to. Rejects with ShoalError 'network', or 'closed'
   * when the session is closed before.
   */
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

  /**
   * Speaks with nobody on this block list any more, by whatever protocol: a file's path, or its bytes (unpacked); null: with
   * everybody again. Rejects with ShoalError 'bad-option' when the file cannot be read, or has lines of which none makes
   * sense; then the old list stays.
   */
  async setIpFilter(list: string | Uint8Array | null): Promise<IpFilterInfo> {
    const text = typeof list === 'string' ? await this.#machine.readIpFilter(list) : (list ?? new Uint8Array(0));
    const builder = new IpRangesBuilder();
    const { rangeCount, badLineCount: badLines, firstBadLine } = readIpFilter(text, builder);
    if (rangeCount === 0 && badLines > 0) {
      // who gives a list expects to be kept from somebody
      const which = typeof list === 'string' ? ` ${list}` : '';
      throw new ShoalError(
        'bad-option',
        `the block list${which} holds no range of addresses; line ${firstBadLine} makes no sense`,
      );
    }
    this.core.begin();
    this.core.rules.setRanges(builder.build());
    return { ranges: this.core.rules.rangeCount, badLines, firstBadLine };
  }

  /** Speaks with nobody at this address for a while (default: an hour). Throws ShoalError 'bad-option'. */
  ban(ip: string, reason = 'by hand', forS = 3600): void {
    if (!(forS >= 0)) throw new ShoalError('bad-option', `a time in seconds is a number from 0 on, not ${forS}`);
    this.core.begin();
    if (!this.core.rules.ban(ip, reason, forS * 1000)) throw new ShoalError('bad-option', `"${ip}" is no IP address`);
  }

  /** False: it was not banned. */
  unban(ip: string): boolean {
    this.core.begin();
    return this.core.rules.unban(ip);
  }

  bans(): BanInfo[] {
    this.core.begin();
    const { now } = this.core.turn;
    return this.core.rules.bans().map(({ ip, reason, sinceMs, untilMs }) => {
      return { ip, reason, ageS: Math.round((now - sinceMs) / 1000), leftS: Math.ceil((untilMs - now) / 1000) };
    });
  }

  /** Which programs are spoken with from now on; connections that are there stay. */
  setClientRules(rules: readonly ClientRule[]): void {
    this.core.clients = new ClientRules(rules);
  }

  /** Listens on another port (0: any), and tells trackers and peers. Where it listens is in `addresses` soon after. */
  setPort(port: number): void {
    checkOptions({ port });
    this.core.setPort(port);
  }

  /** How routers forward our port to us; empty while none is asked. */
  portMapping(): PortMappingInfo[] {
    this.core.begin();
    return this.core.portMapping?.status() ?? [];
  }

  /**
   * Goes through this proxy from now on (`proxy` as in the options; null: directly). Connections, look-ups and announces that
   * went another way are ended and begun anew, under other ids. What others learned before they still know: who wants to be
   * nobody known begins a new session.
   */
  setProxy(proxy: string | null, options: { peers?: boolean; trackers?: boolean } = {}): void {
    this.core.setProxy(proxyOf(proxy, options.peers ?? true, options.trackers ?? true));
  }

  /** Bytes per second over all torrents, 0: none. */
  setLimits(limits: Rates): void {
    checkRates(limits);
    this.core.begin();
    this.core.limits.set(this.core.turn.now, limits);
  }

  /** The pair of limits that `useAlternativeLimits` puts in place of the others. */
  setAlternativeLimits(limits: Rates): void {
    checkRates(limits);
    this.core.begin();
    this.core.limits.setAlternative(this.core.turn.now, limits);
  }

  useAlternativeLimits(on: boolean): void {
    this.core.begin();
    this.core.limits.useAlternative(this.core.turn.now, on);
  }

  /** Limits that the torrents of a group share; see `torrent.setGroup`. */
  setGroupLimits(group: string, limits: Rates): void {
    checkRates(limits);
    this.core.begin();
    const { down, up } = this.core.limits.group(group);
    if (limits.down !== undefined) down.setRate(this.core.turn.now, limits.down);
    if (limits.up !== undefined) up.setRate(this.core.turn.now, limits.up);
  }

  /** What happens to all torrents and the session, from now on. */
  events(signal?: AbortSignal): AsyncIterable<ShoalEvent> {
    const stream = new EventStream<ShoalEvent>((ended) => this.#streams.delete(ended), signal);
    this.#streams.add(stream);
    return stream;
  }

  /**
   * Adds a torrent and starts it. Resolves once it is added: its metadata may be missing still (magnets), what stands on
   * disk is being looked at. A link to a publisher (BEP 46) adds the torrent it stands for now. Rejects with ShoalError:
   * 'bad-torrent', 'bad-magnet', 'bad-option', 'duplicate', 'network', 'aborted', 'closed'.
   */
  async add(source: TorrentSource, options: AddOptions): Promise<Torrent> {
    checkFolder(options);
    await this.#ready;
    if (options.signal?.aborted) throw new ShoalError('aborted', 'aborted');
    const publisher = typeof source === 'string' && isMagnet(source) ? parsePublisher(source) : null;
    if (publisher !== null) return addPublished(this, publisher, options);
    return this.addKnown(await this.#learn(source, options.signal), options, null);
  }

  /**
   * Adds the torrent that a publisher's key stands for (BEP 46), and each later one as it is published; data that versions
   * share is not fetched again. `publisher`: a link (magnet:?xs=urn:btpk:...) or a public key, 64 hex digits or 32 bytes.
   */
  follow(publisher: string | Uint8Array, options: FollowOptions): Follower {
    checkFolder(options);
    const follower = new Follower(this, publisher, options, () => this.#followers.delete(follower));
    this.#followers.add(follower);
    return follower;
  }

  /** Adds every torrent that the state knows, as it was. Those whose record is damaged are left out and reported. */
  async restore(): Promise<readonly Torrent[]> {
    await this.#ready;
    const restored: Torrent[] = [];
    for (const record of await this.archive.loadAll()) {
      if (this.core.find(record.infoHash) !== null) continue;
      const known = withRecord(ofRecord(record), record);
      restored.push(this.#start(known, record, { folder: record.folder }, record.folder, null));
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

  /** @internal */
  get hasListeners(): boolean {
    return this.#streams.size > 0;
  }

  /** @internal */
  say(event: ShoalEvent): void {
    for (const stream of [...this.#streams]) stream.push(event);
  }

  /** @internal */
  absolute(folder: string): string {
    return this.#machine.absolute(folder);
  }

  /** Indices into `meta.files` for indices into `torrent.files`, which leave pads out. @internal */
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

  /** @internal */
  async addKnown(known: Known, options: AddOptions, prelude: Prelude | null): Promise<Torrent> {
    const record = await this.archive.load(toHex(known.infoHash ?? known.infoHashV2!));
    if (this.#closing !== null) throw new ShoalError('closed', 'the session is closed');
    const folder = this.absolute(options.folder);
    // a record of the same torrent elsewhere says nothing about this folder
    const own = record?.folder === folder ? record : null;
    return this.#start(withRecord(known, record), own, options, folder, prelude);
  }

  /** Takes it out of the session; the state remembers it. @internal */
  retire(torrent: Torrent): Promise<void> {
    return this.#stop(torrent);
  }

  /** @internal */
  removeTorrent(torrent: Torrent, data: boolean): Promise<void> {
    const removal = this.#remove(torrent, data);
    const settled: Promise<unknown> = removal.catch(() => {}).then(() => this.#removals.delete(settled));
    this.#removals.add(settled);
    return removal;
  }

  /** @internal */
  onListening(address: Endpoint): void {
    this.say({ type: 'listening', address });
  }

  /** @internal */
  onListenFault(_local: Endpoint, fault: IoFault): void {
    this.#listenFault ??= fault;
  }

  /** @internal */
  onListened(): void {
    this.#listened();
  }

  // --------------------------------------------------------------------------------------------------------- private

  async #open(ipFilter: string | undefined): Promise<void> {
    const fault = await new Promise<IoFault | null>((resolve) => this.core.ports.state.open(resolve));
    if (fault !== null) throw new ShoalError(fault.code === 'ELOCKED' ? 'in-use' : 'disk', fault.message);
    // before anything is reached or heard
    if (ipFilter !== undefined) {
      const { ranges, badLines, firstBadLine } = await this.setIpFilter(ipFilter);
      if (badLines > 0) {
        const passed =
          badLines === 1 ? `line ${firstBadLine} makes` : `${badLines} lines, from line ${firstBadLine} on, make`;
        const message = `the block list ${ipFilter} blocks ${ranges} range${ranges === 1 ? '' : 's'}; ${passed} no sense`;
        this.say({ type: 'notice', message });
      }
    }
    await this.#portFile?.follow();
    if (this.core.options.listenWhenChecked) return;
    this.core.listen();
    await this.#listening;
  }

  async #learn(source: TorrentSource, signal: AbortSignal | undefined): Promise<Known> {
    if (typeof source !== 'string') return ofTorrent(parseTorrent(source));
    if (isMagnet(source)) return ofMagnet(parseMagnet(source));
    if (/^https?:\/\//i.test(source)) return ofTorrent(parseTorrent(await this.#fetch(source, signal)));
    return ofTorrent(parseTorrent(await this.#machine.readFile(source)));
  }

  #fetch(url: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
    return waitFor<Uint8Array>(this.core, signal, (resolve, reject) => {
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
      return () => void handle.abort();
    });
  }

  #start(
    known: Known,
    record: ResumeRecord | null,
    options: AddOptions,
    folder: string,
    prelude: Prelude | null,
  ): Torrent {
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
      group: options.group ?? before?.group ?? null,
      paused: options.paused ?? before?.paused ?? false,
      record,
      prelude,
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

  async #remove(torrent: Torrent, data: boolean): Promise<void> {
    const { entry } = torrent;
    if (this.core.closed) throw new ShoalError('closed', 'the session is closed');
    let failed: IoFault | null = null;
    if (data) failed = await new Promise((resolve) => entry.removeData(resolve));
    await this.#stop(torrent);
    await this.archive.forget(entry.key);
    if (failed !== null) throw new ShoalError('disk', failed.message);
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
    for (const follower of [...this.#followers]) follower.stop();
    this.#portFile?.stop();
    this.core.stopListening();
    this.#unheard();
    const unmapped = new Promise<void>((resolve) => this.core.unmap(resolve));
    await Promise.all([...this.#torrents].map((torrent) => this.#stop(torrent)));
    // or it would be remembered as if nobody had removed it
    await Promise.all(this.#removals);
    await Promise.all([this.#farewell(), unmapped]);
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

function isMagnet(source: string): boolean {
  return /^\s*magnet:/i.test(source);
}

function checkFolder(options: { readonly folder: string }): void {
  if (typeof options?.folder !== 'string') throw new ShoalError('bad-option', 'a folder to download into is needed');
}
