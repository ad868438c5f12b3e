// Many small files through the host's Files: write, read, stat, hash, sync, remove. Four files of 4 KiB share a 16 KiB slot.
// Usage: node bench/host/small-files.mjs [folder=/dev/shm] [files=20000] [bytes=4096] [files a folder=1000]
import { rmSync } from 'node:fs';
import { SlotPool } from '../../packages/engine/dist/src/base/slot-pool.js';
import { HostFiles } from '../../packages/engine/dist/src/host/files.js';
import { HashPool } from '../../packages/engine/dist/src/host/hash-pool.js';
import { makeSlotMemory } from '../../packages/engine/dist/src/host/slot-memory.js';

const root = `${process.argv[2] ?? '/dev/shm'}/shoal-bench-files`;
const count = Number(process.argv[3] ?? 20000);
const bytes = Number(process.argv[4] ?? 4096);
const perFolder = Number(process.argv[5] ?? 1000);
const slots = new SlotPool(makeSlotMemory(SlotPool.bytesFor(65536, 512)), 65536, 512);
const views = [];
for (let i = 0; i < 512; i++) {
  const payload = slots.payload(slots.take());
  payload.fill(i + 1);
  for (let at = 0; at + bytes <= 16384; at += bytes) views.push(payload.subarray(at, at + bytes));
}
const files = new HostFiles(slots.buffer);
const hasher = new HashPool(slots, 2);
const refs = Array.from({ length: count }, (_, i) => ({
  root,
  path: ['torrent', `folder-${Math.floor(i / perFolder)}`, `file-${i}`],
  executable: false,
}));

const timed = async (what, run) => {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await run();
  const ms = performance.now() - start;
  const used = process.cpuUsage(cpu);
  console.log(`${what}: ${ms.toFixed(0)} ms, CPU ${((used.user + used.system) / 1000).toFixed(0)} ms`);
};
const each = (inFlight, ask) =>
  new Promise((resolve, reject) => {
    let next = 0;
    let running = 0;
    const done = (_job, why) => {
      if (why !== null) reject(new Error(why.message));
      running -= 1;
      more();
      if (running === 0) resolve();
    };
    const sink = { onFile: done, onStat: done, onHashed: done };
    const more = () => {
      while (next < count && running < inFlight) {
        running += 1;
        ask(next++, sink);
      }
    };
    more();
  });

rmSync(root, { recursive: true, force: true });
await timed(
  'first file (starts the thread)',
  () => new Promise((done) => files.write(0, refs[0], 0, [views[0]], { onFile: done })),
);
await timed(`write ${count} files of ${bytes}`, () =>
  each(1024, (i, sink) => files.write(i, refs[i], 0, [views[i % views.length]], sink)),
);
await timed('stat', () => each(count, (i, sink) => files.stat(i, refs[i], sink)));
await timed('read', () => each(1024, (i, sink) => files.read(i, refs[i], 0, [views[i % views.length]], sink)));
await timed(
  'hash',
  () =>
    new Promise((done, fail) => {
      let left = 0;
      for (let at = 0; at < count; at += 256) {
        left += 1;
        const spans = refs.slice(at, at + 256).map((file) => ({ file, offset: 0, length: bytes }));
        hasher.hashFiles(0, 1, spans, 16384, 0, {
          onHashed(_job, why) {
            if (why !== null) fail(new Error(why.message));
            left -= 1;
            if (left === 0) done();
          },
        });
      }
    }),
);
await timed('sync', () => new Promise((done) => files.sync(0, refs, { onFile: done })));
await timed('remove', () => new Promise((done) => files.remove(0, refs, { onFile: done })));
rmSync(root, { recursive: true, force: true });
console.log(`peak resident ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`);
await new Promise((done) => files.close(done));
await new Promise((done) => hasher.close(done));
