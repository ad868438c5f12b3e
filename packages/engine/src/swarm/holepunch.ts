/**
 * Holepunching of one swarm (BEP 55): two peers that cannot reach each other are brought together by a third one that
 * both are connected to. Here all three parts are played:
 *
 *     X does not answer       -> rendezvous(X) to who told us of it, or to others who may be connected to it
 *     a peer asks for X       -> connect(peer) to X, connect(X) to the peer, or an error
 *     a peer says connect(X)  -> dial X by uTP, at once; X does the same, and the holes meet
 *
 * Limits: RELAYS are asked for one address; of each peer PER_MINUTE rendezvous are carried and as many connects obeyed, so
 * that nobody makes us knock at strangers' doors in numbers, and no peer is asked for more.
 */

import { formatIp, parseIp } from '../base/ip.ts';
import { isNameAddress } from '../base/name-address.ts';
import { buildHolepunch, HolepunchError, HolepunchKind, type HolepunchMessage } from '../wire/holepunch.ts';
import type { Peer } from './peer.ts';

export interface HolepunchSink {
  /** Dial this by uTP, now. */
  onHolepunch(ip: string, port: number): void;
}

const RELAYS = 3;
const PER_MINUTE = 20;
const MINUTE_MS = 60_000;

export class Holepunch {
  /** The torrent is private: nobody is brought together with anybody. */
  isOff = false;
  readonly #sink: HolepunchSink;
  readonly #peers: readonly Peer[];
  /** What each peer had of us since `#countedMs`. */
  readonly #counts = new Map<number, number>();
  /** What each was asked since then. */
  readonly #asked = new Map<number, number>();
  #countedMs = 0;

  constructor(peers: readonly Peer[], sink: HolepunchSink) {
    this.#peers = peers;
    this.#sink = sink;
  }

  /** An address does not answer: asks others to help, `teller` (peer exchange told us by it; 0: nobody did) before all. */
  seek(ip: string, port: number, teller: number, now: number): void {
    const bytes = parseIp(ip);
    if (this.isOff || bytes === null || isNameAddress(bytes)) return;
    this.#countAnew(now);
    const able = this.#peers.filter((peer) => peer.conversation.supports.holepunch);
    const tellers = able.filter(({ pex }) => teller !== 0 && pex?.teller === teller);
    let left = RELAYS;
    for (const peer of tellers.length > 0 ? tellers : able) {
      if (left === 0) return;
      if (!counts(this.#asked, peer)) continue;
      this.#say(peer, HolepunchKind.Rendezvous, bytes, port, HolepunchError.None);
      left--;
    }
  }

  received(peer: Peer, message: HolepunchMessage, now: number): void {
    if (this.isOff || message.kind === HolepunchKind.Error || !this.#admits(peer, now)) return;
    const ip = formatIp(message.ip);
    if (message.kind === HolepunchKind.Connect) this.#sink.onHolepunch(ip, message.port);
    else this.#bringTogether(peer, message, ip);
  }

  #bringTogether(asking: Peer, { ip: bytes, port }: HolepunchMessage, ip: string): void {
    const target = this.#peers.find((peer) => isAt(peer, ip, port));
    const from = placeOf(asking);
    let error: number = HolepunchError.None;
    if (target === undefined) error = HolepunchError.NotConnected;
    else if (target === asking) error = HolepunchError.NoSelf;
    else if (!target.conversation.supports.holepunch || from === null) error = HolepunchError.NoSupport;
    if (error !== HolepunchError.None) return this.#say(asking, HolepunchKind.Error, bytes, port, error);
    const to = placeOf(target!) ?? { ip, port };
    this.#say(target!, HolepunchKind.Connect, parseIp(from!.ip)!, from!.port, HolepunchError.None);
    this.#say(asking, HolepunchKind.Connect, parseIp(to.ip)!, to.port, HolepunchError.None);
  }

  #say(peer: Peer, kind: number, ip: Uint8Array, port: number, error: number): void {
    peer.conversation.holepunch(buildHolepunch({ kind, ip, port, error }));
    peer.link.touch();
  }

  #admits(peer: Peer, now: number): boolean {
    this.#countAnew(now);
    return counts(this.#counts, peer);
  }

  #countAnew(now: number): void {
    if (now - this.#countedMs < MINUTE_MS) return;
    this.#counts.clear();
    this.#asked.clear();
    this.#countedMs = now;
  }
}

/** Counts one more of a peer. False: it has had its share of this minute. */
function counts(of: Map<number, number>, peer: Peer): boolean {
  const count = (of.get(peer.number) ?? 0) + 1;
  if (count > PER_MINUTE) return false;
  of.set(peer.number, count);
  return true;
}

/** Where a uTP packet reaches a peer; null: not known, or by a name that says nothing to others. */
function placeOf({ link, conversation }: Peer): { readonly ip: string; readonly port: number } | null {
  if (isNameAddress(link.remote.ip)) return null;
  if (!link.incoming || link.utp === true) return link.remote;
  const { listenPort } = conversation.remote;
  return listenPort > 0 ? { ip: link.remote.ip, port: listenPort } : null;
}

function isAt(peer: Peer, ip: string, port: number): boolean {
  const { link, conversation } = peer;
  return link.remote.ip === ip && (link.remote.port === port || conversation.remote.listenPort === port);
}
