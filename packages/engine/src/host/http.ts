/**
 * HTTP for trackers, torrent files and routers, on node:http and node:https, with limits of its own: the whole exchange has a
 * deadline, the body a cap that counts unpacked bytes as they come, redirects are followed here and not below.
 *
 * Names are resolved here and the address is pinned for the connection, so that what was judged is what is connected.
 * A redirect leads from a public server to a private or local address never, and only ever to http or https. What a torrent
 * names in the local network is asked for only where it looks like a tracker.
 * Certificates are verified; there is no switch. Connections are not kept.
 */

import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { createGunzip, createInflate, type Gunzip, type Inflate } from 'node:zlib';
import type { IoFault } from '../base/errors.ts';
import type { Http, HttpHandle, HttpRequest, HttpResponse } from '../base/ports.ts';
import type { Egress } from './egress.ts';
import { errorCode, fault, faultOf } from './fault.ts';
import { isPrivateAddress } from './private-address.ts';
import { plainIp } from './tcp.ts';

const MAX_TIMEOUT_MS = 600_000;
const MAX_HEADER_BYTES = 16_384;

type Done = (fault: IoFault | null, response: HttpResponse | null) => void;
/** Names to addresses; the Net port's. */
export type Resolve = (host: string, done: (fault: IoFault | null, ips: readonly string[]) => void) => void;

export class HostHttp implements Http {
  readonly #resolve: Resolve;
  readonly #isPrivate: (ip: string) => boolean;
  readonly #egress: Egress;
  readonly #running = new Set<Exchange>();

  /** `isPrivate`: which addresses a public server may not lead to. */
  constructor(resolve: Resolve, egress: Egress, isPrivate: (ip: string) => boolean = isPrivateAddress) {
    this.#resolve = resolve;
    this.#egress = egress;
    this.#isPrivate = isPrivate;
    egress.onChange(() => {
      for (const exchange of [...this.#running]) exchange.egressChanged();
    });
  }

  get(request: HttpRequest, done: Done): HttpHandle {
    const exchange: Exchange = new Exchange(request, this.#resolve, this.#egress, this.#isPrivate, (why, response) => {
      this.#running.delete(exchange);
      done(why, response);
    });
    this.#running.add(exchange);
    return {
      abort: () => {
        this.#running.delete(exchange);
        return exchange.abort();
      },
    };
  }

  close(): void {
    for (const exchange of this.#running) exchange.abort();
    this.#running.clear();
  }
}

/** One request with its redirects. */
class Exchange {
  readonly #request: HttpRequest;
  readonly #resolve: Resolve;
  readonly #egress: Egress;
  readonly #isPrivate: (ip: string) => boolean;
  readonly #done: Done;
  readonly #timer: NodeJS.Timeout;
  #sent: http.ClientRequest | null = null;
  #unzip: Gunzip | Inflate | null = null;
  /** The address it leaves from, where that is not the system's choice. */
  #local: string | null = null;
  #over = false;
  #redirects = 0;
  /** A server of the chain had a public address. */
  #wasPublic = false;
  #shown: string;

  constructor(request: HttpRequest, resolve: Resolve, egress: Egress, isPrivate: (ip: string) => boolean, done: Done) {
    this.#egress = egress;
    this.#isPrivate = isPrivate;
    this.#request = request;
    this.#resolve = resolve;
    this.#done = done;
    this.#shown = shownUrl(request.url);
    const timeoutMs = Math.min(Math.max(request.timeoutMs, 1), MAX_TIMEOUT_MS);
    this.#timer = setTimeout(() => {
      this.#fail(fault('ETIMEOUT', `${this.#shown}: no whole answer within ${Math.round(timeoutMs / 1000)} s`));
    }, timeoutMs);
    setImmediate(() => this.#go(request.url, null));
  }

  /** True: a server may have got a request. */
  abort(): boolean {
    const socket = this.#sent?.socket ?? null;
    const heard = this.#redirects > 0 || (socket !== null && !socket.connecting && socket.bytesWritten > 0);
    this.#over = true;
    clearTimeout(this.#timer);
    this.#sent?.destroy();
    this.#unzip?.destroy();
    return heard;
  }

  /** Ends it when it left from an address that went. */
  egressChanged(): void {
    if (this.#local === null || this.#egress.holds(this.#local)) return;
    this.#fail(fault('ENETDOWN', `${this.#shown}: the address it left from is gone`));
  }

  #fail(why: IoFault): void {
    if (this.#over) return;
    this.abort();
    this.#done(why, null);
  }

  #go(text: string, base: URL | null): void {
    if (this.#over) return;
    let url: URL;
    try {
      url = base === null ? new URL(text) : new URL(text, base);
    } catch {
      this.#fail(fault(base === null ? 'EBADURL' : 'EREDIRECT', `${this.#shown}: not a URL`));
      return;
    }
    if (base !== null) this.#shown = `${shownUrl(this.#request.url)} (redirected to ${shownUrl(url.href)})`;
    if (url.protocol !== 'http:' && url.protocol !== 'https:') {
      this.#fail(fault(base === null ? 'EBADURL' : 'EREDIRECT', `${this.#shown}: only http and https are served`));
      return;
    }
    const host = url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname;
    if (this.#request.origin === 'gateway' && (net.isIP(host) === 0 || !this.#isPrivate(host))) {
      this.#fail(fault('ELOCAL', `${this.#shown}: a router is at an address of the local network`));
      return;
    }
    this.#resolve(host, (why, ips) => {
      if (this.#over) return;
      const usable = this.#usable(url, ips);
      if (why !== null) this.#fail(fault(why.code, `${this.#shown}: ${why.message}`));
      else if (usable.length > 0) this.#connect(url, host, usable);
      else if (ips.length > 0 && ips.every(this.#isPrivate) && this.#wasPublic) {
        this.#fail(fault('EREDIRECT', `${this.#shown}: a public server may not lead to a local address`));
      } else if (this.#request.origin === 'tracker' && ips.some(this.#isPrivate) && !TRACKER_PATH.test(url.pathname)) {
        this.#fail(fault('ELOCAL', `${this.#shown}: no tracker's path, and at a local address`));
      } else if (this.#request.family !== null && ips.every((ip) => net.isIP(ip) !== this.#request.family)) {
        this.#fail(fault('ENOFAMILY', `${this.#shown} has no IPv${this.#request.family} address`));
      } else this.#fail(fault('ENOTFOUND', `${this.#shown}: no address that can be reached from here`));
    });
  }

  /** Those of the family that was asked for, and that we may leave for; after a public server, public ones only. */
  #usable(url: URL, ips: readonly string[]): string[] {
    const { family, origin } = this.#request;
    const publicOnly = this.#wasPublic || (origin === 'tracker' && !TRACKER_PATH.test(url.pathname));
    return ips.filter((ip) => {
      if (this.#egress.towards(ip) === undefined) return false;
      if (family !== null && net.isIP(ip) !== family) return false;
      return !(publicOnly && this.#isPrivate(ip));
    });
  }

  #connect(url: URL, host: string, reachable: readonly string[]): void {
    const local = this.#egress.towards(reachable[0]!) ?? null;
    this.#local = local;
    // one local address serves one family
    const ips = local === null ? reachable : reachable.filter((ip) => net.isIP(ip) === net.isIP(local));
    const secure = url.protocol === 'https:';
    const { method = 'GET', body } = this.#request;
    const length = body === undefined ? {} : { 'content-length': body.length };
    const options: https.RequestOptions = {
      method,
      host,
      port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
      path: url.pathname + url.search,
      headers: { 'accept-encoding': 'gzip, deflate', ...this.#request.headers, ...length, connection: 'close' },
      agent: false,
      maxHeaderSize: MAX_HEADER_BYTES,
      // pinned: what was resolved and judged above is what is connected to
      lookup: (_host, how, found) => {
        const all = ips.map((address) => ({ address, family: net.isIP(address) }));
        if (how.all === true) found(null, all);
        else found(null, all[0]!.address, all[0]!.family);
      },
      ...(local === null ? {} : { localAddress: local }),
    };
    if (url.username !== '') {
      options.auth = `${decodeText(url.username)}:${decodeText(url.password)}`;
    }
    if (secure && net.isIP(host) === 0) options.servername = host;
    try {
      const sent = (secure ? https : http).request(options);
      this.#sent = sent;
      sent.on('error', (error) => {
        if (this.#sent === sent) this.#fail(this.#faultOf(error));
      });
      sent.on('response', (response) => this.#answered(url, response));
      sent.end(body);
    } catch (error) {
      this.#fail(this.#faultOf(error));
    }
  }

  #answered(url: URL, response: http.IncomingMessage): void {
    if (this.#over) {
      response.destroy();
      return;
    }
    const remoteIp = plainIp(response.socket.remoteAddress ?? '');
    if (remoteIp !== '' && !this.#isPrivate(remoteIp)) this.#wasPublic = true;
    const status = response.statusCode ?? 0;
    const location = response.headers.location;
    if (location !== undefined && [301, 302, 303, 307, 308].includes(status)) {
      this.#redirects += 1;
      const before = this.#sent;
      this.#sent = null;
      before?.on('error', () => {});
      before?.destroy();
      if (this.#redirects > this.#request.maxRedirects || this.#request.origin === 'gateway') {
        this.#fail(fault('EREDIRECT', `${this.#shown}: more than ${this.#request.maxRedirects} redirects`));
      } else this.#go(location, url);
      return;
    }
    this.#collect(response, status, remoteIp);
  }

  #collect(response: http.IncomingMessage, status: number, remoteIp: string): void {
    const cap = this.#request.maxBytes;
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    let raw = 0;
    const take = (chunk: Uint8Array): void => {
      bytes += chunk.length;
      if (bytes > cap) this.#tooBig();
      else if (!this.#over) chunks.push(chunk);
    };
    const finish = (): void => {
      if (this.#over) return;
      this.#over = true;
      clearTimeout(this.#timer);
      const body = new Uint8Array(bytes);
      let at = 0;
      for (const chunk of chunks) {
        body.set(chunk, at);
        at += chunk.length;
      }
      this.#done(null, { status, headers: plainHeaders(response), body, remoteIp });
    };
    response.on('error', (error) => this.#fail(this.#faultOf(error)));
    response.on('aborted', () => this.#fail(fault('ECONNRESET', `${this.#shown}: the answer was cut off`)));
    const encoding = (response.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
    if (encoding === 'identity' || encoding === '') {
      response.on('data', take);
      response.on('end', finish);
      return;
    }
    if (encoding !== 'gzip' && encoding !== 'x-gzip' && encoding !== 'deflate') {
      this.#fail(fault('EBADHTTP', `${this.#shown}: content encoding "${encoding.slice(0, 40)}" was not asked for`));
      return;
    }
    const unzip = encoding === 'deflate' ? createInflate() : createGunzip();
    this.#unzip = unzip;
    unzip.on('data', take);
    unzip.on('end', finish);
    unzip.on('error', (error) => {
      this.#fail(fault('EBADHTTP', `${this.#shown}: the packed answer is broken (${error.message.slice(0, 80)})`));
    });
    response.on('data', (chunk: Uint8Array) => {
      raw += chunk.length;
      // packing adds a few bytes at most
      if (raw > cap + 4096) this.#tooBig();
    });
    response.pipe(unzip);
  }

  #tooBig(): void {
    this.#fail(fault('ETOOBIG', `${this.#shown}: the answer is larger than ${this.#request.maxBytes} bytes`));
  }

  #faultOf(error: unknown): IoFault {
    const code = errorCode(error);
    const text = error instanceof Error ? error.message : String(error);
    if (TLS_CODES.test(code)) return fault('ETLS', `${this.#shown}: the certificate is refused: ${text.slice(0, 200)}`);
    if (code === 'EPROTO' || code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS')) {
      return fault('ETLS', `${this.#shown}: no secure connection: ${text.slice(0, 200)}`);
    }
    if (code.startsWith('HPE_')) return fault('EBADHTTP', `${this.#shown}: the answer is no HTTP`);
    if (error instanceof AggregateError) return this.#faultOf(error.errors[0]);
    return faultOf(error, `get ${this.#shown}`);
  }
}

/** What a tracker in the local network is asked for: .../announce, /announce.php?..., /scrape. */
const TRACKER_PATH = /\/(announce|scrape)[^/]*$/;

const TLS_CODES =
  /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|HOSTNAME_MISMATCH|INVALID_PURPOSE|INVALID_CA|PATH_LENGTH|CRL_|ALTNAME/;

function plainHeaders(response: http.IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [name, value] of Object.entries(response.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return headers;
}

/** Without secrets: a passkey stands in path or query. */
function shownUrl(text: string): string {
  try {
    const url = new URL(text);
    return `${url.protocol}//${url.host}`.slice(0, 200);
  } catch {
    return text.slice(0, 100);
  }
}

function decodeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
