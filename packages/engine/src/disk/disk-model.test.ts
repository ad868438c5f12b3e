import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ALL_PAD, type Bench, bench, odd } from '../../sim/disk-bench.ts';
import type { ResumeRecord } from './resume.ts';

/** Enough to meet most pairs of things. */
const RUNS = Number(process.env['SHOAL_RUNS'] ?? 150);

interface Act {
  readonly kind: string;
  readonly piece: number;
  readonly a: number;
  readonly b: number;
}

/** The files of `odd` that have bytes. */
const FILES = [0, 2, 3, 4, 6];
const KINDS = ['get', 'get', 'get', 'spill', 'bad', 'discard', 'read', 'read', 'take', 'want', 'move', 'sync'];
const act: fc.Arbitrary<Act> = fc.record({
  kind: fc.constantFrom(...KINDS, 'fault', 'retry', 'wait', 'wait', 'wait', 'check', 'forget'),
  piece: fc.nat(12),
  a: fc.nat(15),
  b: fc.nat(15),
});

/** What a piece is to the driver: none, open (some of it put), or had. */
class Driver {
  readonly b: Bench;
  readonly open = new Map<number, { next: number; mark: number; hashing: number }>();
  readonly had = new Set<number>();
  checking = false;

  constructor(b: Bench) {
    this.b = b;
    b.node.disk.knobs.jitterMs = 4;
    b.onDigest = (job, good) => {
      for (const [piece, each] of this.open) {
        if (each.hashing !== job) continue;
        this.open.delete(piece);
        if (good) {
          expect(each.mark === 0 || piece === ALL_PAD).toBe(true);
          b.verified.add(piece);
          this.had.add(piece);
          b.disk.verified(piece);
        } else b.disk.discard(piece);
      }
    };
    b.onChecked = (piece, good) => {
      expect(good && !b.isOnDisk(piece)).toBe(false);
      if (good) this.had.add(piece);
      else this.had.delete(piece);
    };
    b.onCheckDone = () => {
      this.checking = false;
    };
  }

  act({ kind, piece: drawn, a, b: second }: Act): void {
    const { b } = this;
    const piece = drawn % b.torrent.pieceCount;
    const blocks = b.torrent.blockCount(piece);
    const room = b.ports.slots.freeCount >= blocks + 1;
    switch (kind) {
      case 'get':
        if (this.had.has(piece) || this.open.has(piece) || !room || this.checking) return;
        this.had.add(piece);
        b.download(piece);
        return;
      case 'spill':
      case 'bad': {
        if (this.had.has(piece) || !room || this.checking) return;
        const open = this.open.get(piece) ?? { next: 0, mark: kind === 'bad' ? 9 : 0, hashing: 0 };
        this.open.set(piece, open);
        if (open.hashing > 0) return;
        const to = Math.min(blocks, open.next + 1 + (a % 3));
        b.put(piece, open.next, to, open.mark);
        open.next = to;
        if (to === blocks) open.hashing = b.hash(piece);
        return;
      }
      case 'discard':
        if (!this.open.delete(piece)) return;
        b.disk.discard(piece);
        return;
      case 'read': {
        const first = a % blocks;
        if (this.had.has(piece)) b.read(piece, first, 1 + (second % (blocks - first)));
        return;
      }
      case 'take': {
        const slot = this.had.has(piece) ? b.disk.take(piece, a % blocks) : -1;
        if (slot < 0) return;
        b.expectBlock(slot, piece, a % blocks);
        b.ports.slots.release(slot);
        return;
      }
      case 'want':
        b.disk.setWanted(FILES[a % 5]!, second % 2 === 0);
        return;
      case 'move':
        if (a < 4) b.disk.move(second % 2 === 0 ? '/d' : '/other', () => {});
        return;
      case 'sync':
        b.disk.sync(() => {});
        return;
      case 'check':
        if (a > 2 || this.open.size > 0) return;
        this.checking = true;
        b.disk.check(null);
        return;
      case 'forget':
        if (a < 2 && b.disk.flushed.get(piece)) {
          b.disk.forget(piece);
          this.had.delete(piece);
        }
        return;
      case 'fault':
        b.node.disk.knobs.writeFaultEvery = a % 3 === 0 ? 2 : 0;
        b.node.disk.knobs.readFaultEvery = a % 5 === 0 ? 3 : 0;
        return;
      case 'retry':
        b.disk.retry();
        return;
      case 'wait':
        b.world.run(a < 12 ? a / 4 : 600);
    }
  }

  heal(): void {
    const { knobs } = this.b.node.disk;
    knobs.writeFaultEvery = 0;
    knobs.readFaultEvery = 0;
    for (let i = 0; i < 3; i++) {
      this.b.disk.retry();
      this.b.settle();
    }
  }
}

test('random work, faults, moves and changes of mind: nothing false is claimed, no slot is lost, all bytes are right', () => {
  let moves = 0;
  let faults = 0;
  fc.assert(
    fc.property(fc.array(act, { minLength: 20, maxLength: 120 }), fc.nat(1000), fc.nat(31), (acts, seed, unwanted) => {
      const b = bench(odd, 40, 12, seed);
      const driver = new Driver(b);
      FILES.forEach((file, i) => {
        if (((unwanted >> i) & 1) === 1) b.disk.setWanted(file, false);
      });
      for (const each of acts) driver.act(each);
      driver.heal();
      for (const [piece, open] of driver.open) if (open.hashing === 0) b.disk.discard(piece);
      b.settle();
      expect(b.unanswered).toBe(0);
      expect(b.disk.pendingSlots).toBe(0);
      faults += b.faults.length;
      moves += b.moved.length;
      for (const file of FILES) expect(b.disk.table.isWanted(file) && b.disk.places.isParted(file)).toBe(false);
      const claimed = b.all().filter((piece) => b.disk.flushed.get(piece));
      expect(claimed).toEqual([...driver.had].sort((x, y) => x - y));
      for (const piece of claimed) expect(b.isOnDisk(piece)).toBe(true);
      b.readFaults.length = 0;
      for (const piece of claimed) {
        b.read(piece, 0, b.torrent.blockCount(piece));
        b.settle();
      }
      expect(b.readFaults).toEqual([]);
      b.expectNoLeak();
      expect(b.stop()).toBe(null);
      const next = b.again();
      expect(next.restore(b.record({ clean: true }))).toEqual(claimed);
      for (const piece of claimed) expect(next.isOnDisk(piece)).toBe(true);
    }),
    { numRuns: RUNS },
  );
  expect(moves).toBeGreaterThan(RUNS / 8);
  expect(faults).toBeGreaterThan(RUNS / 8);
});

test('killed or cut off at any instant: what the last record claims is there and right', () => {
  let claims = 0;
  let hashed = 0;
  fc.assert(
    fc.property(
      fc.array(act, { minLength: 10, maxLength: 60 }),
      fc.nat(1000),
      fc.boolean(),
      fc.nat(1),
      (acts, seed, power, lag) => {
        const b = bench(odd, 40, 12, seed);
        const driver = new Driver(b);
        const records: ResumeRecord[] = [b.record()];
        for (const each of acts) {
          // a record is saved after parts were moved and pieces were lost
          if (each.kind === 'move' || each.kind === 'want' || each.kind === 'forget' || each.kind === 'check') continue;
          driver.act(each);
          records.push(b.record({ inDoubt: [...driver.open.keys()] }));
        }
        const record = records[Math.max(0, records.length - 1 - lag)]!;
        b.node.disk.knobs.readFaultEvery = 0;
        const next = b.again(power);
        const claimed = next.restore(record);
        for (const piece of claimed) expect(next.isOnDisk(piece)).toBe(true);
        claims += claimed.length;
        hashed += next.toHash;
        if (!power) {
          expect(claimed).toEqual(next.all().filter((piece) => record.flushed.get(piece)));
          expect(next.toHash).toBeLessThanOrEqual(32);
        }
        for (let p = 0; p < next.torrent.pieceCount; p++) {
          if (next.disk.flushed.get(p)) expect(next.isOnDisk(p)).toBe(true);
        }
      },
    ),
    { numRuns: RUNS },
  );
  expect(claims).toBeGreaterThan(RUNS / 4);
  expect(hashed).toBeGreaterThan(RUNS / 4);
});
