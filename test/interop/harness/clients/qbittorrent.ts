/** qbittorrent-nox, through its web API. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../ports.ts';
import { Program } from '../program.ts';
import { ask, until } from '../wait.ts';
import type { AddRequest, Client, Place } from './client.ts';

interface TorrentInfo {
  state: string;
  progress: number;
  num_seeds: number;
  num_leechs: number;
}

const SEEDING = ['uploading', 'stalledUP', 'forcedUP'];

export class Qbittorrent implements Client {
  readonly kind = 'qbittorrent';
  readonly takesPeers = true;
  readonly omitsEmptyFiles = false;
  readonly place: Place;
  #program: Program | null = null;
  #webPort = 0;

  constructor(place: Place) {
    this.place = place;
  }

  async start(): Promise<void> {
    const { ip, port, home } = this.place;
    this.#webPort = await freePort('127.0.0.1');
    const config = join(home, 'qBittorrent/config');
    mkdirSync(config, { recursive: true });
    writeFileSync(
      join(config, 'qBittorrent.conf'),
      `[LegalNotice]
Accepted=true
[Preferences]
WebUI\\LocalHostAuth=false
WebUI\\Address=127.0.0.1
WebUI\\Port=${this.#webPort}
WebUI\\HostHeaderValidation=false
WebUI\\CSRFProtection=false
[BitTorrent]
Session\\Port=${port}
Session\\Interface=lo
Session\\InterfaceAddress=${ip}
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\BTProtocol=TCP
Session\\Encryption=0
Session\\MultiConnectionsPerIp=true
Session\\QueueingSystemEnabled=false
Session\\RefreshInterval=200
Session\\ValidateHTTPSTrackerCertificate=false
Session\\SSRFMitigation=false
[Network]
PortForwardingEnabled=false
`,
    );
    this.#program = new Program('qbittorrent-nox', [`--profile=${home}`], { home });
    this.#program.alsoLogs(join(home, 'qBittorrent/data/logs/qbittorrent.log'));
    await until('qbittorrent answers', () => this.#get('app/version'), { timeoutMs: 30_000 });
  }

  async add(request: AddRequest): Promise<void> {
    const form = new FormData();
    if (request.source.startsWith('magnet:')) form.set('urls', request.source);
    else form.set('torrents', new Blob([readFileSync(request.source)]), 'it.torrent');
    form.set('savepath', request.folder);
    form.set('contentLayout', 'Original');
    form.set('autoTMM', 'false');
    if (request.uploadLimit !== undefined) form.set('upLimit', `${request.uploadLimit}`);
    const answer = await this.#post('torrents/add', form);
    if (answer?.startsWith('Ok') !== true) throw new Error(`qbittorrent refuses the torrent: ${answer}`);
    const peers = request.peers ?? [];
    if (peers.length === 0) return;
    await until('qbittorrent has the torrent', () => this.#info(), { timeoutMs: 10_000 });
    const body = new URLSearchParams({ hashes: request.torrent.infoHash, peers: peers.join('|') });
    await until('qbittorrent takes the peers', async () => (await this.#post('torrents/addPeers', body)) !== null, {
      timeoutMs: 10_000,
    });
  }

  async complete(): Promise<boolean> {
    const info = await this.#info();
    return info !== undefined && info.progress === 1 && SEEDING.includes(info.state);
  }

  async status(): Promise<string> {
    return JSON.stringify(await this.#info());
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  tail(): string {
    return this.#program?.tail() ?? '';
  }

  async #info(): Promise<TorrentInfo | undefined> {
    const text = await this.#get('torrents/info');
    return text === null ? undefined : (JSON.parse(text) as TorrentInfo[])[0];
  }

  async #get(path: string): Promise<string | null> {
    try {
      const response = await ask(`http://127.0.0.1:${this.#webPort}/api/v2/${path}`);
      return response.ok ? await response.text() : null;
    } catch {
      return null;
    }
  }

  async #post(path: string, body: FormData | URLSearchParams): Promise<string | null> {
    const response = await ask(`http://127.0.0.1:${this.#webPort}/api/v2/${path}`, { method: 'POST', body });
    return response.ok ? await response.text() : null;
  }
}
