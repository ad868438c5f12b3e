/**
 * A small tracker on node:http, for demos, tests and private swarms. It keeps everything in memory, and that bounded.
 *
 *     const tracker = await startTracker({ host: '127.0.0.1' });
 *     ... tracker.url ...
 *     await tracker.close();
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HttpFront, type TrackerStats } from './http-front.ts';
import { SwarmTable } from './swarm-table.ts';

export type { TrackerStats } from './http-front.ts';

export interface TrackerOptions {
  /** Address to listen on; default 127.0.0.1. '::' takes both families. */
  readonly host?: string;
  /** Default 0: one the system picks. */
  readonly port?: number;
  /** How often clients are to announce, in seconds; default 1800. */
  readonly intervalS?: number;
  /** How often they may; default 60, or `intervalS` if that is less. */
  readonly minIntervalS?: number;
  /** Info-hashes (hex) to track; default: all. */
  readonly allow?: Iterable<string>;
  readonly maxSwarms?: number;
  readonly maxPeersPerSwarm?: number;
  readonly maxPeers?: number;
}

export interface Tracker {
  /** Where to announce; names a loopback address when listening on all. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  stats(): TrackerStats;
  /** Stops listening and ends open connections. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A million peers are some 60 MB. */
const MAX_PEERS = 1_000_000;
const MAX_SWARMS = 100_000;
const MAX_PEERS_PER_SWARM = 20_000;
const MAX_CONNECTIONS = 2_000;
const SWEEP_MS = 30_000;
const HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5_000;
/** MAX_QUERY_LENGTH of the front, and a browser's idea of headers. */
const MAX_HEADER_BYTES = 16_384;

/** Rejects with the system's error when it cannot listen. */
export async function startTracker(options: TrackerOptions = {}): Promise<Tracker> {
  const host = options.host ?? '127.0.0.1';
  const intervalS = wholeSeconds(options.intervalS ?? 1800, 'intervalS');
  const table = new SwarmTable(
    {
      maxSwarms: options.maxSwarms ?? MAX_SWARMS,
      maxPeersPerSwarm: options.maxPeersPerSwarm ?? MAX_PEERS_PER_SWARM,
      maxPeers: options.maxPeers ?? MAX_PEERS,
      // one announce may be lost, and the next be late
      peerTtlS: 2 * intervalS + 60,
    },
    Math.random,
  );
  const front = new HttpFront(table, {
    intervalS,
    minIntervalS: wholeSeconds(options.minIntervalS ?? Math.min(60, intervalS), 'minIntervalS'),
    allow: options.allow === undefined ? null : new Set(Array.from(options.allow, (hex) => hex.toLowerCase())),
  });
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: HEADERS_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    (request, response) => serve(front, request, response),
  );
  server.maxConnections = MAX_CONNECTIONS;
  await listen(server, host, options.port ?? 0);
  const sweeper = setInterval(() => table.sweep(seconds()), SWEEP_MS);
  sweeper.unref();

  const port = (server.address() as AddressInfo).port;
  const close = (): Promise<void> =>
    new Promise((done) => {
      clearInterval(sweeper);
      server.close(() => done());
      server.closeAllConnections();
    });
  return { url: announceUrl(host, port), host, port, stats: () => front.stats(), close, [Symbol.asyncDispose]: close };
}

function serve(front: HttpFront, request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { Allow: 'GET, HEAD', 'Content-Length': 0, Connection: 'close' }).end();
    return;
  }
  const { status, type, body } = front.handle(request.url ?? '/', request.socket.remoteAddress ?? '', seconds());
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((done, fail) => {
    server.once('error', fail);
    server.listen(port, host, () => {
      server.off('error', fail);
      done();
    });
  });
}

function announceUrl(host: string, port: number): string {
  const named = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${named.includes(':') ? `[${named}]` : named}:${port}/announce`;
}

/** Monotonic. */
function seconds(): number {
  return Math.floor(performance.now() / 1000);
}

function wholeSeconds(value: number, name: string): number {
  if (!Number.isSafeInteger(value) || value < 1)
    throw new RangeError(`${name} is a whole number of seconds, at least 1`);
  return value;
}
