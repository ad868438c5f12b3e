import { describe, expect, it } from 'vitest';
import { Meter } from './meter.ts';

describe('Meter', () => {
  it('is right from the first second on', () => {
    const meter = new Meter();
    meter.tick(1000);
    for (let now = 2000; now <= 12_000; now += 1000) {
      meter.add(5000);
      meter.tick(now);
      expect(meter.rateBps).toBeCloseTo(5000, 6);
    }
    expect(meter.total).toBe(55_000);
  });

  it('is right for ticks of any spacing', () => {
    const meter = new Meter();
    for (let now = 0; now <= 20_000; now += 130) {
      if (now > 0) meter.add(1300);
      meter.tick(now);
    }
    expect(meter.rateBps).toBeGreaterThan(9500);
    expect(meter.rateBps).toBeLessThan(10_500);
  });

  it('falls to 0 within five seconds of the last byte', () => {
    const meter = new Meter();
    meter.add(100_000);
    meter.tick(0);
    expect(meter.rateBps).toBe(100_000);
    let last = meter.rateBps;
    for (let now = 1000; now <= 5000; now += 1000) {
      meter.tick(now);
      expect(meter.rateBps).toBeLessThan(last);
      last = meter.rateBps;
    }
    expect(last).toBe(0);
    expect(meter.idle).toBe(true);
    meter.add(700);
    expect(meter.idle).toBe(false);
    meter.tick(9000);
    expect(meter.rateBps).toBe(700);
    expect(meter.idle).toBe(false);
  });
});
