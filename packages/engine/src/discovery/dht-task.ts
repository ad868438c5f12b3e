/**
 * What a command of the DHT is while it runs: a lookup in each family, then perhaps queries that store something with the
 * closest nodes, then the end. Owns the order of these steps; what is asked and what is made of the answers is said by the
 * kinds of tasks (dht-tasks.ts).
 *
 * Invariant: the end is reported once, by `Dht`, never from inside a command; nothing is reported after `cancel`.
 */

import { type Candidate, Lookup, type LookupOwner, Source } from './dht-lookup.ts';
import type { Call, CallOwner } from './dht-rpc.ts';
import { type KrpcMessage, Method } from './krpc.ts';
import { Key, type KrpcWriter, WANT_BOTH } from './krpc-write.ts';

/** Nobody has longer ones, and a put of the largest item with it still fits a packet. */
const MAX_TOKEN = 40;

/** What tasks need of the Dht. */
export interface TaskHost {
  readonly writer: KrpcWriter;
  ownId(family: 4 | 6): Uint8Array;
  /** Families that run. */
  families(): readonly (4 | 6)[];
  /** Fills a new lookup with whom we know. */
  fill(lookup: Lookup): void;
  knows(family: 4 | 6, ip: string, port: number): boolean;
  /** See DhtRpc.open. */
  open(now: number, ip: string, port: number): Call | null;
  /** Ends the query that the writer holds and sends it. False: it did not leave, and the call is over. */
  send(call: Call, method: Method): boolean;
  /** Whether the other family runs and knows few nodes. */
  wantsOther(family: 4 | 6): boolean;
  /** Pings some of the compact nodes that a reply named, while the family knows few. */
  meet(now: number, family: 4 | 6, bytes: Uint8Array, at: number, length: number, source: Source): void;
  /** The task is over; `onEnd` is called before the present input returns. */
  onTaskOver(task: Task): void;
}

export abstract class Task implements CallOwner, LookupOwner {
  readonly host: TaskHost;
  readonly target: Uint8Array;
  id = 0;
  started = false;
  over = false;
  cancelled = false;
  /** Given up when there is nobody to ask until then. */
  waitUntil = 0;
  /** Our own upkeep: no sign of what the user wants. */
  upkeep = false;
  protected readonly lookups: Lookup[] = [];
  #running = 0;
  #storing = 0;

  constructor(host: TaskHost, target: Uint8Array) {
    this.host = host;
    this.target = target;
  }

  start(now: number): void {
    this.started = true;
    for (const family of this.familiesWanted()) {
      const lookup = new Lookup(family, this.target, this.host.ownId(family), this, this.upkeep);
      this.host.fill(lookup);
      if (!lookup.isEmpty) this.lookups.push(lookup);
    }
    this.#running = this.lookups.length;
    if (this.#running === 0) this.end();
    for (const lookup of this.lookups) lookup.advance(now);
  }

  /** Ends it as it stands. */
  end(): void {
    if (this.over) return;
    this.over = true;
    for (const lookup of this.lookups) lookup.done = true;
    this.host.onTaskOver(this);
  }

  get queried(): number {
    return this.lookups.reduce((sum, lookup) => sum + lookup.queried, 0);
  }

  get answered(): number {
    return this.lookups.reduce((sum, lookup) => sum + lookup.answeredCount, 0);
  }

  /** A bootstrap node became known while this runs. */
  addRouter(now: number, family: 4 | 6, address: Uint8Array, ip: string, port: number): void {
    for (const lookup of this.lookups) {
      if (lookup.family !== family || lookup.done) continue;
      lookup.addRouter(address, ip, port);
      lookup.advance(now);
    }
  }

  // ------------------------------------------------------------------------------------------------ of the kinds of task

  protected familiesWanted(): readonly (4 | 6)[] {
    return this.host.families();
  }

  /** Writes the query for a candidate; returns its method. */
  protected abstract writeQuery(lookup: Lookup, candidate: Candidate): Method;
  /** Looks at a reply before its nodes are taken. */
  protected onReply(_now: number, _call: Call, _message: KrpcMessage): void {}
  /** May follow what a reply names, and counts that in `source`. */
  protected onNamed(_now: number, _message: KrpcMessage, _source: Source): void {}
  /** The lookup is done: the time to store. */
  protected onFound(_now: number, _lookup: Lookup): void {}
  protected onStored(_error: KrpcMessage | null): void {}
  /** The last word to the sink. */
  abstract onEnd(): void;

  /** Begins a query in the writer, with our id. */
  protected begin(lookup: Lookup): KrpcWriter {
    const { writer } = this.host;
    writer.beginQuery();
    writer.id(Key.id, this.host.ownId(lookup.family));
    return writer;
  }

  /** Sends a storing query that `write` writes. */
  protected store(now: number, candidate: Candidate, write: () => Method): void {
    const call = this.host.open(now, candidate.ip, candidate.port);
    if (call === null) return;
    call.owner = this;
    call.storing = true;
    if (this.host.send(call, write())) this.#storing++;
  }

  // ---------------------------------------------------------------------------------------------------- of the lookups

  onAsk(now: number, lookup: Lookup, candidate: Candidate): boolean {
    const call = this.host.open(now, candidate.ip, candidate.port);
    if (call === null) return false;
    call.owner = this;
    call.lookup = lookup;
    call.candidate = candidate;
    call.router = candidate.router;
    return this.host.send(call, this.writeQuery(lookup, candidate));
  }

  knows(lookup: Lookup, ip: string, port: number): boolean {
    return this.host.knows(lookup.family, ip, port);
  }

  onLookupDone(now: number, lookup: Lookup): void {
    this.#running--;
    if (!this.over) this.onFound(now, lookup);
    this.#endIfDone();
  }

  // ------------------------------------------------------------------------------------------------------ of the calls

  onAnswer(now: number, call: Call, message: KrpcMessage): void {
    if (this.over) return;
    if (call.storing) {
      this.#stored(null);
      return;
    }
    const candidate = call.candidate!;
    const lookup = call.lookup!;
    this.onReply(now, call, message);
    if (this.over || lookup.done) return;
    const source = new Source(candidate.hop, candidate.router);
    this.onNamed(now, message, source);
    for (const each of this.lookups) {
      if (each.done) continue;
      if (each.family === 4) each.addNamed(message.bytes, message.nodesAt, message.nodesLength, source);
      else each.addNamed(message.bytes, message.nodes6At, message.nodes6Length, source);
    }
    const hasToken = message.tokenAt >= 0 && message.tokenLength > 0 && message.tokenLength <= MAX_TOKEN;
    const token = hasToken ? message.copy(message.tokenAt, message.tokenLength) : null;
    lookup.answered(now, candidate, message.bytes, message.idAt, token);
    for (const each of this.lookups) if (each !== lookup) each.advance(now);
  }

  onRefused(now: number, call: Call, message: KrpcMessage): void {
    if (this.over) return;
    if (call.storing) this.#stored(message);
    else call.lookup!.failed(now, call.candidate!);
  }

  onSlow(now: number, call: Call): void {
    if (!this.over && !call.storing) call.lookup!.slow(now, call.candidate!);
  }

  onLate(now: number, call: Call): void {
    if (this.over) return;
    if (!call.storing) {
      call.lookup!.late(now, call.candidate!);
      return;
    }
    call.owner = null;
    this.#storing--;
    this.#endIfDone();
  }

  onLost(now: number, call: Call): void {
    if (this.over) return;
    if (!call.storing) {
      call.lookup!.failed(now, call.candidate!);
      return;
    }
    this.#storing--;
    this.#endIfDone();
  }

  #stored(error: KrpcMessage | null): void {
    this.#storing--;
    this.onStored(error);
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (this.#running === 0 && this.#storing === 0) this.end();
  }
}

/** Upkeep: looks for an id to learn who is near it. One family asks for the other too while that knows few. */
export class FindTask extends Task {
  override upkeep = true;
  readonly family: 4 | 6;
  readonly #bothFamilies: boolean;

  constructor(host: TaskHost, family: 4 | 6, target: Uint8Array) {
    super(host, target);
    this.family = family;
    this.#bothFamilies = host.wantsOther(family);
  }

  protected override familiesWanted(): readonly (4 | 6)[] {
    return [this.family];
  }

  protected override writeQuery(lookup: Lookup, _candidate: Candidate): Method {
    const writer = this.begin(lookup);
    writer.id(Key.target, this.target);
    if (this.#bothFamilies) writer.raw(WANT_BOTH);
    return Method.FindNode;
  }

  protected override onNamed(now: number, message: KrpcMessage, source: Source): void {
    if (!this.#bothFamilies) return;
    if (this.family === 6) this.host.meet(now, 4, message.bytes, message.nodesAt, message.nodesLength, source);
    else this.host.meet(now, 6, message.bytes, message.nodes6At, message.nodes6Length, source);
  }

  override onEnd(): void {}
}
