/** A seed under attack: who attacks it, who is served meanwhile, and what that costs it. */

import { expect } from 'vitest';
import { type Agent, type Made, makeFile, pause, sameBytes, World } from '../world/kit.ts';
import { Stranger } from './raw.ts';

export const KIB = 1024;
export const MIB: number = 1 << 20;
export const BLOCK = 16384;
/** Of the torrent, of 256 KiB each. */
export const PIECES = 64;

export interface Cost {
  /** The most memory above what it was. */
  readonly rssMiB: number;
  /** Delay of the event loop. */
  readonly p99Ms: number;
  readonly maxMs: number;
}

export class Siege {
  readonly world: World;
  readonly made: Made;
  readonly seed: Agent;
  /** `host:port` of the seed. */
  readonly peer: string;
  readonly strangers: Stranger[] = [];

  private constructor(world: World, made: Made, seed: Agent, peer: string) {
    this.world = world;
    this.made = made;
    this.seed = seed;
    this.peer = peer;
  }

  static async begin(): Promise<Siege> {
    const world = new World();
    const made = makeFile('good', PIECES * 256 * KIB);
    const { agent, peer } = await world.seed([made], { memory: 32 * MIB });
    const siege = new Siege(world, made, agent, peer);
    // what it needs when all goes well is there before anything is measured
    await siege.download('warm');
    return siege;
  }

  async end(): Promise<void> {
    for (const stranger of this.strangers) stranger.close();
    await this.world.close();
  }

  stranger(from = '127.0.0.1'): Stranger {
    const stranger = new Stranger(this.peer, from);
    this.strangers.push(stranger);
    return stranger;
  }

  greeted(options: { fast?: boolean; has?: Uint8Array } = {}): Promise<Stranger> {
    return this.stranger().greet(this.made.infoHash, options);
  }

  /** An honest session gets all of it; gives how long it took, ms. */
  async download(name: string, options: Record<string, unknown> = {}): Promise<number> {
    const agent = this.world.agent();
    const folder = this.world.make(name);
    await agent.open(options);
    const from = performance.now();
    await agent.add(this.made, { folder, peers: [this.peer] });
    await agent.call('done', 0);
    const took = performance.now() - from;
    expect(sameBytes(this.made, folder)).toBe(true);
    await agent.end();
    return took;
  }

  /** What an attack costs. */
  async during(attack: () => Promise<unknown>): Promise<Cost> {
    const before = (await this.seed.usage()).rss;
    let most = before;
    let over = false;
    const watch = (async () => {
      while (!over) {
        most = Math.max(most, (await this.seed.call<{ rss: number }>('usage', false)).rss);
        await pause(20);
      }
    })();
    try {
      await attack();
    } finally {
      over = true;
      await watch;
    }
    const { delayP99Ms, delayMaxMs } = await this.seed.usage();
    return { rssMiB: (most - before) / MIB, p99Ms: delayP99Ms, maxMs: delayMaxMs };
  }

  /** It lives, serves, and ends well, having said nothing on stderr. */
  async lives(): Promise<void> {
    expect(await this.download('after')).toBeLessThan(10_000);
    for (const each of this.strangers) each.close();
    await this.seed.end();
  }
}
