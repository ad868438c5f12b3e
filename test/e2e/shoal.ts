/** Runs the built command line as a process of its own, and reads what it says. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const BIN: string = fileURLToPath(new URL('../../bin/shoal.js', import.meta.url));

export interface Line {
  readonly v: number;
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Of stdout, when --json was asked. */
  readonly lines: readonly Line[];
}

/** For every command that talks to others: to this machine, and to whom it is told. */
export const LOCAL: readonly string[] = ['--bind', '127.0.0.1', '--no-dht', '--no-lsd'];

/** A running command. */
export class Shoal {
  readonly lines: Line[] = [];
  /** So far. */
  stderr = '';
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #waiting: { test: (line: Line) => boolean; resolve: (line: Line) => void; reject: (why: Error) => void }[] =
    [];

  constructor(args: readonly string[], env: Readonly<Record<string, string>>, cwd: string) {
    const child = spawn(process.execPath, [BIN, ...args], { cwd, env: { ...process.env, ...env } });
    this.#child = child;
    let stdout = '';
    child.stderr.on('data', (data) => {
      this.stderr += String(data);
    });
    createInterface({ input: child.stdout }).on('line', (text) => {
      stdout += `${text}\n`;
      if (args.includes('--json')) this.#onLine(JSON.parse(text) as Line);
    });
    this.ended = new Promise((resolve) => {
      child.on('close', (code) => {
        for (const { reject } of this.#waiting) reject(new Error(`ended with ${code}: ${stdout}${this.stderr}`));
        resolve({ code, stdout, stderr: this.stderr, lines: this.lines });
      });
    });
  }

  /** The first line, said or to be said, that passes. */
  line(type: string, test: (line: Line) => boolean = () => true): Promise<Line> {
    const passes = (line: Line): boolean => line.type === type && test(line);
    const said = this.lines.find(passes);
    if (said !== undefined) return Promise.resolve(said);
    return new Promise((resolve, reject) => this.#waiting.push({ test: passes, resolve, reject }));
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  #onLine(line: Line): void {
    this.lines.push(line);
    for (const waiter of [...this.#waiting]) {
      if (!waiter.test(line)) continue;
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.resolve(line);
    }
  }
}

/** A folder of its own for one test, with the processes started in it. */
export class Sandbox {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'shoal-e2e-'));
  readonly #running = new Set<Shoal>();

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  start(...args: string[]): Shoal {
    const env = { XDG_STATE_HOME: this.path('xdg'), NO_COLOR: '1', LC_ALL: 'C.UTF-8' };
    const shoal = new Shoal(args, env, this.folder);
    this.#running.add(shoal);
    void shoal.ended.then(() => this.#running.delete(shoal));
    return shoal;
  }

  run(...args: string[]): Promise<Ended> {
    return this.start(...args).ended;
  }

  /** A seed of `torrent` whose files are in `path`; gives its address. */
  async seed(torrent: string, path: string, ...more: string[]): Promise<{ peer: string; seed: Shoal }> {
    const seed = this.start('seed', torrent, path, ...LOCAL, '--json', ...more);
    const { host, port } = await seed.line('listening');
    await seed.line('progress');
    return { peer: `${host}:${port}`, seed };
  }

  async close(): Promise<void> {
    const running = [...this.#running];
    for (const shoal of running) shoal.kill('SIGKILL');
    await Promise.all(running.map(({ ended }) => ended));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
