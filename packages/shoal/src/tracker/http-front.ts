/**
 * The HTTP face of the tracker (BEP 3, 7, 21, 23, 24, 31, 48): turns a request's path and address into a reply. The
 * replies have few fixed forms, so they are written straight as bytes, keys in order.
 *
 *     GET .../announce?info_hash=..&peer_id=..&port=..   peers      (anything may stand before, as a passkey does)
 *     GET .../scrape?info_hash=..&info_hash=..           counts
 *     GET /stats                                         JSON
 *
 * Invariant: whatever is asked, there is a reply; what is wrong with an announce is said in `failure reason`, with
 * status 200, since clients read no other. The `ip` parameter is ignored: a peer is where its request comes from, so
 * nobody can point a swarm at a stranger.
 *
 * Limits: MAX_QUERY_LENGTH, MAX_SCRAPE hashes, MAX_NUM_WANT peers a reply.
 */

import { ipBytes, ipText } from './address.ts';
import type { SwarmEvent, SwarmTable } from './swarm-table.ts';

export interface HttpFrontOptions {
  readonly intervalS: number;
  readonly minIntervalS: number;
  /** Info-hashes in lower-case hex that are tracked; null: all. */
  readonly allow: ReadonlySet<string> | null;
}

export interface HttpReply {
  readonly status: number;
  readonly type: string;
  readonly body: Buffer;
}

export interface TrackerStats {
  readonly swarms: number;
  readonly peers: number;
  readonly seeders: number;
  readonly announces: number;
  readonly scrapes: number;
  /** Requests answered with a failure. */
  readonly refused: number;
  /** Announces of peers there was no room to remember. */
  readonly unremembered: number;
}

/** Long enough for MAX_SCRAPE hashes, every byte as %XX. */
const MAX_QUERY_LENGTH = 8192;
const MAX_SCRAPE = 100;
const DEFAULT_NUM_WANT = 50;
const MAX_NUM_WANT = 200;

export class HttpFront {
  readonly #table: SwarmTable;
  readonly #options: HttpFrontOptions;
  #announces = 0;
  #scrapes = 0;
  #refused = 0;
  #unremembered = 0;

  constructor(table: SwarmTable, options: HttpFrontOptions) {
    this.#table = table;
    this.#options = options;
  }

  /** `target`: path and query as they stand in the request line. `remote`: the address of the other end, as text. */
  handle(target: string, remote: string, nowS: number): HttpReply {
    const mark = target.indexOf('?');
    const path = mark < 0 ? target : target.slice(0, mark);
    const query = mark < 0 ? '' : target.slice(mark + 1);
    if (path.endsWith('/announce')) return this.#announce(query, remote, nowS);
    if (path.endsWith('/scrape')) return this.#scrape(query);
    if (path === '/stats') return reply(200, Buffer.from(`${JSON.stringify(this.stats())}\n`), 'application/json');
    return reply(404, Buffer.from('A BitTorrent tracker. Announce at /announce.\n'));
  }

  stats(): TrackerStats {
    return {
      swarms: this.#table.swarmCount,
      peers: this.#table.peerCount,
      seeders: this.#table.seederCount,
      announces: this.#announces,
      scrapes: this.#scrapes,
      refused: this.#refused,
      unremembered: this.#unremembered,
    };
  }

  #announce(query: string, remote: string, nowS: number): HttpReply {
    this.#announces++;
    if (query.length > MAX_QUERY_LENGTH) return this.#refuse('the request is too long', null);
    const asked = parseQuery(query);
    const infoHash = asked.hashes[0];
    if (infoHash === undefined) return this.#refuse('no info_hash', 'never');
    if (infoHash.length !== 20) return this.#refuse('info_hash is not 20 bytes long', 'never');
    const peerId = asked.get('peer_id');
    if (peerId === undefined || peerId.length !== 20) return this.#refuse('peer_id is not 20 bytes long', 'never');
    const port = decimal(asked.get('port'));
    if (port === null || port > 65535) return this.#refuse('port is not a number from 0 to 65535', 'never');
    const ip = ipBytes(remote);
    if (ip === null) return this.#refuse('your address cannot be made out', null);
    if (this.#options.allow !== null && !this.#options.allow.has(Buffer.from(infoHash, 'latin1').toString('hex'))) {
      return this.#refuse('this tracker does not track this torrent', 'never');
    }

    const event = eventOf(asked.get('event'));
    const seed = decimal(asked.get('left')) === 0;
    const id = Buffer.from(peerId, 'latin1');
    if (!this.#table.announce(infoHash, ip, port, id, seed, event, nowS)) this.#unremembered++;
    const wanted = event === 'stopped' ? 0 : Math.min(MAX_NUM_WANT, decimal(asked.get('numwant')) ?? DEFAULT_NUM_WANT);
    // who does not ask for the compact form may not know it
    const peers =
      asked.get('compact') === '1'
        ? this.#compactPeers(infoHash, ip, port, wanted)
        : this.#plainPeers(infoHash, ip, port, wanted, asked.get('no_peer_id') === '1');

    const counts = this.#table.counts(infoHash) ?? { seeders: 0, leechers: 0, downloaders: 0, completed: 0 };
    const head = `d8:completei${counts.seeders}e10:downloadedi${counts.completed}e11:external ip${ip.length}:`;
    const middle =
      `10:incompletei${counts.leechers}e8:intervali${this.#options.intervalS}e` +
      `12:min intervali${this.#options.minIntervalS}e`;
    return reply(200, Buffer.concat([Buffer.from(head), ip, Buffer.from(middle), peers, END]));
  }

  /** The asker's own family first; the other fills up. */
  #compactPeers(infoHash: string, ip: Uint8Array, port: number, wanted: number): Buffer {
    const gather = (bytes: 4 | 16, most: number): Buffer => {
      const parts: Uint8Array[] = [];
      this.#table.sample(infoHash, bytes, most, ip, port, (entry) => parts.push(entry.subarray(0, bytes + 2)));
      return Buffer.concat(parts);
    };
    let four: Buffer;
    let six: Buffer;
    if (ip.length === 4) {
      four = gather(4, wanted);
      six = gather(16, wanted - four.length / 6);
    } else {
      six = gather(16, wanted);
      four = gather(4, wanted - six.length / 18);
    }
    const parts = [Buffer.from(`5:peers${four.length}:`), four];
    if (six.length > 0 || ip.length === 16) parts.push(Buffer.from(`6:peers6${six.length}:`), six);
    return Buffer.concat(parts);
  }

  #plainPeers(infoHash: string, ip: Uint8Array, port: number, wanted: number, noPeerId: boolean): Buffer {
    let text = '5:peersl';
    const give = (entry: Uint8Array): void => {
      const bytes = entry.length - 22;
      const host = ipText(entry.subarray(0, bytes));
      text += `d2:ip${host.length}:${host}`;
      if (!noPeerId) text += `7:peer id20:${Buffer.from(entry.subarray(bytes + 2)).toString('latin1')}`;
      text += `4:porti${(entry[bytes]! << 8) | entry[bytes + 1]!}ee`;
    };
    const own = ip.length === 4 ? 4 : 16;
    const given = this.#table.sample(infoHash, own, wanted, ip, port, give);
    this.#table.sample(infoHash, own === 4 ? 16 : 4, wanted - given, ip, port, give);
    return Buffer.from(`${text}e`, 'latin1');
  }

  #scrape(query: string): HttpReply {
    this.#scrapes++;
    if (query.length > MAX_QUERY_LENGTH) return this.#refuse('the request is too long', null);
    const hashes = [...new Set(parseQuery(query).hashes)].sort();
    if (hashes.length === 0) return this.#refuse('a scrape names its torrents by info_hash', 'never');
    if (hashes.length > MAX_SCRAPE) return this.#refuse(`a scrape names at most ${MAX_SCRAPE} torrents`, 'never');
    let text = 'd5:filesd';
    for (const infoHash of hashes) {
      if (infoHash.length !== 20) return this.#refuse('info_hash is not 20 bytes long', 'never');
      const counts = this.#table.counts(infoHash);
      if (counts === null) continue;
      text += `20:${infoHash}d8:completei${counts.seeders}e10:downloadedi${counts.completed}e`;
      text += `11:downloadersi${counts.downloaders}e10:incompletei${counts.leechers}ee`;
    }
    text += `e5:flagsd20:min_request_intervali${this.#options.minIntervalS}eee`;
    return reply(200, Buffer.from(text, 'latin1'));
  }

  #refuse(reason: string, retryIn: 'never' | null): HttpReply {
    this.#refused++;
    const retry = retryIn === null ? '' : `8:retry in${retryIn.length}:${retryIn}`;
    return reply(200, Buffer.from(`d14:failure reason${reason.length}:${reason}${retry}e`));
  }
}

const END: Buffer = Buffer.from('e');

interface Query {
  /** Every info_hash, in order, one character per byte. */
  readonly hashes: readonly string[];
  /** The first value of a name, one character per byte. */
  get(name: string): string | undefined;
}

/** `+` stays `+`: clients of this protocol encode bytes, not forms. */
function parseQuery(query: string): Query {
  const values = new Map<string, string>();
  const hashes: string[] = [];
  for (const part of query.split('&')) {
    const mark = part.indexOf('=');
    if (mark < 0) continue;
    const name = part.slice(0, mark);
    const value = percentDecode(part.slice(mark + 1));
    if (name === 'info_hash') hashes.push(value);
    else if (!values.has(name)) values.set(name, value);
  }
  return { hashes, get: (name) => values.get(name) };
}

/** One character per byte; a % that starts no pair of hex digits stays as it is. */
function percentDecode(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function decimal(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,20}$/.test(text) ? Number(text) : null;
}

function eventOf(text: string | undefined): SwarmEvent {
  return text === 'started' || text === 'completed' || text === 'stopped' || text === 'paused' ? text : 'none';
}

function reply(status: number, body: Buffer, type = 'text/plain'): HttpReply {
  return { status, type, body };
}
