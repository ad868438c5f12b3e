/** `shoal publish`: signs which torrent a key stands for and puts that into the DHT (BEP 46); whoever has the link follows. */

import { formatPublisher, ShoalError } from '@shoal/engine';
import { type DhtRun, type DhtRunOptions, runDht } from './dht-run.ts';
import { ExitCode, UsageError } from './exit-code.ts';
import { plural } from './format.ts';
import { hexOrNull, JsonLines } from './json.ts';
import { readKey } from './key-file.ts';
import { loadSource } from './source.ts';

/** A put that failed is tried again after this time, or sooner. */
const RETRY_MS = 60_000;

interface Published {
  readonly publicKey: string;
  readonly seq: number;
}

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
    const { every } = options;
    let last: Published | null = null;
    for (;;) {
      let waitMs = every ?? 0;
      try {
        last = await put(run, infoHash, seed, last, options, lines);
      } catch (error) {
        if (last === null || !(await passes(error, run, last, options))) throw error;
        const why = run.late ? run.tooLate() : (error as ShoalError);
        process.stderr.write(`shoal: ${why.message}; trying again soon\n`);
        waitMs = Math.min(waitMs, RETRY_MS);
      }
      if (every === undefined) return ExitCode.Done;
      await pause(waitMs, run.interrupt.signal);
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

/** Whether what kept it from being put may be over soon: the network is away, and nobody has put a newer one. */
async function passes(error: unknown, run: DhtRun, last: Published, { salt }: PublishOptions): Promise<boolean> {
  if (run.interrupt.interrupted || !(error instanceof ShoalError)) return false;
  if (run.late) return true;
  if (error.code !== 'network') return false;
  const { signal } = run;
  const options = salt === undefined ? { signal } : { signal, salt };
  const newest = await run.dht.getMutable(last.publicKey, options).catch(() => null);
  return newest === null || newest.seq === null || newest.seq <= last.seq;
}

/** `before`: how it was put earlier in this run. */
async function put(
  run: DhtRun,
  infoHash: Uint8Array,
  seed: Uint8Array,
  before: Published | null,
  options: PublishOptions,
  lines: JsonLines | null,
): Promise<Published> {
  const { salt } = options;
  const salted = salt === undefined ? {} : { salt };
  const repeated = before === null ? {} : { seq: before.seq };
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
  return done;
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
