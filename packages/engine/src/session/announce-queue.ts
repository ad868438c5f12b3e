/**
 * Carries the announces of all torrents: asks those that are due, a bounded number at a time, and takes the answers back.
 *
 * Limit: MAX_REQUESTS exchanges at once (libtorrent's max_concurrent_http_announces, DEMANDS N4); who is due waits.
 */

import { Heap } from '../base/heap.ts';
import type { HttpHandle } from '../base/ports.ts';
import type { SessionCore } from './core.ts';
import type { Entry } from './entry.ts';

const MAX_REQUESTS = 50;
/** Replies above this are no announce (libtorrent: 1 MiB). */
const MAX_REPLY_BYTES = 1 << 20;
const MAX_REDIRECTS = 5;
const USER_AGENT = 'Shoal/0.1';

/** An exchange that waits until another has ended. */
interface Waiting {
  readonly entry: Entry;
  readonly id: number;
  readonly url: string;
  readonly timeoutMs: number;
}

export class AnnounceQueue {
  readonly #core: SessionCore;
  readonly #due = new Heap();
  readonly #entries = new Map<number, Entry>();
  readonly #handles = new Map<Entry, Map<number, HttpHandle>>();
  /** Good-byes of many torrents at once; announces that are due wait in `#due`. */
  #waiting: Waiting[] = [];
  /** Exchanges under way. */
  requestCount = 0;
  /** Called when the last exchange has ended. */
  onIdle: (() => void) | null = null;

  constructor(core: SessionCore) {
    this.#core = core;
  }

  /** The announcer's deadline may have moved. */
  schedule(entry: Entry): void {
    this.#entries.set(entry.number, entry);
    const at = entry.finder.announcer.nextAt();
    if (at === Infinity) this.#due.remove(entry.number);
    else this.#due.set(entry.number, at);
  }

  forget(entry: Entry): void {
    this.#due.remove(entry.number);
    this.#entries.delete(entry.number);
  }

  run(now: number): void {
    while (this.#due.minKey <= now && this.requestCount < MAX_REQUESTS) {
      const entry = this.#entries.get(this.#due.minId)!;
      entry.finder.announcer.tick(now);
      this.schedule(entry);
    }
  }

  nextAt(): number {
    return this.requestCount < MAX_REQUESTS ? this.#due.minKey : Infinity;
  }

  get(entry: Entry, id: number, url: string, timeoutMs: number): void {
    if (this.requestCount < MAX_REQUESTS) this.#start(entry, id, url, timeoutMs);
    else this.#waiting.push({ entry, id, url, timeoutMs });
  }

  abandon(entry: Entry, id: number): void {
    const waits = this.#waiting.findIndex((one) => one.entry === entry && one.id === id);
    if (waits >= 0) this.#waiting.splice(waits, 1);
    this.#handles.get(entry)?.get(id)?.abort();
    this.#ended(entry, id);
  }

  /** Gives up every exchange; for a session that has waited long enough. */
  abortAll(): void {
    for (const handles of this.#handles.values()) for (const handle of handles.values()) handle.abort();
    this.#handles.clear();
    this.#waiting = [];
    this.requestCount = 0;
  }

  #start(entry: Entry, id: number, url: string, timeoutMs: number): void {
    this.requestCount++;
    const handles = this.#handles.get(entry) ?? new Map<number, HttpHandle>();
    this.#handles.set(entry, handles);
    const request = {
      url,
      headers: { 'user-agent': USER_AGENT, accept: '*/*' },
      timeoutMs,
      maxBytes: MAX_REPLY_BYTES,
      maxRedirects: MAX_REDIRECTS,
      bindIp: this.#core.bindFor('0.0.0.0'),
    };
    const handle = this.#core.ports.http.get(request, (fault, response) => {
      this.#core.begin();
      this.#ended(entry, id);
      const { now } = this.#core.turn;
      if (response !== null)
        entry.finder.announcer.response(id, now, response.status, response.body, response.remoteIp);
      else entry.finder.announcer.failed(id, now, fault!);
      if (this.#entries.has(entry.number)) this.schedule(entry);
      if (this.requestCount === 0) this.onIdle?.();
    });
    handles.set(id, handle);
  }

  #ended(entry: Entry, id: number): void {
    const handles = this.#handles.get(entry);
    if (handles === undefined || !handles.delete(id)) return;
    if (handles.size === 0) this.#handles.delete(entry);
    this.requestCount--;
    const next = this.#waiting.shift();
    if (next !== undefined) this.#start(next.entry, next.id, next.url, next.timeoutMs);
  }
}
