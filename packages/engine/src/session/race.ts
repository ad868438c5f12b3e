/**
 * Connects to one address by TCP and uTP, and keeps whichever comes first. TCP starts; uTP joins when TCP failed, or has
 * said nothing for HEAD_START_MS, so that a peer that both reach is reached by the cheaper one.
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
  #cancelAlarm: () => void;
  #second = false;
  #over = false;

  constructor(core: SessionCore, link: Link, remote: Endpoint) {
    this.#core = core;
    this.#link = link;
    this.#remote = remote;
    const tcp = new Leg(this);
    this.#legs.push(tcp);
    tcp.conn = core.ports.net.connect(remote, tcp);
    this.#cancelAlarm = core.alarm(HEAD_START_MS, () => this.#startUtp(null));
  }

  /** uTP does not wait for TCP any more. */
  hasten(): void {
    this.#startUtp(null);
  }

  /** The link was closed. */
  cancel(): void {
    this.#end(null);
  }

  won(leg: Leg): void {
    if (this.#over) return leg.conn!.close();
    this.#end(leg);
    leg.conn!.sink = this.#link;
    this.#link.carry(leg.conn!, leg !== this.#legs[0]);
    this.#link.onConnected();
  }

  lost(leg: Leg, fault: IoFault | null): void {
    if (this.#over) return;
    leg.conn = null;
    if (leg === this.#legs[0] && !this.#second) {
      this.#startUtp(fault);
      if (this.#over || fault?.code !== 'ECONNREFUSED') return;
      this.#cancelAlarm = this.#core.alarm(REFUSED_MS, () => this.#fail(fault));
    } else if (this.#legs.every(({ conn }) => conn === null)) this.#fail(fault);
  }

  /** `fault`: how TCP failed, if it did. */
  #startUtp(fault: IoFault | null): void {
    this.#cancelAlarm();
    if (this.#over || this.#second) return;
    this.#second = true;
    const leg = new Leg(this);
    this.#legs.push(leg);
    leg.conn = this.#core.udp.connectUtp(this.#remote, leg);
    if (leg.conn === null && this.#legs[0]!.conn === null) this.#fail(fault);
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
  readonly #race: Race;

  constructor(race: Race) {
    this.#race = race;
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
