// One-way TCP over loopback through the host's Net: wire-ready blocks out of a slot pool, gathered sends, one process a side.
// Usage: node bench/host/tcp.mjs [GiB=4] [views a send=64] [receive KiB=256]
import { fork } from 'node:child_process';
import { SlotPool } from '../../packages/engine/dist/src/base/slot-pool.js';
import { makeSlotMemory } from '../../packages/engine/dist/src/host/slot-memory.js';
import { TcpNet } from '../../packages/engine/dist/src/host/tcp.js';

const GIB = 2 ** 30;
const total = Number(process.argv[2] ?? 4) * GIB;
const batch = Number(process.argv[3] ?? 64);
const receiveBytes = Number(process.argv[4] ?? 256) * 1024;
const memory = makeSlotMemory(SlotPool.bytesFor(receiveBytes, 1024));
const slots = new SlotPool(memory, receiveBytes, 1024);
const net = new TcpNet(slots.receive);

const show = (what, bytes, startMs, cpu) => {
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - startMs) / 1000;
  const perGib = (n) => (n / 1e6 / (bytes / GIB)).toFixed(3);
  console.log(
    `${what}: ${(bytes / 1e6 / seconds).toFixed(0)} MB/s, ${perGib(used.user + used.system)} CPU-s/GiB (user ${perGib(used.user)})`,
  );
};

if (process.env.SHOAL_BENCH_PORT === undefined) {
  let bytes = 0;
  let slot = slots.take();
  let at = 0;
  let start = 0;
  let cpu;
  const copies = process.env.COPY !== '0';
  const sink = {
    onConnected() {},
    onSent() {},
    onData(chunk) {
      bytes += chunk.length;
      if (!copies) return;
      // copies as a framer does: each 13 header bytes left out, 16 KiB to a slot
      for (let from = 0; from < chunk.length; ) {
        const n = Math.min(16397 - at, chunk.length - from);
        const skip = Math.max(0, Math.min(13 - at, n));
        if (n > skip) slots.write(slot, at + skip - 13, chunk, from + skip, n - skip);
        at += n;
        from += n;
        if (at === 16397) {
          at = 0;
          slots.release(slot);
          slot = slots.take();
          slot = (slot + 1) % 1024 === 0 ? slot : slot;
        }
      }
    },
    onClosed() {
      show(`receive ${copies ? 'and copy' : ''}`, bytes, start, cpu);
      net.close(() => {});
    },
  };
  net.listen(
    { ip: '127.0.0.1', port: 0 },
    {
      onListening: (local) =>
        fork(process.argv[1], process.argv.slice(2), { env: { ...process.env, SHOAL_BENCH_PORT: local.port } }),
      onAccept(conn) {
        conn.sink = sink;
        start = performance.now();
        cpu = process.cpuUsage();
      },
      onListenFault: (why) => console.log(why.message),
    },
  );
} else {
  let sent = 0;
  let start = 0;
  let cpu;
  let next = 0;
  const taken = Array.from({ length: 1000 }, () => slots.take());
  const views = new Array(batch);
  const more = () => {
    if (sent >= total) {
      show('send', sent, start, cpu);
      conn.close();
      net.close(() => {});
      return;
    }
    for (let i = 0; i < batch; i++) {
      views[i] = slots.wireBlock(taken[next], 1, next * 16384);
      next = (next + 1) % taken.length;
    }
    sent += batch * 16397;
    conn.send(views, batch);
  };
  const conn = net.connect({ ip: '127.0.0.1', port: Number(process.env.SHOAL_BENCH_PORT) }, null, {
    onConnected() {
      start = performance.now();
      cpu = process.cpuUsage();
      more();
    },
    onData() {},
    onSent: () => setImmediate(more),
    onClosed: (why) => why && console.log(why.message),
  });
}
