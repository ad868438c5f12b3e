/**
 * Owns the state of every block of the pieces being downloaded ("partials"), and who sent it.
 *
 * A block goes   Missing -> Asked -> Received -> Put   and back to Missing when nobody is asked for it any more.
 *
 * Invariants: `slots[b] >= 0` for a Received block; an Asked block has its slot reserved here, or out with the one peer
 * that is writing into it, or (while two peers race) none at all; a Put block's slot belongs to the store. `needCount` is
 * the number of slots that the open partials will still have to take, so that a new one opens only if it can be finished.
 *
 * Limits: the slots of the pool bound the number of partials; a piece has at most 2^15 blocks (512 MiB).
 */

import { assert } from '../base/assert.ts';

export const BlockState = { Missing: 0, Asked: 1, Received: 2, Put: 3 } as const;

/** Sender of a block of zeros (BEP 47 pad), which nobody is asked for. */
export const PAD_SENDER = -2;

export class Partial {
  readonly piece: number;
  readonly blockCount: number;
  readonly state: Uint8Array;
  readonly slots: Int32Array;
  /** Number of the peer whose copy was taken, -1 while none. */
  readonly senders: Int32Array;
  /** How many peers are asked for the block now. */
  readonly askers: Uint8Array;
  missingCount: number;
  /** Received or Put. */
  arrivedCount = 0;
  /** No block before this one is Missing. */
  cursor = 0;
  /** The peer that opened it and is served first from it, or -1. */
  owner: number;
  /** Only this peer may be asked (parole after a failed hash), or -1. */
  onlyFrom = -1;
  /** Hashed as it arrives and written early, since it is large (DESIGN.md 5). */
  readonly streaming: boolean;
  /** The running hash, and how many blocks it has had; the blocks in flight to the hasher are [hashedTo, hashingTo). */
  stream = 0;
  hashedTo = 0;
  hashingTo = 0;
  /** Some block was written before it was hashed: the piece is read back. */
  spilled = false;
  /** All blocks are in; the verdict is awaited. */
  judging = false;
  openedAtMs: number;
  lastArrivalMs: number;

  constructor(piece: number, blockCount: number, owner: number, streaming: boolean, now: number) {
    this.piece = piece;
    this.blockCount = blockCount;
    this.state = new Uint8Array(blockCount);
    this.slots = new Int32Array(blockCount).fill(-1);
    this.senders = new Int32Array(blockCount).fill(-1);
    this.askers = new Uint8Array(blockCount);
    this.missingCount = blockCount;
    this.owner = owner;
    this.streaming = streaming;
    this.openedAtMs = now;
    this.lastArrivalMs = now;
  }

  get complete(): boolean {
    return this.arrivedCount === this.blockCount;
  }

  /** The first Missing block, or -1. */
  nextMissing(): number {
    const { state, blockCount } = this;
    let b = this.cursor;
    while (b < blockCount && state[b] !== BlockState.Missing) b++;
    this.cursor = b;
    return b < blockCount ? b : -1;
  }

  /** The number of the one peer that sent every block, or -1 if there were several. */
  soleSender(): number {
    let sole = -1;
    for (const sender of this.senders) {
      if (sender === PAD_SENDER || sender === sole) continue;
      if (sole !== -1) return -1;
      sole = sender;
    }
    return sole;
  }
}

export class Partials {
  /** Oldest first. */
  readonly list: Partial[] = [];
  /** Slots still to be taken by the open partials. */
  needCount = 0;
  readonly #byPiece = new Map<number, Partial>();

  get(piece: number): Partial | undefined {
    return this.#byPiece.get(piece);
  }

  open(piece: number, blockCount: number, owner: number, streaming: boolean, now: number): Partial {
    assert(!this.#byPiece.has(piece), 'a piece opened twice');
    const partial = new Partial(piece, blockCount, owner, streaming, now);
    this.#byPiece.set(piece, partial);
    this.list.push(partial);
    this.needCount += blockCount;
    return partial;
  }

  /** Takes it off the books; its slots are the caller's business. */
  close(partial: Partial): void {
    assert(this.#byPiece.delete(partial.piece), 'close of a piece that is not open');
    this.list.splice(this.list.indexOf(partial), 1);
    this.needCount -= partial.missingCount;
  }

  /** One more peer is asked for the block. `slot` is reserved for it when it was Missing, else ignored (-1). */
  ask(partial: Partial, block: number, slot: number): void {
    if (partial.state[block] === BlockState.Missing) {
      assert(slot >= 0 && partial.slots[block] === -1, 'a block asked for without a slot');
      partial.state[block] = BlockState.Asked;
      partial.slots[block] = slot;
      partial.missingCount--;
      this.needCount--;
    }
    assert(partial.state[block] === BlockState.Asked && partial.askers[block]! < 255, 'a block asked for in vain');
    partial.askers[block]!++;
  }

  /** One peer less is asked. Returns a slot that is reserved no longer, or -1. */
  unask(partial: Partial, block: number): number {
    assert(partial.askers[block]! > 0, 'a block that nobody was asked for');
    partial.askers[block]!--;
    if (partial.askers[block]! > 0 || partial.state[block] !== BlockState.Asked) return -1;
    partial.state[block] = BlockState.Missing;
    partial.missingCount++;
    this.needCount++;
    if (block < partial.cursor) partial.cursor = block;
    const slot = partial.slots[block]!;
    partial.slots[block] = -1;
    return slot;
  }

  /** The block is in `slot`. One asker less; others may remain (cancel them). */
  arrived(partial: Partial, block: number, slot: number, sender: number, now: number): void {
    assert(
      partial.state[block] === BlockState.Asked && partial.askers[block]! > 0,
      'a block that nobody was asked for',
    );
    partial.askers[block]!--;
    partial.state[block] = BlockState.Received;
    partial.slots[block] = slot;
    partial.senders[block] = sender;
    partial.arrivedCount++;
    partial.lastArrivalMs = now;
  }

  /** A Received block is Missing again, or Asked while another peer is sending it. Returns its slot. */
  revoke(partial: Partial, block: number): number {
    assert(partial.state[block] === BlockState.Received, 'revoke of a block not received');
    const slot = partial.slots[block]!;
    partial.slots[block] = -1;
    partial.senders[block] = -1;
    partial.arrivedCount--;
    if (partial.askers[block]! > 0) {
      partial.state[block] = BlockState.Asked;
      return slot;
    }
    partial.state[block] = BlockState.Missing;
    partial.missingCount++;
    this.needCount++;
    if (block < partial.cursor) partial.cursor = block;
    return slot;
  }

  /** A block that lies in a pad file: zeros, in `slot`. */
  padded(partial: Partial, block: number, slot: number): void {
    this.ask(partial, block, slot);
    this.arrived(partial, block, slot, PAD_SENDER, partial.openedAtMs);
  }

  /** The store has taken blocks [from, to) over. */
  handedOver(partial: Partial, from: number, to: number): void {
    for (let b = from; b < to; b++) {
      assert(partial.state[b] === BlockState.Received, 'only received blocks are handed over');
      partial.state[b] = BlockState.Put;
      partial.slots[b] = -1;
    }
  }
}
