/** What the tests of a hostile world share: torrents made by hand, processes with a Session, waiting, skipping with a reason. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type TestContext, test } from 'vitest';

export const AGENT: string = fileURLToPath(new URL('agent.mjs', import.meta.url));

// ---------------------------------------------------------------------------------------------------------- torrents

export type Bencodable = number | string | Uint8Array | readonly Bencodable[] | { readonly [key: string]: Bencodable };

/** Writes what it is given, legal or not: keys in byte order, nothing checked. */
export function bencode(value: Bencodable): Buffer {
  if (typeof value === 'number') return Buffer.from(`i${value}e`);
  if (typeof value === 'string') return bencode(Buffer.from(value));
  if (value instanceof Uint8Array) return Buffer.concat([Buffer.from(`${value.length}:`), value]);
  if (Array.isArray(value)) return Buffer.concat([Buffer.from('l'), ...value.map(bencode), Buffer.from('e')]);
  const entries = Object.entries(value as { [key: string]: Bencodable });
  entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const parts = entries.flatMap(([key, item]) => [bencode(key), bencode(item)]);
  return Buffer.concat([Buffer.from('d'), ...parts, Buffer.from('e')]);
}

export interface MadeFile {
  /** Below the torrent's own folder; empty: the torrent is this one file. */
  readonly path: readonly (string | Uint8Array)[];
  readonly bytes: Uint8Array;
  readonly attr?: string;
}

export interface Made {
  readonly name: string;
  readonly torrent: Buffer;
  readonly info: Buffer;
  readonly infoHash: string;
  readonly files: readonly MadeFile[];
  readonly pieceLength: number;
}

export interface MakeOptions {
  readonly pieceLength?: number;
  readonly trackers?: readonly (readonly string[])[];
  readonly extra?: { readonly [key: string]: Bencodable };
}

/** A v1 torrent of these files, with names as they are given. */
export function makeTorrent(name: string, files: readonly MadeFile[], options: MakeOptions = {}): Made {
  const { pieceLength = 1 << 18, trackers = [], extra = {} } = options;
  const all = Buffer.concat(files.map(({ bytes }) => bytes));
  const digests: Buffer[] = [];
  for (let at = 0; at < all.length; at += pieceLength) {
    digests.push(
      createHash('sha1')
        .update(all.subarray(at, at + pieceLength))
        .digest(),
    );
  }
  const single = files.length === 1 && files[0]!.path.length === 0;
  const info = bencode({
    name,
    'piece length': pieceLength,
    pieces: Buffer.concat(digests),
    ...(single
      ? { length: all.length }
      : {
          files: files.map(({ path, bytes, attr }) => ({
            length: bytes.length,
            path: path as Bencodable,
            ...(attr === undefined ? {} : { attr }),
          })),
        }),
    ...extra,
  });
  const outer: { [key: string]: Bencodable } = {};
  if (trackers.length > 0) {
    outer['announce'] = trackers[0]![0]!;
    outer['announce-list'] = trackers;
  }
  const head = bencode({ ...outer, info: 0 });
  const at = head.indexOf('4:infoi0e');
  const torrent = Buffer.concat([head.subarray(0, at + 6), info, head.subarray(at + 9)]);
  return { name, torrent, info, infoHash: createHash('sha1').update(info).digest('hex'), files, pieceLength };
}

/** A torrent of one file of random bytes. */
export function makeFile(name: string, bytes: number, options: MakeOptions = {}): Made {
  return makeTorrent(name, [{ path: [], bytes: randomBytes(bytes) }], options);
}

/** Puts the files of a torrent where a seed finds them. */
export function layOut(made: Made, folder: string): void {
  for (const { path, bytes } of made.files) {
    const full = join(folder, made.name, ...path.map(String));
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, bytes);
  }
}

/** Compares every byte. */
export function sameBytes(made: Made, folder: string): boolean {
  return made.files.every(({ path, bytes }) => {
    const full = join(folder, made.name, ...path.map(String));
    return existsSync(full) && readFileSync(full).equals(bytes);
  });
}

export function source(made: Made): { base64: string } {
  return { base64: made.torrent.toString('base64') };
}

// --------------------------------------------------------------------------------------------------------- processes

export interface Stats {
  readonly state: string;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly downloaded: number;
  readonly uploaded: number;
  readonly hashFails: number;
  readonly resumed: number;
  readonly peers: number;
  readonly candidates: number;
  readonly piecesDone: number;
  readonly pieceCount: number;
  readonly checking: number | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly atMs: number;
}

export interface Usage {
  readonly atMs: number;
  readonly cpuMs: number;
  readonly rss: number;
  readonly maxRss: number;
  readonly delayP99Ms: number;
  readonly delayMaxMs: number;
  readonly delayCount: number;
}

export interface AgentOptions {
  /** Put before `node`: `['faketime', ...]`, `['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh']`. */
  readonly prefix?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly nodeArgs?: readonly string[];
}

/** A process with a Session in it (agent.mjs). */
export class Agent {
  readonly child: ChildProcess;
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  stderr = '';
  #last = 0;
  readonly #calls = new Map<number, { resolve: (value: never) => void; reject: (why: Error) => void }>();
  readonly #ready: Promise<void>;

  constructor(options: AgentOptions = {}) {
    const line = [...(options.prefix ?? []), process.execPath, ...(options.nodeArgs ?? []), AGENT];
    this.child = spawn(line[0]!, line.slice(1), {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
      env: { ...process.env, ...options.env },
    });
    this.child.stderr!.on('data', (data) => {
      this.stderr += String(data);
    });
    this.exit = new Promise((resolve) => {
      // not `close`: it does not come after a `disconnect`
      this.child.on('exit', async (code, signal) => {
        if (!this.child.stderr!.closed) await once(this.child.stderr!, 'close');
        for (const { reject } of this.#calls.values()) reject(new Error(`ended (${code ?? signal}): ${this.stderr}`));
        this.#calls.clear();
        resolve({ code, signal });
      });
    });
    this.#ready = new Promise((resolve) => {
      this.child.on(
        'message',
        (message: { ready?: true; id: number; value?: unknown; error?: { message: string } }) => {
          if (message.ready) return resolve();
          const call = this.#calls.get(message.id);
          this.#calls.delete(message.id);
          if (message.error !== undefined) call?.reject(Object.assign(new Error(message.error.message), message.error));
          else call?.resolve(message.value as never);
        },
      );
    });
  }

  async call<T = void>(op: string, ...args: unknown[]): Promise<T> {
    await Promise.race([this.#ready, this.exit]);
    if (!this.child.connected) throw new Error(`gone: ${this.stderr}`);
    const id = ++this.#last;
    return await new Promise<T>((resolve, reject) => {
      this.#calls.set(id, { resolve: resolve as never, reject });
      this.child.send({ id, op, args });
    });
  }

  /** Opens the session; gives "127.0.0.1:port". */
  async open(options: Record<string, unknown> = {}): Promise<string> {
    const found = await this.call<{ ip: string; port: number }[]>('open', { bind: ['127.0.0.1'], ...options });
    return found.length === 0 ? '' : `${found[0]!.ip}:${found[0]!.port}`;
  }

  add(made: Made, options: Record<string, unknown>): Promise<number> {
    return this.call<number>('add', source(made), options);
  }

  stats(index = 0): Promise<Stats> {
    return this.call<Stats>('stats', index);
  }

  usage(): Promise<Usage> {
    return this.call<Usage>('usage');
  }

  /** Asks until the statistics pass. */
  async until(index: number, test: (stats: Stats) => boolean, limitMs: number, what: string): Promise<Stats> {
    return await until(() => this.stats(index), test, limitMs, what);
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Closes the session and ends; fails when the process did not end well or said anything on stderr (L3). */
  async end(): Promise<void> {
    await this.call('close');
    this.child.disconnect();
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 5000);
    const { code, signal } = await this.exit;
    clearTimeout(timer);
    if (code !== 0 || this.stderr !== '') throw new Error(`ended with ${code ?? signal}: ${this.stderr}`);
  }
}

export async function until<T>(
  ask: () => T | Promise<T>,
  test: (value: T) => boolean,
  limitMs: number,
  what: string,
): Promise<T> {
  const end = performance.now() + limitMs;
  for (;;) {
    const value = await ask();
    if (test(value)) return value;
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}; last: ${JSON.stringify(value)}`);
    await pause(25);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// ----------------------------------------------------------------------------------------------------------- sandbox

/** A folder, its processes and mounts, all gone after `close`. */
export class World {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'shoal-world-'));
  readonly #agents: Agent[] = [];
  readonly #mounts: string[] = [];
  readonly #after: (() => void)[] = [];

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  make(...parts: string[]): string {
    const folder = this.path(...parts);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  agent(options: AgentOptions = {}): Agent {
    const agent = new Agent(options);
    this.#agents.push(agent);
    return agent;
  }

  /** A process that seeds these; gives it and its address. */
  async seed(
    torrents: readonly Made[],
    sessionOptions: Record<string, unknown> = {},
    agentOptions: AgentOptions = {},
  ): Promise<{ agent: Agent; peer: string }> {
    const folder = this.make(`seed-${this.#agents.length}`);
    const agent = this.agent(agentOptions);
    const peer = await agent.open(sessionOptions);
    for (const made of torrents) {
      layOut(made, folder);
      const index = await agent.add(made, { folder, existing: 'trust' });
      await agent.call('checked', index);
    }
    return { agent, peer };
  }

  tmpfs(name: string, size: string): string {
    const at = this.make(name);
    this.mount(['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', at], at);
    return at;
  }

  mount(args: readonly string[], at: string): void {
    execFileSync('mount', args);
    this.#mounts.push(at);
  }

  umount(at: string): void {
    execFileSync('umount', ['-l', at]);
    this.#mounts.splice(this.#mounts.indexOf(at), 1);
  }

  /** Runs when the world ends. */
  after(call: () => void): void {
    this.#after.push(call);
  }

  async close(): Promise<void> {
    for (const agent of this.#agents) {
      agent.kill('SIGKILL');
      agent.kill('SIGCONT');
    }
    await Promise.all(this.#agents.map(({ exit }) => exit));
    for (const call of this.#after.reverse()) call();
    for (const at of [...this.#mounts].reverse()) this.umount(at);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A test with a world of its own, so that several may wait at the same time (`it.concurrent`). */
export const it = test.extend<{ world: World }>({
  world: async ({ task: _ }, use) => {
    const world = new World();
    await use(world);
    await world.close();
  },
});

// ------------------------------------------------------------------------------------------------------------- skips

export const isRoot: boolean = process.getuid?.() === 0;

export function has(program: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(join(folder, program)));
}

let mountable: boolean | null = null;

/** Whether file systems can be mounted here: root, and not kept from it by a container. */
export function canMount(): boolean {
  if (mountable !== null) return mountable;
  mountable = false;
  if (!isRoot || !has('mount')) return false;
  const at = mkdtempSync(join(tmpdir(), 'shoal-mount-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', at], { stdio: 'ignore' });
    execFileSync('umount', [at], { stdio: 'ignore' });
    mountable = true;
  } catch {
    // no right to
  }
  rmSync(at, { recursive: true, force: true });
  return mountable;
}

/** Skips the test, saying why, unless all is given. */
export function needs(skip: TestContext['skip'], ...given: readonly (readonly [boolean, string])[]): void {
  for (const [there, what] of given) skip(!there, `needs ${what}`);
}
