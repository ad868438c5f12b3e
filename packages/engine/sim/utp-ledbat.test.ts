import { describe, expect, it } from 'vitest';
import { dial, Pipe, RenoFlow, UtpEnd, UtpMachine, UtpWorld } from './utp-link.ts';

/** A bottleneck that several flows share: 10 Mbit/s, 20 ms each way, a queue of 300 ms unless said. */
class Bottleneck {
  readonly world = new UtpWorld(7);
  readonly there: Pipe;
  readonly back: Pipe;
  readonly rateBps: number;
  #count = 0;

  constructor({ rateBps = 1_250_000, delayMs = 20, queueMs = 300 } = {}) {
    this.rateBps = rateBps;
    this.there = new Pipe(this.world, { rateBps, delayMs, queueBytes: (rateBps * queueMs) / 1000 });
    this.back = new Pipe(this.world, { delayMs });
  }

  /** A uTP flow that always has something to send; its receiving end. */
  flow(driftPpm = 0): UtpEnd {
    const from = new UtpMachine(this.world, `10.0.1.${++this.#count}`);
    const to = new UtpMachine(this.world, `10.0.2.${this.#count}`);
    to.driftPpm = driftPpm;
    from.route(to, this.there);
    to.route(from, this.back);
    const far = new UtpEnd(to, 0);
    far.onData = (bytes) => {
      far.received += bytes.length;
    };
    dial(from, to, new UtpEnd(from, Number.MAX_SAFE_INTEGER, 1 << 17), far);
    return far;
  }

  /** Shares of the link, payload only, that the flows got in the next `seconds`. */
  shares(seconds: number, ...flows: readonly UtpEnd[]): number[] {
    const before = flows.map((flow) => flow.received);
    this.there.reset();
    this.world.run(this.world.now + seconds * 1000);
    return flows.map((flow, i) => (flow.received - before[i]!) / (this.rateBps * seconds));
  }

  /** Share of the link that was in use, and what waiting in the queue cost on the mean and at most, ms. */
  use(seconds: number): { used: number; mean: number; most: number } {
    const { passedBytes, delaySum, delayCount, delayMost } = this.there;
    return { used: passedBytes / (this.rateBps * seconds), mean: delaySum / delayCount, most: delayMost };
  }
}

describe('LEDBAT', () => {
  for (const [name, link] of [
    ['10 Mbit/s, 40 ms', {}],
    ['1 Mbit/s, 20 ms', { rateBps: 125_000, delayMs: 10, queueMs: 1000 }],
    ['10 Mbit/s, 200 ms', { delayMs: 100 }],
    ['10 Mbit/s, 40 ms, a queue of 50 ms', { queueMs: 50 }],
  ] as const) {
    it(`alone fills a link and adds less than 100 ms: ${name}`, () => {
      const bottleneck = new Bottleneck(link);
      const flow = bottleneck.flow();
      bottleneck.shares(15, flow);
      bottleneck.shares(120, flow);
      const { used, mean, most } = bottleneck.use(120);
      expect(used).toBeGreaterThan(0.95);
      expect(mean).toBeLessThan(100);
      // on the way back from letting the queue run dry
      expect(most).toBeLessThan(150);
    });
  }

  it('leaves the link to a TCP flow, with a deep queue and a shallow one', () => {
    for (const queueMs of [300, 100, 50]) {
      const bottleneck = new Bottleneck({ queueMs });
      const flow = bottleneck.flow();
      bottleneck.shares(20, flow);
      const tcp = new RenoFlow(bottleneck.world, bottleneck.there, bottleneck.back);
      bottleneck.shares(60, flow);
      const [share] = bottleneck.shares(120, flow);
      expect(share).toBeLessThan(0.2);
      expect(bottleneck.use(120).used).toBeGreaterThan(0.95);
      // and takes it back
      tcp.stopped = true;
      bottleneck.shares(20, flow);
      expect(bottleneck.shares(20, flow)[0]).toBeGreaterThan(0.9);
    }
  });

  it('shares with another, whoever came first', () => {
    const together = new Bottleneck();
    const [a, b] = [together.flow(), together.flow()];
    together.shares(10, a, b);
    const [first, second] = together.shares(60, a, b) as [number, number];
    expect(Math.abs(first - second)).toBeLessThan(0.1 * Math.max(first, second));
  });

  for (const [name, link] of [
    ['10 Mbit/s, 40 ms', {}],
    ['4 Mbit/s, 10 ms, where one packet takes 3 ms', { rateBps: 500_000, delayMs: 5 }],
  ] as const) {
    it(`shares with one that came 20 s before, which it has never seen idle: ${name}`, () => {
      const bottleneck = new Bottleneck(link);
      const early = bottleneck.flow();
      bottleneck.shares(20, early);
      const late = bottleneck.flow();
      bottleneck.shares(80, early, late);
      const [first, second] = bottleneck.shares(60, early, late) as [number, number];
      expect(Math.abs(first - second)).toBeLessThan(0.1 * Math.max(first, second));
      const { used, mean } = bottleneck.use(60);
      expect(used).toBeGreaterThan(0.95);
      expect(mean).toBeLessThan(100);
    });
  }

  it('shares among five that came one after the other', () => {
    const bottleneck = new Bottleneck();
    const flows: UtpEnd[] = [];
    for (let i = 0; i < 5; i++) {
      flows.push(bottleneck.flow());
      bottleneck.shares(10, ...flows);
    }
    bottleneck.shares(80, ...flows);
    const shares = bottleneck.shares(60, ...flows);
    expect(Math.max(...shares) - Math.min(...shares)).toBeLessThan(0.1 * Math.max(...shares));
  });

  it('is not thrown off by clocks that drift apart', () => {
    for (const driftPpm of [-100, 100]) {
      const bottleneck = new Bottleneck();
      const flow = bottleneck.flow(driftPpm);
      bottleneck.shares(180, flow);
      bottleneck.shares(60, flow);
      const { used, mean } = bottleneck.use(60);
      expect(used).toBeGreaterThan(0.95);
      expect(mean).toBeLessThan(110);
    }
  });
});
