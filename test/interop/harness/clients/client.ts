/** What the tests ask of every client, each of which has its own way to be told. */

import type { MadeTorrent } from '../torrent.ts';

/** Where a client lives. */
export interface Place {
  /** A loopback address of its own, and a port to take peers on. */
  readonly ip: string;
  readonly port: number;
  /** A folder of its own for settings, logs and control sockets. */
  readonly home: string;
  /** What to put before a command so that it runs in the network of `ip`; absent: nothing. */
  readonly enter?: readonly string[];
}

/** Ways to find peers beyond trackers, none unless said; and to reach them, plain TCP unless said. */
export interface Finding {
  /** host:port of nodes to enter the DHT by. */
  readonly dht?: readonly string[];
  readonly pex?: boolean;
  readonly lsd?: boolean;
  /** uTP alone, as far as the client can be told. */
  readonly utp?: boolean;
  /** Nothing but Message Stream Encryption with RC4. */
  readonly encrypted?: boolean;
  /** Shoal's only: bytes per second. */
  readonly limits?: { readonly downloadLimit?: number; readonly uploadLimit?: number };
}

export interface AddRequest {
  /** A .torrent file's path, or a magnet link. */
  readonly source: string;
  readonly torrent: MadeTorrent;
  /** The folder that holds, or will hold, the torrent's own folder. */
  readonly folder: string;
  /** "host:port" each, for clients that can be told. */
  readonly peers?: readonly string[];
  /** Bytes per second to upload at most. */
  readonly uploadLimit?: number;
}

export interface Client {
  readonly kind: string;
  readonly place: Place;
  /** False where peers come from trackers only. */
  readonly takesPeers: boolean;
  /** It makes no file for zero bytes. */
  readonly omitsEmptyFiles: boolean;
  /** Files of its own that it leaves in the folder. */
  readonly leaves?: RegExp;
  /** Brings it up, ready to be told of a torrent. */
  start(): Promise<void>;
  /** Adds a torrent, running, to seed what is there and fetch what is not. */
  add(request: AddRequest): Promise<void>;
  /** It knows what the torrent consists of. */
  hasMetadata(): Promise<boolean>;
  /** All of the torrent is there, verified, and it seeds (or, where it ends by itself, has ended well). */
  complete(): Promise<boolean>;
  /** One line for a failure's report. */
  status(): Promise<string>;
  stop(): Promise<void>;
  /** The end of its logs. */
  tail(): string;
}

/** The address others reach it at. */
export function addressOf(client: Client): string {
  return `${client.place.ip}:${client.place.port}`;
}
