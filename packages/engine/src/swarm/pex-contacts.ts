/**
 * The addresses that peer exchange speaks of: one *contact* for each endpoint that peers are connected to us from, and
 * for a while after they left. A contact is a small number, so that sets of contacts are bits.
 *
 * Invariant: a number names one endpoint as long as anybody is connected there, has been told of it and not yet told that
 * it is gone, or it is remembered as seen recently. Hence a set of numbers told to a peer never changes its meaning.
 *
 * Limits: MAX_CONTACTS; MAX_RECENT of each family are remembered for RECENT_MS.
 */

import { isLocal, parseIp } from '../base/ip.ts';
import type { Peer } from './peer.ts';

/** Five times the connections of a torrent; past it, who comes is not spoken of. */
const MAX_CONTACTS = 512;
/** BEP 11: of a swarm of fewer than so many, this many in all may be spoken of. */
export const MAX_RECENT = 25;
const RECENT_MS = 600_000;

export interface Contact {
  /** 4 or 16 bytes. */
  readonly ip: Uint8Array;
  readonly ipText: string;
  readonly port: number;
  readonly local: boolean;
  readonly key: string;
  /** The connected peer there that came last; null: nobody is. */
  peer: Peer | null;
  /** Connected peers there. */
  uses: number;
  /** How many peers were told of it and not told that it is gone. */
  heard: number;
  /** PexFlags when it was last connected. */
  flags: number;
  /** When it was left, while it is remembered as seen recently; -1: it is not. */
  leftAtMs: number;
}

export class PexContacts {
  /** By number; undefined: free. */
  readonly list: (Contact | undefined)[] = [];
  /** Grows when a contact is taken up or left: nothing new to tell while it stands. */
  version = 0;
  /** Bits by number: somebody is connected there. */
  live: Uint32Array = new Uint32Array(1);
  readonly #byKey = new Map<string, number>();
  /** How many are remembered as seen recently. */
  #recentCount = 0;

  /** Somebody is connected there. The contact's number; -1: no address, or no room. */
  join(ip: string, port: number, peer: Peer): number {
    const key = `${ip} ${port}`;
    const number = this.#byKey.get(key) ?? this.#make(key, ip, port);
    if (number < 0) return -1;
    const contact = this.list[number]!;
    contact.uses++;
    contact.peer = peer;
    this.#forget(contact);
    if (contact.uses > 1) return number;
    setBit(this.live, number);
    this.version++;
    return number;
  }

  /** The peer is gone. `remember`: it may be spoken of for a while. */
  leave(number: number, peer: Peer, flags: number, remember: boolean, now: number): void {
    const contact = this.list[number]!;
    contact.flags = flags;
    if (contact.peer === peer) contact.peer = null;
    if (--contact.uses > 0) return;
    clearBit(this.live, number);
    this.version++;
    if (remember) {
      contact.leftAtMs = now;
      this.#recentCount++;
      this.#forgetOldest(contact.ip.length);
    }
    this.#free(number);
  }

  told(number: number): void {
    this.list[number]!.heard++;
  }

  /** Somebody was told that it is gone, or is gone himself. */
  untold(number: number): void {
    this.list[number]!.heard--;
    this.#free(number);
  }

  /** Forgets those seen too long ago. */
  expire(now: number): void {
    if (this.#recentCount === 0) return;
    for (const [number, contact] of this.list.entries()) {
      if (contact === undefined || contact.leftAtMs < 0 || now - contact.leftAtMs < RECENT_MS) continue;
      this.#forget(contact);
      this.#free(number);
    }
  }

  #make(key: string, text: string, port: number): number {
    const ip = parseIp(text);
    if (ip === null) return -1;
    let number = 0;
    while (this.list[number] !== undefined) number++;
    if (number >= MAX_CONTACTS) return -1;
    const local = isLocal(ip);
    this.list[number] = { ip, ipText: text, port, local, key, peer: null, uses: 0, heard: 0, flags: 0, leftAtMs: -1 };
    this.#byKey.set(key, number);
    if (number >> 5 >= this.live.length) this.live = grown(this.live, number);
    return number;
  }

  /** Of a family, the one left longest ago when there are too many. */
  #forgetOldest(ipBytes: number): void {
    let count = 0;
    let oldest = -1;
    for (const [number, contact] of this.list.entries()) {
      if (contact === undefined || contact.leftAtMs < 0 || contact.ip.length !== ipBytes) continue;
      count++;
      if (oldest < 0 || contact.leftAtMs < this.list[oldest]!.leftAtMs) oldest = number;
    }
    if (count <= MAX_RECENT) return;
    this.#forget(this.list[oldest]!);
    this.#free(oldest);
  }

  #forget(contact: Contact): void {
    if (contact.leftAtMs < 0) return;
    contact.leftAtMs = -1;
    this.#recentCount--;
  }

  #free(number: number): void {
    const contact = this.list[number];
    if (contact === undefined || contact.uses > 0 || contact.heard > 0 || contact.leftAtMs >= 0) return;
    this.list[number] = undefined;
    this.#byKey.delete(contact.key);
  }
}

export function getBit(bits: Uint32Array, i: number): boolean {
  return (bits[i >> 5]! & (1 << (i & 31))) !== 0;
}

export function setBit(bits: Uint32Array, i: number): void {
  bits[i >> 5]! |= 1 << (i & 31);
}

export function clearBit(bits: Uint32Array, i: number): void {
  bits[i >> 5]! &= ~(1 << (i & 31));
}

/** The same bits, with room for bit `i`. */
export function grown(bits: Uint32Array, i: number): Uint32Array {
  const wider = new Uint32Array((i >> 5) + 1);
  wider.set(bits);
  return wider;
}
