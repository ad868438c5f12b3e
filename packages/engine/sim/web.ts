/**
 * The virtual web: servers by host name, and the Http port of one process. A server answers with a status and a body, or
 * does what bad ones do: refuses, says nothing, sends too much.
 */

import type { IoFault } from '../src/base/errors.ts';
import type { Http, HttpHandle, HttpRequest, HttpResponse } from '../src/base/ports.ts';
import type { NetHost } from './host.ts';
import type { World } from './world.ts';

export interface WebRequest {
  readonly url: string;
  /** Who asks. */
  readonly ip: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly method: 'GET' | 'POST';
  /** Of a POST. */
  readonly body: Uint8Array | null;
}

export interface WebReply {
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** The server's own time to answer. */
  readonly delayMs?: number;
}

export interface WebServer {
  /** Null: it never answers. A string: the exchange fails with this errno. */
  answer(request: WebRequest): WebReply | string | null;
}

/** One way, to any server. */
const LATENCY_MS = 20;

export class SimWeb {
  readonly world: World;
  readonly servers: Map<string, WebServer> = new Map();
  requestCount = 0;

  constructor(world: World) {
    this.world = world;
  }
}

export class ProcessHttp implements Http {
  alive = true;
  readonly #web: SimWeb;
  readonly #host: NetHost;

  constructor(web: SimWeb, host: NetHost) {
    this.#web = web;
    this.#host = host;
  }

  get(request: HttpRequest, done: (fault: IoFault | null, response: HttpResponse | null) => void): HttpHandle {
    const world = this.#web.world;
    let over = false;
    const end = (code: string | null, response: HttpResponse | null): void => {
      if (over || !this.alive) return;
      over = true;
      world.mix(6, this.#host.id, response?.body.length ?? 0);
      done(code === null ? null : { code, message: `${request.url}: ${code}` }, response);
    };
    world.call(request.timeoutMs, () => end('ETIMEOUT', null));
    let heard = false;
    const onHeard = (): void => {
      heard = true;
    };
    this.#follow(request, request.url, request.maxRedirects, onHeard, end);
    return {
      abort: (): boolean => {
        over = true;
        return heard;
      },
    };
  }

  #follow(
    request: HttpRequest,
    url: string,
    redirects: number,
    onHeard: () => void,
    end: (code: string | null, response: HttpResponse | null) => void,
  ): void {
    const world = this.#web.world;
    const host = /^https?:\/\/([^/:?]+)/.exec(url)?.[1] ?? '';
    const server = this.#web.servers.get(host);
    if (!this.#host.online || server === undefined) {
      const code = this.#host.online ? 'ENOTFOUND' : 'ENETUNREACH';
      world.call(LATENCY_MS, () => end(code, null));
      return;
    }
    world.call(LATENCY_MS * 3, () => {
      if (!this.alive) return;
      this.#web.requestCount++;
      onHeard();
      const reply = server.answer({
        url,
        ip: this.#host.ip,
        headers: request.headers,
        method: request.method ?? 'GET',
        body: request.body ?? null,
      });
      if (reply === null) return;
      if (typeof reply === 'string') {
        world.call(LATENCY_MS, () => end(reply, null));
        return;
      }
      const to = reply.headers?.['location'];
      if (reply.status >= 300 && reply.status < 400 && to !== undefined) {
        if (redirects === 0) return end('EREDIRECTS', null);
        return this.#follow(request, to, redirects - 1, onHeard, end);
      }
      world.call(LATENCY_MS + (reply.delayMs ?? 0), () => {
        if (!this.#host.online) return end('ECONNRESET', null);
        if (reply.body.length > request.maxBytes) return end('ETOOBIG', null);
        end(null, {
          status: reply.status,
          headers: reply.headers ?? {},
          body: reply.body.slice(),
          remoteIp: '198.18.0.1',
        });
      });
    });
  }
}
