/**
 * Owns how much one uTP connection may have under way: the congestion window, kept such that what it adds to the delay of
 * its path stays below 100 ms (LEDBAT: RFC 6817, BEP 29), with the parts real implementations have (libutp): delay as the
 * least of the last three samples, base delay over 13 minutes, the other side's history against drifting clocks, a penalty
 * for clocks that run slow on purpose, slow start, at most one cut per round trip.
 *
 * Per round trip, with delay d, target T and S = 0.4 T:
 *
 *     d < T        window += 3000 bytes x (1 - d/T), and at first, while d is small, a sixteenth
 *     d > S        window -= window x (d/S - 1) x 2.5 %
 *     d > T        window -= window x (d/T - 1) x 25 %, at most half
 *     loss         window halves;  timeout: two packets
 *
 * The second line is what makes two flows equal: both grow by the same amount and shrink in proportion, so they settle at
 * the one window where that balances, between S and T. libutp's plain rule has its balance wherever the flows happen to
 * be.
 *
 * A flow that came while another filled the queue takes the full queue for the empty path. So each flow sends next to
 * nothing for three round trips now and then (the slowdown of LEDBAT++), at a cost of at most 3 %. One alone would not
 * empty a queue that holds others' packets: who sees the delay fall by a quarter without a reason of its own slows down
 * with it, and all learn the same base from one lone full packet each. Where the balance is, a millisecond of difference
 * between two bases makes 7 % between two windows: so two packets in a row, or the handshake's short ones, will not do.
 *
 * T is 100 ms, unless packets are lost at less: then the queue of the path is shorter, and T goes to half of the
 * delay there was, for else the flow would take its share by losses like TCP. It comes back by a hundredth a second.
 */

export const TARGET_MICROS = 100_000;
/** Below this the delay is no more than noise. */
const LEAST_TARGET_MICROS = 25_000;
const LOSS_TARGET_SHARE = 0.5;
const TARGET_REGAIN_PER_MS = 1e-5;
const SET_POINT = 0.4;
/** Bytes of growth per round trip (libutp MAX_CWND_INCREASE, libtorrent gain_factor). */
const GAIN_BYTES = 3000;
const BOOST_SHARE = 1 / 16;
const BOOST_DELAY = 0.25;
/** Round trips in which a delay that slow start made by its bursts is not yet taken for a queue. */
const BOOST_GRACE = 3;
const EVEN_SHARE = 0.025;
const CUT_SHARE = 0.25;
/** Slow start ends at this part of T: what is under way by then adds as much again and more. */
const SLOW_START_DELAY = 0.3;
/** The same on the way back from a slowdown, to the window that was right before: others may have taken the room. */
const RETURN_DELAY = 1.5;
const INITIAL_PACKETS = 4;
/** What the largest window of a real receiver, and 1,024 packets, amount to. */
export const MAX_WINDOW_BYTES: number = 4 << 20;
/** A flow that did not reach its window for so long is limited by something else and does not grow (libutp). */
const SATURATED_MS = 1000;
const SLOWDOWN_LEAST_MS = 30_000;
/** The first comes sooner: a newcomer knows least. */
const SLOWDOWN_FIRST_MS = 3000;
/** Time between two slowdowns, in times of what the last one took. */
const SLOWDOWN_SHARE = 30;
/** A queue below this part of T is not worth a slowdown. */
const SLOWDOWN_DELAY = 0.25;
/** Round trips of a slowdown; the first of them empties the queue. Who joins sees it after one and a half. */
const SLOWDOWN_TRIPS = 3;
const JOINED_TRIPS = 2;
/** Another has slowed down when the most delay in half a round trip is below this part of the least three halves ago. */
const JOIN_SHARE = 0.75;
const HALVES = 3;
/** Who joined or slowed down joins again after this part of the time to the next slowdown: not all that falls is one. */
const JOIN_REST = 0.5;
/** microseconds per 5 s of drift beyond which a clock is taken to cheat (libutp). */
const DRIFT_LIMIT = -200_000;

export class Ledbat {
  /** Bytes that may be under way. */
  window: number;
  slowStart = true;
  /** Delay the path adds above its base, latest estimate. */
  delayMicros = 0;
  readonly ours: DelayHistory = new DelayHistory();
  readonly theirs: DelayHistory = new DelayHistory();
  readonly drift: ClockDrift = new ClockDrift();
  #target = TARGET_MICROS;
  /** The most delay of about the last round trip. */
  #peakMicros = 0;
  #boostEndMs = Number.POSITIVE_INFINITY;
  #lastMs = 0;
  #threshold = MAX_WINDOW_BYTES;
  #slowdownAtMs = Number.POSITIVE_INFINITY;
  #slowdownMs = Number.NEGATIVE_INFINITY;
  #slowdownEndMs = 0;
  #returning = false;
  #joinAtMs = 0;
  /** Delays of the half round trip under way, and the least of those before it, oldest first; 0: not known. */
  #halfAtMs = 0;
  #halfMost = 0;
  #halfLeast = Number.POSITIVE_INFINITY;
  readonly #before: Float64Array = new Float64Array(HALVES);

  constructor(packetBytes: number) {
    this.window = INITIAL_PACKETS * packetBytes;
  }

  /** How long a packet took to us, by both clocks. */
  sampleTheirs(now: number, micros: number): void {
    const { theirs, ours } = this;
    const known = theirs.known;
    const before = theirs.base;
    theirs.add(now, micros);
    if (!known || !ours.known) return;
    // his base went down: the clocks drift apart, and ours goes up by as much; large steps are no drift
    const down = (before - theirs.base) | 0;
    if (down > 0 && down <= 10_000) ours.shift(down);
  }

  /** How long our packet took to him, as he reports; `minRttMicros` of what this packet acknowledges, or Infinity. */
  sampleOurs(now: number, micros: number, minRttMicros: number): void {
    this.ours.add(now, micros);
    this.drift.add(now, micros);
    const delay = this.ours.delay();
    // no way is longer than the round trip: then the base is at fault
    if (delay > minRttMicros) this.ours.shift(delay - minRttMicros);
    this.delayMicros = Math.min(delay, minRttMicros);
    if (this.drift.rate < DRIFT_LIMIT) this.delayMicros += (DRIFT_LIMIT - this.drift.rate) / 7;
  }

  /**
   * `bytes` were acknowledged by a packet that brought a sample. `fullAtMs`: when the window last kept a packet from
   * leaving. `packetBytes`: payload of a full packet, the least the window may be.
   */
  acknowledged(now: number, bytes: number, rttMs: number, fullAtMs: number, packetBytes: number): void {
    if (now < this.#slowdownEndMs) return;
    const delay = this.delayMicros;
    const part = Math.min(bytes, this.window) / this.window;
    this.#peakMicros = Math.max(delay, this.#peakMicros * (1 - 0.5 * part));
    const regained = 1 + (now - this.#lastMs) * TARGET_REGAIN_PER_MS;
    this.#lastMs = now;
    this.#target = Math.min(TARGET_MICROS, this.#target * regained);
    const saturated = now - fullAtMs <= SATURATED_MS;
    if (this.slowStart) {
      const most = this.#returning ? RETURN_DELAY : SLOW_START_DELAY;
      if (delay > most * this.#target || this.window >= this.#threshold) this.#endSlowStart(now);
      else if (saturated) this.window += Math.min(bytes, this.window);
    } else {
      this.window += this.#change(now, rttMs, saturated) * part;
      const joins = this.#otherSlowsDown(now, rttMs) && now >= this.#joinAtMs;
      if (joins) this.#slowDown(now, JOINED_TRIPS * rttMs, packetBytes);
      else if (now >= this.#slowdownAtMs) this.#beginSlowdown(now, rttMs, packetBytes);
    }
    this.#clamp(packetBytes);
  }

  /** Bytes per round trip. */
  #change(now: number, rttMs: number, saturated: boolean): number {
    const delay = this.delayMicros;
    const target = this.#target;
    const setPoint = SET_POINT * target;
    let change = 0;
    if (delay > BOOST_DELAY * target) this.#boostEndMs = Math.min(this.#boostEndMs, now + BOOST_GRACE * rttMs);
    if (delay < target && saturated) {
      change = GAIN_BYTES * (1 - delay / target);
      if (now < this.#boostEndMs && delay < BOOST_DELAY * target) change = Math.max(change, BOOST_SHARE * this.window);
    }
    if (delay > setPoint) change -= EVEN_SHARE * (delay / setPoint - 1) * this.window;
    if (delay > target) change -= Math.min(CUT_SHARE * (delay / target - 1), 0.5) * this.window;
    return change;
  }

  /** A packet was lost. The caller sees to it that this is told once per round trip. */
  lost(now: number, packetBytes: number): void {
    const short = LOSS_TARGET_SHARE * this.#peakMicros;
    if (short < this.#target) this.#target = Math.max(LEAST_TARGET_MICROS, short);
    this.#boostEndMs = now;
    // what falls now is our own
    this.#before.fill(0);
    this.window /= 2;
    this.#threshold = this.window;
    if (this.slowStart) this.#endSlowStart(now);
    this.#clamp(packetBytes);
  }

  /** Nothing came back in time; everything under way is taken for lost. */
  timedOut(packetBytes: number): void {
    this.#threshold = Math.max(this.window / 2, 4 * packetBytes);
    // two, so that one loss more does not cost another time-out, longer than the last
    this.window = 2 * packetBytes;
    this.slowStart = true;
    this.#returning = false;
  }

  #endSlowStart(now: number): void {
    this.slowStart = false;
    this.#returning = false;
    this.#threshold = this.window;
    const took = now - this.#slowdownMs;
    if (this.#slowdownAtMs === Number.POSITIVE_INFINITY) {
      const first = this.#slowdownMs === Number.NEGATIVE_INFINITY;
      const rest = first ? SLOWDOWN_FIRST_MS : Math.max(SLOWDOWN_LEAST_MS, SLOWDOWN_SHARE * took);
      this.#slowdownAtMs = now + rest;
      this.#joinAtMs = first ? now : now + JOIN_REST * rest;
    }
  }

  /** The queue drains by more than one flow's steps make it: told once, half a round trip after it is seen. */
  #otherSlowsDown(now: number, rttMs: number): boolean {
    const delay = this.delayMicros;
    if (delay > this.#halfMost) this.#halfMost = delay;
    if (delay < this.#halfLeast) this.#halfLeast = delay;
    if (now - this.#halfAtMs < rttMs / 2) return false;
    const before = this.#before;
    const stood = before[0]!;
    const fell = stood > SLOWDOWN_DELAY * this.#target && this.#halfMost < JOIN_SHARE * stood;
    before.copyWithin(0, 1);
    before[HALVES - 1] = this.#halfLeast;
    this.#beginHalf(now);
    return fell;
  }

  #beginHalf(now: number): void {
    this.#halfAtMs = now;
    this.#halfMost = 0;
    this.#halfLeast = Number.POSITIVE_INFINITY;
  }

  #beginSlowdown(now: number, rttMs: number, packetBytes: number): void {
    if (this.delayMicros < SLOWDOWN_DELAY * this.#target || this.window < 8 * packetBytes) {
      this.#slowdownAtMs = now + SLOWDOWN_LEAST_MS;
      return;
    }
    this.#slowDown(now, SLOWDOWN_TRIPS * rttMs, packetBytes);
  }

  #slowDown(now: number, ms: number, packetBytes: number): void {
    this.#slowdownAtMs = Number.POSITIVE_INFINITY;
    this.#slowdownMs = now;
    this.#slowdownEndMs = now + ms;
    this.#returning = true;
    this.#threshold = this.window;
    this.window = packetBytes;
    this.slowStart = true;
    this.#before.fill(0);
    this.#beginHalf(this.#slowdownEndMs);
  }

  #clamp(packetBytes: number): void {
    this.window = Math.min(Math.max(this.window, packetBytes), MAX_WINDOW_BYTES);
  }
}

const BASE_SLOTS = 13;
const SLOT_MS = 60_000;
const RECENT = 3;

/** Delays by two clocks that agree on nothing but their speed: microseconds that wrap at 2^32, and their least value. */
export class DelayHistory {
  known = false;
  /** The least of the last 13 minutes. */
  base = 0;
  readonly #slots: Uint32Array = new Uint32Array(BASE_SLOTS);
  #slot = 0;
  #slotEndMs = 0;
  readonly #recent: Uint32Array = new Uint32Array(RECENT);
  #at = 0;

  add(now: number, sample: number): void {
    const slots = this.#slots;
    if (!this.known) {
      this.known = true;
      slots.fill(sample);
      this.#recent.fill(sample);
      this.base = sample;
      this.#slotEndMs = now + SLOT_MS;
    }
    this.#recent[this.#at] = sample;
    this.#at = (this.#at + 1) % RECENT;
    if (below(sample, slots[this.#slot]!)) slots[this.#slot] = sample;
    if (below(sample, this.base)) this.base = sample;
    if (now < this.#slotEndMs) return;
    this.#slotEndMs = now + SLOT_MS;
    this.#slot = (this.#slot + 1) % BASE_SLOTS;
    slots[this.#slot] = sample;
    this.base = slots[0]!;
    for (let i = 1; i < BASE_SLOTS; i++) if (below(slots[i]!, this.base)) this.base = slots[i]!;
  }

  /** The least of the last three samples above the base, microseconds. */
  delay(): number {
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < RECENT; i++) {
      const delay = (this.#recent[i]! - this.base) | 0;
      if (delay < least) least = delay;
    }
    return Math.max(0, least);
  }

  /** Moves the base up. */
  shift(micros: number): void {
    for (let i = 0; i < BASE_SLOTS; i++) this.#slots[i]! += micros;
    this.base = (this.base + micros) >>> 0;
  }
}

const DRIFT_SLOT_MS = 5000;

/** How fast the averages of delay samples move: the drift of the clocks, in microseconds per 5 s. */
export class ClockDrift {
  rate = 0;
  #origin = 0;
  #sum = 0;
  #count = 0;
  #endMs = -1;
  #average = 0;
  #slots = 0;

  add(now: number, sample: number): void {
    if (this.#endMs < 0) {
      this.#origin = sample;
      this.#endMs = now + DRIFT_SLOT_MS;
    }
    this.#sum += (sample - this.#origin) | 0;
    this.#count++;
    if (now < this.#endMs) return;
    const average = this.#sum / this.#count;
    // the first average has nothing before it
    if (this.#slots++ > 0) this.rate = (this.rate * 7 + average - this.#average) / 8;
    // the next samples are counted from here, so that no distance grows towards the wrap
    this.#origin = (this.#origin + Math.trunc(average)) >>> 0;
    this.#average = average - Math.trunc(average);
    this.#sum = 0;
    this.#count = 0;
    this.#endMs = now + DRIFT_SLOT_MS;
  }
}

/** a earlier than b on a circle of 2^32. */
function below(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}
