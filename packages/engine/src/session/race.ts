/**
 * Connects to one address by TCP and uTP, and keeps whichever comes first. One of them starts, TCP by default; the other
 * joins when it failed, or has said nothing for HEAD_START_MS, so that a peer that both reach is reached by the one that is
 * preferred: TCP is cheaper, uTP helps through NATs.
 *
 * Limits: where TCP was refused somebody is at home, who answers uTP within REFUSED_MS or not at all.
 */

import type { IoFault } from '../base/errors.ts';
import type { Conn, ConnSink, Endpoint } from '../base/ports.ts';
import type { SessionCore } from './core.ts';
import type { Link } from './link.ts';

const HEAD_START_MS = 300;
const REFUSED_MS = 1000;

export class Race {
  readonly #core: SessionCore;
  readonly #link: Link;
  readonly #remote: Endpoint;
  readonly #legs: Leg[] = [];
  readonly #utpFirst: boolean;
  #cancelAlarm: () => void;
  #second = false;
  #hastened = false;
  #over = false;

  constructor(core: SessionCore, link: Link, remote: Endpoint, utpFirst: boolean) {
    this.#core = core;
    this.#link = link;
    this.#remote = remote;
    this.#utpFirst = utpFirst && core.udp.reaches(remote.ip);
    this.#start(this.#utpFirst);
    this.#cancelAlarm = core.alarm(HEAD_START_MS, () => this.#startSecond(null));
  }

  /** The other side dials us by uTP (BEP 55): it does not wait for TCP any more, nor give up with it. */
  hasten(): void {
    this.#hastened = true;
    if (!this.#utpFirst) this.#startSecond(null);
  }

  /** The link was closed. */
  cancel(): void {
    this.#end(null);
  }

  won(leg: Leg): void {
    if (this.#over) return leg.conn!.close();
    this.#end(leg);
    leg.conn!.sink = this.#link;
    this.#link.carry(leg.conn!, leg.utp);
    this.#link.onConnected();
  }

  lost(leg: Leg, fault: IoFault | null): void {
    if (this.#over) return;
    leg.conn = null;
    const isFirst = !this.#second;
    if (isFirst) this.#startSecond(fault);
    else if (this.#legs.every(({ conn }) => conn === null)) return this.#fail(fault);
    const isRefused = !leg.utp && fault?.code === 'ECONNREFUSED' && (isFirst || this.#utpFirst);
    if (this.#over || this.#hastened || !isRefused) return;
    this.#cancelAlarm = this.#core.alarm(REFUSED_MS, () => this.#fail(fault));
  }

  /** `fault`: how the first failed, if it did. */
  #startSecond(fault: IoFault | null): void {
    this.#cancelAlarm();
    if (this.#over || this.#second) return;
    this.#second = true;
    this.#start(!this.#utpFirst);
    if (this.#legs.every(({ conn }) => conn === null)) this.#fail(fault);
  }

  #start(utp: boolean): void {
    const leg = new Leg(this, utp);
    this.#legs.push(leg);
    const { udp, ports } = this.#core;
    leg.conn = utp ? udp.connectUtp(this.#remote, leg) : ports.net.connect(this.#remote, leg);
  }

  #fail(fault: IoFault | null): void {
    if (this.#over) return;
    this.#end(null);
    this.#link.onClosed(fault);
  }

  #end(winner: Leg | null): void {
    this.#over = true;
    this.#cancelAlarm();
    for (const leg of this.#legs) {
      if (leg === winner) continue;
      leg.conn?.close();
      leg.conn = null;
    }
  }
}

class Leg implements ConnSink {
  conn: Conn | null = null;
  readonly utp: boolean;
  readonly #race: Race;

  constructor(race: Race, utp: boolean) {
    this.#race = race;
    this.utp = utp;
  }

  onConnected(): void {
    this.#race.won(this);
  }

  onData(): void {}

  onSent(): void {}

  onClosed(fault: IoFault | null): void {
    this.#race.lost(this, fault);
  }
}
