/**
 * Gathers the usable peers of one tracker's answer, whatever form they come in, packed for the peer book.
 *
 * Limits: MAX_PEERS over all forms, MAX_NAMED of them by name. A tracker on the open internet has no business naming
 * loopback addresses, which would point us at services of our own machine.
 */

import { latin1 } from '../base/bytes.ts';
import { isLocal, isLoopback, isUsablePeerAddress, parseIp, plainIp } from '../base/ip.ts';
import { BDict, type BValue } from '../codec/bencode.ts';
import { MAX_PEERS, type NamedPeer } from './tracker.ts';

/** Each name costs a look-up, so few are taken. */
const MAX_NAMED = 20;

export class PeerCollector {
  readonly named: NamedPeer[] = [];
  readonly #loopbackToo: boolean;
  readonly #four: number[] = [];
  readonly #six: number[] = [];
  #taken = 0;

  /** `trackerIp`: the address the tracker answered from. */
  constructor(trackerIp: string) {
    const ip = parseIp(trackerIp);
    this.#loopbackToo = ip === null || isLocal(ip);
  }

  peers4(): Uint8Array {
    return Uint8Array.from(this.#four);
  }

  peers6(): Uint8Array {
    return Uint8Array.from(this.#six);
  }

  packed(bytes: Uint8Array, ipBytes: 4 | 16): void {
    for (let at = 0; at < bytes.length && this.#taken < MAX_PEERS; at += ipBytes + 2) {
      const port = (bytes[at + ipBytes]! << 8) | bytes[at + ipBytes + 1]!;
      this.#add(bytes.subarray(at, at + ipBytes), port);
    }
  }

  /** The first form of all: dictionaries with `ip` (text, perhaps a name) and `port`. */
  dicts(list: readonly BValue[]): void {
    for (let i = 0; i < list.length && this.#taken < MAX_PEERS; i++) {
      const peer = list[i];
      if (!(peer instanceof BDict)) continue;
      const ip = peer.get('ip');
      const port = peer.get('port');
      if (!(ip instanceof Uint8Array) || typeof port !== 'number' || port < 1 || port > 65535) continue;
      if (ip.length === 0 || ip.length > 253) continue;
      const host = latin1(ip);
      const address = parseIp(host);
      if (address !== null) {
        this.#add(address, port);
      } else if (this.named.length < MAX_NAMED && isName(host)) {
        this.named.push({ host, port });
        this.#taken++;
      }
    }
  }

  #add(address: Uint8Array, port: number): void {
    const ip = plainIp(address);
    if (!isUsablePeerAddress(ip, port) || (!this.#loopbackToo && isLoopback(ip))) return;
    const into = ip.length === 4 ? this.#four : this.#six;
    for (let i = 0; i < ip.length; i++) into.push(ip[i]!);
    into.push(port >>> 8, port & 255);
    this.#taken++;
  }
}

/** A host name that ends in a letter: what looks like a number is an address in a spelling made to slip through. */
function isName(host: string): boolean {
  if (host.includes('..') || !/^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(host)) return false;
  const last = host.slice(host.lastIndexOf('.') + 1);
  return /^[A-Za-z]/.test(last) && host.toLowerCase() !== 'localhost' && !host.toLowerCase().endsWith('.localhost');
}
