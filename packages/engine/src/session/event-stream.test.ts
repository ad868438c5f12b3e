import { describe, expect, it } from 'vitest';
import { EventStream } from './event-stream.ts';

describe('an event stream', () => {
  it('answers every call of next, in order', async () => {
    const stream = new EventStream<number>(() => {});
    const reader = stream[Symbol.asyncIterator]();
    const asked = [reader.next(), reader.next(), reader.next()];
    stream.push(1);
    stream.push(2);
    stream.end();
    expect(await Promise.all(asked)).toEqual([
      { done: false, value: 1 },
      { done: false, value: 2 },
      { done: true, value: undefined },
    ]);
  });

  it('gives what is queued before the end, and keeps the newest of what nobody reads', async () => {
    const stream = new EventStream<number>(() => {});
    for (let i = 0; i < 5000; i++) stream.push(i);
    stream.end();
    const read: number[] = [];
    for await (const event of stream) read.push(event);
    expect(read.length).toBe(4096);
    expect(read.at(-1)).toBe(4999);
  });

  it('ends with its signal, and leaves nothing on one that outlives it', async () => {
    const abort = new AbortController();
    let ends = 0;
    const stream = new EventStream<number>(() => ends++, abort.signal);
    const reader = stream[Symbol.asyncIterator]();
    const asked = reader.next();
    abort.abort();
    expect(await asked).toEqual({ done: true, value: undefined });

    let listeners = 0;
    const { signal } = new AbortController();
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      listeners--;
      remove(...args);
    };
    new EventStream<number>(() => ends++, signal).end();
    expect(listeners).toBe(0);
    expect(ends).toBe(2);
  });
});
