/** The clocks: a monotonic one that no change of the system time touches, and the wall clock for display. */

import { performance } from 'node:perf_hooks';
import type { Clock } from '../base/ports.ts';

export class HostClock implements Clock {
  now(): number {
    return performance.now();
  }

  wall(): number {
    return Date.now();
  }
}
