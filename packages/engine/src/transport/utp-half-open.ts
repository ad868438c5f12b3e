/**
 * Owns what is remembered of SYNs whose senders have not shown yet that they are where they say: some 200 bytes each.
 *
 * Limits: `max` records, the oldest makes way for a new one; 30 s each, for first data that is lost several times (libutp keeps them 3 s; a SYN
 * that is repeated makes it anew); 1,024 of one address, so that a flood from one does not shut out the others.
 */

import { Ring } from '../base/ring.ts';

const KEPT_MS = 30_000;
const PER_ADDRESS = 1024;

export class HalfOpen {
  readonly key: string;
  readonly ip: string;
  /** Number of the SYN. */
  readonly remoteSeq: number;
  /** Our number: what the other side has to know. */
  readonly seq: number;
  readonly untilMs: number;

  constructor(key: string, ip: string, remoteSeq: number, seq: number, untilMs: number) {
    this.key = key;
    this.ip = ip;
    this.remoteSeq = remoteSeq;
    this.seq = seq;
    this.untilMs = untilMs;
  }
}

export class HalfOpenTable {
  readonly max: number;
  readonly #byKey = new Map<string, HalfOpen>();
  readonly #perAddress = new Map<string, number>();
  /** In order of age; records that were removed stay in it until their time. */
  readonly #ages: Ring<HalfOpen> = new Ring<HalfOpen>();

  constructor(max: number) {
    this.max = max;
  }

  get count(): number {
    return this.#byKey.size;
  }

  /** The record of this SYN, made now or by the same SYN before; null: too many of this address. */
  add(now: number, ip: string, port: number, recvId: number, remoteSeq: number, seq: number): HalfOpen | null {
    const key = keyOf(ip, port, recvId);
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      if (known.remoteSeq === remoteSeq) return known;
      this.remove(known);
    }
    const ofAddress = this.#perAddress.get(ip) ?? 0;
    if (ofAddress >= PER_ADDRESS) return null;
    while (this.#ages.length >= this.max) this.#drop();
    const made = new HalfOpen(key, ip, remoteSeq, seq, now + KEPT_MS);
    this.#byKey.set(key, made);
    this.#perAddress.set(ip, ofAddress + 1);
    this.#ages.push(made);
    return made;
  }

  find(ip: string, port: number, recvId: number): HalfOpen | null {
    return this.#byKey.size === 0 ? null : (this.#byKey.get(keyOf(ip, port, recvId)) ?? null);
  }

  remove(record: HalfOpen): void {
    if (this.#byKey.get(record.key) !== record) return;
    this.#byKey.delete(record.key);
    const left = this.#perAddress.get(record.ip)! - 1;
    if (left === 0) this.#perAddress.delete(record.ip);
    else this.#perAddress.set(record.ip, left);
  }

  sweep(now: number): void {
    while (this.nextAt() <= now) this.#drop();
  }

  nextAt(): number {
    return this.#ages.at(0)?.untilMs ?? Number.POSITIVE_INFINITY;
  }

  #drop(): void {
    this.remove(this.#ages.shift()!);
  }
}

function keyOf(ip: string, port: number, recvId: number): string {
  return `${recvId} ${port} ${ip}`;
}
