/**
 * A queue between a caller of plain functions and a reader of an async iterator. Ends by `end`, by the reader's return,
 * or by its AbortSignal. Limit: a reader that does not read holds `LIMIT` events; then the oldest go.
 */

const LIMIT = 4096;

export class EventStream<T> implements AsyncIterable<T> {
  readonly #queue: T[] = [];
  /** Calls of `next` that wait, the oldest first; there are none while something is queued. */
  readonly #waiting: ((result: IteratorResult<T>) => void)[] = [];
  #ended = false;
  readonly #onEnd: (stream: EventStream<T>) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.end();

  constructor(onEnd: (stream: EventStream<T>) => void, signal?: AbortSignal) {
    this.#onEnd = onEnd;
    this.#signal = signal;
    if (signal?.aborted) this.end();
    else signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  push(event: T): void {
    if (this.#ended) return;
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) return waiting({ done: false, value: event });
    if (this.#queue.length >= LIMIT) this.#queue.shift();
    this.#queue.push(event);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    // a signal may outlive many streams
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#onEnd(this);
    for (const waiting of this.#waiting.splice(0)) waiting({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return {
      next: () => {
        const event = this.#queue.shift();
        if (event !== undefined) return Promise.resolve({ done: false, value: event });
        if (this.#ended) return Promise.resolve({ done: true, value: undefined });
        return new Promise((resolve) => this.#waiting.push(resolve));
      },
      return: () => {
        this.end();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }
}
