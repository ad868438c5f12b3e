/** A DHT of twelve libtorrent nodes in one process, each on an address and in a /24 of its own; nobody else is in it. */

import { fileURLToPath } from 'node:url';
import { PYTHON } from './available.ts';
import { Program } from './program.ts';
import { until } from './wait.ts';

export const DHT_NODES = 12;

interface Answer {
  readonly id: number;
  readonly error?: string;
  readonly ids?: readonly string[];
  readonly sizes?: readonly number[];
  readonly stored?: number;
  readonly seq?: number;
  readonly target?: string;
  readonly value?: string | null;
  readonly peers?: readonly string[];
}

export interface DhtKey {
  /** 32 bytes, hex. */
  readonly seed: string;
  readonly publicKey: string;
}

export class ClosedDht {
  /** host:port of each node. */
  readonly nodes: readonly string[];
  readonly #home: string;
  #program: Program | null = null;
  #ready = false;
  #lastId = 0;
  readonly #answers = new Map<number, Answer>();
  readonly #errors: string[] = [];

  constructor(nodes: readonly string[], home: string) {
    this.nodes = nodes;
    this.#home = home;
  }

  /** Two of them are enough to know the rest. */
  get entry(): readonly string[] {
    return this.nodes.slice(0, 2);
  }

  /** Resolves when every node knows all the others. */
  async start(): Promise<void> {
    const driver = fileURLToPath(new URL('./closed-dht.py', import.meta.url));
    this.#program = new Program(PYTHON, [driver, ...this.nodes], {
      home: this.#home,
      onLine: (line) => this.#hear(line),
    });
    await until('the DHT is up', () => this.#ready, { timeoutMs: 30_000, detail: () => this.tail() });
    const known = this.nodes.length - 1;
    await until('its nodes know each other', async () => (await this.sizes()).every((size) => size >= known), {
      timeoutMs: 30_000,
    });
  }

  /** Nodes in each node's table. */
  async sizes(): Promise<readonly number[]> {
    return (await this.#ask('nodes')).sizes!;
  }

  /** Hex, in the order of `nodes`. */
  async ids(): Promise<readonly string[]> {
    return (await this.#ask('nodes')).ids!;
  }

  /** Every node asks it, and takes it into its table if it answers. */
  async meet(endpoint: string): Promise<void> {
    const [host, port] = endpoint.split(':');
    await this.#ask('add_node', { node: -1, host, port: Number(port) });
  }

  /** A byte string as an immutable item. */
  async put(node: number, value: Uint8Array): Promise<{ target: string; stored: number }> {
    const { target, stored } = await this.#ask('put', { node, value: hex(value) });
    return { target: target!, stored: stored! };
  }

  /** The byte string, or null where there is none (or another kind of value). */
  async get(node: number, target: string): Promise<Buffer | null> {
    return bytesOf((await this.#ask('get', { node, target })).value);
  }

  /** libtorrent looks for the newest, and puts the value as the one after it. */
  async putMutable(node: number, key: DhtKey, value: Uint8Array, salt = ''): Promise<{ seq: number; stored: number }> {
    const fields = { node, seed: key.seed, public: key.publicKey, value: hex(value), salt: hex(Buffer.from(salt)) };
    const { seq, stored } = await this.#ask('putMutable', fields);
    return { seq: seq!, stored: stored! };
  }

  async getMutable(node: number, publicKey: string, salt = ''): Promise<{ seq: number; value: Buffer | null }> {
    const { seq, value } = await this.#ask('getMutable', { node, public: publicKey, salt: hex(Buffer.from(salt)) });
    return { seq: seq!, value: bytesOf(value) };
  }

  /** All host:port that a lookup of so many seconds brings. */
  async peers(node: number, infoHash: string, seconds = 1): Promise<readonly string[]> {
    return (await this.#ask('getPeers', { node, hash: infoHash, seconds })).peers!;
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  tail(): string {
    return [...this.#errors.slice(-20), this.#program?.tail() ?? ''].join('\n').trim();
  }

  async #ask(what: string, fields: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
    const id = ++this.#lastId;
    this.#program!.send(JSON.stringify({ id, do: what, ...fields }));
    const answer = await until(`the DHT answers ${what}`, () => this.#answers.get(id), {
      timeoutMs: 30_000,
      everyMs: 10,
      detail: () => this.tail(),
    });
    this.#answers.delete(id);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  #hear(line: string): void {
    try {
      const said = JSON.parse(line) as Partial<Answer> & { ready?: boolean };
      if (said.ready === true) this.#ready = true;
      else if (said.id !== undefined) this.#answers.set(said.id, said as Answer);
      else this.#errors.push(line);
    } catch {
      this.#errors.push(line);
    }
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function bytesOf(value: string | null | undefined): Buffer | null {
  return value === null || value === undefined ? null : Buffer.from(value, 'hex');
}
