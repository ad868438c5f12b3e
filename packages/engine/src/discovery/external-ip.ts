/**
 * The address the world sees us at, by vote: DHT nodes (BEP 42 `ip`), trackers (BEP 24), peers (BEP 10 `yourip`), the
 * router. What depends on it (the DHT id, BEP 40) must not follow whoever speaks last.
 *
 * Invariant: a network (/24, /64) has one vote, its latest. An address is taken on once it has at least ENOUGH weight and
 * more than half of all fresh votes of its family; it stays until another one has that. Limits: the latest 48 votes a
 * family, one hour each, so that a new address wins soon after it came.
 */

import { equal } from '../base/bytes.ts';
import { formatIp, isLocal, isUsablePeerAddress, parseIp } from '../base/ip.ts';
import { networkOf } from './node-id.ts';

export type VoterKind = 'dht' | 'tracker' | 'peer' | 'router';

const MAX_VOTES = 48;
const EXPIRE_MS = 3600_000;
const ENOUGH = 3;
/** Those the user or the network chose say more than those who came by themselves. */
const WEIGHT: Readonly<Record<VoterKind, number>> = { dht: 1, peer: 1, tracker: 2, router: 2 };

export class ExternalIp {
  ip4: string | null = null;
  ip6: string | null = null;
  readonly #ballot4: Ballot = new Ballot();
  readonly #ballot6: Ballot = new Ballot();

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
    const elected = ballot.vote(now, address, voter, WEIGHT[kind]);
    if (elected === null) return false;
    const text = formatIp(elected);
    if (text === (v4 ? this.ip4 : this.ip6)) return false;
    if (v4) this.ip4 = text;
    else this.ip6 = text;
    return true;
  }
}

interface Vote {
  readonly network: number | string;
  readonly ip: Uint8Array;
  readonly weight: number;
  readonly at: number;
}

class Ballot {
  /** Oldest first. */
  readonly #votes: Vote[] = [];

  /** Counts a vote; returns who has won by now, if anybody. */
  vote(now: number, ip: Uint8Array, voter: Uint8Array, weight: number): Uint8Array | null {
    const votes = this.#votes;
    const network = networkOf(voter);
    const before = votes.findIndex((vote) => vote.network === network);
    if (before >= 0) votes.splice(before, 1);
    while (votes.length > 0 && (votes.length >= MAX_VOTES || now - votes[0]!.at >= EXPIRE_MS)) votes.shift();
    votes.push({ network, ip, weight, at: now });
    let all = 0;
    let same = 0;
    for (const vote of votes) {
      all += vote.weight;
      if (equal(vote.ip, ip)) same += vote.weight;
    }
    // only what was just voted for can have won by it
    return same >= ENOUGH && 2 * same > all ? ip : null;
  }
}
