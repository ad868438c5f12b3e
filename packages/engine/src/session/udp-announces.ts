/**
 * Carries asks to UDP trackers: looks up their names, waits for the session's UDP sockets, and hands what it gets to the
 * machine that speaks the protocol (discovery/tracker-udp.ts).
 *
 * Limit: an ask waits SOCKET_MS for a socket of its family, then it fails.
 */

import type { IoFault } from '../base/errors.ts';
import { proxyLabel } from '../base/proxy.ts';
import { type AnnounceReply, NO_FAMILY, type ScrapeReply, type TrackerRequest } from '../discovery/tracker.ts';
import { type UdpTrackerSink, UdpTrackers } from '../discovery/tracker-udp.ts';
import { parseUdpUrl, type UdpTrackerUrl } from '../discovery/tracker-udp-packets.ts';
import type { SessionCore } from './core.ts';

/** The session's UDP sockets as trackers need them. */
export interface UdpCarrier {
  /** False: the datagram was not taken. */
  send(bytes: Uint8Array, ip: string, port: number): boolean;
  readonly families: { readonly v4: boolean; readonly v6: boolean };
}

/** Who hears how one exchange with a tracker ended; one call, of one of them. */
export interface TrackerAnswer {
  answered(reply: AnnounceReply, remoteIp: string): void;
  scraped(reply: ScrapeReply): void;
  failed(fault: IoFault): void;
}

/** Sockets are bound within milliseconds, or not at all. */
const SOCKET_MS = 5_000;
/** How often it is looked for them meanwhile. */
const LOOK_MS = 100;

interface Pending {
  readonly request: TrackerRequest;
  readonly url: UdpTrackerUrl;
  readonly answer: TrackerAnswer;
  /** Null: the name is being looked up. */
  ips: readonly string[] | null;
  /** When it is no longer waited for a socket. */
  untilMs: number;
  /** The machine has it. */
  asked: boolean;
}

export class UdpAnnounces implements UdpTrackerSink {
  udp: UdpCarrier | null = null;
  readonly #core: SessionCore;
  readonly #machine: UdpTrackers;
  readonly #pending = new Map<number, Pending>();
  #waitingCount = 0;
  #lookAtMs = Number.POSITIVE_INFINITY;
  #lastId = 0;

  constructor(core: SessionCore) {
    this.#core = core;
    this.#machine = new UdpTrackers({ random: core.ports.random, sink: this });
  }

  /** Begins; `answer` hears of the end, never from inside. Returns how to give it up, which says whether it was heard. */
  start(request: TrackerRequest, answer: TrackerAnswer): () => boolean {
    const id = ++this.#lastId;
    const url = parseUdpUrl(request.url) ?? NOWHERE;
    this.#pending.set(id, { request, url, answer, ips: null, untilMs: 0, asked: false });
    const done = (fault: IoFault | null, ips: readonly string[]) => {
      this.#core.begin();
      this.#resolved(id, fault, ips);
    };
    this.#core.ports.net.resolve(url.host, done, 'trackers');
    return () => {
      const pending = this.#pending.get(id);
      if (pending === undefined) return false;
      this.#take(id);
      return pending.asked && this.#machine.abandon(id);
    };
  }

  /** True: it was a tracker's. */
  datagram(now: number, bytes: Uint8Array, ip: string, port: number): boolean {
    return this.#machine.datagram(now, bytes, ip, port);
  }

  run(now: number): void {
    if (now >= this.#lookAtMs) {
      this.#lookAtMs = this.#waitingCount > 0 ? now + LOOK_MS : Number.POSITIVE_INFINITY;
      for (const [id, { ips, asked }] of [...this.#pending]) if (ips !== null && !asked) this.#send(id, now);
    }
    this.#machine.tick(now);
  }

  nextAt(): number {
    return Math.min(this.#lookAtMs, this.#machine.nextAt());
  }

  // ------------------------------------------------------------------------------------------------- the machine's sink

  onUdpTrackerSend(bytes: Uint8Array, ip: string, port: number): boolean {
    return this.udp?.send(bytes, ip, port) ?? false;
  }

  onUdpTrackerAnnounce(id: number, reply: AnnounceReply, remoteIp: string): void {
    this.#take(id)?.answer.answered(reply, remoteIp);
  }

  onUdpTrackerScrape(id: number, replies: readonly ScrapeReply[]): void {
    this.#take(id)?.answer.scraped(replies[0]!);
  }

  onUdpTrackerFault(id: number, fault: IoFault): void {
    this.#take(id)?.answer.failed(fault);
  }

  // --------------------------------------------------------------------------------------------------------- private

  #resolved(id: number, fault: IoFault | null, ips: readonly string[]): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    const { family, url } = pending.request;
    if (pending.url === NOWHERE) return this.#fail(id, 'EBADURL', `${url}: a UDP tracker has a host and a port`);
    if (fault !== null) return this.#fail(id, fault.code, fault.message);
    if (this.#core.wayOf('udp-tracker') === 'off') {
      return this.#fail(id, 'EPROXYDENIED', `${proxyLabel(this.#core.proxy!)} carries no UDP`);
    }
    const { now } = this.#core.turn;
    pending.ips = ips.filter((ip) => ip.includes(':') === (family === 6));
    if (pending.ips.length === 0) return this.#fail(id, NO_FAMILY, `${pending.url.host} has no IPv${family} address`);
    pending.untilMs = now + SOCKET_MS;
    this.#waitingCount++;
    this.#send(id, now);
  }

  /** Hands it to the machine once there is a socket. */
  #send(id: number, now: number): void {
    const pending = this.#pending.get(id)!;
    const { request, url, ips, untilMs } = pending;
    const { udp } = this;
    const ready = udp !== null && (request.family === 6 ? udp.families.v6 : udp.families.v4);
    if (!ready && now < untilMs) {
      this.#lookAtMs = Math.min(this.#lookAtMs, now + LOOK_MS);
    } else if (!ready) {
      this.#fail(id, NO_FAMILY, `this session has no UDP socket for IPv${request.family}`);
    } else {
      this.#waitingCount--;
      pending.asked = true;
      this.#machine.ask(now, {
        id,
        addresses: ips!,
        port: url.port,
        data: url.data,
        timeoutMs: request.timeoutMs,
        announce: request.announce,
        scrape: request.announce === null ? [request.infoHash] : [],
      });
    }
  }

  #fail(id: number, code: string, message: string): void {
    this.#take(id)?.answer.failed({ code, message });
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    if (pending.ips !== null && !pending.asked && pending.untilMs > 0) this.#waitingCount--;
    return pending;
  }
}

/** What a URL that cannot be read stands for. */
const NOWHERE: UdpTrackerUrl = { host: '0.0.0.0', port: 0, data: new Uint8Array(0) };
