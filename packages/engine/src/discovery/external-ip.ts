/**
 * The address the world sees us at, by vote: DHT nodes (BEP 42 `ip`), trackers (BEP 24), peers (BEP 10 `yourip`), the
 * router. What depends on it (the DHT id, BEP 40) must not follow whoever speaks last.
 *
 * Invariant: a network (/24, /64) has one vote, its latest. An address is taken on once it has at least ENOUGH weight and
 * more than half of all fresh votes of its family; it stays until another one has that, and has had ENOUGH of it for a
 * minute: one lookup among liars brings many of them at once. Limits: the latest 48 votes a family, one hour each, so that
 * a new address wins soon after it came.
 */

import { equal } from '../base/bytes.ts';
import { formatIp, isLocal, isUsablePeerAddress, parseIp } from '../base/ip.ts';
import { networkOf } from './node-id.ts';

export type VoterKind = 'dht' | 'tracker' | 'peer' | 'router';

const MAX_VOTES = 48;
const EXPIRE_MS = 3600_000;
const ENOUGH = 3;
/** How long an address must have been voted for before it replaces another. */
const SETTLE_MS = 60_000;
/** Those the user or the network chose say more than those who came by themselves. */
const WEIGHT: Readonly<Record<VoterKind, number>> = { dht: 1, peer: 1, tracker: 2, router: 2 };

export class ExternalIp {
  ip4: string | null = null;
  ip6: string | null = null;
  #ballot4: Ballot = new Ballot();
  #ballot6: Ballot = new Ballot();

  /**
   * `from` (an address) says that we are `ip` (4 or 16 bytes). Does not count: an answer of the other family, one that
   * nobody can have, and a local address unless a local voter sees it. True: `ip4` or `ip6` changed.
   */
  vote(now: number, ip: Uint8Array, from: string, kind: VoterKind): boolean {
    const voter = parseIp(from);
    const address = ip.length === 16 || ip.length === 4 ? parseIp(formatIp(ip)) : null;
    if (voter === null || address === null || voter.length !== address.length) return false;
    if (!isUsablePeerAddress(address, 1)) return false;
    // the router is always local, and so is what a second router in front of it gave it
    if (isLocal(address) && (kind === 'router' || !isLocal(voter))) return false;
    const v4 = address.length === 4;
    const ballot = v4 ? this.#ballot4 : this.#ballot6;
    const settleMs = (v4 ? this.ip4 : this.ip6) === null ? 0 : SETTLE_MS;
    if (!ballot.vote(now, address, voter, WEIGHT[kind], settleMs)) return false;
    const text = formatIp(address);
    if (text === (v4 ? this.ip4 : this.ip6)) return false;
    if (v4) this.ip4 = text;
    else this.ip6 = text;
    return true;
  }

  /** We are seen from elsewhere now. */
  forget(): void {
    this.ip4 = null;
    this.ip6 = null;
    this.#ballot4 = new Ballot();
    this.#ballot6 = new Ballot();
  }
}

interface Vote {
  readonly network: number | string;
  readonly ip: Uint8Array;
  readonly weight: number;
  readonly at: number;
  /** Since when this network says so. */
  readonly since: number;
}

class Ballot {
  /** Oldest first. */
  readonly #votes: Vote[] = [];

  /** Counts a vote. True: this address has won, ENOUGH of it for `settleMs`. */
  vote(now: number, ip: Uint8Array, voter: Uint8Array, weight: number, settleMs: number): boolean {
    const votes = this.#votes;
    const network = networkOf(voter);
    let since = now;
    const before = votes.findIndex((vote) => vote.network === network);
    if (before >= 0) {
      const [old] = votes.splice(before, 1);
      if (equal(old!.ip, ip)) since = old!.since;
    }
    while (votes.length > 0 && (votes.length >= MAX_VOTES || now - votes[0]!.at >= EXPIRE_MS)) votes.shift();
    votes.push({ network, ip, weight, at: now, since });
    let all = 0;
    let same = 0;
    let settled = 0;
    for (const vote of votes) {
      all += vote.weight;
      if (!equal(vote.ip, ip)) continue;
      same += vote.weight;
      if (now - vote.since >= settleMs) settled += vote.weight;
    }
    return settled >= ENOUGH && 2 * same > all;
  }
}
