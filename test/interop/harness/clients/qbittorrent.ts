/** qbittorrent-nox, through its web API. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../ports.ts';
import { Program } from '../program.ts';
import { encode } from '../torrent.ts';
import { ask, until } from '../wait.ts';
import type { AddRequest, Client, Finding, Place } from './client.ts';

/** The torrent by which it enters the DHT. */
const NODES = 'nodes of the DHT';

interface TorrentInfo {
  name: string;
  state: string;
  progress: number;
  size: number;
  num_seeds: number;
  num_leechs: number;
  uploaded: number;
  downloaded: number;
}

const SEEDING = ['uploading', 'stalledUP', 'forcedUP'];

export class Qbittorrent implements Client {
  readonly kind = 'qbittorrent';
  readonly takesPeers = true;
  readonly omitsEmptyFiles = false;
  readonly place: Place;
  readonly #finding: Finding;
  #program: Program | null = null;
  #webPort = 0;

  constructor(place: Place, finding: Finding = {}) {
    this.place = place;
    this.#finding = finding;
  }

  async start(): Promise<void> {
    const { ip, port, home } = this.place;
    const { dht, pex, lsd, utp, encrypted } = this.#finding;
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
Session\\DHTEnabled=${dht !== undefined}
Session\\LSDEnabled=${lsd ?? false}
Session\\PeXEnabled=${pex ?? false}
Session\\BTProtocol=${utp === true ? 'UTP' : 'TCP'}
Session\\Encryption=${encrypted === true ? 1 : 0}
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
    if (dht !== undefined) await this.#enterDht(dht);
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

  async hasMetadata(): Promise<boolean> {
    const info = await this.#info();
    return info !== undefined && info.size > 0 && !info.state.endsWith('metaDL');
  }

  /** Payload so far. */
  async transferred(up: boolean): Promise<number> {
    const info = await this.#info();
    return (up ? info?.uploaded : info?.downloaded) ?? 0;
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

  /** This version has no setting for it, but learns the `nodes` of a torrent (BEP 5); this one is there for nothing else. */
  async #enterDht(nodes: readonly string[]): Promise<void> {
    const info = { length: 1, name: NODES, 'piece length': 16_384, pieces: Buffer.alloc(20) };
    const endpoints = nodes.map((node) => [node.split(':')[0]!, Number(node.split(':')[1])]);
    const form = new FormData();
    form.set('torrents', new Blob([encode({ info, nodes: endpoints })]), 'nodes.torrent');
    form.set('savepath', join(this.place.home, 'nodes'));
    await this.#post('torrents/add', form);
    await until('qbittorrent enters the DHT', async () => (await this.#dhtNodes()) > 0, { timeoutMs: 30_000 });
  }

  async #dhtNodes(): Promise<number> {
    const text = await this.#get('transfer/info');
    return text === null ? 0 : (JSON.parse(text) as { dht_nodes: number }).dht_nodes;
  }

  async #info(): Promise<TorrentInfo | undefined> {
    const text = await this.#get('torrents/info');
    return text === null ? undefined : (JSON.parse(text) as TorrentInfo[]).find(({ name }) => name !== NODES);
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
