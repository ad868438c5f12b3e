/**
 * Which local addresses the session uses: those it was given, or those that a network interface has at the moment, looked
 * at again and again. Fail closed: while the interface is away there is no address, and nothing leaves.
 *
 * Limits: a look every LOOK_MS; system calls that tell of changes are not to be had from Node.
 */

import type { NetInterface } from '../base/ports.ts';
import type { SessionCore } from './core.ts';

/** Well below the time after which a system sends again what was not acknowledged (200 ms). */
const LOOK_MS = 100;

export class Binding {
  /** In order of preference, one list for the life of the session. */
  readonly addresses: string[];
  /** Name of the interface, or null for fixed addresses. */
  readonly interfaceName: string | null;
  readonly #core: SessionCore;
  #lookAtMs: number;
  /** Those there were last. */
  #last: readonly string[];

  constructor(core: SessionCore, addresses: readonly string[], interfaceName: string | null) {
    this.#core = core;
    this.interfaceName = interfaceName;
    this.addresses = interfaceName === null ? [...addresses] : addressesOf(core.ports.net.interfaces(), interfaceName);
    this.#last = [...this.addresses];
    this.#lookAtMs = interfaceName === null ? Infinity : 0;
    core.ports.net.setEgress(this.addresses);
  }

  has(family: 4 | 6): boolean {
    return this.addresses.some((ip) => ip.includes(':') === (family === 6));
  }

  run(now: number): void {
    if (now < this.#lookAtMs) return;
    this.#lookAtMs = now + LOOK_MS;
    const found = addressesOf(this.#core.ports.net.interfaces(), this.interfaceName!);
    if (found.length === this.addresses.length && found.every((ip, i) => ip === this.addresses[i])) return;
    this.addresses.splice(0, this.addresses.length, ...found);
    this.#core.ports.net.setEgress(this.addresses);
    this.#core.options.log?.(`${this.interfaceName}: ${found.length === 0 ? 'is away' : found.join(', ')}`, null);
    if (found.length > 0) {
      if (!found.some((ip) => this.#last.includes(ip))) this.#core.renewPeerIds();
      this.#last = found;
    }
    this.#core.rebind();
  }

  nextAt(): number {
    return this.#lookAtMs;
  }
}

/** IPv4 first; link-local IPv6 reaches nobody of interest. */
function addressesOf(interfaces: readonly NetInterface[], name: string): string[] {
  const ips = interfaces.filter((one) => one.name === name).map(({ ip }) => ip);
  const v6 = ips.filter((ip) => ip.includes(':') && !/^fe[89ab]/.test(ip));
  return [...ips.filter((ip) => !ip.includes(':')), ...v6];
}
