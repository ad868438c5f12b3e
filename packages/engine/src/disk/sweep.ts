/**
 * Does one thing with each of many files (stat, allocate), a few at a time, so that a torrent of 100,000 files neither
 * floods the port nor waits for each answer alone.
 */

import type { IoFault } from '../base/errors.ts';
import type { FileStat } from '../base/ports.ts';
import { Job } from './io.ts';

/** Enough to keep the system's I/O threads busy between turns. */
const AT_ONCE = 64;

export interface SweepPlan {
  /** Starts the job for one file; its completion comes to `job`. */
  start(job: Job, file: number): void;
  /** One file's answer. */
  each(file: number, fault: IoFault | null, stat: FileStat | null): void;
  /** All files are done; the first fault. Called once, also when there was no file, then from inside `run`. */
  done(fault: IoFault | null): void;
}

export class Sweep {
  readonly #files: readonly number[];
  readonly #plan: SweepPlan;
  #next = 0;
  #underWay = 0;
  #fault: IoFault | null = null;

  constructor(files: readonly number[], plan: SweepPlan) {
    this.#files = files;
    this.#plan = plan;
  }

  run(): void {
    while (this.#underWay < AT_ONCE && this.#next < this.#files.length) {
      const file = this.#files[this.#next++]!;
      this.#underWay++;
      this.#plan.start(new SweepJob(this, file), file);
    }
    if (this.#underWay === 0) this.#plan.done(this.#fault);
  }

  ended(file: number, fault: IoFault | null, stat: FileStat | null): void {
    this.#underWay--;
    this.#fault ??= fault;
    this.#plan.each(file, fault, stat);
    this.run();
  }
}

class SweepJob extends Job {
  readonly #sweep: Sweep;
  readonly #file: number;

  constructor(sweep: Sweep, file: number) {
    super();
    this.#sweep = sweep;
    this.#file = file;
  }

  override onIo(fault: IoFault | null, _bytes: number): void {
    this.#sweep.ended(this.#file, fault, null);
  }

  override onStat(fault: IoFault | null, stat: FileStat | null): void {
    this.#sweep.ended(this.#file, fault, stat);
  }
}
