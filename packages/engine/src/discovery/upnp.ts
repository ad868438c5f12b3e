/**
 * Port mapping by UPnP IGD 1 and 2: searches for the router, reads its description, asks for the external address and the
 * mappings, one exchange at a time.
 *
 *   searching --answer of the gateway (at once), or of others (when the search is over)--> describing
 *       | nobody                                                   | no service: the next who answered
 *       '--> rest <-- all services and devices refused -- asking <-'
 *
 * Invariant: only addresses that answered the search themselves are spoken with, in local networks, and a description or
 * control URL that leads elsewhere is dropped (DEMANDS A18). Limits: 8 devices, 4 services each, MAX_BODY bytes an answer.
 */

import { utf8Decode } from '../base/bytes.ts';
import { isUsablePeerAddress, parseIp } from '../base/ip.ts';
import type { Rng } from '../base/random.ts';
import { LEASE_S, type MapJob, MappingPair } from './port-map-pair.ts';
import {
  errorText,
  formatGatewayUrl,
  type GatewayUrl,
  readDescription,
  readPort,
  readSearchReply,
  readSoapReply,
  SEARCH_TARGETS,
  type SoapReply,
  searchPacket,
  soapBody,
  type UpnpService,
  versionOf,
} from './upnp-messages.ts';

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
  /** Our address, to which is forwarded: IPv4 text. */
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
const DESCRIPTION = 'Shoal';
/** An element without content that a router answers with. */
const GRANTED = 'AddPortMappingResponse';

const UpnpError = {
  UnknownAction: 401,
  InvalidArgs: 402,
  ActionFailed: 501,
  NotImplemented: 602,
  Conflict: 718,
  OnlyPermanent: 725,
  UsedByRouter: 729,
} as const;

type State = 'idle' | 'searching' | 'describing' | 'asking';

interface Waiting {
  readonly id: number;
  /** Null: the description. */
  readonly action: string | null;
  readonly job: MapJob | null;
}

export class UpnpMapper {
  readonly pair: MappingPair = new MappingPair();
  externalIp: string | null = null;
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
  #addressDue = false;
  #leaseS = LEASE_S;
  /** Of version 2 only: it may choose another port by itself. */
  #mayChoose = false;
  #conflicts = 0;

  constructor(options: UpnpOptions) {
    this.#options = options;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** An answer to a search, or what claims to be one. */
  datagram(now: number, bytes: Uint8Array, ip: string): void {
    if (this.state !== 'searching' || ++this.#replyCount > MAX_REPLIES || ip === this.#options.local) return;
    const url = readSearchReply(bytes, ip);
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
    else if (waiting.job === null) this.#addressed(status, body);
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
    if (this.state === 'asking' && this.#addressDue) return 0;
    const due = this.pair.nextAt();
    return due === Infinity ? Infinity : Math.max(due, this.#restUntil);
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** 0: what is mapped is given back. */
  setPort(now: number, port: number): void {
    this.pair.setPort(now, port);
    this.#conflicts = 0;
    if (port === 0) {
      this.#addressDue = false;
      if (this.state !== 'asking') this.state = 'idle';
      const job = this.#waiting?.job ?? null;
      if (job?.unmap !== true) this.#waiting = null;
      // the answer is not waited for: what is being mapped is given back as well
      if (job !== null && !job.unmap && job.mapping.externalPort === 0) {
        this.pair.mapped(now, job, job.externalPort, 0, false);
      }
    }
    this.#pump(now);
  }

  /** Asks for nothing any more, and gives nothing back. */
  stop(): void {
    this.#waiting = null;
    this.#addressDue = false;
    this.state = 'idle';
    this.pair.clear();
  }

  get isIdle(): boolean {
    return this.#waiting === null && !this.pair.all.some(({ drop }) => drop);
  }

  // --------------------------------------------------------------------------------------------------------- private

  #pump(now: number): void {
    if (this.#waiting !== null || this.state === 'searching' || this.state === 'describing') return;
    if (this.state === 'asking' && this.#addressDue) {
      this.#addressDue = false;
      return this.#act('GetExternalIPAddress', null, {});
    }
    if (now < this.#restUntil && this.pair.port !== 0) return;
    const job = this.pair.next(now);
    if (job === null) return;
    if (this.state === 'idle') this.#begin(now);
    else this.#askFor(job);
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
      for (const target of SEARCH_TARGETS) this.#options.sink.onUpnpSearch(searchPacket(target));
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
    this.#services = status === 200 && body !== null ? readDescription(utf8Decode(body), url) : [];
    if (this.#services.length === 0) {
      this.error = body === null ? 'the router does not answer' : 'the router has no mappings to give';
      return this.#tryNext(now);
    }
    this.#useService();
  }

  #useService(): void {
    this.state = 'asking';
    this.#addressDue = true;
    this.#leaseS = LEASE_S;
    this.#conflicts = 0;
    this.#mayChoose = versionOf(this.#services[0]!) >= 2;
  }

  #addressed(status: number, body: Uint8Array | null): void {
    const reply = body === null ? null : readSoapReply(status, utf8Decode(body), ['NewExternalIPAddress']);
    const text = reply?.values.get('NewExternalIPAddress') ?? '';
    const ip = parseIp(text);
    if (ip !== null && isUsablePeerAddress(ip, 1)) this.externalIp = text;
  }

  #askFor(job: MapJob): void {
    const NewProtocol = job.mapping.protocol.toUpperCase();
    const place = { NewRemoteHost: '', NewExternalPort: `${job.externalPort}`, NewProtocol };
    if (job.unmap) return this.#act('DeletePortMapping', job, place);
    const isRenewal = job.mapping.externalPort !== 0;
    this.#act(this.#mayChoose && !isRenewal ? 'AddAnyPortMapping' : 'AddPortMapping', job, {
      ...place,
      NewInternalPort: `${job.internalPort}`,
      NewInternalClient: this.#options.local,
      NewEnabled: '1',
      NewPortMappingDescription: DESCRIPTION,
      NewLeaseDuration: `${this.#leaseS}`,
    });
  }

  #act(action: string, job: MapJob | null, values: Readonly<Record<string, string>>): void {
    const service = this.#services[0]!;
    const id = ++this.#lastId;
    this.#waiting = { id, action, job };
    this.#options.sink.onUpnpRequest({
      id,
      url: formatGatewayUrl(service.control),
      headers: {
        'accept-encoding': 'identity',
        'content-type': 'text/xml; charset="utf-8"',
        soapaction: `"${service.type}#${action}"`,
      },
      body: soapBody(service, action, values),
      timeoutMs: this.pair.port === 0 ? BYE_TIMEOUT_MS : TIMEOUT_MS,
      maxBytes: MAX_BODY,
    });
  }

  #answered(now: number, action: string, job: MapJob, status: number, body: Uint8Array | null): void {
    if (job.unmap) return this.pair.unmapped(now, job);
    const names = ['NewReservedPort', GRANTED];
    const reply = body === null ? null : readSoapReply(status, utf8Decode(body), names);
    if (reply === null) return this.#broken(now, job, body === null);
    if (reply.errorCode !== 0) return this.#refused(now, action, job, reply.errorCode);
    const port = externalPortOf(action, job, reply);
    if (port === 0) return this.#broken(now, job, false);
    this.failed = false;
    this.error = null;
    this.pair.mapped(now, job, port, this.#leaseS, false);
  }

  #refused(now: number, action: string, job: MapJob, code: number): void {
    const isUnknown = code === UpnpError.UnknownAction || code === UpnpError.NotImplemented;
    if (action === 'AddAnyPortMapping' && (isUnknown || code === UpnpError.ActionFailed)) {
      this.#mayChoose = false;
      return;
    }
    if (this.#leaseS > 0 && (code === UpnpError.OnlyPermanent || code === UpnpError.InvalidArgs)) {
      this.#leaseS = 0;
      return;
    }
    if ((code === UpnpError.Conflict || code === UpnpError.UsedByRouter) && this.#conflicts++ < MAX_CONFLICTS) {
      return this.pair.conflict(now, job, 10_000 + this.#options.rng.below(50_000));
    }
    this.error = errorText(code);
    if (this.#services.length > 1 && !this.pair.isMapped) {
      this.#services.shift();
      return this.#useService();
    }
    this.pair.failed(now, job, this.error, REFUSED_MS);
    if (!this.pair.isMapped) this.failed = true;
  }

  /** No answer, or none that makes sense: looks for the router anew, unless it has given something before. */
  #broken(now: number, job: MapJob, isSilent: boolean): void {
    this.error = isSilent ? 'the router does not answer' : 'the answer makes no sense';
    this.pair.failed(now, job, this.error, REFUSED_MS);
    if (this.pair.isMapped) {
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

function externalPortOf(action: string, job: MapJob, reply: SoapReply): number {
  if (action === 'AddAnyPortMapping') return readPort(reply.values.get('NewReservedPort'));
  return reply.values.has(GRANTED) ? job.externalPort : 0;
}
