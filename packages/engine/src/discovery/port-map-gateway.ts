/**
 * Port mapping by PCP (RFC 6887) and NAT-PMP (RFC 6886) with one router: one request is under way at a time.
 *
 *   PCP --"another version"--> NAT-PMP           a router that has ever answered is asked in its version alone
 *    '-- silence (4 packets) --> NAT-PMP -- silence (5) --> rest, then from the beginning
 *
 * Invariant: an answer counts only from the router's own address and port (whoever hands it in sees to that), for the
 * request under way, in PCP with its nonce. The router's epoch tells when it has forgotten what it gave: then all is asked
 * for again, at once.
 *
 * Limits: a request is sent after 0, 250, 500 .. ms (RFC 6886; PCP's own 3 s would make its absence costly to find out), 8
 * times at most. After REST_MS a silent router is tried again.
 */

import { copyOf, equal } from '../base/bytes.ts';
import { isUsablePeerAddress, parseIp } from '../base/ip.ts';
import type { Random } from '../base/ports.ts';
import {
  type MapReply,
  NAT_PMP,
  natPmpAddressPacket,
  natPmpMapPacket,
  PCP,
  pcpMapPacket,
  readMapReply,
  resultText,
  UNSUPPORTED_VERSION,
} from './port-map-packets.ts';
import { LEASE_S, type MapJob, type Mapping, MappingPair } from './port-map-pair.ts';

export interface GatewaySink {
  /** To the router; the bytes are the callee's. */
  onGatewaySend(bytes: Uint8Array): void;
  /** Something was mapped, renewed, lost, or failed. */
  onGatewayChanged(): void;
}

export interface GatewayOptions {
  /** The address of ours that faces the router: IP text. */
  readonly local: string;
  readonly pcp: boolean;
  readonly natPmp: boolean;
  /** For nonces, which keep strangers from changing our mappings. */
  readonly random: Random;
  readonly sink: GatewaySink;
}

const FIRST_WAIT_MS = 250;
/** Packets to a router that has answered before, and to one of which nothing is known, by version. */
const KNOWN_TRIES = 8;
const PCP_TRIES = 4;
const NAT_PMP_TRIES = 5;
const REST_MS = 600_000;
/** A refusal is not asked about again sooner or later than this. */
const MIN_REFUSED_MS = 60_000;
const MAX_REFUSED_MS = 1_800_000;
/** Stories of a restart are believed so often. */
const FORGOT_EVERY_MS = 10_000;

type Work = { readonly job: MapJob | null /* null: the address is asked for */; tries: number; againAt: number };

export class GatewayMapper {
  readonly pair: MappingPair = new MappingPair();
  /** Canonical text, or null. */
  externalIp: string | null = null;
  /** The version spoken. */
  version: number;
  /** Nothing is to be had here for now. */
  failed = false;
  error: string | null = null;
  readonly #options: GatewayOptions;
  readonly #local: Uint8Array;
  readonly #nonces: Map<Mapping, Uint8Array> = new Map();
  #work: Work | null = null;
  /** The router has answered in this version. */
  #heard = false;
  #restUntil = 0;
  #addressDue = false;
  #epochS = -1;
  #epochAt = 0;
  #forgotAt = -Infinity;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#local = parseIp(options.local)!;
    this.version = options.pcp ? PCP : NAT_PMP;
    for (const mapping of this.pair.all) this.#nonces.set(mapping, this.#newNonce());
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** From the router's address and port. */
  datagram(now: number, bytes: Uint8Array): void {
    const reply = readMapReply(bytes);
    if (reply === null) return;
    if (reply.result === UNSUPPORTED_VERSION || reply.version !== this.version) {
      if (!this.#heard) this.#otherVersion(now, reply);
      return;
    }
    if (this.#work !== null && this.#answers(reply, this.#work)) {
      this.#heard = true;
      this.#epoch(now, reply);
      this.#answered(now, reply, this.#work);
    } else if (reply.protocol === null && reply.result === 0) this.#epoch(now, reply);
    this.#pump(now);
  }

  /** From the router's address, to all: it may have been restarted. */
  announced(now: number, bytes: Uint8Array): void {
    const reply = readMapReply(bytes);
    if (reply === null || reply.protocol !== null || reply.result !== 0 || reply.version !== this.version) return;
    this.#epoch(now, reply);
    this.#pump(now);
  }

  tick(now: number): void {
    const work = this.#work;
    if (work !== null && now >= work.againAt) {
      if (work.tries < this.#maxTries) this.#send(now, work);
      else this.#silent(now, work);
    }
    this.#pump(now);
  }

  nextAt(): number {
    if (this.#work !== null) return this.#work.againAt;
    const due = this.#addressDue ? 0 : this.pair.nextAt();
    return due === Infinity ? Infinity : Math.max(due, this.#restUntil);
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** 0: what is mapped is given back. */
  setPort(now: number, port: number): void {
    this.pair.setPort(now, port);
    if (port === 0) {
      // the good-bye does not wait behind a question
      if (this.#work !== null && this.#work.job?.unmap !== true) this.#abandon(now);
      this.#addressDue = false;
      this.#restUntil = 0;
    }
    this.#pump(now);
  }

  /** Asks for nothing any more, and gives nothing back. */
  stop(): void {
    this.#work = null;
    this.#addressDue = false;
    this.pair.clear();
  }

  get isIdle(): boolean {
    return this.#work === null && !this.pair.all.some(({ drop }) => drop);
  }

  // --------------------------------------------------------------------------------------------------------- private

  #pump(now: number): void {
    if (this.#work !== null || now < this.#restUntil) return;
    const job = this.pair.next(now);
    if (job === null && !this.#addressDue) return;
    if (job === null) this.#addressDue = false;
    this.#work = { job, tries: 0, againAt: now };
    this.#send(now, this.#work);
  }

  #send(now: number, work: Work): void {
    work.againAt = now + FIRST_WAIT_MS * 2 ** work.tries++;
    this.#options.sink.onGatewaySend(this.#packet(work.job));
  }

  #packet(job: MapJob | null): Uint8Array {
    if (job === null) return natPmpAddressPacket();
    const { protocol } = job.mapping;
    const { internalPort } = job;
    // RFC 6886: to give back is to ask for nothing, for no time
    const ask = job.unmap
      ? { protocol, internalPort, externalPort: 0, lifetimeS: 0 }
      : { protocol, internalPort, externalPort: job.externalPort, lifetimeS: LEASE_S };
    if (this.version === NAT_PMP) return natPmpMapPacket(ask);
    const wish = this.externalIp === null || job.unmap ? null : parseIp(this.externalIp);
    const fits = wish !== null && wish.length === this.#local.length ? wish : null;
    return pcpMapPacket(ask, this.#local, this.#nonces.get(job.mapping)!, fits);
  }

  #answers(reply: MapReply, { job }: Work): boolean {
    if (job === null) return reply.protocol === null && reply.nonce === null;
    if (reply.protocol !== job.mapping.protocol) return false;
    if (reply.version === PCP) {
      const isOurs = equal(reply.nonce!, this.#nonces.get(job.mapping)!);
      return isOurs && reply.internalPort === job.internalPort;
    }
    // ProtonVPN's gateway names no internal port, and forwards the external one as it is
    return reply.internalPort === job.internalPort || reply.internalPort === 0;
  }

  #answered(now: number, reply: MapReply, { job }: Work): void {
    this.#work = null;
    if (job === null) {
      if (reply.externalIp !== null) this.#learnAddress(reply.externalIp);
      return this.#options.sink.onGatewayChanged();
    }
    const { version, result } = reply;
    if (job.unmap) this.pair.unmapped(now, job);
    else if (result !== 0) this.#refused(now, job, reply);
    else if (reply.externalPort === 0 || reply.lifetimeS === 0) {
      this.#giveUp(now, job, 'the router gave nothing', MAX_REFUSED_MS);
    } else {
      if (version === NAT_PMP && (this.externalIp === null || !this.pair.isMapped)) this.#addressDue = true;
      const whole = version === NAT_PMP && reply.internalPort === 0;
      this.pair.mapped(now, job, reply.externalPort, reply.lifetimeS, whole);
      if (version === PCP && reply.externalIp !== null) this.#learnAddress(reply.externalIp);
      this.failed = false;
      this.error = null;
    }
    this.#options.sink.onGatewayChanged();
  }

  #refused(now: number, job: MapJob, reply: MapReply): void {
    // PCP says how long it would say the same
    const saidMs = reply.version === PCP ? reply.lifetimeS * 1000 : MAX_REFUSED_MS;
    const againMs = Math.min(MAX_REFUSED_MS, Math.max(MIN_REFUSED_MS, saidMs));
    this.#giveUp(now, job, resultText(reply.version, reply.result), againMs);
  }

  #giveUp(now: number, job: MapJob, error: string, againMs: number): void {
    this.error = error;
    this.pair.failed(now, job, error, againMs);
    if (!this.pair.isMapped) this.failed = true;
  }

  #learnAddress(ip: string): void {
    const bytes = parseIp(ip);
    if (bytes !== null && isUsablePeerAddress(bytes, 1)) this.externalIp = ip;
  }

  /** It does not speak as we do. */
  #otherVersion(now: number, reply: MapReply): void {
    const other = this.version === PCP ? NAT_PMP : PCP;
    const speaks = other === PCP ? this.#options.pcp : this.#options.natPmp && this.#local.length === 4;
    if (this.#work === null) return;
    const { job } = this.#work;
    if (!speaks || (this.version === NAT_PMP && reply.version !== PCP)) {
      this.#work = null;
      this.error = 'the router speaks another version';
      if (job !== null) this.pair.failed(now, job, this.error, REST_MS);
      this.#fail(now);
      return;
    }
    this.version = other;
    // each version has said no to the other: one change is enough
    this.#heard = true;
    this.#restart(now);
  }

  get #maxTries(): number {
    if (this.#heard) return KNOWN_TRIES;
    return this.version === PCP ? PCP_TRIES : NAT_PMP_TRIES;
  }

  #silent(now: number, { job }: Work): void {
    if (!this.#heard && this.version === PCP && this.#options.natPmp && this.#local.length === 4) {
      this.version = NAT_PMP;
      return this.#restart(now);
    }
    this.#work = null;
    this.error = 'the router does not answer';
    if (job === null) return;
    const wasMapped = this.pair.isMapped;
    this.pair.failed(now, job, this.error, REST_MS);
    // nor is there an answer to the other half of it
    if (job.unmap && this.pair.port === 0) this.pair.clear();
    else if (!wasMapped) this.#fail(now);
    this.#options.sink.onGatewayChanged();
  }

  /** From the beginning, in another version. */
  #restart(now: number): void {
    this.#work = null;
    this.#epochS = -1;
    this.#pump(now);
  }

  #fail(now: number): void {
    this.failed = true;
    this.#restUntil = now + REST_MS;
    this.#heard = false;
    this.version = this.#options.pcp ? PCP : NAT_PMP;
    this.#epochS = -1;
    this.#options.sink.onGatewayChanged();
  }

  /** A request under way is not waited for any more: what it may have brought about is given back too. */
  #abandon(now: number): void {
    const job = this.#work?.job ?? null;
    this.#work = null;
    if (job === null || job.mapping.externalPort !== 0) return;
    this.pair.mapped(now, job, job.externalPort, LEASE_S, false);
  }

  /** RFC 6887, section 8.5, and RFC 6886, section 3.6: whether the router's clock went on as ours did. */
  #epoch(now: number, { epochS, version }: MapReply): void {
    const before = this.#epochS;
    const ours = (now - this.#epochAt) / 1000;
    this.#epochS = epochS;
    this.#epochAt = now;
    if (before < 0) return;
    const theirs = epochS - before;
    const isBehind = version === PCP ? theirs < -1 || theirs + 2 < ours - ours / 16 : theirs + 2 < (ours * 7) / 8;
    const isAhead = version === PCP && ours + 2 < theirs - theirs / 16;
    if ((!isBehind && !isAhead) || now - this.#forgotAt < FORGOT_EVERY_MS) return;
    this.#forgotAt = now;
    this.#addressDue = version === NAT_PMP;
    this.pair.forgotten(now);
  }

  #newNonce(): Uint8Array {
    const nonce = new Uint8Array(12);
    this.#options.random.fill(nonce);
    return copyOf(nonce);
  }
}
