// Hash threads: pieces by slot number (as a download gives them) and files (as a check reads them), against one-shot SHA-1 here.
// Usage: node bench/host/hash.mjs [threads=2] [file folder=/dev/shm] [file MiB=2048]
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { SlotPool } from '../../packages/engine/dist/src/base/slot-pool.js';
import { HashPool } from '../../packages/engine/dist/src/host/hash-pool.js';
import { makeSlotMemory } from '../../packages/engine/dist/src/host/slot-memory.js';

const threads = Number(process.argv[2] ?? 2);
const folder = `${process.argv[3] ?? '/dev/shm'}/shoal-bench-hash`;
const fileBytes = Number(process.argv[4] ?? 2048) * 1048576;
const GIB = 2 ** 30;
const slots = new SlotPool(makeSlotMemory(SlotPool.bytesFor(65536, 1536)), 65536, 1536);
const taken = Int32Array.from({ length: 1536 }, () => slots.take());
for (const slot of taken) slots.payload(slot).fill(slot);
const pool = new HashPool(slots, threads);

const timed = async (what, bytes, run) => {
  const cpu = process.cpuUsage();
  const loop = performance.eventLoopUtilization();
  const start = performance.now();
  await run();
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  const busy = performance.eventLoopUtilization(loop).active / 1000;
  console.log(
    `${what}: ${(bytes / 1e6 / seconds).toFixed(0)} MB/s, ${((used.user + used.system) / 1e6 / (bytes / GIB)).toFixed(3)} CPU-s/GiB, network thread busy ${(busy / (bytes / GIB)).toFixed(3)} s/GiB`,
  );
};

const pieces = (kind, blocks, bytes, inFlight, leafCount) =>
  new Promise((resolve) => {
    const size = blocks * 16384;
    let left = Math.floor(bytes / size);
    let running = 0;
    let at = 0;
    const sink = {
      onHashed(_job, why) {
        if (why !== null) throw new Error(why.message);
        running -= 1;
        next();
        if (running === 0) resolve();
      },
    };
    const next = () => {
      while (left > 0 && running < inFlight) {
        left -= 1;
        running += 1;
        at = (at + blocks) % (1536 - blocks);
        pool.hash(left, kind, taken.subarray(at, at + blocks), blocks, size, leafCount, 0, true, sink);
      }
    };
    next();
  });

await pieces(1, 64, 64e6, 4, 0);
await timed('one-shot SHA-1 on this thread', 2 * GIB, async () => {
  for (let i = 0; i < 2048; i++) {
    const hash = createHash('sha1');
    for (let k = 0; k < 64; k++) hash.update(slots.payload(taken[(i * 64 + k) % 1536]));
    hash.digest();
  }
});
for (const [name, blocks] of [
  ['16 KiB', 1],
  ['256 KiB', 16],
  ['1 MiB', 64],
  ['4 MiB', 256],
]) {
  await timed(`SHA-1, pieces of ${name}, 4 at once`, 2 * GIB, () => pieces(1, blocks, 2 * GIB, 4, 0));
}
await timed('SHA-1, pieces of 1 MiB, 1 at once', 2 * GIB, () => pieces(1, 64, 2 * GIB, 1, 0));
await timed('Merkle, pieces of 1 MiB, 4 at once', 2 * GIB, () => pieces(2, 64, 2 * GIB, 4, 64));
await timed('both, pieces of 1 MiB, 4 at once', 2 * GIB, () => pieces(3, 64, 2 * GIB, 4, 64));

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const fd = openSync(`${folder}/data`, 'w');
const chunk = new Uint8Array(1 << 20).fill(7);
for (let at = 0; at < fileBytes; at += chunk.length) writeSync(fd, chunk, 0, chunk.length, at);
closeSync(fd);
const file = { root: folder, path: ['data'], executable: false };
const check = (kind, jobBytes) =>
  new Promise((resolve) => {
    let at = 0;
    let running = 0;
    const sink = {
      onHashed(_job, why) {
        if (why !== null) throw new Error(why.message);
        running -= 1;
        next();
        if (running === 0) resolve();
      },
    };
    const next = () => {
      while (at < fileBytes && running < threads * 2) {
        const length = Math.min(jobBytes, fileBytes - at);
        running += 1;
        pool.hashFiles(0, kind, [{ file, offset: at, length }], 1 << 20, 64, sink);
        at += length;
      }
    };
    next();
  });
for (const mib of [1, 4, 16]) await timed(`file, SHA-1, jobs of ${mib} MiB`, fileBytes, () => check(1, mib << 20));
await timed('file, Merkle, jobs of 16 MiB', fileBytes, () => check(2, 16 << 20));
rmSync(folder, { recursive: true, force: true });
console.log(`peak resident ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB, threads ${threads}`);
await new Promise((done) => pool.close(done));
