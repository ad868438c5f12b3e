import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ClockDrift, DelayHistory, Ledbat, MAX_WINDOW_BYTES } from './ledbat.ts';

describe('DelayHistory', () => {
  it('gives the least of three samples above the least of 13 minutes, over the wrap', () => {
    const history = new DelayHistory();
    for (const [i, sample] of [0xffffff00, 0xfffffff0, 0x100].entries()) history.add(i, sample >>> 0);
    expect(history.base).toBe(0xffffff00);
    expect(history.delay()).toBe(0);
    history.add(3, 0x200);
    history.add(4, 0x300);
    expect(history.delay()).toBe(0x200);
  });

  it('forgets a base after 13 minutes, not after 12', () => {
    const history = new DelayHistory();
    history.add(0, 1000);
    for (let minute = 1; minute <= 12; minute++) history.add(minute * 60_000, 5000);
    expect(history.base).toBe(1000);
    history.add(13 * 60_000, 5000);
    history.add(14 * 60_000, 5000);
    expect(history.base).toBe(5000);
  });
});

describe('ClockDrift', () => {
  it('measures microseconds per 5 s', () => {
    const drift = new ClockDrift();
    for (let ms = 0; ms < 300_000; ms += 100) drift.add(ms, (0xfffff000 - ms * 50) >>> 0);
    expect(drift.rate / -250_000).toBeCloseTo(1, 1);
  });
});

describe('Ledbat', () => {
  it('stays between one packet and the most, whatever it is told', () => {
    const step = fc.tuple(fc.constantFrom('ack', 'lost', 'timeout'), fc.nat(0xffffffff), fc.nat(1 << 20), fc.nat(200));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const ledbat = new Ledbat(1212);
        let now = 0;
        for (const [what, sample, acked, wait] of steps) {
          now += wait;
          ledbat.sampleTheirs(now, sample);
          ledbat.sampleOurs(now, sample, sample % 500_000);
          if (what === 'lost') ledbat.lost(now, 1352);
          else if (what === 'timeout') ledbat.timedOut(1352);
          else ledbat.acknowledged(now, acked + 1, 50, now, 1352);
          expect(ledbat.window).toBeGreaterThanOrEqual(1352);
          expect(ledbat.window).toBeLessThanOrEqual(MAX_WINDOW_BYTES);
        }
      }),
    );
  });

  it('does not grow while it is not what holds the flow back', () => {
    const ledbat = new Ledbat(1212);
    ledbat.sampleOurs(0, 1000, 50_000);
    const before = ledbat.window;
    for (let now = 2000; now < 20_000; now += 50) ledbat.acknowledged(now, 1212, 50, 0, 1212);
    expect(ledbat.window).toBe(before);
  });

  it('holds clocks back that run slow to gain a share', () => {
    const ledbat = new Ledbat(1212);
    // the receiver's clock loses 8 % and so hides every delay
    for (let now = 0; now < 120_000; now += 100) ledbat.sampleOurs(now, (0xf0000000 - now * 80) >>> 0, 200_000);
    expect(ledbat.delayMicros).toBeGreaterThan(20_000);
  });
});
