/**
 * Owns the search for the longest datagram a path carries whole, for one uTP connection.
 *
 * A packet keeps its place in the stream for ever, so one that never gets through ends the connection; and a receiver
 * with a short buffer cuts a long datagram and acknowledges what it never had. So lengths are tried with probes that can
 * do neither harm: one byte of the stream behind a chain of padding (utp-packet.ts). Cut short its chain is broken and the
 * packet dropped; lost it is sent again as 21 bytes; and it never counts as congestion.
 *
 * The first probe has the greatest length, then the search halves what is left. Node cannot forbid fragments, so the
 * caller's `most` must not be above what the interface carries whole.
 * Limits: one probe under way; a search ends after 6 at the most and begins again every 30 minutes (libutp).
 */

/** Lengths of UDP payload worth to know: IPv6's least, tunnels, Ethernet with either IP, jumbo frames, loopback. */
const LENGTHS: readonly number[] = [1232, 1372, 1452, 1472, 2048, 4052, 8952, 16384, 32768, 49152, 65487, 65507];
/** What every path of today carries: IPv6 asks for 1,280. */
export const LEAST_DATAGRAM: number = LENGTHS[0]!;
const SEARCH_AGAIN_MS = 30 * 60_000;
/** Packets acknowledged between two probes. */
const PROBE_EVERY = 4;

export class MtuSearch {
  /** UDP payload that is known to pass. */
  datagram: number = LEAST_DATAGRAM;
  /** Sequence number of the probe under way, or -1. */
  probeSeq = -1;
  readonly #lengths: readonly number[];
  #low = 0;
  #high: number;
  #trying = -1;
  #first = true;
  #acks = 0;
  #searchAtMs = Number.POSITIVE_INFINITY;

  /** `most`: the longest datagram to try. */
  constructor(most: number) {
    const lengths = LENGTHS.filter((length) => length < most);
    if (most >= LEAST_DATAGRAM) lengths.push(most);
    else lengths[0] = most;
    this.#lengths = lengths;
    this.#high = lengths.length - 1;
    this.datagram = lengths[0]!;
  }

  /** Packets were acknowledged. */
  acknowledged(count: number): void {
    this.#acks += count;
  }

  /** Length of the probe to send now, or 0. */
  wanted(now: number): number {
    if (now >= this.#searchAtMs) {
      this.#searchAtMs = Number.POSITIVE_INFINITY;
      this.#high = this.#lengths.length - 1;
      this.#first = true;
    }
    if (this.probeSeq >= 0 || this.#low >= this.#high || this.#acks < PROBE_EVERY) return 0;
    this.#trying = this.#first ? this.#high : (this.#low + this.#high + 1) >> 1;
    return this.#lengths[this.#trying]!;
  }

  sent(seq: number): void {
    this.probeSeq = seq;
    this.#acks = 0;
  }

  passed(now: number): void {
    this.#low = this.#trying;
    this.datagram = this.#lengths[this.#low]!;
    this.#ended(now);
  }

  failed(now: number): void {
    this.#high = this.#trying - 1;
    this.#ended(now);
  }

  #ended(now: number): void {
    this.probeSeq = -1;
    this.#first = false;
    if (this.#low >= this.#high) this.#searchAtMs = now + SEARCH_AGAIN_MS;
  }
}
