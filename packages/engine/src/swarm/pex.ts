/**
 * Peer exchange of one public torrent (BEP 11): tells each peer who else is connected, and takes in what they tell.
 *
 * Only endpoints that we really have a connection with are told: those we dialed, and those that came to us and named
 * the port they listen on. Each peer has a set of contacts it was told of; a message is the difference between that set
 * and who is connected now, so whoever was added is dropped later, nobody is both in one message, and nobody is told
 * twice. A fresh peer of a small swarm also hears of some who left a moment ago, and in the next message that they did.
 *
 * What is told us is hearsay of strangers: thinned out here, judged by the peer book.
 *
 * Invariant: while nobody comes or goes, a tick looks at one number per peer.
 * Limits out: one message a minute; FIRST_PEERS in the first one, then LATER_PEERS added and as many dropped. In: as
 * many, refilled by the minute; the 7th message within 60 s closes the peer (libtorrent).
 */

import { PeerFault } from '../base/errors.ts';
import { isLocal, parseIp } from '../base/ip.ts';
import { isNameAddress } from '../base/name-address.ts';
import type { Rng } from '../base/random.ts';
import { buildPex, PEX4_BYTES, PEX6_BYTES, PexFlag, type PexMessage } from '../wire/pex.ts';
import type { Peer } from './peer.ts';
import { TELLERS } from './peer-book.ts';
import { type Contact, clearBit, getBit, grown, MAX_RECENT, PexContacts, setBit } from './pex-contacts.ts';

export interface PexSink {
  /**
   * A peer told of these: compact addresses of both families, usable, with a byte of PexFlag for each. The arrays are
   * the owner's; `from.pex.teller` says to the book who told.
   */
  onPexPeers(peers4: Uint8Array, flags4: Uint8Array, peers6: Uint8Array, flags6: Uint8Array, from: Peer): void;
}

const FIRST_PEERS = 100;
const LATER_PEERS = 50;
/** After so long a peer is told who is there; in a swarm that just begins some more have come by then. */
const FIRST_MS = 3000;
/** Between two messages, at least; and at most so much more, so that they do not all go out at once. */
const EVERY_MS = 60_000;
const JITTER_MS = 15_000;
/** So many messages of a peer within FLOOD_MS are let pass. */
const FLOOD_COUNT = 6;
const FLOOD_MS = 60_000;

/** What peer exchange keeps of a peer. */
export class PexPeer {
  readonly ipText: string;
  readonly local: boolean;
  /** Names it in the peer book as the teller of what it tells. */
  readonly teller: number;
  /** Its own contact; -1: not known where it listens. */
  contact = -1;
  /** Contacts it was told of. */
  told: Uint32Array = new Uint32Array(1);
  /** Of the contacts when there was nothing left to tell it; -1: there is. */
  version = -1;
  /** No message went out yet. */
  fresh = true;
  nextAtMs: number;
  /** When its last messages came, the oldest first. */
  readonly heardAtMs: number[] = [];
  /** Addresses that are still taken from it. */
  budget: number = FIRST_PEERS;
  budgetAtMs: number;

  constructor(ipText: string, local: boolean, teller: number, now: number) {
    this.ipText = ipText;
    this.local = local;
    this.teller = teller;
    this.nextAtMs = now + FIRST_MS;
    this.budgetAtMs = now;
  }
}

export class PexExchange {
  readonly #sink: PexSink;
  readonly #rng: Rng;
  readonly #contacts = new PexContacts();
  #teller = 0;
  /** Of the message being put together. */
  readonly #added: number[] = [];
  readonly #dropped: number[] = [];

  constructor(sink: PexSink, rng: Rng) {
    this.#sink = sink;
    this.#rng = rng;
  }

  attach(peer: Peer, now: number): void {
    const { remote, incoming } = peer.link;
    const ip = parseIp(remote.ip);
    this.#teller = (this.#teller % TELLERS) + 1;
    peer.pex = new PexPeer(remote.ip, ip !== null && isLocal(ip), this.#teller, now);
    // what stands for a name means nothing to others
    if (!incoming && !isNameAddress(remote.ip)) peer.pex.contact = this.#contacts.join(remote.ip, remote.port, peer);
    else if (incoming) this.extended(peer);
  }

  /** The peer's extension handshake came. */
  extended(peer: Peer): void {
    const { pex, link, conversation } = peer;
    const { listenPort } = conversation.remote;
    if (pex === null || pex.contact >= 0 || !link.incoming || listenPort <= 0) return;
    pex.contact = this.#contacts.join(link.remote.ip, listenPort, peer);
  }

  detach(peer: Peer, now: number): void {
    const { pex } = peer;
    if (pex === null) return;
    peer.pex = null;
    for (let i = 0; i < pex.told.length * 32; i++) if (getBit(pex.told, i)) this.#contacts.untold(i);
    const remember = !peer.faulted && peer.failedPieces === 0;
    if (pex.contact >= 0) this.#contacts.leave(pex.contact, peer, flagsOf(peer), remember, now);
  }

  /** Every second: tells those whose time has come. */
  tick(peers: readonly Peer[], now: number): void {
    this.#contacts.expire(now);
    for (let i = 0; i < peers.length; i++) {
      const peer = peers[i]!;
      const { pex } = peer;
      if (pex === null || now < pex.nextAtMs || pex.version === this.#contacts.version) continue;
      if (peer.conversation.supports.pex) this.#tell(peer, pex, now);
    }
  }

  /** A peer's message; closes it when they come too fast. */
  receive(peer: Peer, message: PexMessage, now: number, wantsSeeds: boolean): void {
    const { pex } = peer;
    if (pex === null) return;
    const { heardAtMs } = pex;
    if (heardAtMs.length === FLOOD_COUNT && now - heardAtMs.shift()! < FLOOD_MS) return peer.fault(PeerFault.Flood);
    heardAtMs.push(now);
    const first = heardAtMs.length === 1;
    pex.budget = Math.min(FIRST_PEERS, pex.budget + ((now - pex.budgetAtMs) / EVERY_MS) * LATER_PEERS);
    pex.budgetAtMs = now;
    const room = Math.floor(Math.min(pex.budget, first ? FIRST_PEERS : LATER_PEERS));
    const four = thinned(message.added4, message.flags4, PEX4_BYTES, pex.local, wantsSeeds, room);
    const six = thinned(message.added6, message.flags6, PEX6_BYTES, pex.local, wantsSeeds, room - four);
    pex.budget -= four + six;
    if (four + six === 0) return;
    this.#sink.onPexPeers(
      message.added4.subarray(0, four * PEX4_BYTES),
      message.flags4.subarray(0, four),
      message.added6.subarray(0, six * PEX6_BYTES),
      message.flags6.subarray(0, six),
      peer,
    );
  }

  #tell(peer: Peer, pex: PexPeer, now: number): void {
    const limit = pex.fresh ? FIRST_PEERS : LATER_PEERS;
    const { live, list } = this.#contacts;
    const added = this.#added;
    const dropped = this.#dropped;
    if (pex.told.length < live.length) pex.told = grown(pex.told, live.length * 32 - 1);
    const { told } = pex;
    added.length = 0;
    dropped.length = 0;
    let more = false;
    // not all from the same end, so that a large swarm is told of all of it
    const start = this.#rng.below(live.length);
    for (let w = 0; w < live.length; w++) {
      const word = (start + w) % live.length;
      for (let bits = live[word]! ^ told[word]!; bits !== 0; bits &= bits - 1) {
        const number = word * 32 + 31 - Math.clz32(bits & -bits);
        const gone = !getBit(live, number);
        if (!gone && !mayHear(pex, number, list[number]!)) continue;
        const into = gone ? dropped : added;
        if (into.length < limit) into.push(number);
        else more = true;
      }
    }
    if (pex.fresh) this.#addRecent(pex, limit);
    if (added.length > 0 || dropped.length > 0) {
      this.#send(peer);
      for (const number of added) {
        setBit(told, number);
        this.#contacts.told(number);
      }
      for (const number of dropped) {
        clearBit(told, number);
        this.#contacts.untold(number);
      }
      // those told of though they are gone are dropped in the next message
      more ||= added.some((number) => !getBit(live, number));
      pex.fresh = false;
      pex.nextAtMs = now + EVERY_MS + this.#rng.below(JITTER_MS);
    }
    pex.version = more ? -1 : this.#contacts.version;
  }

  /** Those who left a moment ago, of a family of which few are connected. */
  #addRecent(pex: PexPeer, limit: number): void {
    const { list } = this.#contacts;
    for (const ipBytes of FAMILIES) {
      let count = 0;
      for (const number of this.#added) if (list[number]!.ip.length === ipBytes) count++;
      for (let number = 0; number < list.length && count < MAX_RECENT && this.#added.length < limit; number++) {
        const contact = list[number];
        if (contact === undefined || contact.leftAtMs < 0 || contact.ip.length !== ipBytes) continue;
        if (!mayHear(pex, number, contact)) continue;
        this.#added.push(number);
        count++;
      }
    }
  }

  #send(peer: Peer): void {
    const { list } = this.#contacts;
    const added = this.#added.map((number) => list[number]!);
    const dropped = this.#dropped.map((number) => list[number]!);
    const body = buildPex({
      added4: packed(added, 4),
      flags4: flagBytes(added, 4),
      added6: packed(added, 16),
      flags6: flagBytes(added, 16),
      dropped4: packed(dropped, 4),
      dropped6: packed(dropped, 16),
    });
    peer.conversation.pex(body);
    peer.link.touch();
  }
}

const FAMILIES = [4, 16] as const;

/** Not of itself, nor of machines in our own network that only others there can reach. */
function mayHear(pex: PexPeer, number: number, contact: Contact): boolean {
  if (number === pex.contact || (contact.local && !pex.local)) return false;
  // of one that did not say where it listens, what is known of its address may be itself
  return pex.contact >= 0 || pex.local || contact.ipText !== pex.ipText;
}

function flagsOf(peer: Peer): number {
  const { conversation, link } = peer;
  let flags = link.incoming ? 0 : PexFlag.Reachable;
  if (peer.isSeed || peer.uploadOnly) flags |= PexFlag.Seed;
  const hidden = link.encryption !== undefined && link.encryption !== 'none';
  if (hidden || conversation.remote.encryption === true) flags |= PexFlag.Encryption;
  if (conversation.supports.holepunch) flags |= PexFlag.Holepunch;
  if (link.utp === true) flags |= PexFlag.Utp;
  return flags;
}

function packed(contacts: readonly Contact[], ipBytes: number): Uint8Array {
  const chosen = contacts.filter(({ ip }) => ip.length === ipBytes);
  const bytes = new Uint8Array(chosen.length * (ipBytes + 2));
  for (const [i, { ip, port }] of chosen.entries()) {
    const at = i * (ipBytes + 2);
    bytes.set(ip, at);
    bytes[at + ipBytes] = port >> 8;
    bytes[at + ipBytes + 1] = port;
  }
  return bytes;
}

function flagBytes(contacts: readonly Contact[], ipBytes: number): Uint8Array {
  const chosen = contacts.filter(({ ip }) => ip.length === ipBytes);
  return Uint8Array.from(chosen, ({ peer, flags }) => (peer === null ? flags : flagsOf(peer)));
}

/**
 * Keeps what is worth taking of a list, in place and at its front, at most `room`; returns how many. Left out: private
 * addresses from a sender outside, more than one port of an address (one machine that is to be flooded; in a network of
 * our own there may be many on one), and seeds when we are one.
 */
function thinned(
  list: Uint8Array,
  flags: Uint8Array,
  size: number,
  fromLocal: boolean,
  wantsSeeds: boolean,
  room: number,
): number {
  let kept = 0;
  for (let i = 0; i < flags.length && kept < room; i++) {
    const at = i * size;
    const ip = list.subarray(at, at + size - 2);
    const local = isLocal(ip);
    if (local && !fromLocal) continue;
    if (!wantsSeeds && (flags[i]! & PexFlag.Seed) !== 0) continue;
    if (!local && standsIn(list, kept, size, at)) continue;
    list.copyWithin(kept * size, at, at + size);
    flags[kept++] = flags[i]!;
  }
  return kept;
}

/** Whether one of the first `count` addresses is the one at `at`, whatever the port. */
function standsIn(list: Uint8Array, count: number, size: number, at: number): boolean {
  for (let k = 0; k < count; k++) {
    let i = 0;
    while (i < size - 2 && list[k * size + i] === list[at + i]) i++;
    if (i === size - 2) return true;
  }
  return false;
}
