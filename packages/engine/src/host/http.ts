/**
 * HTTP for trackers, torrent files and routers, on node:http and node:https, with limits of its own: the whole exchange has a
 * deadline, the body a cap that counts unpacked bytes as they come, redirects are followed here and not below.
 *
 * Names are resolved here and the address is pinned for the connection, so that what was judged is what is connected.
 * A redirect leads from a public server to a private or local address never, and only ever to http or https. What a torrent
 * names in the local network is asked for only where it looks like a tracker.
 * Through a proxy names are the proxy's to look up, so that only names and addresses as they stand are judged; what they
 * stand for there is for the proxy to allow. An HTTP proxy is asked for `http:` as HTTP has it, for `https:` by CONNECT.
 * Certificates are verified; there is no switch. Connections are not kept.
 */

import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { createGunzip, createInflate, type Gunzip, type Inflate } from 'node:zlib';
import type { IoFault } from '../base/errors.ts';
import { isSameSubnet, parseIp } from '../base/ip.ts';
import type { Http, HttpHandle, HttpRequest, HttpResponse } from '../base/ports.ts';
import { type ProxySettings, proxyLabel, type Traffic } from '../base/proxy.ts';
import { userOf } from '../transport/proxy.ts';
import { basicAuth } from '../transport/proxy-http.ts';
import { type Egress, noWay } from './egress.ts';
import { errorCode, fault, faultOf } from './fault.ts';
import { isLocalName, isPrivateAddress } from './private-address.ts';
import { ProxyServer } from './proxy-server.ts';
import { openTunnel, type Tunnel } from './proxy-tunnel.ts';
import { plainIp } from './tcp.ts';

const MAX_TIMEOUT_MS = 600_000;
const MAX_HEADER_BYTES = 16_384;

type Done = (fault: IoFault | null, response: HttpResponse | null) => void;
/** Names to addresses; the Net port's. */
export type Resolve = (host: string, done: (fault: IoFault | null, ips: readonly string[]) => void) => void;

export class HostHttp implements Http {
  readonly #gate: Gate;
  readonly #running = new Set<Exchange>();

  /** `resolve`: by this machine's name servers. `isPrivate`: which addresses a public server may not lead to. */
  constructor(
    resolve: Resolve,
    egress: Egress,
    isPrivate: (ip: string) => boolean = isPrivateAddress,
    server: ProxyServer = new ProxyServer(resolve),
  ) {
    this.#gate = { resolve, egress, server, isPrivate };
    egress.onChange(() => {
      for (const exchange of [...this.#running]) exchange.egressChanged();
    });
  }

  get(request: HttpRequest, done: Done): HttpHandle {
    const exchange: Exchange = new Exchange(request, this.#gate, (why, response) => {
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

interface Gate {
  readonly resolve: Resolve;
  readonly egress: Egress;
  readonly server: ProxyServer;
  readonly isPrivate: (ip: string) => boolean;
}

/** One request with its redirects. */
class Exchange {
  readonly #request: HttpRequest;
  readonly #resolve: Resolve;
  readonly #egress: Egress;
  readonly #server: ProxyServer;
  readonly #isPrivate: (ip: string) => boolean;
  readonly #done: Done;
  readonly #timer: NodeJS.Timeout;
  readonly #traffic: Traffic;
  /** What all of it goes through, or null. */
  readonly #proxy: ProxySettings | null;
  #closeTunnel: () => void = () => {};
  #sent: http.ClientRequest | null = null;
  #unzip: Gunzip | Inflate | null = null;
  /** The address it leaves from, where that is not the system's choice. */
  #local: string | null = null;
  #over = false;
  #redirects = 0;
  /** A server of the chain had a public address. */
  #wasPublic = false;
  #shown: string;

  constructor(request: HttpRequest, gate: Gate, done: Done) {
    this.#egress = gate.egress;
    this.#server = gate.server;
    this.#isPrivate = gate.isPrivate;
    this.#resolve = gate.resolve;
    this.#request = request;
    this.#done = done;
    this.#traffic = TRAFFIC[request.origin];
    this.#proxy = this.#egress.wayOf(this.#traffic) === 'direct' ? null : this.#egress.proxy;
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
    this.#closeTunnel();
    this.#sent?.destroy();
    this.#unzip?.destroy();
    return heard;
  }

  /** Ends it when it goes by a way that is closed now. */
  egressChanged(): void {
    if (!this.#egress.allows(this.#traffic, this.#proxy)) {
      this.#fail(fault('ENETDOWN', `${this.#shown}: the way it went is closed`));
      return;
    }
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
    if (this.#request.origin === 'gateway' && !this.#isGateway(host)) {
      this.#fail(fault('ELOCAL', `${this.#shown}: a router is at an address of the local network`));
      return;
    }
    if (this.#proxy !== null) {
      this.#through(this.#proxy, url, host);
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

  /** Judges what is known of a server that only the proxy looks up, and asks the proxy for it. */
  #through(proxy: ProxySettings, url: URL, host: string): void {
    const { family, origin } = this.#request;
    const isAddress = net.isIP(host) !== 0;
    const isLocal = isAddress ? this.#isPrivate(host) : isLocalName(host);
    if (this.#egress.wayOf(this.#traffic) === 'off') {
      this.#fail(faultOf(this.#egress.closedBy('such requests'), `get ${this.#shown}`));
    } else if (isLocal && this.#wasPublic) {
      this.#fail(fault('EREDIRECT', `${this.#shown}: a public server may not lead to a local address`));
    } else if (isLocal && origin === 'tracker' && !TRACKER_PATH.test(url.pathname)) {
      this.#fail(fault('ELOCAL', `${this.#shown}: no tracker's path, and at a local address`));
    } else if (family !== null && (isAddress ? net.isIP(host) : 4) !== family) {
      // which family a name is reached by is the proxy's choice; it is asked once, for IPv4
      this.#fail(fault('ENOFAMILY', `${this.#shown}: not over IPv${family} through a proxy`));
    } else if (isAddress && this.#egress.blocks(host)) {
      this.#fail(fault('ENOTFOUND', `${this.#shown}: no address that can be reached from here`));
    } else if (proxy.kind === 'http' && url.protocol === 'http:') this.#askProxy(proxy, url, host);
    else {
      const port = portOf(url);
      this.#closeTunnel = openTunnel(proxy, { host, port }, this.#server, this.#egress, (why, tunnel) => {
        this.#closeTunnel = () => {};
        if (this.#over) tunnel?.socket.destroy();
        else if (tunnel === null) this.#fail(fault(why!.code, `${this.#shown}: ${why!.message}`));
        else this.#inTunnel(url, host, tunnel);
      });
    }
  }

  #inTunnel(url: URL, host: string, { socket, localIp }: Tunnel): void {
    this.#local = plainIp(localIp);
    const isAddress = net.isIP(host) !== 0;
    const secure = url.protocol === 'https:';
    this.#send(url, host, {
      createConnection: () =>
        secure ? tls.connect({ socket, host, ...(isAddress ? {} : { servername: host }) }) : socket,
    });
    // it came paused, and stays so when its reader comes
    this.#sent?.once('socket', (inner) => inner.resume());
  }

  /** An HTTP proxy takes the whole URL. */
  #askProxy(proxy: ProxySettings, url: URL, host: string): void {
    this.#server.find(proxy, (why, ip) => {
      if (this.#over) return;
      const local = why === null ? this.#egress.from(ip) : undefined;
      if (why !== null || local === undefined) {
        const reason = why ?? faultOf(noWay(ip), `reach ${proxyLabel(proxy)}`);
        this.#fail(fault(reason.code, `${this.#shown}: ${reason.message}`));
        return;
      }
      this.#local = local;
      const login = userOf(proxy);
      this.#send(url, host, {
        agent: false,
        host: ip,
        port: proxy.port,
        path: `http://${url.host}${url.pathname}${url.search}`,
        headers: { host: url.host, ...(login === null ? {} : { 'proxy-authorization': basicAuth(login) }) },
        ...(local === null ? {} : { localAddress: local }),
      });
    });
  }

  #isGateway(host: string): boolean {
    if (net.isIP(host) === 0) return false;
    const [theirs, ours] = [parseIp(host), parseIp(this.#request.from ?? '')];
    return this.#isPrivate(host) || (theirs !== null && ours !== null && isSameSubnet(theirs, ours));
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
    const { from = null } = this.#request;
    if (from !== null && !this.#egress.holds(from)) {
      this.#fail(faultOf(noWay(reachable[0]!), `get ${this.#shown}`));
      return;
    }
    const local = from ?? this.#egress.towards(reachable[0]!) ?? null;
    this.#local = local;
    // one local address serves one family
    const ips = local === null ? reachable : reachable.filter((ip) => net.isIP(ip) === net.isIP(local));
    this.#send(url, host, {
      agent: false,
      // pinned: what was resolved and judged above is what is connected to
      lookup: (_host, how, found) => {
        const all = ips.map((address) => ({ address, family: net.isIP(address) }));
        if (how.all === true) found(null, all);
        else found(null, all[0]!.address, all[0]!.family);
      },
      ...(local === null ? {} : { localAddress: local }),
    });
  }

  /** `way`: how the server is reached. */
  #send(url: URL, host: string, way: https.RequestOptions): void {
    const secure = url.protocol === 'https:';
    const { method = 'GET', body } = this.#request;
    const options: https.RequestOptions = {
      method,
      host,
      port: portOf(url),
      path: url.pathname + url.search,
      maxHeaderSize: MAX_HEADER_BYTES,
      ...way,
      headers: {
        'accept-encoding': 'gzip, deflate',
        ...this.#request.headers,
        ...(body === undefined ? {} : { 'content-length': body.length }),
        ...(way.headers as http.OutgoingHttpHeaders | undefined),
        connection: 'close',
      },
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
      sent.on('response', (response) => this.#answered(url, host, response));
      sent.end(body);
    } catch (error) {
      this.#fail(this.#faultOf(error));
    }
  }

  #answered(url: URL, host: string, response: http.IncomingMessage): void {
    if (this.#over) {
      response.destroy();
      return;
    }
    const remoteIp = this.#proxy === null ? plainIp(response.socket.remoteAddress ?? '') : this.#ipOf(host);
    const isName = this.#proxy !== null && net.isIP(host) === 0;
    if (isName ? !isLocalName(host) : remoteIp !== '' && !this.#isPrivate(remoteIp)) this.#wasPublic = true;
    const status = response.statusCode ?? 0;
    if (status === 407 && this.#proxy?.kind === 'http') {
      this.#fail(
        fault('EPROXYAUTH', `${this.#shown}: ${proxyLabel(this.#proxy)} does not know this user and password`),
      );
      return;
    }
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

  /** Through a proxy: the address that was asked for, or the one that stands for the name. */
  #ipOf(host: string): string {
    return net.isIP(host) !== 0 ? host : (this.#server.names.addressOf(host) ?? '');
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
    if (this.#proxy?.kind === 'http' && code === 'ECONNREFUSED') {
      return fault('EPROXYDOWN', `${this.#shown}: ${faultOf(error, `reach ${proxyLabel(this.#proxy)}`).message}`);
    }
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

const TRAFFIC: Readonly<Record<HttpRequest['origin'], Traffic>> = {
  person: 'fetch',
  tracker: 'http-tracker',
  gateway: 'port-map',
};

function portOf(url: URL): number {
  return url.port !== '' ? Number(url.port) : url.protocol === 'https:' ? 443 : 80;
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
