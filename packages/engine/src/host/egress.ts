/**
 * From which local addresses anything may leave, to whom, and what of it through a proxy: the one gate that connections,
 * datagrams, HTTP and name look-ups of the host ask. Closed for what is not named: a family without an address is not used,
 * with no address at all nothing leaves, and what is the proxy's goes through it or not at all.
 */

import type { AddressFilter } from '../base/ports.ts';
import { type ProxySettings, proxyLabel, type Traffic, type Way, wayOf } from '../base/proxy.ts';
import { fault } from './fault.ts';

/** What is thrown, and made a fault, where there is no way. */
export function noWay(ip: string): Error {
  return Object.assign(new Error(`nothing may leave for ${ip} from here`), { code: 'ENETUNREACH' });
}

/** Unspecified addresses: all of their family. */
const ANY_V4 = '0.0.0.0';
const ANY_V6 = '::';

export class Egress {
  #addresses: readonly string[] = [ANY_V4, ANY_V6];
  readonly #listeners: (() => void)[] = [];
  #filter: AddressFilter | null = null;
  #proxy: ProxySettings | null = null;

  /** Also when the list changed in place: who uses an address that went ends that. */
  set(addresses: readonly string[]): void {
    this.#addresses = addresses;
    this.#changed();
  }

  setFilter(filter: AddressFilter): void {
    this.#filter = filter;
  }

  /** Whatever goes another way than it now should is ended. */
  setProxy(proxy: ProxySettings | null): void {
    this.#proxy = proxy;
    this.#changed();
  }

  get proxy(): ProxySettings | null {
    return this.#proxy;
  }

  wayOf(traffic: Traffic): Way {
    return wayOf(traffic, this.#proxy);
  }

  /** Whether traffic that goes by `proxy` (null: directly) still may. */
  allows(traffic: Traffic, proxy: ProxySettings | null): boolean {
    return this.wayOf(traffic) === (proxy === null ? 'direct' : 'proxy') && (proxy === null || proxy === this.#proxy);
  }

  /** Whether this address is not spoken with. */
  blocks(ip: string): boolean {
    return this.#filter !== null && !this.#filter.isEmpty && this.#filter.blocks(ip);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** The local address to leave from towards this one; null: the system may choose; undefined: there is no way. */
  towards(ip: string): string | null | undefined {
    return this.blocks(ip) ? undefined : this.from(ip);
  }

  /** The same for whom the user himself named: no block list keeps us from a proxy. */
  from(ip: string): string | null | undefined {
    const v6 = ip.includes(':');
    const local = this.#addresses.find((address) => address.includes(':') === v6);
    return local === ANY_V4 || local === ANY_V6 ? null : local;
  }

  /** Whether a socket may be bound to this local address, and stay; empty: to whichever the system chose. */
  holds(local: string): boolean {
    const any = local.includes(':') ? ANY_V6 : ANY_V4;
    return this.#addresses.includes(local) || this.#addresses.includes(any);
  }

  /** The system's own resolver, which leaves by any way it likes, may not be asked. */
  get restricted(): boolean {
    return !this.#addresses.includes(ANY_V4) && !this.#addresses.includes(ANY_V6);
  }

  /** Why traffic that is off does not leave. */
  closedBy(what: string): Error {
    const by = this.#proxy === null ? 'this session' : proxyLabel(this.#proxy);
    return Object.assign(new Error(`${by} carries no ${what}`), fault('EPROXYDENIED', `${by} carries no ${what}`));
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
