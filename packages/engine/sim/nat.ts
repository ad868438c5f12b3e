/**
 * A box that translates the UDP ports of one machine (RFC 3489's names, RFC 4787's rules). A port outside is never the
 * port inside, so that whoever confuses them is found out. What comes in keeps no mapping alive; what goes out does.
 */

/**
 * cone: one outer port for an inner one, open to all. restricted: the same, but open only to addresses and ports that
 * were sent to. symmetric: an outer port for each destination, open to that one.
 */
export type NatKind = 'none' | 'cone' | 'restricted' | 'symmetric';

interface Mapping {
  readonly key: string;
  readonly inner: number;
  readonly outer: number;
  usedMs: number;
  /** When each destination was last sent to. */
  readonly sentTo: Map<string, number>;
}

const FIRST_PORT = 20_000;
const PORT_COUNT = 20_000;
/** Destinations remembered for a port; past that the oldest are forgotten. */
const MAX_DESTINATIONS = 4096;

export class Nat {
  kind: NatKind;
  timeoutMs: number;
  readonly #byKey: Map<string, Mapping> = new Map();
  readonly #byOuter: Map<number, Mapping> = new Map();
  #next = 0;

  constructor(kind: NatKind, timeoutMs: number) {
    this.kind = kind;
    this.timeoutMs = timeoutMs;
  }

  /** A datagram leaves: the port it has outside. */
  out(now: number, inner: number, ip: string, port: number): number {
    const to = `${ip} ${port}`;
    const key = this.kind === 'symmetric' ? `${inner} ${to}` : `${inner}`;
    let mapping = this.#byKey.get(key);
    if (mapping === undefined || now - mapping.usedMs >= this.timeoutMs) {
      if (mapping !== undefined) this.#byOuter.delete(mapping.outer);
      mapping = { key, inner, outer: this.#takePort(), usedMs: now, sentTo: new Map() };
      this.#byKey.set(key, mapping);
      this.#byOuter.set(mapping.outer, mapping);
    }
    mapping.usedMs = now;
    mapping.sentTo.delete(to);
    mapping.sentTo.set(to, now);
    if (mapping.sentTo.size > MAX_DESTINATIONS) mapping.sentTo.delete(mapping.sentTo.keys().next().value!);
    return mapping.outer;
  }

  /** A datagram from `ip`:`port` is at the outer port: the inner one it is for, -1: it is dropped. */
  in(now: number, outer: number, ip: string, port: number): number {
    const mapping = this.#byOuter.get(outer);
    if (mapping === undefined || now - mapping.usedMs >= this.timeoutMs) return -1;
    if (this.kind === 'cone') return mapping.inner;
    const sentMs = mapping.sentTo.get(`${ip} ${port}`);
    return sentMs !== undefined && now - sentMs < this.timeoutMs ? mapping.inner : -1;
  }

  /** The outer port that `inner` has now towards everybody; 0: none, or one for each destination. */
  outerOf(inner: number): number {
    return this.#byKey.get(`${inner}`)?.outer ?? 0;
  }

  #takePort(): number {
    for (let tries = 0; tries < PORT_COUNT; tries++) {
      const port = FIRST_PORT + (this.#next++ % PORT_COUNT);
      const old = this.#byOuter.get(port);
      if (old === undefined) return port;
      // the longest unused: ports are given out in turn
      if (tries === PORT_COUNT - 1 || this.#next > PORT_COUNT) {
        this.#byOuter.delete(port);
        this.#byKey.delete(old.key);
        return port;
      }
    }
    return FIRST_PORT;
  }
}
