/**
 * Carries the announces of all torrents, by HTTP and UDP: asks those that are due, a bounded number at a time, and takes
 * the answers back.
 *
 * Limit: MAX_REQUESTS exchanges at once (libtorrent's max_concurrent_http_announces, DEMANDS N4); who is due waits.
 */

import type { IoFault } from '../base/errors.ts';
import { Heap } from '../base/heap.ts';
import type { AnnounceReply, ScrapeReply, TrackerRequest } from '../discovery/tracker.ts';
import { announceUrl, MAX_BODY_BYTES, parseAnnounce, parseScrape, scrapeUrl } from '../discovery/tracker-http.ts';
import type { SessionCore } from './core.ts';
import type { Entry } from './entry.ts';
import { type TrackerAnswer, UdpAnnounces, type UdpCarrier } from './udp-announces.ts';

const MAX_REQUESTS = 50;
const MAX_REDIRECTS = 5;
const USER_AGENT = 'Shoal/0.1';
/** One of many; trackers refuse requests without any. */
const GENERIC_USER_AGENT = 'curl/7.88.1';

export class AnnounceQueue {
  readonly #core: SessionCore;
  readonly #udp: UdpAnnounces;
  readonly #due = new Heap();
  readonly #entries = new Map<number, Entry>();
  readonly #exchanges = new Map<Entry, Map<number, Exchange>>();
  /** Good-byes of many torrents at once; announces that are due wait in `#due`. */
  #waiting: Exchange[] = [];
  /** Exchanges under way. */
  requestCount = 0;
  /** Called when the last exchange has ended. */
  onIdle: (() => void) | null = null;

  constructor(core: SessionCore) {
    this.#core = core;
    this.#udp = new UdpAnnounces(core);
  }

  /** By what UDP trackers are reached; null (at first): by nothing yet. */
  set udp(carrier: UdpCarrier | null) {
    this.#udp.udp = carrier;
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

  /** True: it was a UDP tracker's answer. */
  datagram(now: number, bytes: Uint8Array, ip: string, port: number): boolean {
    return this.#udp.datagram(now, bytes, ip, port);
  }

  run(now: number): void {
    this.#udp.run(now);
    while (this.#due.minKey <= now && this.requestCount < MAX_REQUESTS) {
      const entry = this.#entries.get(this.#due.minId)!;
      entry.finder.announcer.tick(now);
      this.schedule(entry);
    }
  }

  nextAt(): number {
    return Math.min(this.requestCount < MAX_REQUESTS ? this.#due.minKey : Infinity, this.#udp.nextAt());
  }

  ask(entry: Entry, request: TrackerRequest): void {
    const exchange = new Exchange(this, entry, request);
    if (this.requestCount < MAX_REQUESTS) this.#start(exchange);
    else this.#waiting.push(exchange);
  }

  /** True: the tracker may have heard it. */
  abandon(entry: Entry, id: number): boolean {
    const waits = this.#waiting.findIndex((one) => one.entry === entry && one.request.id === id);
    if (waits >= 0) {
      this.#waiting.splice(waits, 1);
      return false;
    }
    const exchange = this.#exchanges.get(entry)?.get(id);
    if (exchange === undefined) return false;
    const heard = exchange.abort();
    this.#ended(exchange);
    return heard;
  }

  /** Gives up every exchange; for a session that has waited long enough. */
  abortAll(): void {
    this.#waiting = [];
    for (const exchanges of this.#exchanges.values()) for (const exchange of exchanges.values()) exchange.abort();
    this.#exchanges.clear();
    this.requestCount = 0;
  }

  /** One has its answer: `tell` gives it to the announcer. */
  over(exchange: Exchange, tell: (now: number) => void): void {
    this.#core.begin();
    this.#ended(exchange);
    tell(this.#core.turn.now);
    if (this.#entries.has(exchange.entry.number)) this.schedule(exchange.entry);
    if (this.requestCount === 0) this.onIdle?.();
  }

  #start(exchange: Exchange): void {
    const { entry, request } = exchange;
    this.requestCount++;
    const exchanges = this.#exchanges.get(entry) ?? new Map<number, Exchange>();
    this.#exchanges.set(entry, exchanges);
    exchanges.set(request.id, exchange);
    exchange.abort = request.protocol === 'udp' ? this.#udp.start(request, exchange) : this.#get(exchange);
  }

  #get(exchange: Exchange): () => boolean {
    const { announce, family, infoHash, timeoutMs, url } = exchange.request;
    const request = {
      url: announce === null ? scrapeUrl(url, [infoHash])! : announceUrl(url, announce),
      headers: { 'user-agent': this.#core.options.anonymous ? GENERIC_USER_AGENT : USER_AGENT, accept: '*/*' },
      timeoutMs,
      maxBytes: MAX_BODY_BYTES,
      maxRedirects: MAX_REDIRECTS,
      origin: 'tracker' as const,
      family,
    };
    const handle = this.#core.ports.http.get(request, (fault, response) => {
      if (response === null) exchange.failed(fault!);
      else if (announce === null) exchange.scraped(parseScrape(response.status, response.body, infoHash));
      else exchange.answered(parseAnnounce(response.status, response.body, response.remoteIp), response.remoteIp);
    });
    return () => handle.abort();
  }

  #ended(exchange: Exchange): void {
    const { entry, request } = exchange;
    const exchanges = this.#exchanges.get(entry);
    if (exchanges === undefined || !exchanges.delete(request.id)) return;
    if (exchanges.size === 0) this.#exchanges.delete(entry);
    this.requestCount--;
    const next = this.#waiting.shift();
    if (next !== undefined) this.#start(next);
  }
}

/** One request of a torrent, from the asking to the answer. */
class Exchange implements TrackerAnswer {
  readonly entry: Entry;
  readonly request: TrackerRequest;
  /** Gives it up. True: the tracker may have heard it. */
  abort: () => boolean = () => false;
  readonly #queue: AnnounceQueue;

  constructor(queue: AnnounceQueue, entry: Entry, request: TrackerRequest) {
    this.#queue = queue;
    this.entry = entry;
    this.request = request;
  }

  answered(reply: AnnounceReply, remoteIp: string): void {
    this.#queue.over(this, (now) => this.entry.finder.announcer.answered(this.request.id, now, reply, remoteIp));
  }

  scraped(reply: ScrapeReply): void {
    this.#queue.over(this, (now) => this.entry.finder.announcer.scraped(this.request.id, now, reply));
  }

  failed(fault: IoFault): void {
    this.#queue.over(this, (now) => this.entry.finder.announcer.failed(this.request.id, now, fault));
  }
}
