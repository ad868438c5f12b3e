/** What one address sends, by a packet socket; only in a network namespace of our own. */

import { fileURLToPath } from 'node:url';
import { PYTHON } from './available.ts';
import { Program } from './program.ts';
import { until } from './wait.ts';

export interface Counts {
  readonly udp: number;
  readonly tcp: number;
  readonly multicast: number;
}

export interface Captured {
  readonly counts: Counts & { readonly udpBytes: number; readonly krpc: Readonly<Record<string, number>> };
  /** By word: packets that hold it. */
  readonly found: Readonly<Record<string, Counts>>;
}

export class Capture {
  readonly #words: readonly string[];
  readonly #program: Program;
  #ready = false;
  #answers: Captured[] = [];

  /** @param words what to look for, hex each. */
  constructor(ip: string, words: readonly Uint8Array[], home: string) {
    this.#words = words.map(hex);
    const driver = fileURLToPath(new URL('./capture.py', import.meta.url));
    this.#program = new Program(PYTHON, [driver, ip, ...this.#words], { home, onLine: (line) => this.#hear(line) });
  }

  async start(): Promise<void> {
    await until('the capture runs', () => this.#ready, { timeoutMs: 20_000, detail: () => this.tail() });
  }

  async read(): Promise<Captured> {
    const had = this.#answers.length;
    this.#program.send('');
    await until('the capture answers', () => this.#answers.length > had, {
      timeoutMs: 20_000,
      everyMs: 10,
      detail: () => this.tail(),
    });
    return this.#answers.at(-1)!;
  }

  async stop(): Promise<void> {
    await this.#program.stop();
  }

  tail(): string {
    return this.#program.tail();
  }

  #hear(line: string): void {
    const said = JSON.parse(line) as Captured & { ready?: boolean };
    if (said.ready === true) this.#ready = true;
    else this.#answers.push(said);
  }
}

/** Packets with the word in them, of one capture. */
export function packetsWith(captured: Captured, word: Uint8Array): Counts {
  return captured.found[hex(word)]!;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
