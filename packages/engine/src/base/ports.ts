/**
 * The ports: everything the engine needs from the world, each with two implementations, `host/` (the real one) and
 * `sim/` (virtual clock, network, disk, hasher). Nothing below `host/` reaches the world in another way.
 *
 * Completions are delivered to sink objects as (job number, outcome), later, never from inside the call that asked.
 * Job numbers are the caller's; a port echoes them and gives them no meaning. There are no promises here, so that the
 * simulation stays a plain loop.
 */

import type { IoFault } from './errors.ts';
import type { ProxySettings } from './proxy.ts';
import type { SlotPool } from './slot-pool.ts';

/** An address of a peer or server: canonical IP text (v6 without brackets) and a port. */
export interface Endpoint {
  readonly ip: string;
  readonly port: number;
}

export interface Clock {
  /** Monotonic milliseconds, fractional; read once per turn by the session and handed down as `now`. */
  now(): number;
  /** Wall clock, unix milliseconds. For display and for what is written down; never for a deadline. */
  wall(): number;
}

/** Drives the turn: the session asks to be run, the host (or the world) calls `run`. */
export interface Loop {
  /** Who is called back; set once by the session. */
  run: (() => void) | null;
  /** Run once soon, after the input now at hand (host: setImmediate). Asking again before it ran changes nothing. */
  soon(): void;
  /** Run at monotonic time `atMs` at the latest; replaces the deadline asked before. Infinity: none. */
  wakeAt(atMs: number): void;
}

export interface Random {
  /** Fills with random bytes; in host these are from a CSPRNG, in sim from the seed. */
  fill(target: Uint8Array): void;
}

/** What OpenSSL does better than we would. Synchronous: each call is below a millisecond. */
export interface Crypto {
  /** Ed25519 (RFC 8032): the public key (32 bytes) of a secret seed (32 bytes). */
  ed25519PublicKey(seed: Uint8Array): Uint8Array;
  /** Signature, 64 bytes. */
  ed25519Sign(seed: Uint8Array, message: Uint8Array): Uint8Array;
  /** False also for keys and signatures of the wrong length or off the curve. Never throws. */
  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  /** Diffie-Hellman of Message Stream Encryption: the public key (96 bytes) of a secret exponent (20 bytes). */
  msePublic(exponent: Uint8Array): Uint8Array;
  /** The shared secret, 96 bytes; null for a public key that gives it away. */
  mseShared(exponent: Uint8Array, remote: Uint8Array): Uint8Array | null;
}

// ---------------------------------------------------------------------------------------------------------- network

export interface ConnSink {
  /** An outgoing connection is up. Not called for accepted ones. */
  onConnected(): void;
  /** Bytes came in; borrowed until return. */
  onData(bytes: Uint8Array): void;
  /** What was given to `send` has left; its memory is the caller's again. One call per `send`. */
  onSent(): void;
  /** The connection is over, however it came; the last call. Null: the other side ended it in order. */
  onClosed(fault: IoFault | null): void;
}

/** A byte transport: TCP here; later uTP too. Sinks are never called from inside `send`, `pause` or `resume`. */
export interface Conn {
  readonly remote: Endpoint;
  readonly local: Endpoint;
  readonly incoming: boolean;
  /** Changes who is told, for the hand-over from the handshake to the torrent. */
  sink: ConnSink;
  /**
   * Sends views[0..count) in order as one gathered write. The views (not the array) are borrowed until `onSent`; at
   * most one send is under way per conn (asserted).
   */
  send(views: readonly Uint8Array[], count: number): void;
  pause(): void;
  resume(): void;
  /** Ends the connection at once. `onClosed` still comes, later, with null. Borrowed memory is free by then. */
  close(): void;
}

export interface ListenSink {
  onListening(local: Endpoint): void;
  /** A new incoming connection. The callee sets `conn.sink` before it returns, or closes it. */
  onAccept(conn: Conn): void;
  /** Could not listen, or stopped listening by itself. */
  onListenFault(fault: IoFault): void;
}

export interface Listener {
  close(): void;
}

export interface Net {
  listen(local: Endpoint, sink: ListenSink): Listener;
  /**
   * What leaves this machine from now on leaves from one of these local addresses, HTTP and name look-ups included;
   * 0.0.0.0 and :: stand for all of their family. A family without an address is not used; without any nothing leaves.
   */
  setEgress(addresses: readonly string[]): void;
  /** Neither reached nor heard from now on, by whatever protocol; look-ups of names are not concerned. */
  setFilter(filter: AddressFilter): void;
  /**
   * What `wayOf` (base/proxy.ts) gives to the proxy goes through it from now on, or not at all; whatever went another way
   * is ended. Faults: EPROXYDOWN, it cannot be reached; EPROXYAUTH, EPROXYDENIED, EPROXY.
   */
  setProxy(proxy: ProxySettings | null): void;
  /** To a peer. Failure comes as `onClosed(fault)`. */
  connect(remote: Endpoint, sink: ConnSink): Conn;
  /**
   * Resolves a host name (c-ares in host, never the libuv pool). IP text resolves to itself; what the proxy resolves, to
   * one address that stands for the name (base/name-address.ts). `use`: whose name it is; default: a peer's.
   */
  resolve(
    host: string,
    done: (fault: IoFault | null, ips: readonly string[]) => void,
    use?: 'peers' | 'trackers',
  ): void;
  /** A UDP socket; port 0: one the system picks. Could not bind: `onUdpFault`, later. */
  udp(local: Endpoint, options: UdpOptions, sink: UdpSink): UdpSocket;
  /** The addresses of this machine now, loopback included. */
  interfaces(): readonly NetInterface[];
  /** The routers that lead out of this machine's networks, as far as the system tells; the preferred one first. */
  gateways(): readonly NetGateway[];
}

/** With whom nothing is spoken. */
export interface AddressFilter {
  /** `ip`: canonical text. Asked for every connection and datagram: to be answered within a microsecond. */
  blocks(ip: string): boolean;
  /** Nobody is blocked. */
  readonly isEmpty: boolean;
}

export interface UdpOptions {
  /** Join this multicast group (on the interface of `local.ip`, or all of them when that is unspecified); null: none. */
  readonly group: string | null;
  /** Others may bind the same port (SO_REUSEADDR); for multicast. */
  readonly shared: boolean;
  /** Bytes of receive and send buffer to ask the system for; 0: its default. */
  readonly bufferBytes: number;
  /**
   * With whom it speaks, which says whether it goes through a proxy; default: peers. 'local': with a router, which is never
   * reached through one. A socket through a proxy is bound again and again, as the proxy's relay comes and goes, has a
   * local address of its own, and sends to either family.
   */
  readonly use?: 'peers' | 'trackers' | 'local';
}

export interface UdpSink {
  onUdpBound(local: Endpoint): void;
  /** One datagram; borrowed until return. `ip` is canonical text, an IPv4-mapped address given as IPv4. */
  onDatagram(bytes: Uint8Array, ip: string, port: number): void;
  /** Could not bind, or the socket is dead. A datagram that could not be sent is no fault. */
  onUdpFault(fault: IoFault): void;
}

export interface UdpSocket {
  /**
   * Sends one datagram. The bytes are the caller's again on return. False: it was not taken (no room, no route, too long):
   * lost, like any datagram. Before the socket is bound nothing is taken.
   */
  send(bytes: Uint8Array, ip: string, port: number): boolean;
  close(): void;
}

export interface NetInterface {
  readonly name: string;
  readonly ip: string;
  /** Length of the network prefix, bits. */
  readonly prefix: number;
  readonly loopback: boolean;
}

export interface NetGateway {
  /** A link-local IPv6 address with its zone: fe80::1%eth0. */
  readonly ip: string;
  /** Name of the network interface that leads there. */
  readonly interfaceName: string;
}

// ------------------------------------------------------------------------------------------------------------- HTTP

export interface HttpRequest {
  /** Default: GET. */
  readonly method?: 'GET' | 'POST';
  /** Of a POST. */
  readonly body?: Uint8Array;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Whole exchange, connect included. */
  readonly timeoutMs: number;
  /** Body cap after decompression. Past it the exchange fails. */
  readonly maxBytes: number;
  readonly maxRedirects: number;
  /**
   * Who names the URL: a person, who may mean any server; or a torrent, as a tracker's. A stranger's torrent must not make us
   * knock at doors of the local network: there only paths that end in an announce or a scrape are asked for. Or a router
   * ('gateway'): then the host is the address of a machine in the local network, or of one in the IPv6 network of `from`, and
   * it may redirect nowhere.
   */
  readonly origin: 'person' | 'tracker' | 'gateway';
  /** The address of ours that it is to leave from; default: any that may. */
  readonly from?: string;
  /** Only over this address family; null: any. A server without an address of it: fault ENOFAMILY. */
  readonly family: 4 | 6 | null;
}

export interface HttpResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** The server's address, as connected. */
  readonly remoteIp: string;
}

export interface HttpHandle {
  /** Gives up; `done` is not called any more. True: the server may have got the request. */
  abort(): boolean;
}

export interface Http {
  get(request: HttpRequest, done: (fault: IoFault | null, response: HttpResponse | null) => void): HttpHandle;
}

// ------------------------------------------------------------------------------------------------------------ files

/**
 * A file of a torrent as the disk sees it. The object is its identity (open files are kept per FileRef), so make one
 * per file and keep it.
 */
export interface FileRef {
  /** Absolute folder that everything stays inside; no link below it is ever followed. */
  root: string;
  /** Safe path components below root, never empty, none of them '.', '..' or holding a separator. */
  readonly path: readonly string[];
  readonly executable: boolean;
}

export interface FileSink {
  /** `bytes`: bytes moved by readv/writev, or the count the operation documents. fault null: all went well. */
  onFile(job: number, fault: IoFault | null, bytes: number): void;
}

export interface FileStat {
  readonly size: number;
  readonly mtimeMs: number;
  readonly inode: number;
  /** false: something stands there that is no regular file (folder, link, FIFO, device). */
  readonly regular: boolean;
}

export interface FileStatSink {
  /** stat null and fault null: nothing is there. */
  onStat(job: number, fault: IoFault | null, stat: FileStat | null): void;
}

/**
 * Positioned file I/O. Reads and writes are complete or a fault ('short read' is the fault EIO_SHORT when the file
 * ends early). A write makes missing folders and the file. The implementation keeps an LRU of open files.
 */
export interface Files {
  read(job: number, file: FileRef, offset: number, views: readonly Uint8Array[], sink: FileSink): void;
  write(job: number, file: FileRef, offset: number, views: readonly Uint8Array[], sink: FileSink): void;
  /** Flushes data of these files to the medium (fdatasync). */
  sync(job: number, files: readonly FileRef[], sink: FileSink): void;
  /** Looks without following links. */
  stat(job: number, file: FileRef, sink: FileStatSink): void;
  /** Creates the file if missing and sets its size: sparse, or with `full` zeros written to the whole length. */
  allocate(job: number, file: FileRef, size: number, full: boolean, sink: FileSink): void;
  /** Makes a symlink (BEP 47) whose target was checked to stay inside root. */
  link(job: number, file: FileRef, target: readonly string[], sink: FileSink): void;
  /** Removes the files, then the folders above them (below root) that are empty then. bytes = files removed. */
  remove(job: number, files: readonly FileRef[], sink: FileSink): void;
  /** Moves files to another root (rename, or copy + sync + unlink across devices), all or nothing; bytes = files moved. */
  move(job: number, files: readonly FileRef[], newRoot: string, sink: FileSink): void;
  /**
   * Copies what stands at `from` to `to`, where nothing may stand (EEXIST), sharing blocks where the file system can; on a
   * fault nothing is left there. bytes = the file's size.
   */
  copy(job: number, from: FileRef, to: FileRef, sink: FileSink): void;
  /**
   * Closes what is kept open of these files (before a move, or when a torrent stops) and forgets which files they were: a
   * file that was removed or replaced underneath faults with ENOENT until then, or until `stat`, and is not made anew.
   */
  release(files: readonly FileRef[]): void;
}

// ---------------------------------------------------------------------------------------------------------- hashing

export const HashKind = {
  /** SHA-1 of the bytes: a v1 piece. Digest of 20 bytes. */
  Sha1: 1,
  /** Merkle root (BEP 52) over SHA-256 of 16 KiB leaves, padded with zero leaves to `leafCount`. Digest of 32 bytes. */
  Merkle: 2,
  /** Both, the SHA-1 first: 52 bytes. */
  Both: 3,
  /** SHA-1 of each slot alone (smart ban): 20 bytes a slot. */
  EachSha1: 4,
} as const;
export type HashKind = (typeof HashKind)[keyof typeof HashKind];

export interface HashSink {
  /** The digest is borrowed until return. A fault comes only for `hashFiles` (reading failed). */
  onHashed(job: number, fault: IoFault | null, digest: Uint8Array): void;
}

/** A stretch of a piece in a file; file null: zeros (pad file). */
export interface HashSpan {
  readonly file: FileRef | null;
  readonly offset: number;
  readonly length: number;
}

export interface Hasher {
  /** How many jobs run at once. */
  readonly threads: number;
  /**
   * Hashes the first `byteLength` bytes held by slots[0..count), each full but perhaps the last. The slots are borrowed
   * until `onHashed`.
   *
   * `stream` lets a long piece be hashed as it arrives: 0 = a whole piece in this call. Another number (the caller's,
   * not in use) opens a running hash: calls with the same stream follow each other in order, and the one with `last`
   * closes it; the digest of the others is empty. `leafCount`: leaves of the padded tree, 0 where none is asked.
   */
  hash(
    job: number,
    kind: HashKind,
    slots: Int32Array,
    count: number,
    byteLength: number,
    leafCount: number,
    stream: number,
    last: boolean,
    sink: HashSink,
  ): void;
  /** Forgets a running hash that will not be finished. */
  abandon(stream: number): void;
  /**
   * Reads spans from files and hashes them, on a worker, for checks and creation. Pieces of `pieceLength` bytes follow
   * each other through the spans; the digests come joined, one per piece (kind Merkle: `leafCount` leaves a piece).
   * With a fault (the first there was) the digests of the pieces that could not be read whole are zeros.
   */
  hashFiles(
    job: number,
    kind: HashKind,
    spans: readonly HashSpan[],
    pieceLength: number,
    leafCount: number,
    sink: HashSink,
  ): void;
}

// ------------------------------------------------------------------------------------------------------------ state

/** Durable records by key (a torrent's info-hash in hex). A record is whole or absent, whatever happens. */
export interface StateStore {
  /** Takes the store for this process. Fault ELOCKED, naming the holder, when another has it. */
  open(done: (fault: IoFault | null) => void): void;
  list(done: (fault: IoFault | null, keys: readonly string[]) => void): void;
  /** bytes null: no such record. A record that fails its checksum is set aside and the one before it returned. */
  load(key: string, done: (fault: IoFault | null, bytes: Uint8Array | null) => void): void;
  /** Replaces the record; done after it is durable. Saves of one key are kept in order. */
  save(key: string, bytes: Uint8Array, done: (fault: IoFault | null) => void): void;
  remove(key: string, done: (fault: IoFault | null) => void): void;
  /** Gives the store back. */
  close(done: () => void): void;
  /** Identifies this boot of the machine; a record from another boot vouches only for what was synced. */
  readonly bootId: string;
}

/** All of them, as a Session takes them. */
export interface Ports {
  readonly clock: Clock;
  readonly loop: Loop;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly net: Net;
  readonly http: Http;
  readonly files: Files;
  readonly hasher: Hasher;
  readonly state: StateStore;
  readonly slots: SlotPool;
  /** Releases workers, sockets and files; after it nothing keeps the process alive. */
  close(done: () => void): void;
}

// ---------------------------------------------------------------------------------------------- between swarm and disk

export interface PieceStoreSink {
  /** Every block of a piece that was `verified` is written: it survives SIGKILL and may be claimed. */
  onFlushed(piece: number): void;
  /** Answer to `read`. On success the callee holds each of slots[0..count) and releases them when done. */
  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void;
  /** Answer to `hash`: the digest of the piece as it stands on disk; borrowed. */
  onStoreHash(job: number, fault: IoFault | null, digest: Uint8Array): void;
  /**
   * A write failed. The pieces stay cached, nothing is lost and nothing more is written until `retry`; the swarm stops
   * asking for blocks meanwhile.
   */
  onStoreFault(fault: IoFault): void;
  /** Slots came free after there were few; the swarm may reserve again. */
  onRoom(): void;
}

/** One torrent's data, by piece and block, as the swarm sees it. A block is 16 KiB but for the last of a piece. */
export interface PieceStore {
  /**
   * Takes over one hold on each of slots[from..from+count): the blocks `firstBlock`.. of `piece`. Verified or not: an
   * unverified (spilled) block is written but never claimed nor served.
   */
  put(piece: number, firstBlock: number, slots: Int32Array, from: number, count: number): void;
  /** The hash of the piece passed; once all its blocks are written, `onFlushed`. Readable from now on. */
  verified(piece: number): void;
  /** The hash failed: drops what is cached of it. */
  discard(piece: number): void;
  /** Reads `count` whole blocks (the last may be short), from write cache, read cache, or file. */
  read(job: number, piece: number, firstBlock: number, count: number): void;
  /** Hashes the piece from disk, or with EachSha1 each of its blocks, once all that was put of it is written. */
  hash(job: number, kind: HashKind, piece: number): void;
  /** A piece that was here cannot be read: it is not claimed any more, and may be put again. */
  forget(piece: number): void;
  /**
   * After a fault: drops verified pieces that wait to be written, all but one, until at most `keepSlots` slots wait. They
   * may be put again. Returns which.
   */
  shed(keepSlots: number): readonly number[];
  /** Slots that wait to be written. */
  readonly pendingSlots: number;
  /** Tries the failed writes again. */
  retry(): void;
}
