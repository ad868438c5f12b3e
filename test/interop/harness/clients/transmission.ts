/** transmission-daemon, through its RPC. It takes peers from trackers alone, and ignores those in 127/8. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../ports.ts';
import { Program } from '../program.ts';
import { ask, until } from '../wait.ts';
import type { AddRequest, Client, Finding, Place } from './client.ts';

interface TorrentStatus {
  status: number;
  percentDone: number;
  metadataPercentComplete: number;
  error: number;
  errorString: string;
  peersConnected: number;
  leftUntilDone: number;
}

const SEEDING = 6;

export class Transmission implements Client {
  readonly kind = 'transmission';
  readonly takesPeers = false;
  readonly omitsEmptyFiles = true;
  readonly place: Place;
  readonly #finding: Finding;
  #program: Program | null = null;
  #rpcPort = 0;
  readonly #rpcHost: string;
  #sessionId = '';

  constructor(place: Place, finding: Finding = {}) {
    this.place = place;
    this.#finding = finding;
    this.#rpcHost = place.enter === undefined ? '127.0.0.1' : place.ip;
  }

  async start(): Promise<void> {
    const { ip, port, home, enter } = this.place;
    const { dht, pex, lsd, utp, encrypted } = this.#finding;
    this.#rpcPort = await freePort('127.0.0.1');
    const settings = {
      'bind-address-ipv4': ip,
      'bind-address-ipv6': '::1',
      'peer-port': port,
      'dht-enabled': dht !== undefined,
      'lpd-enabled': lsd ?? false,
      'pex-enabled': pex ?? false,
      'utp-enabled': utp ?? false,
      'port-forwarding-enabled': false,
      'rpc-port': this.#rpcPort,
      'rpc-bind-address': this.#rpcHost,
      'rpc-whitelist-enabled': false,
      'rpc-host-whitelist-enabled': false,
      'download-queue-enabled': false,
      'seed-queue-enabled': false,
      'queue-stalled-enabled': false,
      'incomplete-dir-enabled': false,
      'download-dir': home,
      preallocation: 0,
      encryption: encrypted === true ? 2 : 0,
      'message-level': 2,
    };
    const nodes = (dht ?? []).map((node) => `${node.replace(':', ' ')}\n`);
    writeFileSync(join(home, 'dht.bootstrap'), nodes.join(''));
    writeFileSync(join(home, 'settings.json'), JSON.stringify(settings));
    this.#program = new Program('transmission-daemon', ['-f', '-g', home], { home, enter });
    await until('transmission answers', () => this.#rpc('session-get', {}), { timeoutMs: 20_000 });
  }

  async add(request: AddRequest): Promise<void> {
    const source = request.source.startsWith('magnet:')
      ? { filename: request.source }
      : { metainfo: readFileSync(request.source).toString('base64') };
    const added = await this.#rpc('torrent-add', { ...source, 'download-dir': request.folder, paused: false });
    if (added === null) throw new Error('transmission refuses the torrent');
    if (request.uploadLimit !== undefined) {
      await this.#rpc('session-set', {
        'speed-limit-up-enabled': true,
        'speed-limit-up': Math.ceil(request.uploadLimit / 1000),
      });
    }
  }

  async hasMetadata(): Promise<boolean> {
    return (await this.#torrent())?.metadataPercentComplete === 1;
  }

  async complete(): Promise<boolean> {
    const torrent = await this.#torrent();
    return torrent?.status === SEEDING && torrent.percentDone === 1 && torrent.metadataPercentComplete === 1;
  }

  async status(): Promise<string> {
    return JSON.stringify(await this.#torrent());
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  tail(): string {
    return this.#program?.tail() ?? '';
  }

  async #torrent(): Promise<TorrentStatus | undefined> {
    const fields = [
      'status',
      'percentDone',
      'metadataPercentComplete',
      'error',
      'errorString',
      'peersConnected',
      'leftUntilDone',
    ];
    const answer = (await this.#rpc('torrent-get', { fields })) as { torrents?: TorrentStatus[] } | null;
    return answer?.torrents?.[0];
  }

  /** The answer's arguments; null when it is not up or says anything but success. */
  async #rpc(method: string, args: object): Promise<object | null> {
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        const response = await ask(`http://${this.#rpcHost}:${this.#rpcPort}/transmission/rpc`, {
          method: 'POST',
          headers: { 'X-Transmission-Session-Id': this.#sessionId },
          body: JSON.stringify({ method, arguments: args }),
        });
        if (response.status === 409) {
          this.#sessionId = response.headers.get('x-transmission-session-id') ?? '';
          continue;
        }
        const answer = (await response.json()) as { result: string; arguments: object };
        return answer.result === 'success' ? answer.arguments : null;
      } catch {
        return null;
      }
    }
    return null;
  }
}
