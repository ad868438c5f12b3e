/** The `shoal` command, as a user runs it, read through its --json lines. */

import { fileURLToPath } from 'node:url';
import { Program } from '../program.ts';
import { until } from '../wait.ts';
import type { AddRequest, Client, Finding, Place } from './client.ts';

export const SHOAL: string = fileURLToPath(new URL('../../../../packages/shoal/bin/shoal.js', import.meta.url));

/** Any line of --json; which fields there are, the type tells. */
export interface ShoalLine {
  readonly type: string;
  readonly host?: string;
  readonly port?: number;
  readonly state?: string;
  readonly bytesDone?: number;
  readonly bytesTotal?: number;
  readonly downloaded?: number;
  readonly uploaded?: number;
  readonly hashFails?: number;
  readonly resumed?: number;
  readonly code?: string;
  readonly message?: string;
  readonly exitCode?: number;
  readonly [field: string]: unknown;
}

/** One run of the command with --json. */
export class ShoalRun {
  readonly program: Program;
  readonly lines: ShoalLine[] = [];
  readonly startedMs: number = performance.now();
  /** From its start until it said that it has the torrent's metadata; null: not yet. */
  foundMs: number | null = null;
  /** From its start until it said that it has a peer; it says so once a second. */
  connectedMs: number | null = null;
  readonly #stray: string[] = [];

  constructor(args: readonly string[], home: string, onLine: (line: ShoalLine) => void = () => {}) {
    this.program = new Program(process.execPath, [SHOAL, ...args, '--json'], {
      home,
      onLine: (text) => {
        try {
          const line = JSON.parse(text) as ShoalLine;
          this.lines.push(line);
          if (line.type === 'progress') this.#progress(line);
          onLine(line);
        } catch {
          this.#stray.push(text);
        }
      },
    });
  }

  /** The last line of a type. */
  last(type: string): ShoalLine | undefined {
    return this.lines.findLast((line) => line.type === type);
  }

  /** Rejects when the command ends without it. */
  async line(type: string, timeoutMs: number): Promise<ShoalLine> {
    return await until(
      `shoal says ${type}`,
      () => {
        const line = this.last(type);
        if (line === undefined && !this.program.running) {
          throw new Error(`shoal ended (${this.program.exitCode}) before it said ${type}`);
        }
        return line;
      },
      { timeoutMs, everyMs: 10, detail: () => JSON.stringify(this.lines.at(-1) ?? null) },
    );
  }

  #progress({ bytesTotal, peers }: ShoalLine): void {
    const ms = performance.now() - this.startedMs;
    if (bytesTotal! > 0) this.foundMs ??= ms;
    if (Number(peers) > 0) this.connectedMs ??= ms;
  }

  tail(): string {
    const lines = this.lines.slice(-12).map((line) => JSON.stringify(line));
    return [...lines, ...this.#stray, this.program.tail()].join('\n').trim();
  }
}

export interface ShoalOptions {
  /** Default: `seed` for a folder that is to be seeded, `get --seed` for the rest. */
  readonly command?: 'seed' | 'get' | 'get --seed';
  /** Default: trackers, and peers it is told of, alone. */
  readonly finding?: Finding;
}

/** The options that leave out what a test is not about. */
export function findingArgs(finding: Finding = {}): string[] {
  const { dht, pex, lsd } = finding;
  const args = dht === undefined ? ['--no-dht'] : dht.flatMap((node) => ['--dht-bootstrap', node]);
  if (pex !== true) args.push('--no-pex');
  if (lsd !== true) args.push('--no-lsd');
  return args;
}

export class Shoal implements Client {
  readonly kind = 'shoal';
  readonly takesPeers = true;
  readonly omitsEmptyFiles = false;
  readonly place: Place;
  readonly #command: 'seed' | 'get' | 'get --seed';
  readonly #finding: Finding;
  run: ShoalRun | null = null;

  constructor(place: Place, options: ShoalOptions = {}) {
    this.place = place;
    this.#command = options.command ?? 'get --seed';
    this.#finding = options.finding ?? {};
  }

  async start(): Promise<void> {}

  async add(request: AddRequest): Promise<void> {
    const { ip, port, home } = this.place;
    const common = [
      '--no-port-map',
      '--bind',
      ip,
      '--port',
      `${port}`,
      ...(request.peers ?? []).flatMap((peer) => ['--peer', peer]),
    ];
    common.push(...findingArgs(this.#finding));
    if (request.uploadLimit !== undefined) common.push('--up', `${request.uploadLimit}`);
    if (this.#command === 'seed') {
      this.run = new ShoalRun(['seed', request.source, request.folder, ...common], home);
      return;
    }
    const seed = this.#command === 'get' ? [] : ['--seed'];
    const args = ['get', request.source, '-o', request.folder, '--state', `${home}/state`, ...seed, ...common];
    this.run = new ShoalRun(args, home);
  }

  async hasMetadata(): Promise<boolean> {
    return this.run !== null && this.run.foundMs !== null;
  }

  async complete(): Promise<boolean> {
    const { run } = this;
    if (run === null) return false;
    if (!run.program.running) {
      const code = run.program.exitCode;
      if (code !== 0) throw new Error(`shoal ended with exit code ${code}`);
      return run.last('done') !== undefined && run.last('end')?.exitCode === 0;
    }
    if (this.#command === 'get') return false;
    const progress = run.last('progress');
    const all = progress !== undefined && progress.bytesDone === progress.bytesTotal && progress.state === 'seeding';
    return all && (this.#command === 'seed' || run.last('done') !== undefined);
  }

  async status(): Promise<string> {
    return JSON.stringify(this.run?.lines.at(-1) ?? null);
  }

  async stop(): Promise<void> {
    await this.run?.program.stop();
  }

  tail(): string {
    return this.run?.tail() ?? '';
  }
}
