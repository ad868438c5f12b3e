/**
 * A DHT of real nodes under churn: machines join, leave without a word and are replaced, packets are lost, many sit
 * behind NAT. Some announce, others look for them minutes later; what was found, after how many hops and queries, is
 * the report. Everything follows from the seed.
 */

import { equal, toHex } from '../src/base/bytes.ts';
import { compareDistance } from '../src/discovery/node-id.ts';
import { read } from './dht-liar.ts';
import { DhtMachine, type DhtMachineOptions } from './dht-machine.ts';
import { type DhtNatKind, DhtNet } from './dht-net.ts';

export interface DhtStormOptions {
  readonly seed: number;
  /** Machines at any time, the routers among them. */
  readonly nodes: number;
  /** Announces to look for again; default 100. */
  readonly announces?: number;
  /** Share of machines that leave in an hour; default 0.5. */
  readonly churnPerHour?: number;
  /** Share of packets lost; default 0.02. */
  readonly loss?: number;
  /** Share of machines behind NAT; a quarter of them symmetric. Default 0.4. */
  readonly natShare?: number;
  /** In which all join; default 10 minutes. */
  readonly joinMs?: number;
  /** In which announces and searches are spread; default 20 minutes. */
  readonly measureMs?: number;
  readonly log?: (line: string) => void;
}

export interface DhtStormReport {
  readonly announces: number;
  /** Announces that at least one node took. */
  readonly announced: number;
  readonly searches: number;
  /** Searches that found the announced peer. */
  readonly found: number;
  /** Of all lookups, announcing ones and searches. */
  readonly hopsMedian: number;
  readonly hopsP99: number;
  readonly queriesMean: number;
  readonly msMedian: number;
  readonly msP99: number;
  /** Storing nodes per announce. */
  readonly storedMean: number;
  /** Of the eight reachable nodes closest to a hash, those that took its announce. */
  readonly closestShare: number;
  /** Machines that left. */
  readonly left: number;
  readonly packets: number;
  readonly bytesPerNodeS: number;
  readonly simulatedMs: number;
  readonly tableMean: number;
  readonly digest: string;
}

const ROUTERS = 8;
/** A machine takes part in measurements once it has lived so long. */
const SETTLED_MS = 120_000;
const MINUTE = 60_000;
/** "1:t4:....1:v4:....1:y1:qe", behind the name of the method. */
const QUERY_TAIL = 25;

export function runDhtStorm(options: DhtStormOptions): DhtStormReport {
  return new DhtStorm(options).run();
}

/** A population of machines that joins over time and is renewed by churn; also for tests that attack it. */
export class DhtPopulation {
  readonly net: DhtNet;
  readonly routers: DhtMachine[] = [];
  /** All but the routers, the living ones. */
  readonly machines: DhtMachine[] = [];
  left = 0;
  readonly #natShare: number;
  /** Mean life, or Infinity. */
  readonly #lifeMs: number;
  readonly #replace: { onEvent(kind: number, arg: number): void };

  constructor(net: DhtNet, natShare: number, churnPerHour: number) {
    this.net = net;
    this.#natShare = natShare;
    this.#lifeMs = churnPerHour > 0 ? (60 * MINUTE) / churnPerHour : Infinity;
    this.#replace = { onEvent: (kind) => (kind === 1 ? this.#oneLeaves() : void this.join()) };
    for (let i = 0; i < ROUTERS; i++) {
      this.routers.push(new DhtMachine(net, { uploadRateBps: 1_000_000, latencyMs: 10 }));
    }
    for (const router of this.routers) router.start(this.routers.filter((other) => other !== router));
  }

  /** `count` machines join, evenly spread over `ms`; then churn begins. */
  grow(count: number, ms: number): void {
    for (let i = 0; i < count; i++) this.net.queue.push(this.net.now + (ms * i) / count, this.#replace, 0, 0);
    this.net.run(ms + 1);
    this.#nextLeaves();
  }

  join(options: DhtMachineOptions = {}): DhtMachine {
    const { rng } = this.net;
    const natted = rng.float() < this.#natShare;
    const nat: DhtNatKind = !natted ? 'none' : rng.below(4) === 0 ? 'symmetric' : 'restricted';
    const machine = new DhtMachine(this.net, { nat, ...options });
    this.machines.push(machine);
    const first = rng.below(this.routers.length);
    const routers = [0, 1, 2].map((i) => this.routers[(first + i * 3) % this.routers.length]!);
    machine.start(routers);
    return machine;
  }

  /** One that has been here a while. */
  pick(): DhtMachine {
    const { machines, net } = this;
    for (let tries = 0; tries < 1000; tries++) {
      const machine = machines[net.rng.below(machines.length)]!;
      if (net.now - machine.bornAt >= SETTLED_MS) return machine;
    }
    return machines[0]!;
  }

  #oneLeaves(): void {
    const { machines, net } = this;
    const place = net.rng.below(machines.length);
    machines[place]!.die();
    machines[place] = machines[machines.length - 1]!;
    machines.pop();
    this.left++;
    this.join();
    this.#nextLeaves();
  }

  /** Each leaves as likely at any time, so one of n leaves n times as often. */
  #nextLeaves(): void {
    if (this.#lifeMs === Infinity || this.machines.length === 0) return;
    const ms = (-Math.log(1 - this.net.rng.float()) * this.#lifeMs) / this.machines.length;
    this.net.queue.push(this.net.now + ms, this.#replace, 1, 0);
  }
}

class DhtStorm {
  readonly #options: DhtStormOptions;
  readonly #net: DhtNet;
  readonly #people: DhtPopulation;
  readonly #hops: number[] = [];
  readonly #queries: number[] = [];
  readonly #tookMs: number[] = [];
  readonly #stored: number[] = [];
  readonly #closest: number[] = [];
  /** Addresses each hash was announced to, until it was looked at. */
  readonly #takers: Map<string, Set<string>> = new Map();
  #announces = 0;
  #announced = 0;
  #searches = 0;
  #found = 0;
  #open = 0;

  constructor(options: DhtStormOptions) {
    this.#options = options;
    this.#net = new DhtNet({ seed: options.seed, loss: options.loss ?? 0.02 });
    this.#people = new DhtPopulation(this.#net, options.natShare ?? 0.4, options.churnPerHour ?? 0.5);
    this.#net.tap = (_from, bytes, ip) => this.#sawPacket(bytes, ip);
  }

  run(): DhtStormReport {
    const { joinMs = 10 * MINUTE, measureMs = 20 * MINUTE, announces = 100, nodes } = this.#options;
    this.#people.grow(nodes - ROUTERS, joinMs);
    this.#log('all have joined');
    this.#net.run(3 * MINUTE);
    const { sentBytes, now } = this.#net;
    for (let i = 0; i < announces; i++) {
      this.#later((measureMs * i) / announces, () => {
        this.#announces++;
        this.#open++;
        this.#announce();
      });
    }
    this.#net.run(measureMs);
    this.#log('all have announced');
    this.#net.runUntil(() => this.#open === 0, 12 * MINUTE);
    return this.#report(sentBytes, now);
  }

  #announce(): void {
    const infoHash = new Uint8Array(20);
    this.#net.rng.fill(infoHash);
    const who = this.#people.pick();
    const port = 1024 + this.#net.rng.below(60_000);
    const startedAt = this.#net.now;
    this.#takers.set(toHex(infoHash), new Set());
    const settled = this.#unlessGone(who, () => this.#announce());
    who.dht.getPeers(
      this.#net.now,
      infoHash,
      {
        onDhtPeers: () => {},
        onDhtPeersDone: (result) => {
          settled();
          this.#measured(result, startedAt);
          this.#stored.push(result.announced);
          if (result.announced > 0) this.#announced++;
          this.#closest.push(this.#closestShare(infoHash));
          this.#later(MINUTE + this.#net.rng.below(9 * MINUTE), () => this.#search(infoHash, who, port));
        },
      },
      { port, seed: false },
    );
    who.arm();
  }

  #search(infoHash: Uint8Array, announcer: DhtMachine, port: number): void {
    const endpoint = Uint8Array.of(...announcer.ipBytes, port >> 8, port & 255);
    let found = false;
    let who = this.#people.pick();
    while (who === announcer) who = this.#people.pick();
    const startedAt = this.#net.now;
    const settled = this.#unlessGone(who, () => this.#search(infoHash, announcer, port));
    who.dht.getPeers(
      this.#net.now,
      infoHash,
      {
        onDhtPeers: (peers4) => {
          for (let i = 0; i < peers4.length; i += 6) if (equal(peers4.subarray(i, i + 6), endpoint)) found = true;
        },
        onDhtPeersDone: (result) => {
          settled();
          this.#measured(result, startedAt);
          this.#searches++;
          this.#open--;
          if (found) this.#found++;
          else this.#log(`${toHex(infoHash)} not found: ${result.queried} queried, ${result.answered} answered`);
        },
      },
      null,
    );
    who.arm();
  }

  /** Whose machine leaves in the middle of a lookup never hears its end: another does it. Returns what says that it is over. */
  #unlessGone(who: DhtMachine, again: () => void): () => void {
    let isOver = false;
    this.#later(2 * MINUTE, () => {
      if (!isOver && !this.#people.machines.includes(who)) again();
    });
    return () => {
      isOver = true;
    };
  }

  #measured(result: { queried: number; hops: number }, startedAt: number): void {
    this.#hops.push(result.hops);
    this.#queries.push(result.queried);
    this.#tookMs.push(this.#net.now - startedAt);
  }

  /** Of the eight reachable machines closest to a hash, the share that was sent its announce. */
  #closestShare(infoHash: Uint8Array): number {
    const takers = this.#takers.get(toHex(infoHash))!;
    this.#takers.delete(toHex(infoHash));
    const all = [...this.#people.machines, ...this.#people.routers].filter((machine) => machine.nat === 'none');
    all.sort((a, b) => compareDistance(a.dht.nodeId(4), b.dht.nodeId(4), infoHash));
    return all.slice(0, 8).filter((machine) => takers.has(machine.ip)).length / 8;
  }

  /** Most packets are no announces: the letters before the fixed end of a query say so. */
  #sawPacket(bytes: Uint8Array, ip: string): void {
    const end = bytes.length - QUERY_TAIL;
    if (end < 60 || bytes[end - 1] !== 114 || bytes[end - 4] !== 112 || bytes[end - 13] !== 97) return;
    const hash = read(bytes)?.dict('a')?.bytes('info_hash');
    if (hash) this.#takers.get(toHex(hash))?.add(ip);
  }

  #later(ms: number, what: () => void): void {
    this.#net.queue.push(this.#net.now + ms, { onEvent: what }, 0, 0);
  }

  #log(line: string): void {
    this.#options.log?.(`${(this.#net.now / 1000).toFixed(0)} s: ${line}`);
  }

  #report(bytesBefore: number, nowBefore: number): DhtStormReport {
    const machines = this.#people.machines;
    const ms = this.#net.now - nowBefore;
    return {
      announces: this.#announces,
      announced: this.#announced,
      searches: this.#searches,
      found: this.#found,
      hopsMedian: quantile(this.#hops, 0.5),
      hopsP99: quantile(this.#hops, 0.99),
      queriesMean: mean(this.#queries),
      msMedian: quantile(this.#tookMs, 0.5),
      msP99: quantile(this.#tookMs, 0.99),
      storedMean: mean(this.#stored),
      closestShare: mean(this.#closest),
      left: this.#people.left,
      packets: this.#net.sentCount,
      bytesPerNodeS: (this.#net.sentBytes - bytesBefore) / machines.length / (ms / 1000),
      simulatedMs: this.#net.now,
      tableMean: mean(machines.map((machine) => machine.dht.stats.nodes4)),
      digest: this.#net.digest(),
    };
  }
}

function mean(values: readonly number[]): number {
  let sum = 0;
  for (const value of values) sum += value;
  return values.length === 0 ? 0 : sum / values.length;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}
