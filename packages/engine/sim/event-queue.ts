/**
 * The world's one heap of events, ordered by (time, order of asking): a total order, so that a run is the same each
 * time. Records stand in parallel arrays and are reused; an event costs no object. It grows as needed.
 */

import { assert } from '../src/base/assert.ts';

/** Who an event is for. `kind` and `arg` are the target's own business. */
export interface EventTarget {
  onEvent(kind: number, arg: number): void;
}

export class EventQueue {
  /** Of the event popped last. */
  at = 0;
  target: EventTarget | null = null;
  kind = 0;
  arg = 0;
  /** Events waiting. */
  size = 0;
  #order = 0;
  #times: Float64Array = new Float64Array(1024);
  #orders: Float64Array = new Float64Array(1024);
  #targets: (EventTarget | null)[] = new Array(1024).fill(null);
  #kinds: Int32Array = new Int32Array(1024);
  #args: Float64Array = new Float64Array(1024);
  /** heap[0..size) are the records that wait, heap[size..) the free ones. */
  #heap: Int32Array = Int32Array.from({ length: 1024 }, (_, i) => i);

  push(at: number, target: EventTarget, kind: number, arg: number): void {
    assert(at < Infinity, 'an event needs a time');
    if (this.size === this.#heap.length) this.#grow();
    const record = this.#heap[this.size]!;
    this.#times[record] = at;
    this.#orders[record] = this.#order++;
    this.#targets[record] = target;
    this.#kinds[record] = kind;
    this.#args[record] = arg;
    let i = this.size++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const other = this.#heap[parent]!;
      if (!this.#before(record, other)) break;
      this.#heap[i] = other;
      i = parent;
    }
    this.#heap[i] = record;
  }

  /** Time of the next event, Infinity when there is none. */
  nextAt(): number {
    return this.size === 0 ? Infinity : this.#times[this.#heap[0]!]!;
  }

  /** Takes the next event into `at`, `target`, `kind`, `arg`. False: none. */
  pop(): boolean {
    if (this.size === 0) return false;
    const record = this.#heap[0]!;
    this.at = this.#times[record]!;
    this.target = this.#targets[record]!;
    this.kind = this.#kinds[record]!;
    this.arg = this.#args[record]!;
    this.#targets[record] = null;
    const last = this.#heap[--this.size]!;
    this.#heap[this.size] = record;
    if (this.size > 0) this.#sink(last);
    return true;
  }

  #sink(record: number): void {
    const heap = this.#heap;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && this.#before(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#before(heap[child]!, record)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = record;
  }

  #before(a: number, b: number): boolean {
    const ta = this.#times[a]!;
    const tb = this.#times[b]!;
    return ta < tb || (ta === tb && this.#orders[a]! < this.#orders[b]!);
  }

  #grow(): void {
    const old = this.#heap.length;
    const length = old * 2;
    this.#times = widen(this.#times, new Float64Array(length));
    this.#orders = widen(this.#orders, new Float64Array(length));
    this.#kinds = widen(this.#kinds, new Int32Array(length));
    this.#args = widen(this.#args, new Float64Array(length));
    this.#heap = widen(this.#heap, new Int32Array(length));
    for (let i = old; i < length; i++) {
      this.#heap[i] = i;
      this.#targets.push(null);
    }
  }
}

function widen<T extends Float64Array | Int32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
