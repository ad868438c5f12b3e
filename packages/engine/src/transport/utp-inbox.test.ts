import { describe, expect, it } from 'vitest';
import { Arrival, UtpInbox } from './utp-inbox.ts';
import { PacketPool } from './utp-pool.ts';

const KIB = 1024;

describe('UtpInbox', () => {
  it('asks for less while the memory of all connections is short, and for all again after', () => {
    const pool = new PacketPool(1024 * KIB);
    const inbox = new UtpInbox(pool, 1, 256 * KIB);
    expect(inbox.window).toBe(256 * KIB);
    const others = Array.from({ length: 9 }, () => pool.take(64 * KIB)!);
    expect(inbox.window).toBe(32 * KIB);
    for (const buffer of others) pool.give(buffer);
    expect(inbox.window).toBe(256 * KIB);
  });

  it('keeps less beyond a hole while memory is short, but takes what closes it', () => {
    const pool = new PacketPool(1024 * KIB);
    const inbox = new UtpInbox(pool, 1, 256 * KIB);
    const packet = new Uint8Array(16 * KIB + 100);
    const others = Array.from({ length: 9 }, () => pool.take(64 * KIB)!);
    const arrive = (seq: number) => inbox.arrived(seq, packet, 100, true);
    const { Kept, Dropped } = Arrival;
    expect([3, 4, 5, 6, 7].map(arrive)).toEqual([Kept, Kept, Kept, Dropped, Dropped]);
    expect([arrive(1), arrive(2), inbox.next]).toEqual([Kept, Kept, 6]);
    for (const buffer of others) pool.give(buffer);
    expect([8, 7, 6].map(arrive)).toEqual([Kept, Kept, Kept]);
    expect(inbox.next).toBe(9);
  });
});
