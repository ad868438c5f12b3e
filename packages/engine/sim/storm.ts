/**
 * A storm: a swarm of real sessions on bad machines and a bad network, with hostile peers among them, all drawn from
 * one seed. *Safety*: while faults come and go, nothing false is ever said and no count is wrong. *Liveness*: once they
 * are healed, every honest peer finishes. At the end the content on every disk is right and nothing is left held.
 */

import { formatEndpoint } from '../src/base/ip.ts';
import { peerStats, torrentStats } from '../src/session/torrent-stats.ts';
import { checkDatagram, checkSession, checkStopped } from './checkers.ts';
import { HEALTHY } from './disk.ts';
import { FakeHost } from './fake-peer.ts';
import { hostileScript } from './hostile.ts';
import type { SimNode } from './node.ts';
import { SIM_FOLDER, SimSession } from './sim-session.ts';
import { type PlannedFault, type PlannedPeer, planStorm, type StormOptions, type StormPlan } from './storm-plan.ts';
import type { SimTorrent } from './torrent.ts';
import { SimTracker } from './tracker.ts';
import { WireCheck } from './wire-check.ts';
import { World } from './world.ts';

export interface StormReport {
  readonly seed: number;
  readonly digest: string;
  readonly events: number;
  readonly turns: number;
  /** World time when the last honest peer was done. */
  readonly doneMs: number;
  /** Payload and all else that was delivered. */
  readonly deliveredBytes: number;
  readonly messages: number;
  readonly faults: number;
  readonly restarts: number;
  readonly hashFails: number;
  readonly wastedBytes: number;
  /** What must not be. Empty: the storm was weathered. */
  readonly violations: readonly string[];
}

/** Violations kept; after so many a storm ends early. */
const MAX_VIOLATIONS = 10;

export function runStorm(options: StormOptions): StormReport {
  return new Storm(options).run();
}

interface Member {
  readonly index: number;
  readonly plan: PlannedPeer;
  readonly node: SimNode;
  session: SimSession | null;
  /** Faults that keep it down. */
  down: number;
  stopping: boolean;
}

class Storm {
  readonly options: StormOptions;
  readonly world: World;
  readonly plan: StormPlan;
  readonly torrent: SimTorrent;
  readonly tracker: SimTracker;
  readonly wire: WireCheck;
  readonly members: Member[] = [];
  readonly violations: string[] = [];
  readonly honestIps: Set<string> = new Set();
  restarts = 0;
  hashFails = 0;
  wastedBytes = 0;

  constructor(options: StormOptions) {
    this.options = options;
    this.world = new World({ seed: options.seed, poison: options.poison ?? false });
    const rng = this.world.fork('storm');
    this.tracker = new SimTracker(this.world);
    this.plan = planStorm(rng, options);
    this.torrent = this.world.makeTorrent({ ...this.plan.torrent, trackers: [this.tracker.url] });
    this.wire = new WireCheck(this.world);
    this.world.net.udp.tap = (from, _ip, _port, bytes): void => {
      const wrong = checkDatagram(this.world, bytes);
      if (wrong !== null) this.#violation(`host ${from.id}: ${wrong}`);
    };
    for (const plan of this.plan.peers) this.#addMember(plan);
    for (const kind of this.plan.hostile) {
      // slow to take, so that those who ask for everything do not become the whole of the storm
      const options = { upBps: 2e6, downBps: 200_000, latencyMs: 10 };
      const fake = new FakeHost(this.world, options, () => hostileScript(this.torrent, kind));
      fake.listen();
      this.world.call(1000, () => this.#letLoose(fake));
    }
    if (options.faults ?? true)
      for (const fault of this.plan.faults) this.world.call(fault.atMs, () => this.#fault(fault));
  }

  run(): StormReport {
    const { world, options, plan } = this;
    this.#scheduleCheck();
    const broken = (): boolean => this.violations.length >= MAX_VIOLATIONS;
    try {
      world.runUntil(broken, plan.safetyMs + 45_000);
      this.#heal();
      const limitMs = options.livenessMs ?? 1_800_000;
      world.runUntil(() => broken() || this.members.every((member) => member.session?.isDone ?? false), limitMs);
      const doneMs = Math.max(...this.members.map((member) => member.session?.doneAtMs ?? -1));
      this.#checkDone();
      // announces that a tracker never answered are over by then, and do not keep the last ones back
      world.runUntil(broken, 40_000);
      if (!broken()) this.#stopAll();
      return this.#report(doneMs);
    } catch (error) {
      // what the engine asserts is a violation like any other, and the seed brings it back
      this.#violation(error instanceof Error ? (error.stack ?? error.message) : String(error));
      return this.#report(world.now);
    }
  }

  #addMember(plan: PlannedPeer): void {
    const node = this.world.addNode(plan.node);
    const member: Member = { index: this.members.length, plan, node, session: null, down: 0, stopping: false };
    this.members.push(member);
    this.honestIps.add(node.host.ip);
    this.wire.watch(node);
    if (plan.seed) node.disk.install(this.torrent, SIM_FOLDER);
    else if (plan.share > 0) this.#installPart(node, plan.share);
    this.world.call(plan.startMs, () => this.#start(member));
  }

  /** Whole content, then some of it rotten: the check at the start must find what is good. */
  #installPart(node: SimNode, share: number): void {
    node.disk.install(this.torrent, SIM_FOLDER);
    for (const file of this.torrent.files) {
      if (file.pad) continue;
      const stored = node.disk.files.get(`${SIM_FOLDER}/${file.path.join('/')}`)!;
      for (let at = 0; at < file.length; at += this.torrent.pieceLength) {
        if (node.disk.rng.float() > share) stored.rot(Math.min(file.length - 1, at + 100));
      }
      stored.settle();
    }
  }

  #start(member: Member): void {
    if (member.session !== null || member.down > 0) return;
    const { node } = member;
    if (node.ports !== null) return;
    member.stopping = false;
    const log = this.options.log === undefined ? {} : { log: (line: string) => this.#log(member, line) };
    const [first] = this.members;
    const alone = { trackers: false, peers: [{ ip: first!.node.host.ip, port: 6881 }] };
    const ways = member.plan.trackerless ? alone : {};
    member.session = new SimSession(node, this.torrent, { ...member.plan.session, ...ways, ...log });
    this.wire.booted(node, this.torrent, SIM_FOLDER);
  }

  #log(member: Member, line: string): void {
    this.options.log?.(`${this.world.now.toFixed(0)} ${member.index}: ${line}`);
  }

  /** A hostile peer announces itself and dials whom it finds, again and again. */
  #letLoose(fake: FakeHost): void {
    this.tracker.plant(this.torrent.infoHashHex, fake.host.ip, 6881);
    const dial = (): void => {
      const open = fake.peers.filter((peer) => !peer.closed).length;
      for (let i = open; i < 8; i++) {
        const target = this.members[this.world.rng.below(this.members.length)]!;
        fake.dial({ ip: target.node.host.ip, port: 6881 });
      }
      this.world.call(20_000, dial);
    };
    dial();
  }

  // ---- faults

  #fault(fault: PlannedFault): void {
    const member = this.members[fault.peer]!;
    const { node } = member;
    const later = (then: () => void): void => this.world.call(fault.lastsMs, then);
    const { knobs } = node.disk;
    switch (fault.kind) {
      case 'kill':
      case 'power':
        return this.#crash(member, fault.kind === 'power', fault.lastsMs);
      case 'restart':
        return this.#restart(member, fault.lastsMs);
      case 'offline':
        node.host.online = false;
        return later(() => {
          node.host.online = true;
          this.world.net.healed();
        });
      case 'partition':
        for (const each of this.members) each.node.host.group = this.world.rng.below(2);
        this.world.net.partitioned = true;
        return later(() => {
          this.world.net.partitioned = false;
          this.world.net.healed();
        });
      case 'tracker':
        this.tracker.mode = (['refused', 'silent', 'garbage', 'failure'] as const)[this.world.rng.below(4)]!;
        return later(() => {
          this.tracker.mode = 'up';
        });
      case 'disk-full':
        knobs.capacityBytes = node.disk.usedBytes() + 20 * 16384;
        break;
      case 'disk-errors':
        knobs.writeFaultEvery = 10;
        knobs.readFaultEvery = 20;
        knobs.syncFaultEvery = 4;
        break;
      case 'disk-failing':
        knobs.failing = 'EROFS';
        break;
      case 'disk-slow':
        knobs.latencyMs = 300;
        knobs.bytesPerSecond = 500_000;
        break;
    }
    later(() => Object.assign(knobs, HEALTHY));
  }

  #crash(member: Member, power: boolean, lastsMs: number): void {
    if (member.session === null) return;
    this.#settleAccounts(member.session);
    member.session = null;
    member.node.crash(power);
    this.restarts++;
    member.down++;
    this.world.call(lastsMs, () => {
      member.down--;
      this.#start(member);
    });
  }

  /** An orderly stop and a start. */
  #restart(member: Member, lastsMs: number): void {
    const { session } = member;
    if (session === null || member.stopping) return;
    member.stopping = true;
    this.restarts++;
    session.stop(() => {
      this.#settleAccounts(session);
      const wrong = checkStopped(session);
      if (wrong !== null) this.#violation(`peer ${member.index} stopped: ${wrong}`);
      member.session = null;
      this.world.call(lastsMs, () => this.#start(member));
    });
  }

  #heal(): void {
    const { net } = this.world;
    this.tracker.mode = 'up';
    net.partitioned = false;
    for (const member of this.members) {
      member.node.host.online = true;
      Object.assign(member.node.disk.knobs, HEALTHY);
    }
    net.healed();
    for (const member of this.members) this.#start(member);
  }

  // ---- checks

  #scheduleCheck(): void {
    this.world.call(this.options.checkMs ?? 5000, () => {
      this.#check();
      this.#scheduleCheck();
    });
  }

  #check(): void {
    this.wire.sweep();
    for (const what of this.wire.violations.splice(0)) this.#violation(what);
    for (const member of this.members) {
      if (member.session === null || member.stopping) continue;
      const wrong = checkSession(member.session);
      if (wrong !== null) this.#violation(`peer ${member.index}: ${wrong}`);
      for (const warning of member.session.warnings.splice(0)) {
        const banned = /banned (\S+):/.exec(warning)?.[1];
        if (banned !== undefined && this.honestIps.has(banned))
          this.#violation(`peer ${member.index}: ${warning}, which is honest`);
      }
    }
  }

  #checkDone(): void {
    this.#check();
    for (const member of this.members) {
      const { session } = member;
      if (session?.isDone) {
        for (let p = 0; p < this.torrent.pieceCount; p++) {
          if (member.node.disk.isRight(this.torrent, SIM_FOLDER, p)) continue;
          this.#violation(`peer ${member.index} is done, but piece ${p} is not right on its disk`);
          break;
        }
      } else {
        this.#violation(`peer ${member.index} did not finish: ${describe(session)}`);
      }
    }
  }

  #stopAll(): void {
    let left = this.members.length;
    for (const member of this.members) {
      const session = member.session!;
      member.stopping = true;
      session.stop(() => {
        left--;
        this.#settleAccounts(session);
        const wrong = checkStopped(session);
        if (wrong !== null) this.#violation(`peer ${member.index} stopped: ${wrong}`);
      });
    }
    // trackers are told within 5 s, or not at all
    if (!this.world.runUntil(() => left === 0, 10_000)) this.#violation(`${left} sessions did not stop in 10 s`);
    this.world.run(5000);
    const still = this.tracker.members(this.torrent.infoHashHex).filter((member) => this.honestIps.has(member.ip));
    if (still.length > 0) this.#violation(`${still.length} stopped sessions are still at the tracker`);
  }

  #settleAccounts(session: SimSession): void {
    this.hashFails += session.entry?.swarm.hashFails ?? 0;
    this.wastedBytes += session.entry?.swarm.wasted ?? 0;
  }

  #violation(what: string): void {
    if (this.violations.length < MAX_VIOLATIONS)
      this.violations.push(`${(this.world.now / 1000).toFixed(2)} s: ${what}`);
  }

  #report(doneMs: number): StormReport {
    const { world } = this;
    let deliveredBytes = 0;
    for (const host of world.net.hosts) deliveredBytes += host.deliveredBytes;
    return {
      seed: world.seed,
      digest: world.digest(),
      events: world.eventCount,
      turns: world.turnCount,
      doneMs,
      deliveredBytes,
      messages: this.wire.messageCount,
      faults: this.plan.faults.length,
      restarts: this.restarts,
      hashFails: this.hashFails,
      wastedBytes: this.wastedBytes,
      violations: this.violations,
    };
  }
}

/** Why a session is not done, for a person. */
export function describe(session: SimSession | null): string {
  if (session === null) return 'it is not running';
  const { entry, core } = session;
  if (entry === null) return 'it has no torrent yet';
  const stats = torrentStats(entry);
  const { slots } = core.ports;
  const peers = peerStats(entry).map((peer) => {
    const flags = `${peer.amInterested ? 'i' : '-'}${peer.peerChoking ? 'c' : '-'}${peer.amChoking ? 'C' : '-'}${peer.peerInterested ? 'I' : '-'}`;
    return `${formatEndpoint(peer.address.ip, peer.address.port)} ${flags} ${(peer.progress * 100).toFixed(0)} % out ${peer.requestsOut}`;
  });
  return (
    `${stats.state} ${stats.piecesDone}/${stats.pieceCount}, ${stats.peers} peers, ${stats.candidates} candidates, ` +
    `slots ${slots.freeCount}/${slots.count}, errors ${session.errors.slice(-3).join()}; ${peers.slice(0, 8).join('; ')}`
  );
}
