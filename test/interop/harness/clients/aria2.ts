/** aria2c, through its JSON-RPC. It takes peers from trackers alone. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../ports.ts';
import { Program } from '../program.ts';
import { ask, until } from '../wait.ts';
import type { AddRequest, Client, Place } from './client.ts';

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
  #program: Program | null = null;
  #rpcPort = 0;

  constructor(place: Place) {
    this.place = place;
  }

  async start(): Promise<void> {
    const { ip, port, home } = this.place;
    this.#rpcPort = await freePort('127.0.0.1');
    const log = join(home, 'aria2.log');
    const args = ['--no-conf', '--quiet', '--enable-rpc', `--rpc-listen-port=${this.#rpcPort}`, `--log=${log}`];
    args.push('--log-level=notice', '--enable-dht=false', '--enable-dht6=false', '--bt-enable-lpd=false');
    args.push('--enable-peer-exchange=false', '--disable-ipv6=true', `--interface=${ip}`, `--listen-port=${port}`);
    args.push('--seed-ratio=0.0', '--file-allocation=none', '--allow-overwrite=true', '--check-integrity=true');
    args.push(
      '--bt-hash-check-seed=true',
      '--bt-save-metadata=false',
      '--rpc-save-upload-metadata=false',
      '--bt-max-peers=0',
      '--bt-request-peer-speed-limit=0',
    );
    this.#program = new Program('aria2c', args, { home });
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
      const response = await ask(`http://127.0.0.1:${this.#rpcPort}/jsonrpc`, {
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
