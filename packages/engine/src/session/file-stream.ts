/**
 * A stretch of a file as a web stream: waits for one piece after the other, reads half a MiB at a time, and holds nothing
 * beyond what the reader asked for (back-pressure is the stream's own).
 */

import { type IoFault, ShoalError } from '../base/errors.ts';
import type { Reader, ReaderSink } from '../swarm/reader.ts';
import type { Entry } from './entry.ts';

export interface StreamOptions {
  /** First byte of the file; default 0. */
  readonly start?: number;
  /** Byte after the last; default the file's length. */
  readonly end?: number;
  readonly signal?: AbortSignal;
}

export class FileStream implements ReaderSink {
  readonly readable: ReadableStream<Uint8Array>;
  readonly #entry: Entry;
  /** In piece space. */
  #at: number;
  readonly #end: number;
  #reader: Reader | null = null;
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #pulled: (() => void) | null = null;
  #unlisten: () => void = () => {};

  constructor(entry: Entry, file: number, options: StreamOptions) {
    const { length, offset } = entry.meta!.files[file]!;
    const start = options.start ?? 0;
    const end = options.end ?? length;
    if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end < start || end > length) {
      throw new ShoalError('bad-option', `bytes ${start} to ${end} are not in a file of ${length} bytes`);
    }
    this.#entry = entry;
    this.#at = offset + start;
    this.#end = offset + end;
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
          if (start === end) controller.close();
          else this.#begin(options.signal);
        },
        pull: () =>
          new Promise<void>((resolve) => {
            this.#pulled = resolve;
            this.#next();
          }),
        cancel: () => this.#finish(),
      },
      { highWaterMark: 1 },
    );
  }

  onReady(): void {
    if (this.#pulled !== null) this.#read();
  }

  onBytes(parts: readonly Uint8Array[]): void {
    let length = 0;
    for (const part of parts) length += part.length;
    // copied out: the slots go back, and the reader may keep what it gets
    const chunk = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      chunk.set(part, at);
      at += part.length;
    }
    this.#at += length;
    this.#controller?.enqueue(chunk);
    if (this.#at >= this.#end) {
      this.#controller?.close();
      this.#finish();
    }
    this.#settle();
  }

  onReadFault(fault: IoFault): void {
    this.#fail(new ShoalError('disk', fault.message));
  }

  #begin(signal: AbortSignal | undefined): void {
    const { pieceLength } = this.#entry.meta!;
    const first = Math.floor(this.#at / pieceLength);
    const last = Math.floor((this.#end - 1) / pieceLength);
    this.#reader = this.#entry.swarm.readers.open(first, last, this);
    const onAbort = () => this.#fail(new ShoalError('aborted', 'aborted'));
    if (signal?.aborted) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    const unwatch = this.#entry.onStop(() => this.#fail(new ShoalError('closed', 'the torrent was closed')));
    this.#unlisten = () => {
      signal?.removeEventListener('abort', onAbort);
      unwatch();
    };
  }

  #next(): void {
    const reader = this.#reader;
    if (reader === null) return this.#settle();
    this.#entry.core.begin();
    const piece = Math.floor(this.#at / this.#entry.meta!.pieceLength);
    if (this.#entry.swarm.readers.seek(reader, piece)) this.#read();
  }

  #read(): void {
    const { pieceLength } = this.#entry.meta!;
    const begin = this.#at % pieceLength;
    const left = Math.min(this.#end - this.#at, pieceLength - begin);
    this.#entry.core.begin();
    this.#entry.swarm.readers.read(this.#reader!, begin, left);
  }

  #settle(): void {
    const pulled = this.#pulled;
    this.#pulled = null;
    pulled?.();
  }

  #fail(error: ShoalError): void {
    if (this.#reader === null) return;
    this.#finish();
    this.#controller?.error(error);
    this.#settle();
  }

  #finish(): void {
    if (this.#reader !== null) this.#entry.swarm.readers.close(this.#reader);
    this.#reader = null;
    this.#unlisten();
  }
}
