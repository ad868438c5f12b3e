/** The public shapes of a Session: options, statistics, events. Rates are bytes per second, sizes bytes, times as named. */

import type { IoFault } from '../base/errors.ts';
import type { Endpoint } from '../base/ports.ts';
import type { ClientRule } from '../swarm/client-rules.ts';

export type { ClientRule } from '../swarm/client-rules.ts';

import type { AnnounceMode } from '../discovery/announce.ts';
import type { PortMapMethod } from '../discovery/port-map.ts';
import type { TrackerFamilyStatus, TrackerStatus } from '../discovery/tracker.ts';

export interface SessionOptions {
  /** TCP port to listen on; 0 (default): one the system picks; null: do not listen. */
  readonly port?: number | null;
  /** 'at-once' (default), or 'when-checked': only once no torrent is being checked, so that no peer meets a busy disk. */
  readonly listen?: 'at-once' | 'when-checked';
  /** Local addresses to listen on and leave from. Default: '0.0.0.0', and '::' where there is IPv6. */
  readonly bind?: readonly string[];
  /**
   * A network interface, by name, that everything is to go by; `bind` then means nothing. While it is away nothing leaves;
   * when it has another address the session moves there.
   */
  readonly interface?: string;
  /** Folder for durable state, or null (default) for a session that remembers nothing. */
  readonly state?: string | null;
  /**
   * What another process is kept out of: the whole state folder (default), or each torrent in it that this session has,
   * so that short-lived programs can share a folder.
   */
  readonly stateLock?: 'folder' | 'torrent';
  /** Bytes per second, 0 (default): no limit. */
  readonly downloadLimit?: number;
  readonly uploadLimit?: number;
  /** Whether the limits concern peers in the local network too. Default true. */
  readonly limitLan?: boolean;
  /** Whether the protocol's own bytes and those of TCP and IP count, not only payload. Default false. */
  readonly limitOverhead?: boolean;
  /** Memory for blocks in flight and caches, in bytes. Default 32 MiB. */
  readonly memory?: number;
  /** Threads that hash. Default: one per core, at most 8. */
  readonly hashThreads?: number;
  /**
   * The DHT (BEP 5): true (default), false, or how. A session bound to loopback addresses alone asks no public router.
   */
  readonly dht?: boolean | DhtOptions;
  /** Peers tell each other of peers (BEP 11). Default true. */
  readonly pex?: boolean;
  /** Peers in the local network are found by multicast (BEP 14). Default true. */
  readonly lsd?: boolean;
  /**
   * Whether routers are asked to forward the port to us: true (default unless there is a `portFile`), false, or by which
   * protocols. Not by sessions that are bound to loopback addresses alone.
   */
  readonly portMap?: boolean | readonly PortMapMethod[];
  /**
   * A file with the port to listen on, as VPN programs write it: followed as it changes. `port` is used until there is one.
   */
  readonly portFile?: string;
  /** Which programs are spoken with; the first rule that fits decides, and who fits none is let in. */
  readonly clientRules?: readonly ClientRule[];
  /** A block list to begin with: the path of a file in P2P, DAT or CIDR form, gzip or not. */
  readonly ipFilter?: string;
  /** TCP, uTP (BEP 29), or (default) both: whichever connects first. */
  readonly transport?: TransportPolicy;
  /**
   * Message Stream Encryption: 'off'; 'allow' (default): taken, and tried where the plain way fails; 'prefer': tried first;
   * 'require': nothing else, and RC4 for the whole stream.
   */
  readonly encryption?: EncryptionPolicy;
  /**
   * A proxy: socks4://, socks4a://, socks5:// or http://, with user:password@ before host:port where it wants that. Peers,
   * the DHT, trackers, URLs and the look-ups of their names go through it or not at all; its own name is looked up here.
   * UDP (uTP, DHT, UDP trackers) goes by SOCKS5 alone and is off with the others, and with one that refuses it. The session
   * does not listen, maps no port and uses no local discovery then. Trackers are asked over the proxy's choice of family.
   */
  readonly proxy?: string;
  /** False: peers, and all that finds them but trackers, go directly, the proxy notwithstanding. Default true. */
  readonly proxyPeers?: boolean;
  /** False: trackers go directly. Default true. */
  readonly proxyTrackers?: boolean;
  /**
   * Tells others as little as will do (BEP 37); it hides no address, which is a proxy's part. Default false.
   *
   * - Peer ids are random throughout; peers are told no program (`v`), no port (`p`, PORT) and not how we see them (`yourip`).
   * - Trackers are told no `key` and a user agent of many; `ip` never is.
   * - In the DHT we only ask (BEP 43), name no program, announce nothing, and keep neither id nor nodes between runs.
   * - Local discovery and port mapping are off.
   *
   * The port we listen at, if any, is still told to trackers. Private trackers may refuse a client they do not know.
   */
  readonly anonymous?: boolean;
  /**
   * Which trackers of a torrent are asked: 'tier' (default): one, the first that answers (BEP 12); 'all-tiers': the first
   * that answers of each tier; 'all': every one. A private torrent always keeps to one.
   */
  readonly announceMode?: AnnounceMode;
  /** Connections over all torrents. Default 500. */
  readonly maxConnections?: number;
  /** Unchoked peers per torrent. Default 8. */
  readonly uploadSlots?: number;
  /** Sees what the session does, one line each; with what did not work, where the line tells of that. Default: none. */
  readonly log?: (line: string, trouble: SessionTrouble | null) => void;
}

/** Something in the world that stood in the way: a connection to a peer ended, UDP or the DHT met a fault. */
export interface SessionTrouble {
  readonly of: 'peer' | 'udp' | 'dht';
  /** Of a peer: its address, `host:port`. */
  readonly peer: string | null;
  readonly fault: IoFault;
}

/** How a router forwards our port, or why it does not. */
export interface PortMappingInfo {
  readonly protocol: 'tcp' | 'udp';
  /** By which the router was asked. */
  readonly method: PortMapMethod;
  /** The router's address, or null where none was found. */
  readonly gateway: string | null;
  readonly internal: Endpoint;
  /** As the router says; null: it did not. */
  readonly externalIp: string | null;
  /** Null: it is not mapped. */
  readonly externalPort: number | null;
  /** Seconds until it is to be renewed at the latest; null: it is not mapped, or for good. */
  readonly expiresS: number | null;
  readonly error: string | null;
}

/** An address that nothing is exchanged with for a while. */
export interface BanInfo {
  readonly ip: string;
  readonly reason: string;
  /** Seconds since it began, and until it ends. */
  readonly ageS: number;
  readonly leftS: number;
}

export interface IpFilterInfo {
  /** Ranges after joining those that touch. */
  readonly ranges: number;
  /** Lines that made no sense, and the number of the first one (from 1), or 0. */
  readonly badLines: number;
  readonly firstBadLine: number;
}

/** What connections to peers run over. */
export type TransportPolicy = 'tcp' | 'utp' | 'both';

export type EncryptionPolicy = 'off' | 'allow' | 'prefer' | 'require';

export interface DhtOptions {
  /** "host:port" of nodes to begin with, instead of the public routers. */
  readonly bootstrap?: readonly string[];
  /** UDP port of its own. Default: the session's port. */
  readonly port?: number;
  /** Asks, but answers and stores nothing (BEP 43). Default false. */
  readonly readOnly?: boolean;
  /** Bytes per second that answers to strangers may take. Default 8,000. */
  readonly uploadRate?: number;
}

/** A .torrent file's path or http(s) URL, a magnet link, or the bytes of a .torrent file. */
export type TorrentSource = string | Uint8Array;

export interface AddOptions {
  /** The folder that the torrent's own file or folder goes into. */
  readonly folder: string;
  /** Indices into `torrent.files` to download; default: all (or the magnet's `so`). */
  readonly select?: readonly number[];
  /** Pieces in order. Default false. */
  readonly sequential?: boolean;
  /** First and last piece of every file before the rest. Default false. */
  readonly firstAndLast?: boolean;
  /** Peers to try, "host:port" each, besides those that trackers name. */
  readonly peers?: readonly string[];
  /** More trackers, one tier each. */
  readonly trackers?: readonly string[];
  /** Files grow as data comes ('sparse', default), or are written full of zeros first ('full'). */
  readonly preallocate?: 'sparse' | 'full';
  /** What stands in the folder: 'check' (default) looks at what exists; 'trust' believes it complete (a seed that was just made). */
  readonly existing?: 'check' | 'trust';
  /** Bytes per second of this torrent, 0: no limit. Default: as in an earlier run, or none. */
  readonly downloadLimit?: number;
  readonly uploadLimit?: number;
  /** A name; torrents of one group share the limits of `session.setGroupLimits`. */
  readonly group?: string;
  /** Connects to nobody until `resume`. Default: as in an earlier run, or false. */
  readonly paused?: boolean;
  /** Gives up the adding (fetching a URL, asking for a publisher's torrent), or the following; not what was added. */
  readonly signal?: AbortSignal;
}

export type TorrentState = 'metadata' | 'checking' | 'downloading' | 'seeding' | 'paused' | 'error' | 'stopped';

export interface TorrentStats {
  readonly state: TorrentState;
  /** Verified and flushed bytes of wanted files, pads not counted. */
  readonly bytesDone: number;
  /** Bytes of wanted files, pads not counted; 0 while the metadata is missing. */
  readonly bytesTotal: number;
  readonly downRate: number;
  readonly upRate: number;
  /** Payload of this session. */
  readonly downloaded: number;
  readonly uploaded: number;
  readonly wasted: number;
  readonly hashFails: number;
  /** Bytes trusted from an earlier run. */
  readonly resumed: number;
  /** Connected, handshake complete. */
  readonly peers: number;
  readonly seeds: number;
  /** Addresses known and not connected. */
  readonly candidates: number;
  /** Peers known, connected or not, by who told of them; one may count under several. */
  readonly sources: PeerSources;
  readonly piecesDone: number;
  readonly pieceCount: number;
  /** Blocks written before their piece was verified, for want of memory. */
  readonly spilled: number;
  /** Share of the pieces looked at, 0..1, while checking; else null. */
  readonly checking: number | null;
  /** Seconds to go at the present rate, or null. */
  readonly eta: number | null;
  readonly error: IoFault | null;
}

export interface PeerSources {
  readonly tracker: number;
  readonly dht: number;
  readonly pex: number;
  readonly lsd: number;
  /** Named by the magnet link or by hand. */
  readonly magnet: number;
  readonly incoming: number;
}

export interface PeerStats {
  readonly address: Endpoint;
  readonly client: string;
  readonly incoming: boolean;
  readonly transport: 'tcp' | 'utp';
  /** How the stream is hidden: not at all, only its beginning, or all of it. */
  readonly encryption: 'none' | 'handshake' | 'rc4';
  /** Share of the torrent it has, 0..1. */
  readonly progress: number;
  readonly downRate: number;
  readonly upRate: number;
  readonly downloaded: number;
  readonly uploaded: number;
  readonly amChoking: boolean;
  readonly amInterested: boolean;
  readonly peerChoking: boolean;
  readonly peerInterested: boolean;
  readonly requestsOut: number;
  readonly requestsIn: number;
}

export type { AnnounceMode, PortMapMethod, TrackerFamilyStatus, TrackerStatus as TrackerStats };

export interface SessionStats {
  readonly downRate: number;
  readonly upRate: number;
  readonly torrents: number;
  readonly peers: number;
  /** Bytes of block memory in use, and all of it. */
  readonly memoryUsed: number;
  readonly memoryTotal: number;
}

/** What `torrent.events()` and `session.events()` yield. */
export type ShoalEvent =
  | { readonly type: 'state'; readonly infoHash: string; readonly state: TorrentState }
  | { readonly type: 'metadata'; readonly infoHash: string; readonly name: string }
  | { readonly type: 'piece'; readonly infoHash: string; readonly pieces: readonly number[] }
  | { readonly type: 'done'; readonly infoHash: string }
  | { readonly type: 'error'; readonly infoHash: string; readonly error: IoFault }
  | { readonly type: 'warning'; readonly infoHash: string; readonly message: string }
  | { readonly type: 'listening'; readonly address: Endpoint }
  /** About the session as a whole, for a person to read. */
  | { readonly type: 'notice'; readonly message: string };

/** A node of the DHT as we know it. */
export interface DhtNode {
  /** 40 hex digits. */
  readonly id: string;
  readonly address: Endpoint;
}

export interface DhtStats {
  /** Nodes in the tables of either family. */
  readonly nodes4: number;
  readonly nodes6: number;
  readonly lookups: number;
  readonly queriesIn: number;
  readonly queriesOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** What others have stored here. */
  readonly hashesStored: number;
  readonly peersStored: number;
  readonly itemsStored: number;
}

/** What BEP 44 items are made of; text comes as bytes. */
export type DhtValue =
  | number
  | bigint
  | string
  | Uint8Array
  | readonly DhtValue[]
  | { readonly [key: string]: DhtValue };

/** An item of the DHT (BEP 44), verified. */
export interface DhtItemInfo {
  /** 40 hex digits. */
  readonly target: string;
  /** Decoded; strings are bytes. */
  readonly value: DhtValue;
  /** The value as it was put, bencoded. */
  readonly bytes: Uint8Array;
  /** Of a mutable item, 64 hex digits; null: immutable. */
  readonly publicKey: string | null;
  readonly salt: Uint8Array;
  readonly seq: number | null;
  /** 128 hex digits, or null. */
  readonly signature: string | null;
}

export interface DhtScrape {
  /** Estimates (BEP 33). */
  readonly seeds: number;
  readonly peers: number;
  /** Nodes that gave one. */
  readonly nodes: number;
}
