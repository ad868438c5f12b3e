/**
 * What the parts of the DHT share: sending queries, the two families, and the list of tasks that are over and whose sinks
 * are still to be told. Has no will of its own; Dht drives it.
 */

import { DhtFamily, type FamilyHost } from './dht-family.ts';
import type { Lookup, Source } from './dht-lookup.ts';
import { type Call, DhtRpc, MAX_CALLS } from './dht-rpc.ts';
import type { FindTask, Task } from './dht-task.ts';
import { Method } from './krpc.ts';
import { Key, KrpcWriter } from './krpc-write.ts';
import type { Filler } from './node-id.ts';
import { K } from './routing-table.ts';

/** No pings while so many calls are under way: who names nodes by the thousand must not keep lookups from asking. */
const MAX_PINGS: number = MAX_CALLS / 2;

export interface PacketSink {
  /** See DhtSink. */
  onDhtSend(bytes: Uint8Array, ip: string, port: number): boolean;
}

export class DhtHost implements FamilyHost {
  readonly writer: KrpcWriter;
  readonly rpc: DhtRpc;
  readonly v4: DhtFamily;
  readonly v6: DhtFamily;
  /** Commands and upkeep, by id. */
  readonly tasks: Map<number, Task> = new Map();
  readonly over: Task[] = [];
  queriesOut = 0;
  bytesOut = 0;
  readonly #sink: PacketSink;
  readonly #readOnly: boolean;
  #running: readonly (4 | 6)[] = [];
  #lastId = 0;

  constructor(sink: PacketSink, random: Filler, version: Uint8Array, readOnly: boolean) {
    this.#sink = sink;
    this.#readOnly = readOnly;
    this.writer = new KrpcWriter(version);
    this.rpc = new DhtRpc(random);
    this.v4 = new DhtFamily(4, this, random);
    this.v6 = new DhtFamily(6, this, random);
  }

  family(family: 4 | 6): DhtFamily {
    return family === 4 ? this.v4 : this.v6;
  }

  /** After a family was started or stopped. */
  familiesChanged(): void {
    this.#running = [this.v4, this.v6].filter((each) => each.running).map((each) => each.family);
  }

  get hasContacts(): boolean {
    return (this.v4.running && this.v4.hasContacts) || (this.v6.running && this.v6.hasContacts);
  }

  /** Nodes that answered, of the families that run. */
  get nodeCount(): number {
    return (this.v4.running ? this.v4.table.count : 0) + (this.v6.running ? this.v6.table.count : 0);
  }

  add(task: Task): void {
    task.id = ++this.#lastId;
    this.tasks.set(task.id, task);
  }

  // ------------------------------------------------------------------------------------------------------- FamilyHost

  families(): readonly (4 | 6)[] {
    return this.#running;
  }

  ownId(family: 4 | 6): Uint8Array {
    return this.family(family).table.ownId;
  }

  fill(lookup: Lookup): void {
    this.family(lookup.family).fill(lookup);
  }

  knows(family: 4 | 6, ip: string, port: number): boolean {
    return this.family(family).table.at(ip)?.port === port;
  }

  wantsOther(family: 4 | 6): boolean {
    const other = this.family(family === 4 ? 6 : 4);
    return other.running && other.table.count < K;
  }

  meet(now: number, family: 4 | 6, bytes: Uint8Array, at: number, length: number, source: Source): void {
    this.family(family).meet(now, bytes, at, length, source);
  }

  open(now: number, ip: string, port: number): Call | null {
    return this.rpc.open(now, ip, port);
  }

  send(call: Call, method: Method): boolean {
    this.writer.endQuery(method, call.tid, this.#readOnly);
    if (!this.transmit(call.ip, call.port)) {
      this.rpc.abandon(call);
      return false;
    }
    this.queriesOut++;
    return true;
  }

  /** Sends what the writer holds. False: it did not leave. */
  transmit(ip: string, port: number): boolean {
    if (!this.#sink.onDhtSend(this.writer.take(), ip, port)) return false;
    this.bytesOut += this.writer.length;
    return true;
  }

  ping(now: number, ip: string, port: number): boolean {
    const call = this.rpc.count < MAX_PINGS ? this.rpc.open(now, ip, port) : null;
    if (call === null) return false;
    const family = this.family(ip.includes(':') ? 6 : 4);
    this.writer.beginQuery();
    this.writer.id(Key.id, family.table.ownId);
    if (this.send(call, Method.Ping)) return true;
    // it may be on a block list by now; those whom a lookup could not ask stay, or an outage would empty the table at once
    family.table.failed(now, ip, port);
    return false;
  }

  startUpkeep(now: number, task: FindTask): void {
    this.add(task);
    task.start(now);
  }

  onTaskOver(task: Task): void {
    this.over.push(task);
  }
}
