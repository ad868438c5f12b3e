/**
 * From which local addresses anything may leave, and to whom: the one gate that connections, datagrams, HTTP and name
 * look-ups of the host ask. Closed for what is not named: a family without an address is not used, and with no address at
 * all nothing leaves.
 */

import type { AddressFilter } from '../base/ports.ts';

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

  /** Also when the list changed in place: who uses an address that went ends that. */
  set(addresses: readonly string[]): void {
    this.#addresses = addresses;
    for (const listener of this.#listeners) listener();
  }

  setFilter(filter: AddressFilter): void {
    this.#filter = filter;
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
    if (this.blocks(ip)) return undefined;
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
}
