/**
 * Who of the known addresses is dialed first and kept longest: by who gave them, how often they failed, what their source
 * is worth, and last by priority (BEP 40).
 */

/** Where an address came from; flags. */
export const CandidateSource = {
  Tracker: 1,
  Magnet: 2,
  Manual: 4,
  Incoming: 8,
  Pex: 16,
  Dht: 32,
  Lsd: 64,
  Resume: 128,
} as const;
export type CandidateSource = (typeof CandidateSource)[keyof typeof CandidateSource];

/** Kinds of sources, see `sourceRank`; the last: known only by what peers tell. */
export const RANKS: number = 5;
const HEARSAY: number = RANKS - 1;
/** The share of the book that the candidates of each may have. */
export const SHARES: readonly number[] = [1, 1, 1 / 4, 1 / 2, 1 / 2];

/** Given by a person: tried again within seconds, and never given up. */
export const BY_PERSON: number = CandidateSource.Manual | CandidateSource.Magnet;

/**
 * Of a candidate; lower is dialed sooner and kept longer. Candidates whose rank is `turn` count as the best source's.
 * `lead`: by how much their teller is ahead of others, for those known by hearsay alone; 255 at most counts.
 */
export function scoreOf(sources: number, failures: number, priority: number, turn: number, lead: number): number {
  const failed = (sources & BY_PERSON) !== 0 ? 0 : Math.min(failures, 14) + 1;
  const rank = sourceRank(sources);
  const order = turn === 0 ? rank : rank === turn ? 0 : rank + 1;
  let within = 0xffffffff - priority;
  if (rank === HEARSAY) within = Math.min(lead, 255) * 0x1000000 + (within >>> 8);
  return (failed * 8 + order) * 0x100000000 + within;
}

/** Lower is better: a source that cannot be filled by strangers, then one that names live peers. */
export function sourceRank(sources: number): number {
  if ((sources & (CandidateSource.Tracker | BY_PERSON)) !== 0) return 0;
  if ((sources & (CandidateSource.Resume | CandidateSource.Lsd)) !== 0) return 1;
  if ((sources & CandidateSource.Incoming) !== 0) return 2;
  return (sources & CandidateSource.Dht) !== 0 ? 3 : HEARSAY;
}
