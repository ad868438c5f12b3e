/**
 * Client libraries behind a small driver program of ours: a JSON object a line in (`add`), a JSON object a line out with
 * the state, several times a second. libtorrent in Python, webtorrent in Node.
 */

import { fileURLToPath } from 'node:url';
import { PYTHON } from '../available.ts';
import { Program } from '../program.ts';
import { until } from '../wait.ts';
import type { AddRequest, Client, Finding, Place } from './client.ts';

export interface DriverStatus {
  ready?: boolean;
  metadata?: boolean;
  progress?: number;
  seeding?: boolean;
  state?: string;
  peers?: number;
  uploaded?: number;
  downloaded?: number;
  /** Shoal's only: "utp rc4" of each peer that was seen, and when by its monotonic clock all of this was so. */
  wires?: readonly string[];
  atMs?: number;
  error?: string;
}

abstract class Driven implements Client {
  abstract readonly kind: string;
  readonly takesPeers = true;
  abstract readonly omitsEmptyFiles: boolean;
  readonly place: Place;
  protected readonly finding: Finding;
  last: DriverStatus = {};
  /** All it said. */
  readonly history: DriverStatus[] = [];
  #program: Program | null = null;
  readonly #errors: string[] = [];

  constructor(place: Place, finding: Finding = {}) {
    this.place = place;
    this.finding = finding;
  }

  protected abstract command(): readonly [string, readonly string[]];

  async start(): Promise<void> {
    const [command, args] = this.command();
    this.#program = new Program(command, args, {
      home: this.place.home,
      enter: this.place.enter,
      onLine: (line) => this.#hear(line),
    });
    await until(`${this.kind} is up`, () => this.last.ready, { timeoutMs: 30_000, detail: () => this.tail() });
  }

  async add(request: AddRequest): Promise<void> {
    const { source, folder, peers, uploadLimit } = request;
    this.#program!.send(JSON.stringify({ source, folder, peers: peers ?? [], uploadLimit: uploadLimit ?? 0 }));
  }

  async hasMetadata(): Promise<boolean> {
    return this.last.metadata === true;
  }

  async complete(): Promise<boolean> {
    return this.last.seeding === true;
  }

  async status(): Promise<string> {
    return JSON.stringify(this.last);
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  tail(): string {
    return [...this.#errors.slice(-20), this.#program?.tail() ?? ''].join('\n').trim();
  }

  #hear(line: string): void {
    try {
      const status = JSON.parse(line) as DriverStatus;
      if (status.error !== undefined) this.#errors.push(status.error);
      else {
        this.history.push(status);
        this.last = { ...this.last, ...status };
      }
    } catch {
      this.#errors.push(line);
    }
  }
}

export class Libtorrent extends Driven {
  readonly kind = 'libtorrent';
  readonly omitsEmptyFiles = false;

  protected command(): readonly [string, readonly string[]] {
    const driver = fileURLToPath(new URL('./libtorrent-driver.py', import.meta.url));
    return [PYTHON, [driver, this.place.ip, `${this.place.port}`, JSON.stringify(this.finding)]];
  }
}

/** Shoal as a library: what no command line shows. */
export class ShoalSession extends Driven {
  readonly kind = 'shoal';
  readonly omitsEmptyFiles = false;

  protected command(): readonly [string, readonly string[]] {
    const driver = fileURLToPath(new URL('./shoal-driver.mjs', import.meta.url));
    return [process.execPath, [driver, this.place.ip, `${this.place.port}`, JSON.stringify(this.finding)]];
  }
}

export class Webtorrent extends Driven {
  readonly kind = 'webtorrent';
  readonly omitsEmptyFiles = true;

  protected command(): readonly [string, readonly string[]] {
    const driver = fileURLToPath(new URL('../../webtorrent/driver.mjs', import.meta.url));
    return [process.execPath, [driver, this.place.ip, `${this.place.port}`, JSON.stringify(this.finding)]];
  }
}
