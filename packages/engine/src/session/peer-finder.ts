/**
 * One torrent's search for peers: owns whom it knows (the book) and its trackers (the announcer), and takes in what they
 * and others tell.
 */

import { PeerFault } from '../base/errors.ts';
import { formatIp, isLoopback } from '../base/ip.ts';
import { type AnnounceFigures, Announcer, type AnnounceSink } from '../discovery/announce.ts';
import type { NamedPeer, TrackerRequest } from '../discovery/tracker.ts';
import { CandidateSource, PeerBook } from '../swarm/peer-book.ts';
import type { Entry } from './entry.ts';

/** Torrents of a session past which first announces are spread, and over how long. */
const CROWD = 50;
const SPREAD_MS = 60_000;
/** An interface may get addresses of either later. */
const FAMILIES = [4, 6] as const;

export class PeerFinder implements AnnounceSink {
  readonly book: PeerBook;
  readonly announcer: Announcer;
  /** A user has changed the torrent's trackers. */
  trackersEdited: boolean;
  readonly #entry: Entry;

  constructor(entry: Entry) {
    const { core, options } = entry;
    this.#entry = entry;
    this.trackersEdited = options.trackersEdited;
    this.book = new PeerBook(core.rng, core.rules);
    const { ip4, ip6 } = core.discovery.external;
    if (ip4 !== null) this.book.setExternal(ip4, core.portTowards(4));
    if (ip6 !== null) this.book.setExternal(ip6, core.portTowards(6));
    this.announcer = new Announcer({
      infoHash: entry.swarmHash,
      peerId: entry.peerId,
      key: core.options.anonymous ? 0 : core.rng.u32(),
      tiers: options.trackers,
      families: FAMILIES.filter((family) => core.binding.interfaceName !== null || core.binding.has(family)),
      mode: core.options.announceMode,
      exclusive: options.meta?.private ?? false,
      rng: core.rng,
      sink: this,
    });
    this.announcer.supportCrypto = core.options.encryption !== 'off';
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** Looks for peers, once it is clear where we listen. */
  seek(): void {
    const { core } = this.#entry;
    if (core.listenPending) return;
    this.announcer.port = core.port;
    this.announcer.mappedPort = core.mappedPort;
    const spread = this.announcer.trackerCount > 0 && core.entries.length > CROWD;
    this.announcer.start(core.turn.now, spread ? SPREAD_MS : 0);
    core.announces.schedule(this.#entry);
    core.discovery.join(this.#entry);
    core.active.add(this.#entry);
    core.dialSoon();
  }

  /** Asks all now, as far as they let. */
  again(): void {
    const { core } = this.#entry;
    this.announcer.announceNow(core.turn.now);
    core.announces.schedule(this.#entry);
    core.discovery.again(this.#entry);
  }

  /** The torrent pauses or ends: trackers hear that it stopped, nobody else is asked. */
  leave(): void {
    const { core } = this.#entry;
    core.discovery.leave(this.#entry);
    this.announcer.stop(core.turn.now);
    core.announces.schedule(this.#entry);
  }

  /** The torrent turned out to be private: it keeps to one tracker (BEP 27). */
  becamePrivate(): void {
    this.announcer.setMode(this.#entry.core.turn.now, 'tier', true);
    this.#entry.core.announces.schedule(this.#entry);
  }

  /** A user changes the trackers; `edit` says whether it did. */
  editTrackers(edit: (announcer: Announcer, now: number) => boolean): boolean {
    const { core } = this.#entry;
    core.begin();
    if (!edit(this.announcer, core.turn.now)) return false;
    this.trackersEdited = true;
    if (!this.#entry.isStopping) core.announces.schedule(this.#entry);
    this.#entry.touchRecord();
    return true;
  }

  addPeer(ip: string, port: number, source: CandidateSource): void {
    const { core } = this.#entry;
    if (core.discovery.admits(this.#entry, source) && this.book.add(ip, port, source)) core.dialSoon();
  }

  /**
   * Resolves a host name and takes what it stands for as a candidate. A tracker's name must not lead to services of this
   * machine.
   */
  addNamedPeer(host: string, port: number, source: CandidateSource): void {
    const { core, options } = this.#entry;
    core.ports.net.resolve(host, (fault, ips) => {
      core.begin();
      if (fault !== null) return options.sink.onWarning(this.#entry, fault.message);
      for (const ip of ips) {
        if (source !== CandidateSource.Tracker || !isLoopback(ip)) this.addPeer(ip, port, source);
      }
    });
  }

  // --------------------------------------------------------------------------------------------------- announce sink

  onAsk(request: TrackerRequest): void {
    this.#entry.core.announces.ask(this.#entry, request);
  }

  onAbandon(id: number): boolean {
    return this.#entry.core.announces.abandon(this.#entry, id);
  }

  onPeers(peers4: Uint8Array, peers6: Uint8Array, named: readonly NamedPeer[]): void {
    this.book.addCompact(peers4, 4, CandidateSource.Tracker);
    this.book.addCompact(peers6, 16, CandidateSource.Tracker);
    for (const { host, port } of named) this.addNamedPeer(host, port, CandidateSource.Tracker);
    this.#entry.core.dialSoon();
  }

  onExternalIp(ip: Uint8Array, trackerIp: string): void {
    const { core } = this.#entry;
    // one vote is enough for an order of dialing (BEP 40)
    this.book.setExternal(formatIp(ip), core.portTowards(ip.length === 4 ? 4 : 6));
    core.discovery.vote(ip, trackerIp, 'tracker');
  }

  onTrackerSwitched(): void {
    const { meta, swarm } = this.#entry;
    if (!meta?.private) return;
    // BEP 27: the swarms of two trackers of a private torrent are kept apart
    this.book.dropSources(CandidateSource.Tracker);
    for (const peer of [...swarm.peers]) if (!peer.link.incoming) peer.link.close(PeerFault.Evicted, null);
  }

  onTrackerWarning(url: string, message: string): void {
    this.#entry.options.sink.onWarning(this.#entry, `${url}: ${message}`);
  }

  fillFigures(into: AnnounceFigures): void {
    const { meta, swarm } = this.#entry;
    into.uploaded = swarm.up.total;
    into.downloaded = swarm.down.total;
    into.partialSeed = false;
    if (meta === null || swarm.have === null) {
      into.left = -1;
      return;
    }
    into.left = this.#entry.bytesTotal() - this.#entry.bytesDone();
    if (into.left === 0 && !swarm.have.isFull) {
      into.partialSeed = true;
      into.left = Math.max(1, (swarm.have.length - swarm.have.count) * meta.pieceLength);
    }
  }
}
