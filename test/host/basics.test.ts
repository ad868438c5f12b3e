import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { HostClock } from '../../packages/engine/dist/src/host/clock.js';
import { HostLoop } from '../../packages/engine/dist/src/host/loop.js';
import { HostRandom } from '../../packages/engine/dist/src/host/random.js';
import { makeSlotMemory } from '../../packages/engine/dist/src/host/slot-memory.js';

test('the loop runs once for many asks, in time and not before, however far the deadline', async () => {
  const clock = new HostClock();
  const loop = new HostLoop(clock);
  const runs: number[] = [];
  const next = (): Promise<void> =>
    new Promise((resolve) => {
      loop.run = () => {
        runs.push(clock.now());
        resolve();
      };
    });
  let ran = next();
  loop.soon();
  loop.soon();
  expect(runs.length).toBe(0);
  await ran;
  await new Promise((resolve) => setImmediate(resolve));
  expect(runs.length).toBe(1);
  // far beyond what node's timer holds: it must not fire at once
  loop.wakeAt(clock.now() + 2 ** 40);
  loop.wakeAt(Number.POSITIVE_INFINITY);
  loop.wakeAt(clock.now() + 2 ** 33);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(runs.length).toBe(1);
  ran = next();
  const at = clock.now() + 30;
  loop.wakeAt(at);
  await ran;
  expect(runs[1]).toBeGreaterThanOrEqual(at);
  expect(runs[1]).toBeLessThan(at + 500);
  // moved later: the earlier moment passes in silence; moved into the past: at once
  loop.wakeAt(clock.now() + 10);
  loop.wakeAt(clock.now() + 100_000);
  await new Promise((resolve) => setTimeout(resolve, 40));
  expect(runs.length).toBe(2);
  ran = next();
  loop.wakeAt(clock.now() - 5);
  await ran;
  loop.wakeAt(clock.now() + 5);
  loop.soon();
  loop.close();
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(runs.length).toBe(3);
});

test('slot memory copies right at every alignment, overlapping or not', () => {
  const { buffer, copy, rc4 } = makeSlotMemory(100_000);
  // whole pages, and behind them what RC4 needs
  expect(buffer.byteLength - rc4!.state.byteLength - rc4!.room.byteLength).toBe(131072);
  const bytes = new Uint8Array(buffer);
  const model = new Uint8Array(randomBytes(bytes.length));
  bytes.set(model);
  for (let i = 0; i < 2000; i++) {
    const [a, b, n] = [0, 1, 2].map(() => Math.floor(Math.random() * 40_000));
    copy(a!, b!, n!);
    model.copyWithin(a!, b!, b! + n!);
  }
  expect(Buffer.compare(bytes, model)).toBe(0);
  expect(() => copy(bytes.length - 5, 0, 6)).toThrow();
  expect(() => makeSlotMemory(5 * 2 ** 30)).toThrow(RangeError);
});

test('bytes come right into slot memory and out of it, and never past its end', () => {
  const { buffer, move } = makeSlotMemory(100_000);
  const bytes = new Uint8Array(buffer);
  const plain = new Uint8Array(randomBytes(100_000));
  for (const n of [0, 1, 255, 256, 1352, 65_487]) {
    move!(bytes, 13, plain.subarray(7, 7 + n));
    expect(Buffer.compare(bytes.subarray(13, 13 + n), plain.subarray(7, 7 + n))).toBe(0);
    const back = new Uint8Array(n + 5).fill(1);
    move!(back, 3, bytes.subarray(13, 13 + n));
    expect([...back.subarray(0, 3), ...back.subarray(n + 3)]).toEqual([1, 1, 1, 1, 1]);
    expect(Buffer.compare(back.subarray(3, n + 3), plain.subarray(7, 7 + n))).toBe(0);
    if (n > 0) expect(() => move!(back, 6, plain.subarray(0, n))).toThrow(RangeError);
  }
});

test('random bytes are random in each part, in shared memory too', () => {
  const random = new HostRandom();
  const seen = new Set<string>();
  for (const size of [16, 16, 1000, 1024, 1025, 5000, 16]) {
    for (const target of [new Uint8Array(size), new Uint8Array(new SharedArrayBuffer(size))]) {
      random.fill(target);
      for (let at = 0; at + 8 <= size; at += 8) seen.add(Buffer.from(target.slice(at, at + 8)).toString('hex'));
    }
  }
  expect(seen.size).toBe([16, 16, 1000, 1024, 1025, 5000, 16].reduce((sum, n) => sum + Math.floor(n / 8) * 2, 0));
});

test('closed ports leave nothing that keeps the process, idle threads neither', () => {
  const script = `
    import { createHostPorts } from '${new URL('../../packages/engine/dist/src/host/index.js', import.meta.url).href}';
    const ports = createHostPorts({ memory: 4 << 20, hashThreads: 2 });
    const slots = Int32Array.of(ports.slots.take());
    let left = 2;
    const exits = () => { if (--left === 0 && process.argv[1] === 'exit') process.exit(3); };
    const sink = { onHashed: () => { console.log('hashed'); exits(); } };
    for (let i = 0; i < 2; i++) ports.hasher.hash(i, 1, slots, 1, 16384, 0, 0, true, sink);
    ports.net.listen({ ip: '127.0.0.1', port: 0 }, {
      onListening: (local) => ports.net.connect(local, { onConnected() {}, onData() {}, onSent() {}, onClosed() {} }),
      onAccept() {
        ports.loop.wakeAt(1e12);
        ports.http.get({ url: 'http://127.0.0.1:1/', headers: {}, timeoutMs: 1e9, maxBytes: 1, maxRedirects: 0 }, () => {});
        if (process.argv[1] === 'close') ports.close(() => console.log('closed'));
      },
      onListenFault() {},
    });`;
  for (const [how, code, says] of [
    ['close', 0, 'closed'],
    ['exit', 3, 'hashed'],
  ] as const) {
    const out = spawnSync(process.execPath, ['--input-type=module', '-e', script, how], {
      encoding: 'utf8',
      timeout: 15_000,
    });
    expect(out.stderr).toBe('');
    expect(out.status).toBe(code);
    expect(out.stdout).toContain(says);
  }
});
