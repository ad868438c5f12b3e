/**
 * A node of the DHT that does what a test tells it: asks anything, well-formed or not, counts bytes both ways, and
 * answers as it is told (or not at all).
 */

import { createPrivateKey, createPublicKey, randomBytes, sign } from 'node:crypto';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { type Bdict, decode, isDict } from './bdecode.ts';
import { type Bencodable, encode } from './torrent.ts';

export interface KrpcReply {
  /** The whole message. */
  readonly message: Bdict;
  /** Its `r`, or null for an error. */
  readonly r: Bdict | null;
  /** [code, text] of an error. */
  readonly error: readonly [number, string] | null;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** The `r` of the answer to a query; null: no answer. */
export type Responder = (query: string, args: Bdict, from: RemoteInfo) => Record<string, Bencodable> | null;

const TIMEOUT_MS = 2000;

export class KrpcProbe {
  readonly id: Buffer;
  readonly host: string;
  port = 0;
  /** Of all that came in. */
  receivedBytes = 0;
  receivedCount = 0;
  longest = 0;
  /** Queries that came in, by name. */
  readonly queries = new Map<string, number>();
  /** Answers, when it has any to give. */
  respond: Responder = () => null;
  readonly #socket: Socket;
  readonly #waiting = new Map<string, (message: Bdict, bytes: number) => void>();
  #lastId = 0;

  constructor(host: string, id: Buffer = randomBytes(20)) {
    this.host = host;
    this.id = id;
    this.#socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
    this.#socket.on('message', (bytes, from) => this.#receive(bytes, from));
    this.#socket.on('error', () => {});
  }

  async open(port = 0): Promise<this> {
    await new Promise<void>((resolve, reject) => {
      this.#socket.once('error', reject).bind(port, this.host, () => resolve());
    });
    this.port = this.#socket.address().port;
    return this;
  }

  get address(): string {
    return `${this.host}:${this.port}`;
  }

  close(): void {
    this.#socket.close();
  }

  /** The answer, or null where none comes. */
  async ask(to: string, query: string, args: Readonly<Record<string, Bencodable>> = {}): Promise<KrpcReply | null> {
    const t = Buffer.alloc(2);
    t.writeUInt16BE(++this.#lastId & 0xffff);
    const bytes = encode({ a: { id: this.id, ...args }, q: query, t, y: 'q' });
    return await new Promise<KrpcReply | null>((resolve) => {
      const key = t.toString('hex');
      const timer = setTimeout(() => {
        this.#waiting.delete(key);
        resolve(null);
      }, TIMEOUT_MS);
      this.#waiting.set(key, (message, receivedBytes) => {
        clearTimeout(timer);
        const r = isDict(message['r']) ? message['r'] : null;
        const e = Array.isArray(message['e']) ? message['e'] : null;
        const error = e === null ? null : ([Number(e[0]), String(e[1])] as const);
        resolve({ message, r, error, sentBytes: bytes.length, receivedBytes });
      });
      this.send(to, bytes);
    });
  }

  send(to: string, bytes: Uint8Array): void {
    const [host, port] = to.split(':');
    this.#socket.send(bytes, Number(port), host);
  }

  /** Resolves once the system has taken it, for those who send much. */
  sent(to: string, bytes: Uint8Array): Promise<void> {
    const [host, port] = to.split(':');
    return new Promise((resolve) => this.#socket.send(bytes, Number(port), host, () => resolve()));
  }

  #receive(bytes: Buffer, from: RemoteInfo): void {
    this.receivedBytes += bytes.length;
    this.receivedCount++;
    this.longest = Math.max(this.longest, bytes.length);
    let message: Bdict;
    try {
      message = decode(bytes) as Bdict;
    } catch {
      return;
    }
    const t = message['t'];
    if (!Buffer.isBuffer(t)) return;
    if (String(message['y']) !== 'q') {
      const waiting = this.#waiting.get(t.toString('hex'));
      this.#waiting.delete(t.toString('hex'));
      waiting?.(message, bytes.length);
      return;
    }
    const query = String(message['q']);
    this.queries.set(query, (this.queries.get(query) ?? 0) + 1);
    const args = isDict(message['a']) ? message['a'] : {};
    const r = this.respond(query, args, from);
    if (r !== null) this.send(`${from.address}:${from.port}`, encode({ r: { id: this.id, ...r }, t, y: 'r' }));
  }
}

/** host:port of each node in a compact list (BEP 5). */
export function compactNodes(bytes: Uint8Array): { id: string; address: string }[] {
  const nodes: { id: string; address: string }[] = [];
  for (let at = 0; at + 26 <= bytes.length; at += 26) {
    const id = Buffer.from(bytes.subarray(at, at + 20)).toString('hex');
    nodes.push({ id, address: compactPeer(bytes.subarray(at + 20, at + 26)) });
  }
  return nodes;
}

export function compactPeer(bytes: Uint8Array): string {
  return `${bytes.subarray(0, 4).join('.')}:${(bytes[4]! << 8) | bytes[5]!}`;
}

export function compactOf(address: string): Buffer {
  const [host, port] = address.split(':');
  return Buffer.from([...host!.split('.').map(Number), Number(port) >> 8, Number(port) & 255]);
}

/** What an ed25519 key in PKCS #8 begins with, before the seed (RFC 8410). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/** Signs items of its own (BEP 44). */
export class ItemKey {
  readonly seed: string;
  readonly publicKey: string;
  readonly #key: ReturnType<typeof createPrivateKey>;

  constructor(seed: Buffer = randomBytes(32)) {
    this.seed = seed.toString('hex');
    this.#key = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, seed]), format: 'der', type: 'pkcs8' });
    const der = createPublicKey(this.#key).export({ format: 'der', type: 'spki' });
    this.publicKey = der.subarray(-32).toString('hex');
  }

  /** The arguments of a `put`, without the token. */
  item(value: Bencodable, seq: number, salt = ''): Record<string, Bencodable> {
    const v = encode(value);
    const signed = Buffer.concat([
      Buffer.from(salt === '' ? '' : `4:salt${Buffer.byteLength(salt)}:${salt}`),
      Buffer.from(`3:seqi${seq}e1:v`),
      v,
    ]);
    const item = { k: Buffer.from(this.publicKey, 'hex'), seq, sig: sign(null, signed, this.#key), v: value };
    return salt === '' ? item : { ...item, salt };
  }
}
