/**
 * What the machines that talk a proxy into a connection have in common: bytes in pieces of any size, what to send, and
 * how it ended.
 *
 *     talking --its yes--> open (what came behind it is in `rest`)
 *        '-----no, or what is no answer--> failed
 *
 * Invariants: a machine fails at the first byte that cannot be right and keeps no more than its limit; nothing throws.
 * Faults never hold a user's name or password.
 */

import { concat } from '../base/bytes.ts';
import type { IoFault } from '../base/errors.ts';
import type { Endpoint } from '../base/ports.ts';

/** A host by name or address (v6 without brackets), and a port. */
export interface ProxyTarget {
  readonly host: string;
  readonly port: number;
}

/** Of DNS, in its text form. */
const MAX_NAME_BYTES = 253;

export abstract class ProxyDialogue {
  state: 'talking' | 'open' | 'failed' = 'talking';
  /** Null but after a failure. The message completes "the proxy ...". */
  fault: IoFault | null = null;
  /** Where the proxy says it sends from or listens (SOCKS5). */
  bound: Endpoint | null = null;
  #held: Uint8Array = new Uint8Array(0);
  #out: Uint8Array | null = null;
  readonly #limit: number;

  /** `limit`: bytes of the longest answer there may be. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What came from the proxy; borrowed. Of no effect when it is over. */
  receive(bytes: Uint8Array): void {
    if (this.state !== 'talking') return;
    this.#held = this.#held.length === 0 ? bytes.slice() : concat([this.#held, bytes]);
    while (this.state === 'talking') {
      const used = this.step(this.#held);
      if (used === 0) break;
      this.#held = this.#held.subarray(used);
    }
    if (this.state === 'talking' && this.#held.length > this.#limit) this.fail('EPROXY', 'says too much');
  }

  /** To be sent now, or null. */
  takeOut(): Uint8Array | null {
    const out = this.#out;
    this.#out = null;
    return out;
  }

  /** Open: what the other side said already. */
  get rest(): Uint8Array {
    return this.#held;
  }

  /** Reads one answer from the front; how long it was, or 0: more is needed. */
  protected abstract step(bytes: Uint8Array): number;

  protected say(bytes: Uint8Array): void {
    this.#out = bytes;
  }

  /** Returns 0, for `step`. */
  protected fail(code: string, message: string): number {
    this.state = 'failed';
    this.fault = { code, message };
    this.#held = new Uint8Array(0);
    this.#out = null;
    return 0;
  }

  /** What else would be a name to nobody, or a second word to the proxy. */
  protected isName(host: string): boolean {
    return host.length > 0 && host.length <= MAX_NAME_BYTES && /^[\w.-]+$/.test(host);
  }
}
