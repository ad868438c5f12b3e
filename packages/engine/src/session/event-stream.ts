/**
 * A queue between a caller of plain functions and a reader of an async iterator. Ends by `end`, by the reader's return,
 * or by its AbortSignal. Limit: a reader that does not read holds `LIMIT` events; then the oldest go.
 */

const LIMIT = 4096;

export class EventStream<T> implements AsyncIterable<T> {
  readonly #queue: T[] = [];
  #waiting: ((result: IteratorResult<T>) => void) | null = null;
  #ended = false;
  readonly #onEnd: (stream: EventStream<T>) => void;

  constructor(onEnd: (stream: EventStream<T>) => void, signal?: AbortSignal) {
    this.#onEnd = onEnd;
    if (signal?.aborted) this.end();
    else signal?.addEventListener('abort', () => this.end(), { once: true });
  }

  push(event: T): void {
    if (this.#ended) return;
    if (this.#waiting !== null) {
      const waiting = this.#waiting;
      this.#waiting = null;
      waiting({ done: false, value: event });
      return;
    }
    if (this.#queue.length >= LIMIT) this.#queue.shift();
    this.#queue.push(event);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd(this);
    this.#waiting?.({ done: true, value: undefined });
    this.#waiting = null;
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return {
      next: () => {
        const event = this.#queue.shift();
        if (event !== undefined) return Promise.resolve({ done: false, value: event });
        if (this.#ended) return Promise.resolve({ done: true, value: undefined });
        return new Promise((resolve) => {
          this.#waiting = resolve;
        });
      },
      return: () => {
        this.end();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }
}
