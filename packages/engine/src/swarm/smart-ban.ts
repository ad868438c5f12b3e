/**
 * Finds out who sends corrupt data, by proof only.
 *
 *   a piece fails, one peer sent all of it   -> that peer did it
 *   a piece fails, several peers sent it     -> the SHA-1 of every block is kept with its sender; the senders go on parole
 *   the piece passes later                   -> blocks that differ from the good copy name their senders
 *
 * On parole a peer downloads whole pieces alone (the caller sees to it), so its next bad piece convicts it at once and
 * its next good one frees it. Nobody is accused for having shared a piece with a bad peer, however often: that would let a
 * poisoner take good peers down with it. A failed piece whose culprit is known puts nobody else on parole.
 *
 * If a sole sender's copy is the same as one that failed from others, it may be the torrent's hash that is wrong, so it
 * is only kept as evidence. A block of sender UNKNOWN (read back after a spill, say) accuses nobody and keeps a piece
 * from having a sole sender; OURS (pad bytes, BEP 47) cannot be wrong.
 *
 * Limits: 64 failed copies or 4 MiB of digests, the oldest forgotten; a sender's number is not given to another peer
 * while it is remembered.
 */

import { assert } from '../base/assert.ts';

export const UNKNOWN_SENDER = -1;
export const OUR_SENDER = -2;

const DIGEST_BYTES = 20;
const MAX_COPIES = 64;
const MAX_BYTES = 4 * 1024 * 1024;
const NO_PIECES: readonly number[] = [];

class Copy {
  readonly piece: number;
  readonly senders: Int32Array;
  /** Null: they could not be had; the copy only keeps its senders on parole. */
  readonly digests: Uint8Array | null;
  /** A sender of it is known to be bad. */
  explained = false;

  constructor(piece: number, senders: Int32Array, digests: Uint8Array | null) {
    this.piece = piece;
    this.senders = senders;
    this.digests = digests;
  }
}

export class SmartBan {
  /** Oldest first. */
  readonly #copies: Copy[] = [];
  #bytes = 0;
  readonly #parole = new Set<number>();
  readonly #culprits: number[] = [];

  /**
   * A piece failed its hash. `senders`: who sent each block. `digests`: the SHA-1 of each block, joined, or null when they
   * cannot be had. Returns who is convicted by it; the array is reused.
   */
  failed(piece: number, senders: Int32Array, digests: Uint8Array | null): readonly number[] {
    this.#culprits.length = 0;
    const sole = soleSender(senders);
    const doubtful = sole >= 0 && digests !== null && this.#failedAlike(piece, sole, digests);
    if (sole >= 0 && !doubtful) this.#convict(sole);
    else for (const sender of senders) if (sender >= 0) this.#parole.add(sender);
    this.#remember(new Copy(piece, senders.slice(), digests === null ? null : digests.slice()), sole >= 0 && !doubtful);
    this.#reviewParole();
    return this.#culprits;
  }

  /** Whether digests are of use when `piece` passes. */
  wantsDigests(piece: number): boolean {
    for (const copy of this.#copies) if (copy.piece === piece && copy.digests !== null) return true;
    return false;
  }

  /**
   * Pieces whose good copy would prove who sent a bad one, and of which this peer sent none: who sends the same bad bytes
   * as others is found by what honest peers send, and would only add to the doubt.
   */
  evidenceFor(sender: number): readonly number[] {
    if (this.#copies.length === 0) return NO_PIECES;
    return this.#copies.filter((copy) => !copy.senders.includes(sender)).map((copy) => copy.piece);
  }

  /** A piece passed. Returns who is convicted by it; the array is reused. */
  passed(piece: number, senders: Int32Array, digests: Uint8Array | null): readonly number[] {
    this.#culprits.length = 0;
    if (this.#copies.length === 0 && this.#parole.size === 0) return this.#culprits;
    for (let i = this.#copies.length - 1; i >= 0; i--) {
      const copy = this.#copies[i]!;
      if (copy.piece !== piece) continue;
      this.#forget(i);
      if (digests !== null && copy.digests !== null) this.#compare(copy.senders, copy.digests, digests);
    }
    this.#reviewParole();
    const sole = soleSender(senders);
    if (sole >= 0) this.#parole.delete(sole);
    return this.#culprits;
  }

  /** Is to download whole pieces alone. */
  onParole(sender: number): boolean {
    return this.#parole.size > 0 && this.#parole.has(sender);
  }

  /** Evidence about it is kept: its number must not name another peer, and its address is still to be known. */
  remembers(sender: number): boolean {
    for (const copy of this.#copies) if (copy.senders.includes(sender)) return true;
    return false;
  }

  /** The peer is gone; evidence against it stays. */
  left(sender: number): void {
    this.#parole.delete(sender);
  }

  #convict(sender: number): void {
    if (sender < 0 || this.#culprits.includes(sender)) return;
    this.#culprits.push(sender);
    this.#parole.delete(sender);
    for (const copy of this.#copies) if (copy.senders.includes(sender)) copy.explained = true;
  }

  #compare(senders: Int32Array, bad: Uint8Array, good: Uint8Array): void {
    assert(bad.length === good.length, 'digests of another piece');
    for (let b = 0; b < senders.length; b++) {
      if (!sameDigest(bad, good, b * DIGEST_BYTES)) this.#convict(senders[b]!);
    }
  }

  /** Whether others sent just these bytes and failed too. */
  #failedAlike(piece: number, sender: number, digests: Uint8Array): boolean {
    for (const copy of this.#copies) {
      if (copy.piece !== piece || copy.digests === null || copy.senders.includes(sender)) continue;
      let alike = true;
      for (let at = 0; at < digests.length && alike; at += DIGEST_BYTES) alike = sameDigest(copy.digests, digests, at);
      if (alike) return true;
    }
    return false;
  }

  #remember(copy: Copy, explained: boolean): void {
    copy.explained = explained;
    this.#copies.push(copy);
    const bytes = copy.digests?.length ?? 0;
    assert(copy.digests === null || bytes === copy.senders.length * DIGEST_BYTES, 'one digest a block');
    this.#bytes += bytes;
    while (this.#copies.length > MAX_COPIES || (this.#bytes > MAX_BYTES && this.#copies.length > 1)) this.#forget(0);
  }

  #forget(index: number): void {
    this.#bytes -= this.#copies[index]!.digests?.length ?? 0;
    this.#copies.splice(index, 1);
  }

  /** Frees those whose every failed piece is explained by now or turned out not to be their fault. */
  #reviewParole(): void {
    for (const sender of this.#parole) {
      let suspect = false;
      for (const copy of this.#copies) suspect ||= !copy.explained && copy.senders.includes(sender);
      if (!suspect) this.#parole.delete(sender);
    }
  }
}

/** Who sent every block that can be wrong, or -1. */
function soleSender(senders: Int32Array): number {
  let sole = OUR_SENDER;
  for (const sender of senders) {
    if (sender === OUR_SENDER || sender === sole) continue;
    if (sole !== OUR_SENDER) return -1;
    sole = sender;
  }
  return sole >= 0 ? sole : -1;
}

function sameDigest(a: Uint8Array, b: Uint8Array, at: number): boolean {
  for (let i = at; i < at + DIGEST_BYTES; i++) if (a[i] !== b[i]) return false;
  return true;
}
