/**
 * One test's world: its own folder, its own loopback addresses, its tracker and its clients. Whatever was started is
 * stopped when the test ends, and when it fails the ends of all logs go into the failure.
 */

import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { inject, type TestContext, test } from 'vitest';
import { startTracker, type Tracker } from '../../../packages/shoal/dist/tracker/index.js';
import { inNamespace, lanPid, type Need, whyNot } from './available.ts';
import { Capture } from './capture.ts';
import { addressOf, type Client, type Finding, type Place } from './clients/client.ts';
import { type ClientKind, makeClient } from './clients/index.ts';
import { Shoal, type ShoalOptions, ShoalRun } from './clients/shoal.ts';
import { ClosedDht, DHT_NODES } from './closed-dht.ts';
import { KrpcProbe } from './krpc-probe.ts';
import { Opentracker } from './opentracker.ts';
import { type CompareOptions, differences, type Payload } from './payload.ts';
import { freePort } from './ports.ts';
import { makeTemp, removeTemp } from './temp.ts';
import { type MadeTorrent, makeTorrent, type TorrentOptions } from './torrent.ts';
import { until } from './wait.ts';

export interface SharedPayload {
  readonly payload: Payload;
  readonly pieceLength: number;
  /** Hex of all piece hashes. */
  readonly pieces: string;
}

declare module 'vitest' {
  export interface ProvidedContext {
    readonly shared: SharedPayload;
  }
}

/** How long a transfer may take: generous, since what is tested is that it happens at all. */
export function transferMs(bytes: number): number {
  return 60_000 + (bytes / (2 << 20)) * 1000;
}

/** The other machine of the local network: scripts/interop.mjs. */
const LAN_OTHER = '192.168.99.2';
/** Nobody listens there. */
const NO_TRACKER = 'http://127.0.0.1:9/announce';

let addressCount = 0;

/** A loopback address that no other test uses: worker w has 10.77.w.1 to .254, or else 127.77.w.x. */
function nextAddress(): string {
  const worker = Number(process.env['VITEST_POOL_ID'] ?? 1) % 250;
  addressCount = (addressCount % 250) + 1;
  return `${inNamespace ? 10 : 127}.77.${worker}.${addressCount}`;
}

let networkCount = 0;

/** An address in a /24 that nothing else is in: many nodes take no two of one network. */
function nextNetwork(): string {
  const worker = Number(process.env['VITEST_POOL_ID'] ?? 1) % 100;
  networkCount = (networkCount % 250) + 1;
  return `${inNamespace ? 10 : 127}.${100 + worker}.${networkCount}.1`;
}

let lanCount = 0;

let probeCount = 0;

function nextProbeAddress(): string {
  const worker = Number(process.env['VITEST_POOL_ID'] ?? 1) % 20;
  const n = probeCount++ % 60_000;
  return `${inNamespace ? 10 : 127}.${220 + worker}.${n % 250}.${1 + Math.floor(n / 250)}`;
}

interface Running {
  readonly name: string;
  stop(): Promise<unknown>;
  tail(): string;
  status?(): Promise<string>;
}

export class Arena {
  readonly folder: string = makeTemp('t');
  readonly #running: Running[] = [];

  /** The payload that all tests share; nothing may change it. */
  get payload(): Payload {
    return inject('shared').payload;
  }

  /** A torrent of the shared payload, or of another. */
  torrent(options: Partial<TorrentOptions> = {}, payload?: Payload): MadeTorrent {
    const { pieceLength, pieces } = inject('shared');
    // rtorrent takes no torrent without one
    options = { tracker: NO_TRACKER, ...options };
    const path = join(this.makeFolder('torrent'), 'it.torrent');
    if (payload !== undefined) return makeTorrent(payload, path, { pieceLength, ...options });
    const known = options.pieceLength === undefined ? { pieces: Buffer.from(pieces, 'hex') } : {};
    return makeTorrent(this.payload, path, { pieceLength, ...known, ...options });
  }

  makeFolder(prefix: string): string {
    return mkdtempSync(join(this.folder, `${prefix.slice(0, 12)}-`));
  }

  async place(prefix: string, ip: string = nextAddress()): Promise<Place> {
    return { ip, port: await freePort(ip), home: this.makeFolder(prefix) };
  }

  /** A place of our own in the local network (scripts/interop.mjs), where multicast works. */
  async lanPlace(prefix: string): Promise<Place> {
    const worker = Number(process.env['VITEST_POOL_ID'] ?? 1) % 4;
    lanCount = (lanCount + 1) % 60;
    const ip = `192.168.99.${10 + 60 * worker + lanCount}`;
    const { status, stderr } = spawnSync('ip', ['addr', 'replace', `${ip}/24`, 'dev', 'lan0'], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`ip addr replace ${ip}: ${stderr}`);
    return await this.place(prefix, ip);
  }

  /** A client on the other machine of the local network; there is one address. */
  async lanClient(kind: ClientKind, finding: Finding): Promise<Client> {
    const enter = ['nsenter', `--net=/proc/${lanPid}/ns/net`];
    // nobody else is there but others of these
    const port = 20_000 + randomInt(40_000);
    return await this.#start(makeClient(kind, { ip: LAN_OTHER, port, home: this.makeFolder(kind), enter }, finding));
  }

  async tracker(): Promise<Tracker> {
    const tracker = await startTracker({ host: nextAddress(), intervalS: 4, minIntervalS: 1 });
    this.#running.push({
      name: 'tracker',
      stop: () => tracker.close(),
      tail: () => JSON.stringify(tracker.stats()),
    });
    return tracker;
  }

  async opentracker(infoHashes: readonly string[], place?: Place): Promise<Opentracker> {
    const tracker = new Opentracker(place ?? (await this.place('opentracker')));
    this.#running.push({ name: 'opentracker', stop: () => tracker.stop(), tail: () => tracker.tail() });
    await tracker.start(infoHashes);
    return tracker;
  }

  /** A node of the DHT that the test itself is, in a /24 of its own. */
  async probe(): Promise<KrpcProbe> {
    const probe = new KrpcProbe(nextProbeAddress());
    this.#running.push({ name: 'probe', stop: async () => probe.close(), tail: () => '' });
    return await probe.open();
  }

  /** Counts what leaves an address. */
  async capture(ip: string, words: readonly Uint8Array[]): Promise<Capture> {
    const capture = new Capture(ip, words, this.makeFolder('capture'));
    this.#running.push({ name: `capture ${ip}`, stop: () => capture.stop(), tail: () => capture.tail() });
    await capture.start();
    return capture;
  }

  /** Twelve libtorrent nodes that know each other. */
  async closedDht(): Promise<ClosedDht> {
    const nodes: string[] = [];
    for (let n = 0; n < DHT_NODES; n++) {
      const ip = nextNetwork();
      nodes.push(`${ip}:${await freePort(ip)}`);
    }
    const dht = new ClosedDht(nodes, this.makeFolder('dht'));
    this.#running.push({ name: 'DHT', stop: () => dht.stop(), tail: () => dht.tail() });
    await dht.start();
    return dht;
  }

  /** A client that is up and has nothing to do. */
  async client(kind: ClientKind | 'shoal', finding: Finding = {}): Promise<Client> {
    return await this.#start(makeClient(kind, await this.place(kind), finding));
  }

  async shoal(options: ShoalOptions = {}): Promise<Shoal> {
    const place = options.finding?.lsd === true ? this.lanPlace('shoal') : this.place('shoal');
    return await this.#start(new Shoal(await place, options));
  }

  /** Any other command of shoal's, to its end. */
  async run(args: readonly string[], timeoutMs = 60_000): Promise<ShoalRun> {
    const run = new ShoalRun(args, this.makeFolder('run'));
    this.#running.push({ name: `shoal ${args[0]}`, stop: () => run.program.stop(), tail: () => run.tail() });
    await until(`shoal ${args[0]} ends`, () => !run.program.running, { timeoutMs });
    return run;
  }

  /** Adds the torrent where the payload lies and waits until it is seeded. */
  async seed(client: Client, torrent: MadeTorrent, options: { uploadLimit?: number } = {}): Promise<void> {
    const { payload } = torrent;
    await client.add({ source: torrent.path, torrent, folder: payload.folder, ...options });
    await this.completed(client, torrent, `${client.kind} seeds`);
  }

  /** Adds the torrent (or a magnet link to it) to an empty folder, and returns that. */
  async leech(client: Client, torrent: MadeTorrent, options: LeechOptions = {}): Promise<string> {
    const folder = this.makeFolder('leech');
    const from = options.from ?? [];
    await client.add({
      source: options.magnet ?? torrent.path,
      torrent,
      folder,
      peers: client.takesPeers ? from.map(addressOf) : [],
    });
    return folder;
  }

  async completed(client: Client, torrent: MadeTorrent, what = `${client.kind} has all`): Promise<void> {
    let status = '';
    try {
      await until(what, () => client.complete(), { timeoutMs: transferMs(torrent.payload.bytes), everyMs: 100 });
    } catch (error) {
      status = await client.status().catch(() => 'no status');
      throw new Error(`${(error as Error).message}: ${status}`);
    }
  }

  /** Every byte in the folder is the payload's, and nothing else is there. */
  async same(torrent: MadeTorrent, folder: string, client?: Client, options: CompareOptions = {}): Promise<void> {
    const found = await differences(torrent.payload, folder, {
      emptyMayMiss: client?.omitsEmptyFiles ?? false,
      ...(client?.leaves === undefined ? {} : { mayHold: client.leaves }),
      ...options,
    });
    if (found.length > 0) {
      const shown = found.slice(0, 8).join('\n  ');
      throw new Error(`${client?.kind ?? 'the copy'} differs from the payload in ${found.length}:\n  ${shown}`);
    }
  }

  /** A copy of a folder's torrent files, for clients that write beside them. */
  copyPayload(payload: Payload): Payload {
    const folder = this.makeFolder('copy');
    for (const file of payload.files) {
      const target = join(folder, payload.name, ...file.path);
      mkdirSync(join(target, '..'), { recursive: true });
      copyFileSync(join(payload.folder, payload.name, ...file.path), target);
    }
    return { ...payload, folder };
  }

  keep(running: Running): void {
    this.#running.push(running);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#running.splice(0).map((one) => one.stop()));
    removeTemp(this.folder);
  }

  /** What everything that runs says of itself. */
  async report(): Promise<string> {
    const parts: string[] = [];
    for (const one of this.#running) {
      const status = one.status === undefined ? '' : await one.status().catch(() => 'no status');
      parts.push(`--- ${one.name} ${status}\n${one.tail()}`);
    }
    return parts.join('\n');
  }

  async #start<C extends Client>(client: C): Promise<C> {
    this.#running.push({
      name: `${client.kind} ${addressOf(client)}`,
      stop: () => client.stop(),
      tail: () => client.tail(),
      status: () => client.status(),
    });
    await client.start();
    return client;
  }
}

export interface LeechOptions {
  readonly magnet?: string;
  /** Clients to be connected to directly, by those that can be told. */
  readonly from?: readonly Client[];
}

/** A test against real programs: skipped with a reason where one is missing. */
export function interop(
  name: string,
  needs: readonly Need[],
  body: (arena: Arena) => Promise<void>,
  options: { timeout?: number } = {},
): void {
  test.concurrent(name, options, async (context: TestContext) => {
    for (const need of needs) {
      const reason = whyNot(need);
      if (reason !== null) context.skip(reason);
    }
    const arena = new Arena();
    try {
      await body(arena);
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error));
      failure.message += `\n${await arena.report()}`;
      throw failure;
    } finally {
      await arena.close();
    }
  });
}
