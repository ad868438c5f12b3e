/**
 * `shoal demo`: the main job on one machine, with nothing faked. A payload, an HTTP tracker, seeds as processes of their
 * own, a download over loopback sockets, and a comparison of every byte with the source. It leaves nothing behind, and
 * not one packet leaves the machine.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createTorrent, type Metainfo } from '@shoal/engine';
import { startTracker, type Tracker } from '../tracker/index.ts';
import { chooseView } from './choose-view.ts';
import { ExitCode } from './exit-code.ts';
import { formatBytes, formatRate, plural } from './format.ts';
import { Interrupt } from './interrupt.ts';
import { makePayload } from './payload.ts';
import { themeOf } from './theme.ts';
import { transfer } from './transfer.ts';
import { nowMs } from './view.ts';

export interface DemoOptions {
  readonly size: number;
  readonly seeds: number;
  readonly down: number;
}

const HOST = '127.0.0.1';
const NAME = 'shoal-demo';

export async function demo(options: DemoOptions): Promise<ExitCode> {
  using interrupt = new Interrupt();
  const folder = await mkdtemp(join(tmpdir(), 'shoal-demo-'));
  const children: ChildProcess[] = [];
  let tracker: Tracker | null = null;
  try {
    tracker = await startTracker({ host: HOST, port: 0 });
    return await run(options, folder, tracker, children, interrupt);
  } catch (error) {
    if (interrupt.interrupted) return ExitCode.Interrupted;
    throw error;
  } finally {
    await Promise.all(children.map(stopChild));
    await tracker?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function run(
  options: DemoOptions,
  folder: string,
  tracker: Tracker,
  children: ChildProcess[],
  interrupt: Interrupt,
): Promise<ExitCode> {
  const { bold, dim, green } = themeOf(process.stdout, process.env).colors;
  const say = (text: string): void => void process.stdout.write(`${text}\n`);
  const { signal } = interrupt;
  say(bold('Shoal demo') + dim(': everything happens on this machine, over real sockets'));

  const source = join(folder, 'source');
  await mkdir(source);
  const fileCount = await makePayload(join(source, NAME), options.size, signal);
  say(`  payload   ${formatBytes(options.size)} of random bytes in ${plural(fileCount, 'file')}`);

  const { bytes, meta } = await createTorrent(join(source, NAME), { trackers: [tracker.url], signal });
  const torrentPath = join(folder, `${NAME}.torrent`);
  await writeFile(torrentPath, bytes);
  say(`  torrent   ${plural(meta.pieceCount, 'piece')} of ${formatBytes(meta.pieceLength)}`);
  say(`  tracker   ${tracker.url}`);

  const seeds = await startSeeds(options.seeds, torrentPath, source, children, signal);
  say(`  seeds     ${seeds.join(', ')} ${dim('each a process of its own')}`);
  await untilSeedsAnnounced(tracker, options.seeds, signal);

  const target = join(folder, 'download');
  await mkdir(target);
  const startedMs = nowMs();
  const exitCode = await transfer({
    items: [{ label: NAME, source: bytes, options: { folder: target }, saveTo: null, publisher: null }],
    session: {
      port: 0,
      bind: [HOST],
      dht: false,
      lsd: false,
      state: join(folder, 'state'),
      downloadLimit: options.down,
    },
    view: chooseView(false, false),
    interrupt,
    timeoutMs: 15_000,
    mode: 'get',
  });
  const seconds = (nowMs() - startedMs) / 1000;
  if (exitCode !== ExitCode.Done) return exitCode;

  await compare(meta, source, target, signal);
  say('');
  say(green(bold(`All ${meta.bytes.toLocaleString('en')} bytes equal the source.`)));
  say(
    `${formatBytes(meta.bytes)} in ${seconds.toFixed(2)}s, ${bold(formatRate(meta.bytes / seconds))}, start and end included.`,
  );
  say(NEXT_STEPS);
  return ExitCode.Done;
}

const NEXT_STEPS = `
Try next:
  npx shoal demo --size 1G --down 100M        longer, to watch it; press Ctrl-C in the middle
  npx shoal create FOLDER                     make a torrent of your own
  npx shoal seed FOLDER.torrent FOLDER        and give it to others
  npx shoal get SOURCE --peer HOST:PORT       a .torrent file, URL or magnet link
  npx shoal --help                            all the rest`;

const SEED_START_LIMIT_MS = 20_000;

/** Starts the seeds and waits until each has checked its files; gives their addresses. */
async function startSeeds(
  count: number,
  torrentPath: string,
  source: string,
  children: ChildProcess[],
  signal: AbortSignal,
): Promise<string[]> {
  const bin = fileURLToPath(new URL('../../bin/shoal.js', import.meta.url));
  const args = [bin, 'seed', torrentPath, source, '--bind', HOST, '--no-dht', '--no-lsd', '--json'];
  const starts: Promise<string>[] = [];
  for (let i = 0; i < count; i++) {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    starts.push(seedReady(child, signal));
  }
  return await Promise.all(starts);
}

async function seedReady(child: ChildProcess, signal: AbortSignal): Promise<string> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(SEED_START_LIMIT_MS)]);
  let address = '';
  return await new Promise((resolve, reject) => {
    const fail = (): void => reject(new Error('a seed did not start'));
    limit.addEventListener('abort', fail, { once: true });
    child.once('error', reject);
    child.once('exit', fail);
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const event = JSON.parse(line) as { type: string; host: string; port: number };
      if (event.type === 'listening') address = `${event.host}:${event.port}`;
      // The first `progress` says that the files are checked.
      if (event.type === 'progress') resolve(address);
    });
  });
}

/** So that the first announce of the download is told of all of them. */
async function untilSeedsAnnounced(tracker: Tracker, count: number, signal: AbortSignal): Promise<void> {
  const limit = nowMs() + 5000;
  while (tracker.stats().seeders < count && nowMs() < limit) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise<void>((resolve) => {
    const force = setTimeout(() => child.kill('SIGKILL'), 4000);
    child.once('exit', () => {
      clearTimeout(force);
      resolve();
    });
    child.kill('SIGTERM');
  });
}

const COMPARE_BYTES = 4 * 1024 * 1024;

/** Reads both copies and compares them byte by byte; throws at the first difference. */
async function compare(meta: Metainfo, source: string, target: string, signal: AbortSignal): Promise<void> {
  for (const file of meta.files) {
    if (file.pad) continue;
    signal.throwIfAborted();
    await compareFile(join(source, ...file.path), join(target, ...file.path));
  }
}

async function compareFile(left: string, right: string): Promise<void> {
  const { size } = await stat(left);
  if ((await stat(right)).size !== size) throw new Error(`${right} has another size than its source`);
  const other = await open(right, 'r');
  try {
    const buffer = Buffer.allocUnsafe(COMPARE_BYTES);
    let offset = 0;
    for await (const chunk of createReadStream(left, { highWaterMark: COMPARE_BYTES }) as AsyncIterable<Buffer>) {
      const { bytesRead } = await other.read(buffer, 0, chunk.length, offset);
      if (bytesRead !== chunk.length || !chunk.equals(buffer.subarray(0, bytesRead))) {
        throw new Error(`${right} differs from its source near byte ${offset}`);
      }
      offset += bytesRead;
    }
  } finally {
    await other.close();
  }
}
