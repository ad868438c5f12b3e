/**
 * What every `shoal dht` command and `publish` share: a Session that is nothing but a node of the DHT, which asks and
 * answers nothing (BEP 43), a time limit, and Ctrl-C.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { Session, type SessionOptions, ShoalError } from '@shoal/engine';
import { ExitCode, UsageError } from './exit-code.ts';
import { plural } from './format.ts';
import { Interrupt } from './interrupt.ts';
import { carriesNoUdp, type WayOptions, wayNotes, waySettings } from './network-options.ts';
import { loadSource } from './source.ts';
import { CLOSE_LIMIT_MS, closeWithin } from './transfer.ts';
import { Troubles } from './troubles.ts';

export interface DhtRunOptions extends WayOptions {
  readonly bootstrap: readonly string[];
  readonly port: number;
  /** In milliseconds. */
  readonly timeout: number;
  readonly json: boolean;
}

const RETRY_MS = 100;

/**
 * Gives `use` a DHT of which at least one node answered. Throws ShoalError 'no-peers' when none did, or when `use` was
 * not done, in time. Closes the session whatever happens.
 */
export async function runDht(options: DhtRunOptions, use: (run: DhtRun) => Promise<ExitCode>): Promise<ExitCode> {
  using interrupt = new Interrupt();
  if (carriesNoUdp(options.proxy)) {
    throw new UsageError('the DHT goes by UDP, which only a socks5:// proxy carries; --proxy is none');
  }
  for (const note of wayNotes(options)) process.stderr.write(`shoal: note: ${note}\n`);
  const troubles = new Troubles();
  const settings: SessionOptions = {
    port: null,
    dht: {
      readOnly: true,
      port: options.port,
      ...(options.bootstrap.length === 0 ? {} : { bootstrap: options.bootstrap }),
    },
    pex: false,
    lsd: false,
    portMap: false,
    hashThreads: 1,
    ...waySettings(options),
  };
  const session = new Session(troubles.hear(settings));
  using run = new DhtRun(session.dht, options, interrupt, troubles);
  try {
    await session.ready();
    await run.begin();
    const exitCode = await use(run);
    return interrupt.interrupted ? ExitCode.Interrupted : exitCode;
  } catch (error) {
    if (interrupt.interrupted) return ExitCode.Interrupted;
    throw run.late && isAborted(error) ? run.tooLate() : error;
  } finally {
    await closeWithin(session, CLOSE_LIMIT_MS);
  }
}

export class DhtRun implements Disposable {
  readonly dht: Session['dht'];
  readonly interrupt: Interrupt;
  readonly #options: DhtRunOptions;
  readonly #troubles: Troubles;
  #limit = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #answered = false;

  constructor(dht: Session['dht'], options: DhtRunOptions, interrupt: Interrupt, troubles: Troubles) {
    this.#troubles = troubles;
    this.dht = dht;
    this.#options = options;
    this.interrupt = interrupt;
    this.restart();
  }

  /** Aborts when the time is over, or at Ctrl-C. */
  get signal(): AbortSignal {
    return AbortSignal.any([this.interrupt.signal, this.#limit.signal]);
  }

  /** Whether the time is over. */
  get late(): boolean {
    return this.#limit.signal.aborted;
  }

  /** What comes next has all the time again. */
  restart(): void {
    clearTimeout(this.#timer);
    this.#limit = new AbortController();
    const limit = this.#limit;
    this.#timer = setTimeout(() => limit.abort(), this.#options.timeout);
  }

  /** Waits for the first node that answers. */
  async begin(): Promise<void> {
    const { bootstrap, bind } = this.#options;
    if (bootstrap.length === 0 && bind.length > 0 && bind.every((ip) => /^(127\.|::1$)/.test(ip))) {
      throw new ShoalError(
        'no-peers',
        `from ${bind.join(', ')} no public DHT node is asked; name one with --bootstrap HOST:PORT`,
      );
    }
    const { signal } = this;
    // ready without nodes is who found nobody to ask
    while (!(await this.dht.ready({ signal })) || this.dht.nodes().length === 0)
      await sleep(RETRY_MS, null, { signal });
    this.#answered = true;
  }

  tooLate(): ShoalError {
    const { bootstrap, timeout } = this.#options;
    const limit = plural(timeout / 1000, 'second');
    if (this.#answered) return new ShoalError('no-peers', `the DHT was not done within ${limit}`);
    const asked = bootstrap.length === 0 ? '' : `; asked ${bootstrap.join(', ')}`;
    return new ShoalError('no-peers', `no DHT node answered within ${limit}${asked}${this.#troubles.of(null)}`);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** What a lookup found until the signal aborted, rather than nothing. */
export async function* whileTimeLasts<T>(items: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void> {
  try {
    for await (const item of items) yield item;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** INFOHASH as typed: 40 or 64 hex digits, a magnet link, or a .torrent file. Hex of what the DHT knows it by. */
export async function infoHashOf(text: string): Promise<string> {
  if (/^([0-9a-f]{40}|[0-9a-f]{64})$/i.test(text)) return text.slice(0, 40).toLowerCase();
  if (/^[0-9a-f]{20,}$/i.test(text)) {
    throw new UsageError(`'${text}' has ${text.length} hex digits; an info-hash has 40, or 64 for version 2`);
  }
  const { meta, magnet, label } = await loadSource(text);
  const known = meta ?? magnet;
  if (known === null) throw new UsageError(`'${label}' is not an info-hash, a magnet link or a .torrent file`);
  return Buffer.from(known.swarmHash).toString('hex');
}

function isAborted(error: unknown): boolean {
  return (
    error instanceof Error && (error.name === 'AbortError' || (error instanceof ShoalError && error.code === 'aborted'))
  );
}
