/**
 * Port mapping by UPnP IGD 1 and 2, for IPv4 and IPv6: searches for the router, reads its description, asks one question
 * and then for the mappings, one exchange at a time. What is asked of the service is the talk's.
 *
 *   searching --answer of the gateway (at once), or of others (when the search is over)--> describing
 *       | nobody                                                   | no service: the next who answered
 *       '--> rest <-- all services and devices refused -- asking <-'
 *
 * Invariant: only addresses that answered the search themselves are spoken with, in local networks (IPv6: in that of our own
 * address), and a description or control URL that leads elsewhere is dropped (DEMANDS A18). Limits: 8 devices, 4 services
 * each, MAX_BODY bytes an answer.
 */

import { utf8Decode } from '../base/bytes.ts';
import type { Rng } from '../base/random.ts';
import { type MapJob, MappingPair } from './port-map-pair.ts';
import {
  errorText,
  formatGatewayUrl,
  type GatewayUrl,
  readDescription,
  readSearchReply,
  readSoapReply,
  searchPacket,
  soapBody,
  type UpnpService,
} from './upnp-messages.ts';
import type { UpnpAction, UpnpTalk } from './upnp-talk.ts';

/** One exchange over HTTP. */
export interface UpnpRequest {
  readonly id: number;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Null: a GET. */
  readonly body: Uint8Array | null;
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

export interface UpnpSink {
  /** To the multicast group, from the address that faces the router; the bytes are the callee's. */
  onUpnpSearch(bytes: Uint8Array): void;
  /** To be answered by `response`, later. */
  onUpnpRequest(request: UpnpRequest): void;
  onUpnpChanged(): void;
}

export interface UpnpOptions {
  readonly talk: UpnpTalk;
  /** Our address, which is to be reached: IP text. */
  readonly local: string;
  /** The router, where it is known. */
  readonly gateway: string | null;
  readonly rng: Rng;
  readonly sink: UpnpSink;
}

const SEARCH_AT_MS: readonly number[] = [0, 500, 1500, 3000];
const SEARCH_MS = 5_500;
const REST_MS = 600_000;
const MAX_DEVICES = 8;
const MAX_REPLIES = 64;
/** A description with all its services takes some 5 KB. */
const MAX_BODY = 131_072;
const TIMEOUT_MS = 5_000;
const BYE_TIMEOUT_MS = 1_500;
const MAX_CONFLICTS = 6;
const REFUSED_MS = 600_000;

type State = 'idle' | 'searching' | 'describing' | 'asking';

interface Waiting {
  readonly id: number;
  /** Null: the description. */
  readonly action: UpnpAction | null;
  /** Null: the question. */
  readonly job: MapJob | null;
}

export class UpnpMapper {
  readonly pair: MappingPair = new MappingPair();
  /** The router that is spoken with. */
  device: string | null = null;
  failed = false;
  error: string | null = null;
  state: State = 'idle';
  readonly #options: UpnpOptions;
  #beganAt = 0;
  #searches = 0;
  #replyCount = 0;
  #devices: GatewayUrl[] = [];
  /** How many of the devices were tried. */
  #tried = 0;
  #services: UpnpService[] = [];
  #waiting: Waiting | null = null;
  #lastId = 0;
  #restUntil = -Infinity;
  #questionDue = false;
  #conflicts = 0;

  constructor(options: UpnpOptions) {
    this.#options = options;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** An answer to a search, or what claims to be one. */
  datagram(now: number, bytes: Uint8Array, ip: string): void {
    if (this.state !== 'searching' || ++this.#replyCount > MAX_REPLIES || ip === this.#options.local) return;
    const { local, talk } = this.#options;
    const url = readSearchReply(bytes, ip, local, talk.kind);
    if (url === null || this.#devices.length >= MAX_DEVICES) return;
    if (this.#devices.some(({ host }) => host === ip)) return;
    const { gateway } = this.#options;
    if (ip !== gateway) this.#devices.push(url);
    else {
      this.#devices.unshift(url);
      this.#tryNext(now);
    }
  }

  /** An exchange has ended; status 0 and no body: without an answer. */
  response(now: number, id: number, status: number, body: Uint8Array | null): void {
    const waiting = this.#waiting;
    if (waiting === null || waiting.id !== id) return;
    this.#waiting = null;
    if (waiting.action === null) this.#described(now, status, body);
    else if (waiting.job === null) this.#answer(now, waiting.action, status, body);
    else this.#answered(now, waiting.action, waiting.job, status, body);
    this.#pump(now);
    this.#options.sink.onUpnpChanged();
  }

  tick(now: number): void {
    if (this.state === 'searching') this.#search(now);
    this.#pump(now);
  }

  nextAt(): number {
    if (this.state === 'searching') return this.#beganAt + (SEARCH_AT_MS[this.#searches] ?? SEARCH_MS);
    if (this.#waiting !== null) return Infinity;
    if (this.state === 'asking' && this.#questionDue) return 0;
    const due = this.pair.nextAt();
    return due === Infinity ? Infinity : Math.max(due, this.#restUntil);
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** 0: what is mapped is given back. */
  setPort(now: number, port: number): void {
    this.pair.setPort(now, port);
    this.#conflicts = 0;
    if (port === 0) {
      this.#questionDue = false;
      if (this.state !== 'asking') this.state = 'idle';
      this.#letGo(now);
    }
    this.#pump(now);
  }

  /** As the world sees us. */
  get externalIp(): string | null {
    return this.#options.talk.externalIp;
  }

  /** Asks for nothing any more, and gives nothing back. */
  stop(): void {
    this.#waiting = null;
    this.#questionDue = false;
    this.state = 'idle';
    this.pair.clear();
  }

  get isIdle(): boolean {
    return this.#waiting === null && !this.pair.all.some(({ drop }) => drop);
  }

  // --------------------------------------------------------------------------------------------------------- private

  #pump(now: number): void {
    if (this.#waiting !== null || this.state === 'searching' || this.state === 'describing') return;
    if (this.state === 'asking' && this.#questionDue) {
      this.#questionDue = false;
      return this.#act(this.#options.talk.question, null);
    }
    if (now < this.#restUntil && this.pair.port !== 0) return;
    const job = this.pair.next(now);
    if (job === null) return;
    if (this.state === 'idle') return this.#begin(now);
    const action = this.#options.talk.ask(job);
    if (action !== null) return this.#act(action, job);
    this.pair.unmapped(now, job);
    this.#pump(now);
  }

  /** The end does not wait for what is under way: what that brings about is given back as well. */
  #letGo(now: number): void {
    const job = this.#waiting?.job ?? null;
    if (job?.unmap === true || (job !== null && !this.#options.talk.canUndo(job))) return;
    this.#waiting = null;
    if (job?.mapping.externalPort === 0) this.pair.mapped(now, job, job.externalPort, 0, false);
  }

  #begin(now: number): void {
    if (this.pair.port === 0) return this.pair.clear();
    this.state = 'searching';
    this.#beganAt = now;
    this.#searches = 0;
    this.#replyCount = 0;
    this.#devices = [];
    this.#tried = 0;
    this.#services = [];
    this.#search(now);
  }

  #search(now: number): void {
    const atMs = SEARCH_AT_MS[this.#searches];
    if (atMs !== undefined) {
      if (now < this.#beganAt + atMs) return;
      this.#searches++;
      const { sink, talk } = this.#options;
      for (const target of talk.kind.targets) sink.onUpnpSearch(searchPacket(talk.kind, target));
      return;
    }
    if (now >= this.#beganAt + SEARCH_MS) this.#tryNext(now);
  }

  /** The next device that answered. */
  #tryNext(now: number): void {
    const url = this.#devices[this.#tried++];
    if (url === undefined) return this.#fail(now, this.error ?? 'no router answers');
    this.state = 'describing';
    this.device = url.host;
    const id = ++this.#lastId;
    this.#waiting = { id, action: null, job: null };
    const headers = { 'accept-encoding': 'identity' };
    const request = { id, url: formatGatewayUrl(url), headers, body: null };
    this.#options.sink.onUpnpRequest({ ...request, timeoutMs: TIMEOUT_MS, maxBytes: MAX_BODY });
  }

  #described(now: number, status: number, body: Uint8Array | null): void {
    const url = this.#devices[this.#tried - 1]!;
    const { kind } = this.#options.talk;
    this.#services = status === 200 && body !== null ? readDescription(utf8Decode(body), url, kind) : [];
    if (this.#services.length === 0) {
      this.error = body === null ? 'the router does not answer' : 'the router has no mappings to give';
      return this.#tryNext(now);
    }
    this.#useService();
  }

  #useService(): void {
    this.state = 'asking';
    this.#questionDue = true;
    this.#conflicts = 0;
    this.#options.talk.begin(this.#services[0]!);
  }

  #answer(now: number, { names }: UpnpAction, status: number, body: Uint8Array | null): void {
    const reply = body === null ? null : readSoapReply(status, utf8Decode(body), names);
    const why = this.#options.talk.answered(reply);
    if (why === null || this.pair.port === 0) return;
    this.error = why;
    if (this.#nextService()) return;
    this.state = 'idle';
    this.failed = true;
    this.#restUntil = now + REFUSED_MS;
  }

  #act(action: UpnpAction, job: MapJob | null): void {
    const service = this.#services[0]!;
    const id = ++this.#lastId;
    this.#waiting = { id, action, job };
    this.#options.sink.onUpnpRequest({
      id,
      url: formatGatewayUrl(service.control),
      headers: {
        'accept-encoding': 'identity',
        'content-type': 'text/xml; charset="utf-8"',
        soapaction: `"${service.type}#${action.name}"`,
      },
      body: soapBody(service, action.name, action.values),
      timeoutMs: this.pair.port === 0 ? BYE_TIMEOUT_MS : TIMEOUT_MS,
      maxBytes: MAX_BODY,
    });
  }

  #answered(now: number, action: UpnpAction, job: MapJob, status: number, body: Uint8Array | null): void {
    if (job.unmap) return this.pair.unmapped(now, job);
    const { talk } = this.#options;
    const reply = body === null ? null : readSoapReply(status, utf8Decode(body), action.names);
    if (reply === null) return this.#broken(now, job, body === null);
    if (reply.errorCode !== 0) return this.#refused(now, action, job, reply.errorCode);
    const port = talk.granted(job, action.name, reply);
    if (port === 0) return this.#broken(now, job, false);
    this.failed = false;
    this.error = null;
    this.pair.mapped(now, job, port, talk.leaseS, false);
  }

  #refused(now: number, action: UpnpAction, job: MapJob, code: number): void {
    const refusal = this.#options.talk.refused(job, action.name, code);
    if (refusal === 'again') return;
    if (refusal === 'taken' && this.#conflicts++ < MAX_CONFLICTS) {
      return this.pair.conflict(now, job, 10_000 + this.#options.rng.below(50_000));
    }
    this.error = errorText(code);
    if (!this.pair.isMapped && this.pair.port !== 0 && this.#nextService()) return;
    this.pair.failed(now, job, this.error, REFUSED_MS);
    if (!this.pair.isMapped) this.failed = true;
  }

  /** Goes on with the next service of the device. False: there is none. */
  #nextService(): boolean {
    if (this.#services.length <= 1) return false;
    this.#services.shift();
    this.#useService();
    return true;
  }

  /** No answer, or none that makes sense: looks for the router anew, unless it has given something before. */
  #broken(now: number, job: MapJob, isSilent: boolean): void {
    this.error = isSilent ? 'the router does not answer' : 'the answer makes no sense';
    this.pair.failed(now, job, this.error, REFUSED_MS);
    if (this.pair.port === 0) this.state = 'idle';
    else if (this.pair.isMapped) {
      // it may have come back elsewhere: its description's port changes with restarts
      this.pair.forgotten(now);
      this.#restUntil = now + TIMEOUT_MS;
      this.state = 'idle';
    } else this.#tryNext(now);
  }

  #fail(now: number, error: string): void {
    this.state = 'idle';
    this.error = error;
    this.failed = true;
    this.device = null;
    this.#restUntil = now + REST_MS;
    this.#options.sink.onUpnpChanged();
  }
}
