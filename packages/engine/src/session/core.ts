/**
 * The synchronous heart of a Session: its torrents, its connections, and the turn that drives them. Everything here is a
 * plain call; the promises of the public API wrap these calls, and the simulation makes them itself.
 *
 * A *turn*: the first input after quiet arms `loop.soon`; when it runs, every touched torrent decides what to ask and to
 * serve, then every touched link is flushed once. Time is read once per turn.
 */

import { toHex } from '../base/bytes.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { Heap } from '../base/heap.ts';
import { formatEndpoint, isLocal, isLoopback, parseIp } from '../base/ip.ts';
import type { Conn, Endpoint, Listener, ListenSink, Ports } from '../base/ports.ts';
import { type ProxySettings, type Traffic, type Way, wayOf } from '../base/proxy.ts';
import { Rng } from '../base/random.ts';
import type { AnnounceMode } from '../discovery/announce.ts';
import type { PortMapMethod } from '../discovery/port-map.ts';
import { ReadCache } from '../disk/read-cache.ts';
import { AddressRules } from '../swarm/address-rules.ts';
import { type ClientRule, ClientRules } from '../swarm/client-rules.ts';
import { CryptoMethod, secretHash } from '../wire/mse.ts';
import { AnnounceQueue } from './announce-queue.ts';
import { Binding } from './binding.ts';
import { CipherArenas } from './cipher-arenas.ts';
import { Dialer } from './dialer.ts';
import { type CoreDhtOptions, Discovery } from './discovery.ts';
import { Entry } from './entry.ts';
import type { EntryOptions } from './entry-options.ts';
import { KeyExchanges } from './key-exchanges.ts';
import { RateLimits } from './limits.ts';
import { Link } from './link.ts';
import { OwnNat } from './own-nat.ts';
import { PortMapping } from './port-mapping.ts';
import type { EncryptionPolicy, SessionTrouble, TransportPolicy } from './types.ts';
import { UdpHub } from './udp-hub.ts';

/** What the public face hears of a session as a whole. */
export interface CoreSink {
  onListening(local: Endpoint): void;
  onListenFault(local: Endpoint, fault: IoFault): void;
  /** All of that is told for now. */
  onListened(): void;
}

export interface CoreOptions {
  /** Null: do not listen. */
  readonly port: number | null;
  readonly listenWhenChecked: boolean;
  /** Local addresses; of no meaning with an interface. */
  readonly bind: readonly string[];
  /** Name of a network interface that everything goes by, or null. */
  readonly interfaceName: string | null;
  readonly maxConnections: number;
  readonly uploadSlots: number;
  /** Bytes per second, 0: none. */
  readonly downloadLimit: number;
  readonly uploadLimit: number;
  /** Peers in the local network are limited too. */
  readonly limitLan: boolean;
  /** What goes beside payload counts: protocol, headers of TCP and IP. */
  readonly limitOverhead: boolean;
  /** Null: without the DHT. */
  readonly dht: CoreDhtOptions | null;
  readonly pex: boolean;
  readonly lsd: boolean;
  /** By which protocols routers are asked to forward the port; empty: by none. */
  readonly portMap: readonly PortMapMethod[];
  readonly clientRules: readonly ClientRule[];
  readonly encryption: EncryptionPolicy;
  readonly transport: TransportPolicy;
  /** To begin with, or null. */
  readonly proxy: ProxySettings | null;
  readonly anonymous: boolean;
  readonly announceMode: AnnounceMode;
  readonly log: ((line: string, trouble: SessionTrouble | null) => void) | null;
}

const TICK_MS = 1000;
const MOVED: IoFault = { code: 'ENETDOWN', message: 'the session goes another way now' };
/** Slots that keep what was read for uploads: at most so many (4 MiB; the system caches files too), or a quarter. */
const READ_CACHE_SLOTS = 256;

export class SessionCore {
  readonly ports: Ports;
  readonly options: CoreOptions;
  readonly rng: Rng;
  /** Time of this turn, shared with everything below. */
  readonly turn: { now: number } = { now: 0 };
  readonly entries: Entry[] = [];
  /** Those with something going on; the others cost nothing while idle. */
  readonly active: Set<Entry> = new Set();
  readonly links: Set<Link> = new Set();
  readonly touchedLinks: Link[] = [];
  readonly touchedEntries: Entry[] = [];
  readonly dialer: Dialer;
  readonly binding: Binding;
  readonly rules: AddressRules = new AddressRules(this.turn);
  clients: ClientRules;
  readonly announces: AnnounceQueue;
  readonly udp: UdpHub;
  readonly ownNat: OwnNat = new OwnNat(this);
  readonly discovery: Discovery;
  /** Null: no router is asked for anything. */
  readonly portMapping: PortMapping | null;
  readonly readCache: ReadCache;
  readonly limits: RateLimits;
  readonly listening: Endpoint[] = [];
  closed = false;
  nextEntryNumber = 0;
  readonly #sink: CoreSink;
  readonly #byHash = new Map<string, Entry>();
  /** H(req2 info-hash) of MSE -> info-hash. */
  readonly #bySecret = new Map<string, Uint8Array>();
  readonly arenas: CipherArenas;
  readonly keyExchanges: KeyExchanges = new KeyExchanges();
  readonly #listeners: Listener[] = [];
  readonly #byNumber = new Map<number, Entry>();
  readonly #deadlines = new Heap();
  readonly #alarms = new Set<{ readonly atMs: number; readonly ring: () => void }>();
  readonly #closeListeners = new Set<() => void>();
  #proxy: ProxySettings | null;
  #armed = false;
  #listenStarted = false;
  #listenEnded = false;
  #udpCount = 0;
  /** To listen on; null: not. */
  #port: number | null;
  /** Where it listened before. */
  #lastPort = 0;
  /** Counts the times it listened anew, so that what was asked before is not taken for an answer. */
  #listenRound = 0;
  /** What peers outside were told. */
  #toldPort = 0;
  #nextTickMs = 0;
  #nextDialMs = 0;

  constructor(options: CoreOptions, ports: Ports, sink: CoreSink) {
    this.options = options;
    this.ports = ports;
    this.arenas = new CipherArenas(ports.slots);
    this.#sink = sink;
    this.rng = new Rng(ports.random);
    this.dialer = new Dialer(this);
    this.#port = options.port;
    this.#proxy = options.proxy;
    ports.net.setProxy(options.proxy);
    this.rules.onBlocked = () => this.#closeBlocked();
    ports.net.setFilter(this.rules);
    this.clients = new ClientRules(options.clientRules);
    this.binding = new Binding(this, options.bind, options.interfaceName);
    this.announces = new AnnounceQueue(this);
    this.udp = new UdpHub(this);
    this.discovery = new Discovery(this);
    const isAlone = options.interfaceName === null && options.bind.every(isLoopback);
    this.portMapping = options.portMap.length === 0 || isAlone ? null : new PortMapping(this, options.portMap);
    this.readCache = new ReadCache(ports.slots, Math.min(READ_CACHE_SLOTS, ports.slots.count >> 2));
    this.limits = new RateLimits(options.downloadLimit, options.uploadLimit);
    this.turn.now = ports.clock.now();
    ports.loop.run = () => this.run();
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** Starts listening; torrents announce themselves only once it is clear where. */
  listen(): void {
    if (this.#listenStarted || this.closed) return;
    this.#listenStarted = true;
    this.begin();
    this.#listenAgain();
  }

  /** The local addresses changed, or the port is to be another: begins anew where it listens, and tells everybody. */
  rebind(): void {
    if (this.closed || !this.#listenStarted) return;
    for (const listener of this.#listeners) listener.close();
    this.#listeners.length = 0;
    this.listening.length = 0;
    // whom we were with, or about to be, is no worse for it
    for (const link of [...this.links]) if (link.utp || !link.connected) link.close(PeerFault.Evicted, MOVED);
    this.udp.close();
    this.dialSoon();
    this.#listenAgain();
  }

  /** We are at another address: who still has our old connections, and does not know yet, takes us for somebody new. */
  renewPeerIds(): void {
    for (const entry of this.entries) entry.renewPeerId();
  }

  /** Listens on another port; 0: any. */
  setPort(port: number): void {
    if (this.options.port === null || port === this.#port) return;
    this.begin();
    this.#port = port;
    this.#lastPort = 0;
    if (this.#wantedPort !== null) this.rebind();
  }

  /** Goes through another proxy, or none, from now on; what went another way is ended and begun anew. */
  setProxy(proxy: ProxySettings | null): void {
    this.begin();
    this.discovery.retire();
    this.#proxy = proxy;
    this.ports.net.setProxy(proxy);
    this.discovery.renew();
    this.renewPeerIds();
    this.rebind();
  }

  get proxy(): ProxySettings | null {
    return this.#proxy;
  }

  /** How this leaves, or comes in; anonymity forbids more than a proxy does. */
  wayOf(traffic: Traffic): Way {
    if (this.options.anonymous && (traffic === 'lsd' || traffic === 'port-map')) return 'off';
    return wayOf(traffic, this.#proxy);
  }

  /** The port to listen on, 0: any; null: not at all. */
  get #wantedPort(): number | null {
    return this.wayOf('incoming') === 'direct' ? this.#port : null;
  }

  #listenAgain(): void {
    this.#listenEnded = false;
    this.#listenRound++;
    this.#udpCount = 0;
    if (this.binding.addresses.length === 0) return this.#sink.onListened();
    const port = this.#wantedPort;
    if (port === null && this.#listenRound > 1) this.#listened();
    else if (port === null || this.options.transport === 'utp') this.udp.open(port ?? 0);
    else this.#listenAt(0, port || this.#lastPort, this.#listenRound);
  }

  /** One family after the other, so that a port the system picks for the first is asked for the others too. */
  #listenAt(at: number, port: number, round: number): void {
    if (round !== this.#listenRound) return;
    const ip = this.binding.addresses[at];
    if (ip === undefined || this.closed) return this.#listened();
    const local = { ip, port };
    let answered = false;
    const next = (): void => {
      if (answered) return;
      answered = true;
      this.#listenAt(at + 1, this.#port || this.port, round);
    };
    const sink: ListenSink = {
      onListening: (bound) => {
        if (round !== this.#listenRound) return;
        this.begin();
        this.listening.push(bound);
        this.#lastPort = bound.port;
        this.#sink.onListening(bound);
        next();
      },
      onAccept: (conn) => this.accept(conn, false),
      onListenFault: (fault) => {
        if (round !== this.#listenRound) return;
        this.begin();
        // the port it had before is nice to have, no more
        if (at === 0 && port !== this.#port) return this.#listenAt(0, this.#port!, round);
        this.#sink.onListenFault(local, fault);
        next();
      },
    };
    this.#listeners.push(this.ports.net.listen(local, sink));
  }

  /** uTP alone: a UDP socket is bound, or could not be. */
  listeningByUdp(local: Endpoint, fault: IoFault | null): void {
    if (this.options.transport !== 'utp' || this.#wantedPort === null) return;
    if (fault === null) {
      this.listening.push(local);
      this.#sink.onListening(local);
    } else this.#sink.onListenFault(local, fault);
    if (++this.#udpCount === this.binding.addresses.length) this.#listened();
  }

  /** All addresses were tried. */
  #listened(): void {
    this.#listenEnded = true;
    this.#sink.onListened();
    if (this.closed) return;
    this.udp.open(this.port);
    this.discovery.listening();
    this.portMapping?.listening();
    this.#toldPort = this.portTowards(4);
    for (const entry of this.entries) entry.listening(this.#listenRound > 1);
  }

  /** A torrent has been checked. */
  entryChecked(): void {
    if (this.options.listenWhenChecked && !this.entries.some((entry) => entry.state === 'checking')) this.listen();
  }

  /** Nothing is known yet of where we listen, but will be. */
  get listenPending(): boolean {
    return (this.#wantedPort !== null || this.binding.addresses.length === 0) && !this.#listenEnded;
  }

  /** Port that trackers and peers are told; 0: we do not listen. */
  get port(): number {
    return this.listening[0]?.port ?? 0;
  }

  /** Port of a router that is forwarded to us, over IPv4; 0: none. */
  get mappedPort(): number {
    return this.portMapping?.externalPort ?? 0;
  }

  /** Port that others of this family reach us at from outside; 0: none. */
  portTowards(family: 4 | 6): number {
    return family === 4 && this.port !== 0 ? this.mappedPort || this.port : this.port;
  }

  /** Port that a peer at this address reaches us at. */
  portFor(ip: string): number {
    const bytes = parseIp(ip);
    return bytes === null || isLocal(bytes) ? this.port : this.portTowards(bytes.length === 4 ? 4 : 6);
  }

  /** We are reached from outside at another port than before: all who were told one are told anew. */
  portMapped(): void {
    if (this.closed || this.port === 0) return;
    const isMoved = this.portTowards(4) !== this.#toldPort;
    this.#toldPort = this.portTowards(4);
    for (const entry of this.entries) {
      entry.finder.announcer.mappedPort = this.mappedPort;
      if (isMoved) entry.listening(true);
    }
  }

  add(options: EntryOptions): Entry {
    this.begin();
    const entry = new Entry(this, options);
    this.entries.push(entry);
    this.#byNumber.set(entry.number, entry);
    this.#name(entry, entry.wireHashes);
    return entry;
  }

  remove(entry: Entry): void {
    const at = this.entries.indexOf(entry);
    if (at < 0) return;
    this.entries.splice(at, 1);
    this.#byNumber.delete(entry.number);
    this.#deadlines.remove(entry.number);
    this.#unname(entry);
  }

  /** The metadata says by which hashes it goes on the wire. */
  rename(entry: Entry, hashes: readonly Uint8Array[]): void {
    this.#unname(entry);
    entry.wireHashes = hashes;
    this.#name(entry, hashes);
  }

  #name(entry: Entry, hashes: readonly Uint8Array[]): void {
    for (const hash of hashes) {
      const key = toHex(hash);
      // of a hybrid torrent that is here twice, under either hash, each keeps the name it came under
      if (this.#byHash.has(key)) continue;
      this.#byHash.set(key, entry);
      if (this.options.encryption !== 'off') this.#bySecret.set(toHex(secretHash(hash)), hash);
    }
  }

  #unname(entry: Entry): void {
    for (const hash of entry.wireHashes) {
      const key = toHex(hash);
      if (this.#byHash.get(key) !== entry) continue;
      this.#byHash.delete(key);
      if (this.options.encryption !== 'off') this.#bySecret.delete(toHex(secretHash(hash)));
    }
  }

  /** The torrent that goes by this hash on the wire (20 bytes), or null. */
  find(hash: Uint8Array): Entry | null {
    return this.#byHash.get(toHex(hash)) ?? null;
  }

  /** Has routers forward nothing to us any more, as far as they answer in time. */
  unmap(done: () => void): void {
    this.begin();
    if (this.portMapping === null) done();
    else this.portMapping.close(done);
  }

  /** The last step of a close: nothing is sent after it. */
  closeUdp(done: () => void): void {
    this.begin();
    this.discovery.close(() => {
      this.udp.close();
      done();
    });
  }

  /** Takes no connection any more; the torrents are stopped one by one by whoever closes the session. */
  stopListening(): void {
    this.closed = true;
    for (const listener of this.#listeners) listener.close();
    this.#listeners.length = 0;
    for (const link of [...this.links]) if (link.peer === null) link.close(PeerFault.Evicted, null);
    for (const listener of [...this.#closeListeners]) listener();
  }

  /** Calls back once the session begins to close. Returns how to take that back. */
  onClose(listener: () => void): () => void {
    this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  // ----------------------------------------------------------------------------------------------------------- turns

  /** An input begins; the turn comes after it. */
  begin(): void {
    if (this.#armed) return;
    this.#armed = true;
    this.turn.now = this.ports.clock.now();
    this.ports.loop.soon();
  }

  run(): void {
    this.#armed = true;
    const now = this.ports.clock.now();
    this.turn.now = now;
    if (now >= this.#nextTickMs) this.#tick(now);
    // one that rings may take others back, or set new ones
    for (const alarm of this.#alarms) {
      if (now < alarm.atMs) continue;
      this.#alarms.delete(alarm);
      alarm.ring();
    }
    this.keyExchanges.run(now);
    this.binding.run(now);
    this.udp.tick(now);
    this.announces.run(now);
    this.discovery.run(now);
    this.portMapping?.run(now);
    if (now >= this.#nextDialMs && !this.closed) this.#nextDialMs = this.dialer.run(now, this.active);
    // what waited for a time (a write to grow, a rate to allow it) is due although nothing came in
    while (this.#deadlines.minKey <= now) {
      const entry = this.#byNumber.get(this.#deadlines.minId)!;
      this.#deadlines.remove(entry.number);
      entry.due(now);
    }
    // deciding and flushing may touch more (an upload read from cache, a limit met): go on until all is quiet
    let told = false;
    for (let round = 0; round < 4 && (round === 0 || told || this.#hasTouched); round++) {
      for (let i = 0; i < this.touchedEntries.length; i++) {
        const entry = this.touchedEntries[i]!;
        entry.endTurn(now);
        this.#schedule(entry, now);
      }
      this.touchedEntries.length = 0;
      for (let i = 0; i < this.touchedLinks.length; i++) this.touchedLinks[i]!.flush();
      this.touchedLinks.length = 0;
      told = this.udp.endTurn(now);
    }
    this.#armed = false;
    if (this.#hasTouched) this.begin();
    this.ports.loop.wakeAt(this.#nextAt());
  }

  get #hasTouched(): boolean {
    return this.touchedEntries.length > 0 || this.touchedLinks.length > 0;
  }

  /** Candidates came, or a connection ended: dial in this turn. */
  dialSoon(): void {
    this.#nextDialMs = 0;
    this.begin();
  }

  /** Calls back after so many milliseconds, once. Returns how to take that back. */
  alarm(afterMs: number, ring: () => void): () => void {
    this.begin();
    const alarm = { atMs: this.turn.now + afterMs, ring };
    this.#alarms.add(alarm);
    return () => this.#alarms.delete(alarm);
  }

  // ----------------------------------------------------------------------------------------------------- connections

  get full(): boolean {
    return this.links.size >= this.options.maxConnections;
  }

  /** Tells the log of what did not work. */
  trouble(of: 'udp' | 'dht', fault: IoFault): void {
    this.options.log?.(`${of}: ${fault.message}`, { of, peer: null, fault });
  }

  addLink(link: Link): void {
    this.links.add(link);
  }

  linkClosed(link: Link, fault: PeerFault, why: IoFault | null): void {
    this.links.delete(link);
    this.keyExchanges.forget(link);
    this.dialer.settled(link);
    if (this.options.log !== null) {
      const peer = formatEndpoint(link.remote.ip, link.remote.port);
      const line = `peer ${peer} closed: ${why?.message ?? `fault ${fault}`}`;
      this.options.log(line, why === null ? null : { of: 'peer', peer, fault: why });
    }
    link.entry?.connections.closed(link, fault, why);
    this.dialSoon();
  }

  /** The info-hash that an encrypted connection is about, or null. */
  findSecret(hash: Uint8Array): Uint8Array | null {
    return this.#bySecret.get(toHex(hash)) ?? null;
  }

  /** What we would take of a peer that offers both. */
  get cryptoMethods(): number {
    return this.options.encryption === 'require' ? CryptoMethod.Rc4 : CryptoMethod.Plain | CryptoMethod.Rc4;
  }

  /** A connection came in. */
  accept(conn: Conn, utp: boolean): void {
    this.begin();
    this.ownNat.cameIn(conn.remote.ip);
    const link = new Link(this, conn.remote, true, null, -1);
    conn.sink = link;
    link.carry(conn, utp);
    if (this.full) this.#makeRoom();
    if (this.closed || this.full || parseIp(conn.remote.ip) === null || this.rules.blocks(conn.remote.ip)) {
      conn.close();
      link.closed = true;
      return;
    }
    this.addLink(link);
    const { encryption } = this.options;
    if (encryption !== 'off') link.listenFor(this.cryptoMethods, encryption !== 'require');
  }

  /**
   * Who connects and says nothing makes way for who came later, and so does a connect of ours that was not answered yet:
   * a crowd of them, or of false addresses, keeps nobody out.
   */
  #makeRoom(): void {
    let attempt: Link | null = null;
    for (const link of this.links) {
      if (link.peer !== null) continue;
      if (link.incoming) return link.close(PeerFault.Evicted, null);
      if (!link.connected) attempt ??= link;
    }
    attempt?.close(PeerFault.Evicted, null);
  }

  #closeBlocked(): void {
    this.begin();
    for (const link of [...this.links]) if (this.rules.blocks(link.remote.ip)) link.close(PeerFault.Banned, null);
    for (const entry of this.entries) entry.finder.book.dropBlocked();
  }

  #tick(now: number): void {
    this.#nextTickMs = now + TICK_MS;
    for (const link of [...this.links]) link.sweep(now);
    for (const entry of [...this.active]) {
      entry.tick(now);
      this.#schedule(entry, now);
    }
  }

  /** The entry's own deadline; it can only have moved in its turn or tick. */
  #schedule(entry: Entry, now: number): void {
    const at = entry.nextAt(now);
    if (at === Infinity || !this.#byNumber.has(entry.number)) this.#deadlines.remove(entry.number);
    else this.#deadlines.set(entry.number, at);
  }

  #nextAt(): number {
    // one that is closed dials and moves no more, whatever was asked for
    const openAt = this.closed ? Number.POSITIVE_INFINITY : Math.min(this.#nextDialMs, this.binding.nextAt());
    let at = Math.min(
      this.keyExchanges.nextAt(),
      this.udp.nextAt(),
      this.announces.nextAt(),
      this.discovery.nextAt(),
      this.portMapping?.nextAt() ?? Number.POSITIVE_INFINITY,
      openAt,
      this.#deadlines.minKey,
    );
    for (const alarm of this.#alarms) at = Math.min(at, alarm.atMs);
    if (this.links.size > 0 || this.active.size > 0) at = Math.min(at, this.#nextTickMs);
    return at;
  }
}
