/**
 * Host names to addresses by c-ares, which needs no thread, so that slow name servers never hold up the disk.
 * /etc/hosts comes first, as in the system. The system's own resolver is asked only for what c-ares cannot know:
 * single-label and .local names, and everything when no name server answers.
 *
 * Limits: 15 s a name, 32 addresses, the hosts file is read again after 30 s and cut at 1 MiB.
 */

import dns from 'node:dns';
import { readFile } from 'node:fs';
import net from 'node:net';
import type { IoFault } from '../base/errors.ts';
import type { Egress } from './egress.ts';
import { errorCode, fault, faultOf } from './fault.ts';

const TIMEOUT_MS = 15_000;
const MAX_ADDRESSES = 32;
const KEEP_MS = 30_000;
const MAX_HOSTS_BYTES = 1 << 20;

/** Addresses that no machine has (TEST-NET-1, documentation prefix). */
const NOWHERE_V4 = '192.0.2.1';
const NOWHERE_V6 = '2001:db8::1';

type Done = (fault: IoFault | null, ips: readonly string[]) => void;

export class NameResolver {
  #resolver: dns.Resolver | null = null;
  #resolverMs = 0;
  #hosts: Map<string, string[]> | null = null;
  #hostsMs = 0;
  #closed = false;
  /** Counts the changes of ways and addresses: who began before one asks nobody after it. */
  #round = 0;
  readonly #egress: Egress;

  constructor(egress: Egress) {
    this.#egress = egress;
    egress.onChange(() => {
      this.#round += 1;
      this.#resolver?.cancel();
      this.#resolver = null;
    });
  }

  resolve(host: string, done: Done): void {
    const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
    if (net.isIP(bare) !== 0) {
      setImmediate(() => done(null, [bare]));
      return;
    }
    const wanted = bare.toLowerCase().replace(/\.$/, '');
    if (wanted === '' || wanted.length > 253 || /[^\x21-\x7e]/.test(wanted)) {
      setImmediate(() => done(fault('ENOTFOUND', `could not resolve the name "${host.slice(0, 100)}"`), []));
      return;
    }
    let over = false;
    const finish: Done = (why, ips) => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      done(why, ips.slice(0, MAX_ADDRESSES));
    };
    const timer = setTimeout(() => {
      finish(fault('ETIMEOUT', `could not resolve ${wanted}: no answer for 15 s`), []);
    }, TIMEOUT_MS);
    const round = this.#round;
    this.#fromHosts(wanted, (ips) => {
      if (over || this.#closed) return;
      if (ips.length > 0) finish(null, ips);
      else if (round !== this.#round) finish(fault('ECANCELED', `gave up resolving ${wanted}`), []);
      else this.#ask(wanted, finish);
    });
  }

  close(): void {
    this.#closed = true;
    this.#resolver?.cancel();
    this.#resolver = null;
  }

  #fromHosts(name: string, done: (ips: readonly string[]) => void): void {
    const find = (): void => {
      const found = this.#hosts?.get(name) ?? [];
      const isLocalhost = name === 'localhost' || name.endsWith('.localhost');
      done(found.length === 0 && isLocalhost ? ['127.0.0.1', '::1'] : found);
    };
    if (this.#hosts !== null && performance.now() - this.#hostsMs < KEEP_MS) {
      setImmediate(find);
      return;
    }
    const path = process.platform === 'win32' ? 'C:\\Windows\\System32\\drivers\\etc\\hosts' : '/etc/hosts';
    readFile(path, 'latin1', (_error, text) => {
      this.#hosts = parseHosts((text ?? '').slice(0, MAX_HOSTS_BYTES));
      this.#hostsMs = performance.now();
      find();
    });
  }

  #ask(name: string, done: Done): void {
    if (this.#egress.towards('0.0.0.0') === undefined && this.#egress.towards('::') === undefined) {
      return done(fault('ENETUNREACH', `could not resolve ${name}: there is no address to ask from`), []);
    }
    const resolver = this.#current();
    let waiting = 2;
    let failure: unknown = null;
    const all: string[] = [];
    const one = (error: Error | null, ips: readonly string[] | undefined): void => {
      if (error) failure ??= error;
      // v4 first: it is what most peers and trackers listen on
      if (ips?.[0]?.includes(':')) all.push(...ips);
      else if (ips) all.unshift(...ips);
      waiting -= 1;
      if (waiting > 0) return;
      if (all.length > 0) done(null, all);
      else if (this.#closed) done(fault('ECANCELED', `gave up resolving ${name}`), []);
      else if (!this.#egress.restricted && systemMayKnow(name, errorCode(failure))) askSystem(name, done);
      else done(faultOf(failure, `resolve ${name}`), []);
    };
    try {
      resolver.resolve4(name, one);
      resolver.resolve6(name, one);
    } catch (error) {
      done(faultOf(error, `resolve ${name}`), []);
    }
  }

  #current(): dns.Resolver {
    // a new one now and then, so that a changed resolv.conf is seen
    if (this.#resolver === null || performance.now() - this.#resolverMs > KEEP_MS) {
      this.#resolver = new dns.Resolver({ timeout: 3000, tries: 3 });
      const v4 = this.#egress.towards('0.0.0.0');
      const v6 = this.#egress.towards('::');
      // where a family has no address, an impossible one keeps it from being used
      if (v4 !== null || v6 !== null)
        this.#resolver.setLocalAddress(
          v4 ?? (v4 === null ? '0.0.0.0' : NOWHERE_V4),
          v6 ?? (v6 === null ? '::' : NOWHERE_V6),
        );
      this.#resolverMs = performance.now();
    }
    return this.#resolver;
  }
}

function systemMayKnow(name: string, code: string): boolean {
  if (!name.includes('.') || name.endsWith('.local')) return true;
  return code === 'ECONNREFUSED' || code === 'ENOTINITIALIZED' || code === 'ELOADIPHLPAPI';
}

function askSystem(name: string, done: Done): void {
  dns.lookup(name, { all: true }, (error, addresses) => {
    if (error) done(faultOf(error, `resolve ${name}`), []);
    else
      done(
        null,
        addresses.map((a) => a.address),
      );
  });
}

function parseHosts(text: string): Map<string, string[]> {
  const names = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const words = (line.split('#', 1)[0] ?? '').trim().split(/\s+/);
    const ip = words[0] ?? '';
    if (net.isIP(ip) === 0) continue;
    for (const word of words.slice(1)) {
      const name = word.toLowerCase();
      const known = names.get(name);
      if (known === undefined) names.set(name, [ip]);
      else if (!known.includes(ip)) known.push(ip);
    }
  }
  return names;
}
