/**
 * One process of a real client: started with its output in a log file, stopped by its id, never by its name. Its HOME is
 * its own folder, so that it neither reads nor leaves anything elsewhere.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface ProgramOptions {
  /** Folder of its own: HOME, working folder, and where the log goes. */
  readonly home: string;
  /** A command that runs the command it is given, in its own place: see `Place`. */
  readonly enter?: readonly string[] | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** With it the program's standard output comes here line by line instead of into the log, and standard input is open. */
  readonly onLine?: (line: string) => void;
  /** What it gets after SIGTERM before it is killed. */
  readonly graceMs?: number;
}

const GRACE_MS = 3000;
const TAIL_BYTES = 3000;

export class Program {
  readonly name: string;
  readonly child: ChildProcess;
  readonly exited: Promise<number>;
  exitCode: number | null = null;
  readonly #logs: string[];
  readonly #graceMs: number;

  constructor(command: string, args: readonly string[], options: ProgramOptions) {
    this.name = command;
    this.#graceMs = options.graceMs ?? GRACE_MS;
    const log = join(options.home, 'output.log');
    this.#logs = [log];
    const fd = openSync(log, 'a');
    const piped = options.onLine !== undefined;
    const [first, ...rest] = [...(options.enter ?? []), command, ...args];
    this.child = spawn(first!, rest, {
      cwd: options.home,
      stdio: [piped ? 'pipe' : 'ignore', piped ? 'pipe' : fd, fd],
      env: {
        PATH: process.env['PATH'] ?? '/usr/bin:/bin',
        HOME: options.home,
        // names of files are UTF-8
        LC_ALL: 'C.UTF-8',
        TERM: 'xterm',
        ...options.env,
      },
    });
    closeSync(fd);
    this.exited = new Promise((resolve) => {
      this.child.once('error', () => resolve(-1));
      this.child.once('close', (code, signal) => {
        this.exitCode = code ?? (signal === 'SIGKILL' ? 137 : 143);
        resolve(this.exitCode);
      });
    });
    if (piped) createInterface({ input: this.child.stdout! }).on('line', options.onLine!);
  }

  get running(): boolean {
    return this.exitCode === null && this.child.pid !== undefined;
  }

  /** Another file to show when a test fails. */
  alsoLogs(path: string): void {
    this.#logs.push(path);
  }

  send(line: string): void {
    this.child.stdin!.write(`${line}\n`);
  }

  /** Resolves when it has ended. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    if (this.child.pid === undefined) return -1;
    if (this.exitCode === null) this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), this.#graceMs);
    const code = await this.exited;
    clearTimeout(timer);
    return code;
  }

  /** The end of what it wrote. */
  tail(): string {
    return this.#logs
      .filter((path) => existsSync(path))
      .map((path) => readFileSync(path).subarray(-TAIL_BYTES).toString('utf8').trim())
      .join('\n');
  }
}
