/**
 * Opens connections: takes the best candidates of the torrents that want peers, a few at a time.
 *
 * Limits: HALF_OPEN connects under way, DIALS_PER_SECOND started, the session's and the torrent's connection caps.
 */

import { type IoFault, PeerFault } from '../base/errors.ts';
import type { Endpoint } from '../base/ports.ts';
import type { SessionCore } from './core.ts';
import type { Entry } from './entry.ts';
import { Link } from './link.ts';
import { Race } from './race.ts';

/** Connects under way at once: with half of the addresses dead, what DIALS_PER_SECOND comes to. */
const HALF_OPEN = 200;
/** Started each second over all torrents (libtorrent's connection_speed: 30). */
const DIALS_PER_SECOND = 30;

const NO_ROUTE: IoFault = { code: 'ENETUNREACH', message: 'no UDP socket leads there' };

export class Dialer {
  halfOpen = 0;
  readonly #core: SessionCore;
  readonly #pending = new Set<Link>();
  #budget = DIALS_PER_SECOND;
  #lastRefillMs = 0;

  constructor(core: SessionCore) {
    this.#core = core;
  }

  /** Dials for these torrents, in turn, one each until nothing is left to do. Returns when to come again. */
  run(now: number, entries: ReadonlySet<Entry>): number {
    if (now - this.#lastRefillMs >= 1000) {
      this.#budget = DIALS_PER_SECOND;
      this.#lastRefillMs = now;
    }
    // nobody can be asked: they are dialed when there is a way again
    let dialed = this.#core.binding.addresses.length > 0;
    let nextAt = Infinity;
    while (dialed) {
      dialed = false;
      for (const entry of entries) {
        if (!entry.connections.wanted) continue;
        if (this.halfOpen >= HALF_OPEN || this.#budget === 0 || this.#core.full) return now + 1000;
        const candidate = entry.finder.book.next(now);
        if (candidate < 0) {
          nextAt = Math.min(nextAt, entry.finder.book.nextAt(now));
          continue;
        }
        this.#dial(entry, candidate, now);
        dialed = true;
      }
    }
    return nextAt;
  }

  /** The connect of this link ended, well or not. */
  settled(link: Link): void {
    if (this.#pending.delete(link)) this.halfOpen--;
  }

  #dial(entry: Entry, candidate: number, now: number): void {
    const remote = entry.finder.book.endpoint(candidate);
    entry.finder.book.dialed(candidate, now);
    // one that came to us is not dialed back, only to be told that it is here twice
    if (isHere(entry, remote)) return entry.finder.book.failed(candidate, now);
    this.#budget--;
    entry.connections.dialing++;
    const { encryption } = this.#core.options;
    this.#connect(entry, candidate, remote, encryption === 'prefer' || encryption === 'require', false);
  }

  /** Dials by uTP alone, whatever the back-off: the other side does so too, at this moment. */
  punch(entry: Entry, candidate: number): void {
    const remote = entry.finder.book.endpoint(candidate);
    entry.finder.book.dialed(candidate, this.#core.turn.now);
    entry.connections.dialing++;
    const hidden = this.#core.options.encryption === 'require';
    const link = this.#open(new Link(this.#core, remote, false, entry, candidate, hidden, true));
    link.punched = true;
    this.#byUtp(link);
  }

  /** A peer came from where we dial by uTP: a second connection would only have to be given up again. */
  met(entry: Entry, { ip, port }: Endpoint): void {
    for (const link of this.#pending) {
      if (link.entry !== entry || link.connected || link.remote.port !== port || link.remote.ip !== ip) continue;
      return link.close(PeerFault.Duplicate, null);
    }
  }

  /** One that is being dialed does so too, at this moment: it is to hear of us by uTP as well. */
  hasten(entry: Entry, candidate: number): void {
    for (const link of this.#pending) {
      if (link.entry === entry && link.candidate === candidate) return link.hasten();
    }
  }

  /**
   * The other side hung up before it said anything: perhaps it wants the stream hidden, or not hidden. Tries the other
   * way, once. False: that was it, or only one way is allowed.
   */
  tryOtherWay(link: Link): boolean {
    const { encryption } = this.#core.options;
    const entry = link.entry;
    if (link.again || link.heard || !link.connected || entry === null || !entry.connections.wanted || this.#core.closed)
      return false;
    if (encryption === 'off' || encryption === 'require') return false;
    this.#connect(entry, link.candidate, link.remote, !link.hidden, true);
    return true;
  }

  #connect(entry: Entry, candidate: number, remote: Endpoint, hidden: boolean, again: boolean): void {
    const link = this.#open(new Link(this.#core, remote, false, entry, candidate, hidden, again));
    const { transport } = this.#core.options;
    if (transport === 'tcp') link.carry(this.#core.ports.net.connect(remote, link), false);
    else if (transport === 'both')
      link.carryEither(new Race(this.#core, link, remote, entry.connections.prefersUtp(remote.ip)));
    else this.#byUtp(link);
  }

  #open(link: Link): Link {
    this.halfOpen++;
    this.#pending.add(link);
    this.#core.addLink(link);
    return link;
  }

  #byUtp(link: Link): void {
    const conn = this.#core.udp.connectUtp(link.remote, link);
    if (conn === null) link.onClosed(NO_ROUTE);
    else link.carry(conn, true);
  }
}

/** Whether a peer that came by itself listens there, or came from there by uTP. */
function isHere(entry: Entry, { ip, port }: Endpoint): boolean {
  return entry.swarm.peers.some(
    ({ link, conversation }) =>
      link.incoming && link.remote.ip === ip && (link.remote.port === port || conversation.remote.listenPort === port),
  );
}
