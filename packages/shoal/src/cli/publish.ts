/** `shoal publish`: signs which torrent a key stands for and puts that into the DHT (BEP 46); whoever has the link follows. */

import { formatPublisher, ShoalError } from '@shoal/engine';
import { type DhtRun, type DhtRunOptions, runDht } from './dht-run.ts';
import { ExitCode, UsageError } from './exit-code.ts';
import { plural } from './format.ts';
import { hexOrNull, JsonLines } from './json.ts';
import { readKey } from './key-file.ts';
import { loadSource } from './source.ts';

export interface PublishOptions extends DhtRunOptions {
  readonly key: string;
  readonly newKey: boolean;
  readonly salt?: Uint8Array;
  /** Milliseconds between puts; absent: once. */
  readonly every?: number;
}

export async function publish(source: string, options: PublishOptions): Promise<ExitCode> {
  const infoHash = await publishable(source);
  const seed = await readKey(options.key, options.newKey);
  const lines = options.json ? new JsonLines() : null;
  const exitCode = await runDht(options, async (run) => {
    let seq: number | null = null;
    for (;;) {
      seq = await put(run, infoHash, seed, seq, options, lines);
      if (options.every === undefined) return ExitCode.Done;
      await pause(options.every, run.interrupt.signal);
      if (run.interrupt.interrupted) return ExitCode.Done;
    }
  });
  // who stays until Ctrl-C is done then
  const ended = options.every !== undefined && exitCode === ExitCode.Interrupted ? ExitCode.Done : exitCode;
  lines?.end(ended);
  return ended;
}

/** The v1 info-hash: what BEP 46 has room for. */
async function publishable(source: string): Promise<Uint8Array> {
  const { meta, magnet, label } = await loadSource(source);
  const known = meta ?? magnet;
  if (known === null) throw new UsageError(`'${label}' is not a .torrent file, a magnet link or an info-hash`);
  if (known.infoHash === null) {
    throw new UsageError(`'${label}' has no version 1 info-hash; followers of a key (BEP 46) know no other`);
  }
  return known.infoHash;
}

/** `before`: the number it was put with earlier in this run. Gives the number it has now. */
async function put(
  run: DhtRun,
  infoHash: Uint8Array,
  seed: Uint8Array,
  before: number | null,
  options: PublishOptions,
  lines: JsonLines | null,
): Promise<number> {
  const { salt } = options;
  const salted = salt === undefined ? {} : { salt };
  const repeated = before === null ? {} : { seq: before };
  run.restart();
  const done = await run.dht.putMutable({ ih: infoHash }, { seed, signal: run.signal, ...salted, ...repeated });
  if (done.stored === 0) throw new ShoalError('network', 'no node of the DHT took it');
  const publicKey = Buffer.from(done.publicKey, 'hex');
  const link = formatPublisher({ publicKey, salt: salt ?? new Uint8Array(0) });
  const { seq, stored, target } = done;
  if (lines !== null) {
    const saltHex = Buffer.from(salt ?? []).toString('hex');
    lines.emit('published', {
      infoHash: hexOrNull(infoHash),
      link,
      publicKey: done.publicKey,
      salt: saltHex,
      target,
      seq,
      stored,
    });
  } else if (before === null) {
    process.stdout.write(
      `${link}\n  stands for ${hexOrNull(infoHash)}\n  seq ${seq}, stored by ${plural(stored, 'node')}\n`,
    );
  }
  return seq;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
