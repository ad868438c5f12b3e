/**
 * Finds peers without trackers for all torrents of a session: owns the DHT, local discovery and what is known of our own
 * address, and decides which torrent asks them when.
 *
 * This is the one place that keeps private torrents out (BEP 27): whoever is not `allows`-ed is never joined, and one that
 * turns out private when its metadata comes is shunned: it leaves, and forgets whom it knew from there.
 *
 * Limits: MAX_LOOKUPS torrents ask the DHT at once, the others wait their turn; each asks again every 15 minutes, sooner
 * while it has no peers.
 */

import { PeerFault } from '../base/errors.ts';
import { Heap } from '../base/heap.ts';
import { formatIp, isLoopback, parseEndpoint, parseIp } from '../base/ip.ts';
import { isNameAddress } from '../base/name-address.ts';
import { Dht, type DhtPeersResult, type DhtPeersSink } from '../discovery/dht.ts';
import { ExternalIp, type VoterKind } from '../discovery/external-ip.ts';
import { CandidateSource } from '../swarm/peer-book.ts';
import type { SessionCore } from './core.ts';
import type { Entry } from './entry.ts';
import { LsdSockets } from './lsd-sockets.ts';

/** Where nodes that know nobody begin; kept by the makers of the large clients. */
export const PUBLIC_ROUTERS: readonly string[] = [
  'router.bittorrent.com:6881',
  'dht.transmissionbt.com:6881',
  'dht.libtorrent.org:25401',
  'router.utorrent.com:6881',
];
const VERSION = new Uint8Array([0x53, 0x48, 0, 1]);
const NO_VERSION = new Uint8Array(0);
const STATE_KEY = 'dht';
/** Through a proxy: the id that is made of our address (BEP 42) and the nodes that know it stay out of it. */
const PROXY_STATE_KEY = 'dht-proxy';
/** Answers from addresses of bootstrap nodes that we know by name alone: so many may be wrong. */
const MAX_GUESSES = 16;
const SAVE_MS = 600_000;
const MAX_LOOKUPS = 8;
/** How often a torrent says that it is there (libtorrent's figure; nodes forget after 30 minutes). */
const ANNOUNCE_MS = 900_000;
/** One without peers asks again after 5, 10, 20 .. s, at most every 5 minutes. */
const RETRY_MS = 5_000;
const RETRY_CAP_MS = 300_000;
/** Routers are asked again after 5, 10, 20 .. s while nobody answers; and later, should all nodes be lost. */
const ROUTER_MS = 5_000;
/** Of the nodes that a torrent names. */
const MAX_NODES = 32;
const SOURCES = CandidateSource.Dht | CandidateSource.Pex | CandidateSource.Lsd | CandidateSource.Magnet;

/** How a session takes part in the DHT. */
export interface CoreDhtOptions {
  /** "host:port" each; null: the public routers. */
  readonly bootstrap: readonly string[] | null;
  /** UDP port of its own, or null. */
  readonly port: number | null;
  readonly readOnly: boolean;
  /** Bytes per second of answers. */
  readonly uploadRateBps: number;
}

export class Discovery {
  dht: Dht | null;
  readonly lsd: LsdSockets | null;
  readonly external: ExternalIp;
  readonly #core: SessionCore;
  readonly #members = new Map<number, Member>();
  readonly #due = new Heap();
  readonly #nodeListeners = new Set<() => void>();
  #lookupCount = 0;
  #routersAtMs = Infinity;
  #routerTries = 0;
  #saveAtMs = Infinity;
  #restored = false;
  /** What an earlier run knew is here, or there is nothing: it may be written over. */
  #loaded = false;
  #keeps = true;
  /** Ports of nodes whose names only the proxy looks up, and whether the user named one there. */
  readonly #named = new Map<number, boolean>();
  #guesses = 0;

  constructor(core: SessionCore) {
    this.#core = core;
    this.external = new ExternalIp();
    this.dht = this.#make();
    this.lsd = core.options.lsd
      ? new LsdSockets(core.ports, core.binding.addresses, core.rng, {
          onLsdPeer: (infoHash, ip, port) => this.#lsdPeer(infoHash, ip, port),
          onLsdLog: (line) => core.options.log?.(line, null),
        })
      : null;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** A message of the DHT. */
  datagram(now: number, bytes: Uint8Array, ip: string, port: number): void {
    if (this.#named.size > 0) this.#maybeNamed(now, ip, port);
    this.dht?.datagram(now, bytes, ip, port);
  }

  /** A UDP socket is bound: the DHT can ask. */
  reachable(): void {
    const { dht } = this;
    if (dht === null) return;
    dht.start(this.#core.turn.now, this.#core.udp.families);
    if (this.#restored) return this.#askRouters(0);
    this.#restored = true;
    if (this.#core.options.anonymous) this.#keeps = false;
    if (!this.#keeps) return this.#askRouters(0);
    this.#core.ports.state.load(this.#stateKey, (fault, bytes) => {
      this.#core.begin();
      if (this.dht !== dht) return;
      // another process has the folder's record: it keeps it
      this.#loaded = true;
      if (fault !== null) this.#keeps = false;
      else if (bytes !== null) dht.restore(this.#core.turn.now, bytes);
      this.#saveAtMs = this.#core.turn.now + SAVE_MS;
      this.#askRouters(0);
    });
  }

  /** The session listens: others can be told where. */
  listening(): void {
    if (this.lsd === null || this.#core.port === 0 || this.#core.wayOf('lsd') !== 'direct') return;
    this.lsd.port = this.#core.port;
    this.lsd.start(this.#core.turn.now);
  }

  run(now: number): void {
    this.dht?.tick(now);
    this.lsd?.tick(now);
    if (this.#nodeListeners.size > 0 && this.#canAsk) for (const listener of [...this.#nodeListeners]) listener();
    if (now >= this.#routersAtMs) this.#askRouters(this.#routerTries);
    if (now >= this.#saveAtMs) {
      this.#saveAtMs = now + SAVE_MS;
      this.#save(() => {});
    }
    while (this.#due.minKey <= now && this.#lookupCount < MAX_LOOKUPS && this.#canAsk) {
      const member = this.#members.get(this.#due.minId)!;
      this.#due.remove(member.entry.number);
      this.#ask(member, now);
    }
  }

  nextAt(): number {
    const due = this.#lookupCount < MAX_LOOKUPS && this.#canAsk ? this.#due.minKey : Infinity;
    return Math.min(
      due,
      this.dht?.nextAt() ?? Infinity,
      this.lsd?.nextAt() ?? Infinity,
      this.#routersAtMs,
      this.#saveAtMs,
    );
  }

  /** Somebody says how he sees us. */
  vote(ip: Uint8Array, from: string, kind: VoterKind): void {
    if (!this.external.vote(this.#core.turn.now, ip, from, kind)) return;
    this.#externalChanged(ip.length === 4 ? 4 : 6, formatIp(ip));
  }

  /** A peer's PORT message, or a node that a torrent names. */
  addNode(ip: string, port: number): void {
    this.dht?.addNode(this.#core.turn.now, ip, port);
  }

  addNamedNode(host: string, port: number): void {
    this.#resolve(host, (ip) => {
      if (isNameAddress(ip)) this.#learn(port, true);
      this.addNode(ip, port);
    });
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** Whether a torrent may be spoken of outside its trackers (BEP 27). */
  allows(entry: Entry): boolean {
    return entry.meta === null || !entry.meta.private;
  }

  /** The torrent looks for peers; again and again is fine. */
  join(entry: Entry): void {
    if (!this.allows(entry) || this.#members.has(entry.number)) return;
    this.#members.set(entry.number, new Member(this, entry));
    if (this.dht !== null) this.#due.set(entry.number, this.#core.turn.now);
    for (const hash of entry.wireHashes) this.lsd?.add(this.#core.turn.now, hash);
    for (const { host, port } of (entry.meta?.nodes ?? []).slice(0, MAX_NODES)) this.addNamedNode(host, port);
  }

  /** It pauses or ends. */
  leave(entry: Entry): void {
    const member = this.#members.get(entry.number);
    if (member === undefined) return;
    this.#members.delete(entry.number);
    this.#due.remove(entry.number);
    member.cancel();
    for (const hash of entry.wireHashes) this.lsd?.remove(hash);
  }

  /** Asks again now: a user wishes it. */
  again(entry: Entry): void {
    const member = this.#members.get(entry.number);
    if (member === undefined || this.dht === null) return;
    // what is being asked may name a port that is ours no longer
    if (member.waiting > 0) member.againAfter = true;
    else this.#due.set(entry.number, this.#core.turn.now);
  }

  /** The metadata says by which hashes it goes: those of a hybrid torrent are looked for under both. */
  renamed(entry: Entry): void {
    if (!this.#members.has(entry.number)) return;
    for (const hash of entry.wireHashes) this.lsd?.add(this.#core.turn.now, hash);
    this.again(entry);
  }

  /** Whether a torrent may know of somebody from there. */
  admits(entry: Entry, source: CandidateSource): boolean {
    return (source & SOURCES) === 0 || this.allows(entry);
  }

  /** The metadata came and says that it is private: it leaves, and forgets everybody it should not know. */
  shun(entry: Entry): void {
    this.leave(entry);
    entry.swarm.becomePrivate();
    const { book } = entry.finder;
    book.dropSources(SOURCES);
    for (const link of [...this.#core.links]) {
      if (link.entry !== entry || link.candidate < 0 || book.sources(link.candidate) !== 0) continue;
      link.close(PeerFault.Evicted, null);
    }
  }

  /** Calls back in every turn in which there is a node to ask, until that is taken back by what is returned. */
  onNodes(listener: () => void): () => void {
    this.#nodeListeners.add(listener);
    return () => this.#nodeListeners.delete(listener);
  }

  /** Everything is about to go another way: ends what goes by the old one. */
  retire(): void {
    this.lsd?.stop();
    for (const member of this.#members.values()) member.cancel();
    if (this.dht !== null && this.#restored) this.#save(() => {});
    this.dht?.stop();
    this.dht = null;
    this.#named.clear();
    this.#routersAtMs = Infinity;
    this.#saveAtMs = Infinity;
    this.#restored = false;
    this.#loaded = false;
    this.#keeps = true;
  }

  /** The way is another now: we are somebody else in the DHT, since an id tells of the address it was made for. */
  renew(): void {
    this.external.forget();
    this.dht = this.#make();
    for (const number of this.#members.keys()) {
      if (this.dht === null) this.#due.remove(number);
      else this.#due.set(number, this.#core.turn.now);
    }
  }

  /** Saves what is worth keeping, and ends. */
  close(done: () => void): void {
    this.lsd?.stop();
    if (this.dht === null) return done();
    this.#save(done);
    this.dht.stop();
  }

  // --------------------------------------------------------------------------------------------------------- private

  #make(): Dht | null {
    const core = this.#core;
    const { anonymous, dht } = core.options;
    if (dht === null || core.wayOf('dht') === 'off') return null;
    return new Dht({
      rng: core.rng,
      random: core.ports.random,
      crypto: core.ports.crypto,
      external: this.external,
      // nobody reaches us through a proxy to ask (BEP 43)
      readOnly: dht.readOnly || anonymous || core.wayOf('dht') === 'proxy',
      version: anonymous ? NO_VERSION : VERSION,
      uploadRateBps: dht.uploadRateBps,
      sink: {
        onDhtSend: (bytes, ip, port) => core.udp.sendDht(bytes, ip, port),
        onDhtExternalIp: (family, ip) => this.#externalChanged(family, ip),
      },
    });
  }

  get #stateKey(): string {
    return this.#core.wayOf('dht') === 'proxy' ? PROXY_STATE_KEY : STATE_KEY;
  }

  get #canAsk(): boolean {
    return this.dht !== null && this.dht.nodeCount > 0;
  }

  #ask(member: Member, now: number): void {
    const { entry } = member;
    const { port } = this.#core;
    const seed = entry.state === 'seeding';
    const announce =
      port === 0 || this.#core.options.anonymous ? null : { port: this.#core.portTowards(4), port6: port, seed };
    if (announce === null) member.announced = true;
    for (const hash of entry.wireHashes) {
      this.#lookupCount++;
      member.waiting++;
      member.lookups.push(this.dht!.getPeers(now, hash, member, announce));
    }
  }

  /** Of a member: one of its lookups has ended, or was given up. */
  asked(member: Member, result: DhtPeersResult | null): void {
    this.#lookupCount--;
    const { entry } = member;
    if (result === null || this.#members.get(entry.number) !== member) return;
    if (result.announced > 0) member.announced = true;
    if (member.waiting > 0) return;
    member.lookups.length = 0;
    const lonely = entry.swarm.peers.length === 0 && entry.state !== 'seeding';
    let waitMs = ANNOUNCE_MS * (0.9 + 0.1 * this.#core.rng.float());
    if (member.againAfter) waitMs = 0;
    else if (lonely || !member.announced) waitMs = Math.min(RETRY_CAP_MS, RETRY_MS * 2 ** member.tries++);
    else member.tries = 0;
    member.announced = false;
    member.againAfter = false;
    this.#due.set(entry.number, this.#core.turn.now + waitMs);
  }

  #askRouters(tries: number): void {
    const dht = this.dht!;
    const { now } = this.#core.turn;
    if (dht.nodeCount > 0 && tries > 0) {
      this.#routerTries = 1;
      this.#routersAtMs = now + RETRY_CAP_MS;
      return;
    }
    this.#routerTries = tries + 1;
    this.#routersAtMs = now + Math.min(RETRY_CAP_MS, ROUTER_MS * 2 ** tries);
    const { dht: options } = this.#core.options;
    const named = options?.bootstrap ?? (this.#core.binding.addresses.every(isLoopback) ? [] : PUBLIC_ROUTERS);
    for (const text of named) {
      const endpoint = parseEndpoint(text);
      if (endpoint === null) continue;
      this.#resolve(endpoint.host, (ip) => {
        if (this.dht !== dht) return;
        if (isNameAddress(ip)) this.#learn(endpoint.port, options?.bootstrap != null);
        dht.addRouter(this.#core.turn.now, ip, endpoint.port);
        // a node that the user names is one like all others, and in a small network there may be no more
        if (options?.bootstrap != null) dht.addNode(this.#core.turn.now, ip, endpoint.port);
      });
    }
  }

  #resolve(host: string, use: (ip: string) => void): void {
    this.#core.ports.net.resolve(host, (fault, ips) => {
      if (this.#core.closed) return;
      this.#core.begin();
      if (fault !== null) this.#core.trouble('dht', fault);
      for (const ip of ips) use(ip);
    });
  }

  /** A node that only the proxy can look up is asked: it answers from an address. */
  #learn(port: number, isNode: boolean): void {
    this.#named.set(port, isNode || this.#named.get(port) === true);
    this.#guesses = 0;
  }

  /** Whoever answers at such a port is asked by address: then the answer counts. */
  #maybeNamed(now: number, ip: string, port: number): void {
    const isNode = this.#named.get(port);
    if (isNode === undefined) return;
    if (this.#canAsk || ++this.#guesses > MAX_GUESSES) return this.#named.clear();
    this.dht?.addRouter(now, ip, port);
    if (isNode) this.dht?.addNode(now, ip, port);
  }

  #externalChanged(family: 4 | 6, ip: string): void {
    const { now } = this.#core.turn;
    this.dht?.externalChanged(now, family, ip);
    for (const entry of this.#core.entries) entry.finder.book.setExternal(ip, this.#core.portTowards(family));
  }

  #lsdPeer(infoHash: Uint8Array, ip: string, port: number): void {
    this.#core.begin();
    const entry = this.#core.find(infoHash);
    if (entry === null || !this.#members.has(entry.number)) return;
    // a mapped or link-local sender cannot be dialed
    if (parseIp(ip) !== null) entry.finder.addPeer(ip, port, CandidateSource.Lsd);
  }

  #save(done: () => void): void {
    const dht = this.dht!;
    // a table that is empty, of a run without a network, is worth less than what is kept already
    if (!this.#keeps || !this.#loaded || dht.nodeCount === 0) return done();
    this.#core.ports.state.save(this.#stateKey, dht.save(), (fault) => {
      this.#core.begin();
      if (fault !== null) this.#core.trouble('dht', fault);
      done();
    });
  }
}

/** A torrent that takes part; hears what its lookups find. */
class Member implements DhtPeersSink {
  readonly entry: Entry;
  readonly lookups: number[] = [];
  /** Lookups under way. */
  waiting = 0;
  tries = 0;
  /** A node took our announce, or there is none to make. */
  announced = false;
  /** Asks again once those lookups are over. */
  againAfter = false;
  readonly #discovery: Discovery;

  constructor(discovery: Discovery, entry: Entry) {
    this.#discovery = discovery;
    this.entry = entry;
  }

  cancel(): void {
    for (const id of this.lookups) this.#discovery.dht?.cancel(id);
    this.lookups.length = 0;
    for (; this.waiting > 0; this.waiting--) this.#discovery.asked(this, null);
  }

  onDhtPeers(peers4: Uint8Array, peers6: Uint8Array): void {
    const { entry } = this;
    entry.finder.book.addCompact(peers4, 4, CandidateSource.Dht);
    entry.finder.book.addCompact(peers6, 16, CandidateSource.Dht);
    entry.core.dialSoon();
  }

  onDhtPeersDone(result: DhtPeersResult): void {
    this.waiting--;
    this.#discovery.asked(this, result);
  }
}
