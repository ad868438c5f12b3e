/**
 * Downloads again and again from a real seed, and kills the command (SIGKILL) at random instants. After each kill the
 * same command is started with its tracker's answer held back, so that what it claims is what it remembers; that is
 * taken from its `progress` line and from its bitfield, and every claimed piece is hashed from the files by ourselves.
 */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Arena } from './arena.ts';
import { addressOf, type Place } from './clients/client.ts';
import { ShoalRun } from './clients/shoal.ts';
import { GateTracker } from './gate-tracker.ts';
import { makeFile } from './payload.ts';
import { removeTemp } from './temp.ts';
import type { MadeTorrent } from './torrent.ts';
import { pause } from './wait.ts';
import { WireProbe } from './wire-probe.ts';

const MiB = 1 << 20;

export interface KillOptions {
  readonly kills: number;
  /** Decides all random instants. */
  readonly seed: number;
  readonly bytes: number;
  readonly rateBps: number;
  /** From the start of the process to the claim. */
  readonly readyLimitMs: number;
  readonly say: (line: string) => void;
}

export interface KillReport {
  kills: number;
  downloads: number;
  falsePieces: number;
  /** Restarts at which claims were checked. */
  checks: number;
  mostLostBytes: number;
  mostRehashed: number;
  slowestReadyMs: number;
}

const PIECE_BYTES = 262_144;
const LOST_LIMIT_BYTES = 16 * MiB;
const REHASH_LIMIT = 32;
/** Of kills before the command is ready, and how long they wait at most. */
const EARLY_SHARE = 0.2;
const EARLY_MS = 500;
/** How long the others let it download at most. */
const RUN_MS = 1600;

export async function killAgainAndAgain(arena: Arena, options: KillOptions): Promise<KillReport> {
  const payload = makeFile(arena.makeFolder('payload'), 'kill me.bin', options.bytes, options.seed);
  const tracker = new GateTracker();
  arena.keep({ name: 'gate', stop: () => tracker.close(), tail: () => '' });
  const place = await arena.place('get');
  await tracker.listen(place.ip);
  const torrent = arena.torrent({ tracker: tracker.url, pieceLength: PIECE_BYTES }, payload);
  const seed = await arena.client('libtorrent');
  await arena.seed(seed, torrent, { uploadLimit: options.rateBps });
  tracker.peer = addressOf(seed);
  return await new KillRun(arena, options, torrent, tracker, place).run();
}

/** Kept between two runs of the command. */
interface Before {
  /** Pieces that it told others it has. */
  readonly told: ReadonlySet<number>;
}

class KillRun {
  readonly #arena: Arena;
  readonly #options: KillOptions;
  readonly #torrent: MadeTorrent;
  readonly #tracker: GateTracker;
  readonly #place: Place;
  readonly #random: () => number;
  readonly #report: KillReport = {
    kills: 0,
    downloads: 0,
    falsePieces: 0,
    checks: 0,
    mostLostBytes: 0,
    mostRehashed: 0,
    slowestReadyMs: 0,
  };
  #folder = '';
  #state = '';
  #before: Before | null = null;
  /** Bytes that a start with nothing to resume reads: the program itself. */
  #baselineBytes = -1;

  constructor(arena: Arena, options: KillOptions, torrent: MadeTorrent, tracker: GateTracker, place: Place) {
    this.#arena = arena;
    this.#options = options;
    this.#torrent = torrent;
    this.#tracker = tracker;
    this.#place = place;
    this.#random = generator(options.seed);
  }

  async run(): Promise<KillReport> {
    this.#fresh();
    while (this.#report.kills < this.#options.kills) {
      await this.#once();
      if (this.#report.kills % 20 === 0)
        this.#options.say(`after ${this.#report.kills}: ${JSON.stringify(this.#report)}`);
    }
    // what is left is still a download that can be finished
    const run = this.#start();
    this.#tracker.open();
    const done = await run.line('done', 60_000);
    assert.equal(await run.program.exited, 0);
    assert.equal(done.hashFails, 0);
    await this.#arena.same(this.#torrent, this.#folder);
    return this.#report;
  }

  #fresh(): void {
    if (this.#folder !== '') {
      removeTemp(this.#folder);
      removeTemp(this.#state);
    }
    this.#folder = this.#arena.makeFolder('out');
    this.#state = this.#arena.makeFolder('state');
    this.#before = null;
  }

  #start(): ShoalRun {
    const { path } = this.#torrent;
    const run = new ShoalRun(
      [
        'get',
        path,
        '-o',
        this.#folder,
        '--state',
        this.#state,
        '--bind',
        this.#place.ip,
        '--no-dht',
        '--no-lsd',
        '--no-port-map',
      ],
      this.#place.home,
    );
    this.#arena.keep({ name: 'shoal get', stop: () => run.program.stop('SIGKILL'), tail: () => run.tail() });
    return run;
  }

  async #once(): Promise<void> {
    this.#tracker.shut();
    const early = this.#random() < EARLY_SHARE;
    const instant = this.#random() * (early ? EARLY_MS : RUN_MS);
    const run = this.#start();
    if (early) {
      await Promise.race([pause(instant), run.program.exited]);
      return await this.#kill(run, null);
    }
    const claim = await run.line('progress', 30_000);
    const readyMs = performance.now() - run.startedMs;
    const { port } = await run.line('listening', 1000);
    const probe = await this.#check(run, claim.bytesDone!, port!, readyMs);
    this.#tracker.open();
    await Promise.race([pause(instant), run.program.exited]);
    if (run.program.running) return await this.#kill(run, probe);
    await this.#finished(run, probe);
  }

  async #kill(run: ShoalRun, probe: WireProbe | null): Promise<void> {
    const code = await run.program.stop('SIGKILL');
    // it may have ended by itself in this very moment
    if (code === 0) return await this.#finished(run, probe);
    assert.equal(code, 137, `the command ended by itself: ${run.tail()}`);
    this.#report.kills++;
    probe?.close();
    if (probe !== null) this.#before = { told: new Set(probe.heardMs.keys()) };
  }

  async #finished(run: ShoalRun, probe: WireProbe | null): Promise<void> {
    probe?.close();
    assert.equal(run.program.exitCode, 0, run.tail());
    assert.equal(run.last('done')?.hashFails, 0);
    await this.#arena.same(this.#torrent, this.#folder);
    this.#report.downloads++;
    this.#fresh();
  }

  async #check(run: ShoalRun, bytesDone: number, port: number, readyMs: number): Promise<WireProbe | null> {
    const report = this.#report;
    const readBytes = bytesReadBy(run.program.child.pid!);
    if (this.#baselineBytes < 0) this.#baselineBytes = readBytes;
    const rehashed = Math.max(0, Math.round((readBytes - this.#baselineBytes) / PIECE_BYTES));

    const { pieces, infoHash } = this.#torrent;
    const { ip } = this.#place;
    const pieceCount = pieces.length / 20;
    // with all there it ends at once, and listens to nobody
    const all = bytesDone === this.#torrent.payload.bytes;
    const probe = all ? null : new WireProbe(ip, port, ip, infoHash, pieceCount);
    await probe?.first(5000);
    const claimed = new Set(probe?.heardMs.keys() ?? Array(pieceCount).keys());
    const claimedBytes = [...claimed].reduce((sum, piece) => sum + this.#pieceBytes(piece), 0);
    assert.equal(bytesDone, claimedBytes, 'what it shows the user is what it tells its peers');

    const wrong = this.#wrongPieces(claimed);
    const lost = [...(this.#before?.told ?? [])].filter((piece) => !claimed.has(piece));
    const lostBytes = lost.length * PIECE_BYTES;
    report.checks++;
    report.falsePieces += wrong.length;
    report.mostLostBytes = Math.max(report.mostLostBytes, lostBytes);
    report.mostRehashed = Math.max(report.mostRehashed, rehashed);
    report.slowestReadyMs = Math.max(report.slowestReadyMs, Math.round(readyMs));
    const where = `after kill ${report.kills}`;
    assert.deepEqual(wrong, [], `${where} it claims pieces that are not there`);
    assert.ok(lostBytes <= LOST_LIMIT_BYTES, `${where} it lost ${lostBytes} bytes`);
    assert.ok(rehashed <= REHASH_LIMIT, `${where} it read ${rehashed} pieces again`);
    assert.ok(readyMs <= this.#options.readyLimitMs, `${where} it took ${Math.round(readyMs)} ms to be ready`);
    return probe;
  }

  #wrongPieces(claimed: ReadonlySet<number>): number[] {
    if (claimed.size === 0) return [];
    const { pieces, payload } = this.#torrent;
    const path = join(this.#folder, payload.name);
    if (!existsSync(path)) return [...claimed];
    const fd = openSync(path, 'r');
    const buffer = Buffer.alloc(PIECE_BYTES);
    const wrong = [...claimed].filter((piece) => {
      const size = this.#pieceBytes(piece);
      const read = readSync(fd, buffer, 0, size, piece * PIECE_BYTES);
      const digest = createHash('sha1').update(buffer.subarray(0, read)).digest();
      return !digest.equals(pieces.subarray(piece * 20, piece * 20 + 20));
    });
    closeSync(fd);
    return wrong;
  }

  #pieceBytes(piece: number): number {
    return Math.min(PIECE_BYTES, this.#torrent.payload.bytes - piece * PIECE_BYTES);
  }
}

/** All that a process has read through system calls, its own program included. */
function bytesReadBy(pid: number): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))![1]);
}

/** Numbers from 0 to 1 that the seed alone decides (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}
