/**
 * One torrent's connections, from the first word to the last: who is let in, what is said first, and what the peer book
 * learns when it is over.
 *
 * Limits: MAX_PEERS of a torrent.
 */

import { compare, equal } from '../base/bytes.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { isNameAddress } from '../base/name-address.ts';
import { clientName } from '../codec/peer-id.ts';
import { CandidateSource } from '../swarm/peer-book.ts';
import { UploadQueue } from '../swarm/upload-queue.ts';
import type { Entry } from './entry.ts';
import type { Link } from './link.ts';

/** Connections of one torrent (libtorrent's default for a session is 200; one swarm rarely gains by more than 80). */
const MAX_PEERS = 100;
/** A connection that was silent for so long makes way for another of the same peer. */
const REPLACED_MS = 10_000;
/** So many peers that can bring us together with others are to see us by uTP. */
const RELAYS = 3;
const CLIENT = 'Shoal 0.1';

export class Connections {
  /** Connects under way. */
  dialing = 0;
  readonly #entry: Entry;

  constructor(entry: Entry) {
    this.#entry = entry;
  }

  /** Whether another one that came in is taken. */
  get admits(): boolean {
    return this.#isActive && this.#entry.swarm.peers.length < MAX_PEERS;
  }

  /** Whether more are to be dialed. */
  get wanted(): boolean {
    return this.#isActive && this.#entry.swarm.peers.length + this.dialing < MAX_PEERS;
  }

  /** A peer that is here already under the same id, or is banned, is not taken; nor is any by a torrent paused meanwhile. */
  accepts(link: Link, peerId: Uint8Array): boolean {
    const { core, swarm } = this.#entry;
    if (!this.admits || core.rules.blocks(link.remote.ip) || !core.clients.allows(clientName(peerId))) return false;
    const known = swarm.peers.find((peer) => equal(peer.peerId, peerId));
    if (known === undefined) return true;
    const knownLink = known.link as Link;
    const silentMs = core.turn.now - known.conversation.lastReceivedMs;
    // the same machine again, and its old connection says nothing: that one is dead without knowing it
    const isSameHost = knownLink.remote.ip === link.remote.ip;
    let replaces = isSameHost && silentMs >= REPLACED_MS;
    // both sides dialed at once: of the two that of the larger id stays, on either side (as libtorrent does)
    if ((isSameHost || link.punched || knownLink.punched) && knownLink.incoming !== link.incoming) {
      replaces = compare(this.#entry.peerId, peerId) > 0 !== link.incoming;
    }
    if (replaces) knownLink.close(PeerFault.Duplicate, null);
    return replaces;
  }

  /** The first thing said on a connection, under this one of our hashes. */
  greet(link: Link, hash: Uint8Array): void {
    const { core, peerId } = this.#entry;
    const isOpen = core.wayOf('dht') === 'direct' && !core.options.anonymous;
    const dht = core.discovery.dht !== null && isOpen && core.discovery.allows(this.#entry);
    link.conversation.handshake(hash, peerId, { dht });
    link.touch();
  }

  attach(link: Link, peerId: Uint8Array): void {
    const { core, finder, meta, swarm } = this.#entry;
    const { conversation } = link;
    if (link.candidate >= 0) {
      this.dialing--;
      finder.book.connected(link.candidate, core.turn.now);
    } else core.dialer.met(this.#entry, link.remote);
    const peer = swarm.prepare(link, core.turn.now);
    peer.peerId.set(peerId);
    link.peer = peer;
    const isPublic = core.discovery.allows(this.#entry);
    const { anonymous } = core.options;
    conversation.extendedHandshake({
      client: anonymous ? null : CLIENT,
      listenPort: anonymous ? 0 : core.portFor(link.remote.ip),
      reqq: UploadQueue.LIMIT,
      metadataSize: meta?.infoBytes.length ?? 0,
      uploadOnly: swarm.layout !== null && swarm.picker === null,
      yourIp: anonymous || isNameAddress(link.remote.ip) ? null : link.remote.ip,
      privateTorrent: meta?.private ?? false,
      pex: core.options.pex && isPublic,
      holepunch: core.udp.punches && isPublic,
    });
    swarm.attach(peer);
    // a bitfield is the first message, or none
    const dhtPort = isPublic ? core.udp.dhtPortFor(link.remote.ip) : 0;
    if (dhtPort > 0) conversation.port(dhtPort);
    core.active.add(this.#entry);
  }

  /** A link has ended, however far it came. */
  closed(link: Link, fault: PeerFault, why: IoFault | null): void {
    const { core, finder } = this.#entry;
    if (link.candidate < 0) return;
    const { now } = core.turn;
    // it was our way that went
    const isOurs = why?.code === 'ENETDOWN' || why?.code === 'EPROXYDOWN';
    if (link.peer !== null) {
      return finder.book.disconnected(link.candidate, now, isOurs ? PeerFault.Evicted : fault);
    }
    if (!isOurs && fault === PeerFault.Closed && core.dialer.tryOtherWay(link)) return;
    this.dialing--;
    if (isOurs) return finder.book.unasked(link.candidate, now);
    finder.book.failed(link.candidate, now);
    if (fault === PeerFault.SelfConnection) finder.book.addOwn(link.remote.ip, link.remote.port);
    if (!link.connected && fault === PeerFault.Closed) this.unanswered(link);
  }

  /** Whom we dial does not answer: perhaps somebody whom it is connected with brings us together (BEP 55). */
  unanswered(link: Link): void {
    const { core, finder, swarm } = this.#entry;
    if (link.punched || link.sought || !core.udp.punches || this.#isStopped) return;
    link.sought = true;
    const { ip, port } = link.remote;
    const candidate = finder.book.find(ip, port);
    swarm.holepunch.seek(ip, port, candidate < 0 ? 0 : finder.book.teller(candidate), core.turn.now);
  }

  /** Whether uTP is to come first there: see OwnNat. */
  prefersUtp(ip: string): boolean {
    const { core, swarm } = this.#entry;
    if (!core.udp.punches || !core.ownNat.hidesFrom(ip)) return false;
    let relays = 0;
    for (const { link, conversation } of swarm.peers) if (link.utp && conversation.supports.holepunch) relays++;
    return relays < RELAYS;
  }

  /** A peer that both know says: dial this one now, it does the same (BEP 55). */
  punch(ip: string, port: number): void {
    const { core, finder, swarm } = this.#entry;
    if (!core.udp.punches || core.rules.blocks(ip)) return;
    if (swarm.peers.some(({ link }) => link.remote.ip === ip && link.remote.port === port)) return;
    finder.book.add(ip, port, CandidateSource.Pex);
    const candidate = finder.book.find(ip, port);
    if (candidate < 0) return;
    if (!finder.book.isIdle(candidate)) core.dialer.hasten(this.#entry, candidate);
    else if (this.wanted && !core.full) core.dialer.punch(this.#entry, candidate);
  }

  get #isActive(): boolean {
    const { paused, state } = this.#entry;
    return !paused && (state === 'metadata' || state === 'downloading' || state === 'seeding');
  }

  get #isStopped(): boolean {
    return this.#entry.isStopping || this.#entry.paused;
  }
}
