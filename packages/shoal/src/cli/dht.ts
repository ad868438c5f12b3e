/** `shoal dht …`: the DHT by hand. Each command joins it for a moment, asks, and leaves. */

import { randomBytes } from 'node:crypto';
import { type DhtItemInfo, parsePublisher, ShoalError } from '@shoal/engine';
import { type DhtRunOptions, infoHashOf, runDht, whileTimeLasts } from './dht-run.ts';
import { bencodeForPeople, MAX_VALUE_BYTES, valueForPeople, valueJson, valueToPut } from './dht-value.ts';
import { ExitCode, NotFoundError, UsageError } from './exit-code.ts';
import { plural } from './format.ts';
import { JsonLines, type JsonValue } from './json.ts';
import { readKey } from './key-file.ts';

export interface DhtGetOptions extends DhtRunOptions {
  readonly salt?: Uint8Array;
  readonly bencode: boolean;
}

/** TARGET (40 hex digits), PUBLICKEY (64) or the link of a publisher. */
export async function dhtGet(name: string, options: DhtGetOptions): Promise<ExitCode> {
  const link = /^magnet:/i.test(name) ? parsePublisher(name) : null;
  const key = link?.publicKey ?? (/^[0-9a-f]{64}$/i.test(name) ? name.toLowerCase() : null);
  if (key === null && !/^[0-9a-f]{40}$/i.test(name)) {
    throw new UsageError(`'${name}' is neither a target (40 hex digits) nor a public key (64 hex digits)`);
  }
  if (key === null && options.salt !== undefined) throw new UsageError('--salt goes with a public key, not a target');
  const salt = options.salt ?? link?.salt;
  return await runDht(options, async ({ dht, signal }) => {
    const item =
      key === null
        ? await dht.get(name.toLowerCase(), { signal })
        : await dht.getMutable(key, { signal, ...(salt === undefined ? {} : { salt }) });
    if (item === null) throw new NotFoundError(`nothing is stored in the DHT under ${name}`);
    showItem(item, options);
    return ExitCode.Done;
  });
}

function showItem(item: DhtItemInfo, options: DhtGetOptions): void {
  if (options.json) {
    const lines = new JsonLines();
    lines.emit('item', itemJson(item));
    lines.end(ExitCode.Done);
  } else if (!options.bencode) {
    process.stdout.write(`${valueForPeople(item.bytes)}\n`);
  } else if (process.stdout.isTTY) {
    process.stdout.write(`${bencodeForPeople(item.bytes)}\n`);
  } else {
    process.stdout.write(item.bytes);
  }
}

function itemJson(item: Omit<DhtItemInfo, 'value'>): Record<string, JsonValue> {
  return {
    target: item.target,
    publicKey: item.publicKey,
    salt: Buffer.from(item.salt).toString('hex'),
    seq: item.seq,
    signature: item.signature,
    value: valueJson(item.bytes),
    bencode: Buffer.from(item.bytes).toString('hex'),
  };
}

export interface DhtPutOptions extends DhtRunOptions {
  readonly key?: string;
  readonly newKey: boolean;
  readonly salt?: Uint8Array;
  readonly seq?: number;
  readonly cas?: number;
  readonly bencode: boolean;
}

/** VALUE, or '-' for what stands on stdin. */
export async function dhtPut(text: string, options: DhtPutOptions): Promise<ExitCode> {
  if (options.key === undefined) {
    for (const name of ['newKey', 'salt', 'seq', 'cas'] as const) {
      if (options[name] === undefined || options[name] === false) continue;
      throw new UsageError(`--${name === 'newKey' ? 'new-key' : name} goes with --key FILE: only signed items have it`);
    }
  }
  const value = valueToPut(text === '-' ? await readStdin() : new TextEncoder().encode(text), options.bencode);
  const seed = options.key === undefined ? null : await readKey(options.key, options.newKey);
  const { salt, seq, cas } = options;
  return await runDht(options, async ({ dht, signal }) => {
    const put =
      seed === null
        ? { ...(await dht.put(value, { signal })), publicKey: null, seq: null }
        : await dht.putMutable(value, {
            seed,
            signal,
            ...(salt === undefined ? {} : { salt }),
            ...(seq === undefined ? {} : { seq }),
            ...(cas === undefined ? {} : { cas }),
          });
    if (put.stored === 0) throw new ShoalError('network', 'no node of the DHT took it');
    if (options.json) {
      const lines = new JsonLines();
      const { target, publicKey, stored } = put;
      const saltHex = Buffer.from(salt ?? []).toString('hex');
      lines.emit('item', { target, publicKey, salt: saltHex, seq: put.seq, stored });
      lines.end(ExitCode.Done);
      return ExitCode.Done;
    }
    const facts = [
      ['target', put.target],
      ['public key', put.publicKey],
      ['seq', put.seq],
    ].filter(([, fact]) => fact !== null);
    process.stdout.write(facts.map(([label, fact]) => `${String(label).padEnd(11)} ${fact}\n`).join(''));
    process.stdout.write(
      `stored by   ${plural(put.stored, 'node')}; it is forgotten after two hours unless put again\n`,
    );
    return ExitCode.Done;
  });
}

async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length;
    // more than any value with its length before it
    if (size > 2 * MAX_VALUE_BYTES) throw new UsageError(`the value has more than ${MAX_VALUE_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export async function dhtPeers(name: string, options: DhtRunOptions): Promise<ExitCode> {
  const infoHash = await infoHashOf(name);
  return await runDht(options, async ({ dht, signal, interrupt }) => {
    const peers = new Set<string>();
    for await (const { ip, port } of whileTimeLasts(dht.lookup(infoHash, { signal }), signal)) {
      const address = hostPort(ip, port);
      if (peers.has(address)) continue;
      peers.add(address);
      if (!options.json) process.stdout.write(`${address}\n`);
    }
    if (interrupt.interrupted) return ExitCode.Interrupted;
    if (options.json) {
      const lines = new JsonLines();
      lines.emit('peers', { infoHash, peers: [...peers] });
      lines.end(ExitCode.Done);
    } else if (peers.size === 0) process.stderr.write('shoal: the DHT knows no peers of it\n');
    return ExitCode.Done;
  });
}

export async function dhtScrape(name: string, options: DhtRunOptions): Promise<ExitCode> {
  const infoHash = await infoHashOf(name);
  return await runDht(options, async ({ dht, signal }) => {
    const { seeds, peers, nodes } = await dht.scrape(infoHash, { signal });
    if (options.json) {
      const lines = new JsonLines();
      lines.emit('scrape', { infoHash, seeds, peers, nodes });
      lines.end(ExitCode.Done);
    } else {
      const from = nodes === 0 ? 'no node gave figures' : `estimated from ${plural(nodes, 'node')}`;
      process.stdout.write(`${plural(seeds, 'seed')}, ${plural(peers, 'other peer')} (${from})\n`);
    }
    return ExitCode.Done;
  });
}

export async function dhtNodes(options: DhtRunOptions): Promise<ExitCode> {
  return await runDht(options, async ({ dht, signal, interrupt }) => {
    // a search for nothing fills the table with whom it passes
    for await (const _ of whileTimeLasts(dht.lookup(randomBytes(20), { signal }), signal));
    if (interrupt.interrupted) return ExitCode.Interrupted;
    const nodes = dht.nodes();
    if (options.json) {
      const lines = new JsonLines();
      lines.emit('nodes', {
        nodes: nodes.map(({ id, address }) => ({ id, host: address.ip, port: address.port })),
      });
      lines.end(ExitCode.Done);
    } else {
      for (const { id, address } of nodes) process.stdout.write(`${id}  ${hostPort(address.ip, address.port)}\n`);
    }
    return ExitCode.Done;
  });
}

function hostPort(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
