/** rtorrent, through XML-RPC over SCGI on a local socket. */

import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Program } from '../program.ts';
import { until } from '../wait.ts';
import type { AddRequest, Client, Finding, Place } from './client.ts';

export class Rtorrent implements Client {
  readonly kind = 'rtorrent';
  readonly takesPeers = true;
  readonly omitsEmptyFiles = false;
  /** What it has of a magnet link's torrent while it has no metadata. */
  readonly leaves: RegExp = /\.meta$/;
  readonly place: Place;
  readonly #finding: Finding;
  #program: Program | null = null;
  #hash = '';

  constructor(place: Place, finding: Finding = {}) {
    this.place = place;
    this.#finding = finding;
  }

  get #socket(): string {
    return join(this.place.home, 'rpc');
  }

  async start(): Promise<void> {
    const { ip, port, home } = this.place;
    const { dht, pex, encrypted } = this.#finding;
    const rc = join(home, 'rc');
    writeFileSync(
      rc,
      `network.port_range.set = ${port}-${port}
network.port_random.set = no
network.bind_address.set = ${ip}
session.path.set = ${home}
directory.default.set = ${home}
protocol.encryption.set = ${encrypted === true ? 'allow_incoming,try_outgoing,require,require_RC4' : 'none'}
protocol.pex.set = ${pex === true ? 'yes' : 'no'}
dht.mode.set = ${dht === undefined ? 'disable' : 'on'}
dht.port.set = ${port}
trackers.use_udp.set = no
throttle.max_uploads.set = 100
network.max_open_files.set = 600
network.scgi.open_local = ${this.#socket}
log.open_file = "rtorrent", ${join(home, 'rtorrent.log')}
log.add_output = "info", "rtorrent"
system.daemon.set = true
`,
    );
    this.#program = new Program('rtorrent', ['-n', '-o', `import=${rc}`], { home });
    this.#program.alsoLogs(join(home, 'rtorrent.log'));
    await until('rtorrent opens its socket', () => existsSync(this.#socket), { timeoutMs: 20_000 });
    if (dht === undefined) return;
    for (const node of dht) await this.#rpc('dht.add_node', '', node);
    // what it looks for before, it looks for again a quarter of an hour later
    await until('rtorrent enters the DHT', async () => (await this.#dhtNodes()) > 0, { timeoutMs: 60_000 });
  }

  async add(request: AddRequest): Promise<void> {
    this.#hash = request.torrent.infoHash.toUpperCase();
    const limit = request.uploadLimit;
    if (limit !== undefined) await this.#rpc('throttle.global_up.max_rate.set', '', `${limit}`);
    await this.#rpc('directory.default.set', '', request.folder);
    await this.#rpc('load.start', '', request.source);
    await until('rtorrent has the torrent', async () => (await this.#rpc('download_list')).includes(this.#hash), {
      timeoutMs: 10_000,
    });
    for (const peer of request.peers ?? []) {
      await until('rtorrent runs the torrent', async () => (await this.#integer('d.is_active')) === 1, {
        timeoutMs: 10_000,
      });
      await this.#rpc('add_peer', this.#hash, peer);
    }
  }

  async hasMetadata(): Promise<boolean> {
    return (await this.#integer('d.is_meta')) === 0;
  }

  async complete(): Promise<boolean> {
    return (
      (await this.#integer('d.complete')) === 1 &&
      (await this.#integer('d.is_active')) === 1 &&
      (await this.#integer('d.is_meta')) === 0
    );
  }

  async status(): Promise<string> {
    const parts: string[] = [];
    for (const method of [
      'd.complete',
      'd.is_active',
      'd.hashing',
      'd.completed_chunks',
      'd.peers_connected',
      'd.message',
    ]) {
      parts.push(`${method}=${await this.#rpc(method, this.#hash).then(scalarOf, () => 'no answer')}`);
    }
    return parts.join(' ');
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  tail(): string {
    return this.#program?.tail() ?? '';
  }

  async #dhtNodes(): Promise<number> {
    const match = /<name>nodes<\/name><value><i8>(\d+)</.exec(
      (await this.#rpc('dht.statistics', '')).replace(/\s+/g, ''),
    );
    return Number(match?.[1] ?? 0);
  }

  async #integer(method: string): Promise<number> {
    return Number(scalarOf(await this.#rpc(method, this.#hash)));
  }

  /** The answer as XML. */
  #rpc(method: string, ...params: string[]): Promise<string> {
    const values = params.map((text) => `<param><value><string>${escapeXml(text)}</string></value></param>`).join('');
    const body = Buffer.from(
      `<?xml version="1.0"?><methodCall><methodName>${method}</methodName><params>${values}</params></methodCall>`,
    );
    const head = `CONTENT_LENGTH\0${body.length}\0SCGI\x001\0`;
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      const socket = connect(this.#socket);
      socket.setTimeout(10_000, () => socket.destroy(new Error('rtorrent does not answer')));
      socket.on('error', reject);
      socket.on('data', (chunk) => chunks.push(chunk));
      socket.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
      socket.write(Buffer.concat([Buffer.from(`${head.length}:${head},`), body]));
    });
  }
}

function scalarOf(xml: string): string {
  const match = /<value><(?:string|i4|i8|int)>([^<]*)</.exec(xml);
  return xml.includes('<fault>') ? `fault: ${xml.replace(/<[^>]*>|\s+/g, ' ')}` : (match?.[1] ?? '');
}

function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}
