/**
 * The proxy itself as the host reaches it: its address, looked up here once and kept while it works, and the names that
 * only it looks up, each of which has an address of ours to go by (base/name-address.ts).
 *
 * Limits: NAME_ADDRESS_COUNT names, then no more. A proxy that could not be reached is looked up again, at most every
 * 10 s.
 */

import net from 'node:net';
import type { IoFault } from '../base/errors.ts';
import { NAME_ADDRESS_COUNT, nameAddress } from '../base/name-address.ts';
import { type ProxySettings, proxyLabel } from '../base/proxy.ts';
import { fault } from './fault.ts';

const AGAIN_MS = 10_000;

type Resolve = (host: string, done: (fault: IoFault | null, ips: readonly string[]) => void) => void;

/** Where there are no name servers. */
export const nobodyKnows: Resolve = (_host, done) => setImmediate(() => done(null, []));

export class ProxyServer {
  readonly names: ProxyNames = new ProxyNames();
  readonly #resolve: Resolve;
  /** Of which proxy the rest is. */
  #host = '';
  #ips: readonly string[] = [];
  #failedMs = Number.NEGATIVE_INFINITY;
  #waiting: ((fault: IoFault | null, ip: string) => void)[] | null = null;

  /** `resolve`: asks this machine's name servers. */
  constructor(resolve: Resolve) {
    this.#resolve = resolve;
  }

  /** Its address; answers later. */
  find(proxy: ProxySettings, done: (fault: IoFault | null, ip: string) => void): void {
    if (net.isIP(proxy.host) !== 0) {
      setImmediate(() => done(null, proxy.host));
      return;
    }
    if (this.#host !== proxy.host) {
      this.#host = proxy.host;
      this.#ips = [];
      this.#waiting = null;
    }
    if (this.#ips.length > 0) {
      const ip = this.#ips[0]!;
      setImmediate(() => done(null, ip));
    } else if (this.#waiting !== null) this.#waiting.push(done);
    else this.#look(proxy, done);
  }

  /** It did not answer at this address. */
  failed(ip: string): void {
    if (this.#ips[0] !== ip || performance.now() - this.#failedMs < AGAIN_MS) return;
    this.#failedMs = performance.now();
    this.#ips = this.#ips.slice(1);
  }

  #look(proxy: ProxySettings, done: (fault: IoFault | null, ip: string) => void): void {
    const waiting = [done];
    this.#waiting = waiting;
    this.#resolve(proxy.host, (why, ips) => {
      if (this.#waiting === waiting) {
        this.#waiting = null;
        this.#ips = ips;
      }
      const ip = ips[0] ?? '';
      const unknown = why === null && ip !== '' ? null : fault('EPROXYDOWN', `${proxyLabel(proxy)} has no address`);
      for (const one of waiting) one(unknown, ip);
    });
  }
}

/** Names and the addresses that stand for them. */
export class ProxyNames {
  readonly #byName = new Map<string, string>();
  readonly #byAddress = new Map<string, string>();

  /** Null: there are too many. */
  addressOf(name: string): string | null {
    const wanted = name.toLowerCase().replace(/\.$/, '');
    const known = this.#byName.get(wanted);
    if (known !== undefined) return known;
    if (this.#byName.size >= NAME_ADDRESS_COUNT) return null;
    const ip = nameAddress(this.#byName.size);
    this.#byName.set(wanted, ip);
    this.#byAddress.set(ip, wanted);
    return ip;
  }

  /** Null: it stands for itself. */
  nameOf(ip: string): string | null {
    return this.#byAddress.get(ip) ?? null;
  }
}
