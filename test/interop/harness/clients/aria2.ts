/** aria2c, through its JSON-RPC. It takes peers from trackers alone. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../ports.ts';
import { Program } from '../program.ts';
import { ask, until } from '../wait.ts';
import type { AddRequest, Client, Finding, Place } from './client.ts';

interface Status {
  gid: string;
  status: string;
  totalLength: string;
  completedLength: string;
  seeder?: string;
  connections: string;
  errorMessage?: string;
  verifyIntegrityPending?: string;
  verifiedLength?: string;
  followedBy?: string[];
  bittorrent?: { info?: { name: string } };
}

export class Aria2 implements Client {
  readonly kind = 'aria2';
  readonly takesPeers = false;
  readonly omitsEmptyFiles = false;
  readonly leaves: RegExp = /\.aria2$/;
  readonly place: Place;
  readonly #finding: Finding;
  #program: Program | null = null;
  #rpcPort = 0;
  readonly #rpcHost: string;

  constructor(place: Place, finding: Finding = {}) {
    this.place = place;
    this.#finding = finding;
    this.#rpcHost = place.enter === undefined ? '127.0.0.1' : place.ip;
  }

  async start(): Promise<void> {
    const { ip, port, home, enter } = this.place;
    const { dht, pex, lsd, encrypted } = this.#finding;
    this.#rpcPort = await freePort('127.0.0.1');
    const log = join(home, 'aria2.log');
    const args = ['--no-conf', '--quiet', '--enable-rpc', `--rpc-listen-port=${this.#rpcPort}`, `--log=${log}`];
    args.push('--log-level=notice', `--enable-dht=${dht !== undefined}`, '--enable-dht6=false');
    args.push(
      `--enable-peer-exchange=${pex ?? false}`,
      '--disable-ipv6=true',
      `--interface=${ip}`,
      `--listen-port=${port}`,
    );
    args.push('--seed-ratio=0.0', '--file-allocation=none', '--allow-overwrite=true', '--check-integrity=true');
    args.push(
      '--bt-hash-check-seed=true',
      '--bt-save-metadata=false',
      '--rpc-save-upload-metadata=false',
      '--bt-max-peers=0',
      '--bt-request-peer-speed-limit=0',
    );
    if (encrypted === true) args.push('--bt-require-crypto=true', '--bt-min-crypto-level=arc4');
    args.push(`--bt-enable-lpd=${lsd ?? false}`, `--bt-lpd-interface=${ip}`);
    args.push(`--dht-listen-port=${port}`, `--dht-file-path=${join(home, 'dht.dat')}`);
    // it takes one
    if (dht !== undefined) args.push(`--dht-entry-point=${dht[0]}`);
    if (enter !== undefined) args.push('--rpc-listen-all=true');
    this.#program = new Program('aria2c', args, { home, enter });
    this.#program.alsoLogs(log);
    await until('aria2 answers', () => this.#rpc('aria2.getVersion'), { timeoutMs: 20_000 });
  }

  async add(request: AddRequest): Promise<void> {
    const options: Record<string, string> = { dir: request.folder };
    if (request.uploadLimit !== undefined) options['max-upload-limit'] = `${request.uploadLimit}`;
    const added = request.source.startsWith('magnet:')
      ? await this.#rpc('aria2.addUri', [request.source], options)
      : await this.#rpc('aria2.addTorrent', readFileSync(request.source).toString('base64'), [], options);
    if (added === null) throw new Error('aria2 refuses the torrent');
  }

  async hasMetadata(): Promise<boolean> {
    return (await this.#all()).some(({ bittorrent }) => bittorrent?.info !== undefined);
  }

  async complete(): Promise<boolean> {
    return (await this.#all()).some(
      (status) =>
        status.bittorrent?.info !== undefined &&
        status.status === 'active' &&
        status.seeder === 'true' &&
        status.completedLength === status.totalLength,
    );
  }

  async status(): Promise<string> {
    return JSON.stringify(
      (await this.#all()).map(({ status, totalLength, completedLength, seeder, connections, errorMessage }) => {
        return { status, totalLength, completedLength, seeder, connections, errorMessage };
      }),
    );
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  tail(): string {
    return this.#program?.tail() ?? '';
  }

  async #all(): Promise<Status[]> {
    const lists = [await this.#rpc('aria2.tellActive'), await this.#rpc('aria2.tellStopped', 0, 10)];
    return lists.flatMap((list) => (list as Status[] | null) ?? []);
  }

  async #rpc(method: string, ...params: unknown[]): Promise<unknown> {
    try {
      const response = await ask(`http://${this.#rpcHost}:${this.#rpcPort}/jsonrpc`, {
        method: 'POST',
        body: JSON.stringify({ jsonrpc: '2.0', id: '1', method, params }),
      });
      const answer = (await response.json()) as { result?: unknown };
      return answer.result ?? null;
    } catch {
      return null;
    }
  }
}
