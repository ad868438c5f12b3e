/**
 * Whether a NAT hides us from IPv4 peers outside, as far as we know: all our addresses are private, no router forwards a
 * port to us, and nobody ever came in from outside. It is a guess that costs little when it is wrong: such peers are dialed
 * by uTP first, since who is connected by uTP sees the port that our NAT gave it, which another needs to reach us (BEP 55).
 *
 * Limits: the system's interfaces are looked at once in LOOK_MS at most.
 */

import { isLocal, parseIp } from '../base/ip.ts';
import type { SessionCore } from './core.ts';

const LOOK_MS = 10_000;

export class OwnNat {
  readonly #core: SessionCore;
  #wasReached = false;
  #isPrivate = false;
  #lookAtMs = 0;

  constructor(core: SessionCore) {
    this.#core = core;
  }

  /** A connection came in. */
  cameIn(from: string): void {
    if (!isNear(from)) this.#wasReached = true;
  }

  hidesFrom(remote: string): boolean {
    const { turn, mappedPort, binding, ports } = this.#core;
    if (this.#wasReached || mappedPort !== 0 || remote.includes(':') || isNear(remote)) return false;
    if (turn.now >= this.#lookAtMs) {
      this.#lookAtMs = turn.now + LOOK_MS;
      const own = binding.addresses.includes('0.0.0.0')
        ? ports.net.interfaces().map(({ ip }) => ip)
        : binding.addresses;
      this.#isPrivate = own.every((ip) => ip.includes(':') || isNear(ip));
    }
    return this.#isPrivate;
  }
}

function isNear(ip: string): boolean {
  const bytes = parseIp(ip);
  return bytes === null || isLocal(bytes);
}
