// uTP between two processes over loopback, beside bare datagrams of the same length in the same sitting.
// Usage: node bench/utp.mjs [MiB=512] [length ...=1372 65507]      build first
import { fork } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { HostNet } from '../packages/engine/dist/src/host/net.js';
import { UtpMux } from '../packages/engine/dist/src/transport/utp-mux.js';

const BUFFER_BYTES = 4 << 20;
const BATCH_BYTES = 1 << 19;
const BARE_MS = 2000;

/** A UDP socket and a mux, with the turns of a session: the first input arms one setImmediate. */
class Side {
  #armed = false;
  #timer = null;
  #turn = () => {
    this.#armed = false;
    const now = performance.now();
    const micros = microsOf(now);
    this.mux.tick(now, micros);
    this.mux.endTurn(now, micros);
    clearTimeout(this.#timer);
    const at = this.mux.nextAt();
    if (at === 0) this.soon();
    else if (at < Infinity) this.#timer = setTimeout(this.#turn, Math.max(0, at - now));
  };

  constructor(length, accept) {
    const sink = { onUtpSend: (bytes, ip, port) => this.udp.send(bytes, ip, port), onUtpAccept: accept };
    this.mux = new UtpMux({ random: { fill: (bytes) => randomFillSync(bytes) }, sink, mtu: () => length });
  }

  open() {
    return new Promise((resolve) => {
      this.udp = openUdp(resolve, (bytes, ip, port) => {
        const now = performance.now();
        this.mux.datagram(now, microsOf(now), bytes, ip, port);
        this.soon();
      });
    });
  }

  soon() {
    if (this.#armed) return;
    this.#armed = true;
    setImmediate(this.#turn);
  }
}

function openUdp(bound, datagram) {
  return new HostNet(new Uint8Array(1024)).udp(
    { ip: '127.0.0.1', port: 0 },
    { group: null, shared: false, bufferBytes: BUFFER_BYTES },
    { onUdpBound: (local) => bound(local.port), onDatagram: datagram, onUdpFault: (fault) => fail(fault.message) },
  );
}

function fail(what) {
  console.error(what);
  process.exit(1);
}

function microsOf(now) {
  return Math.floor(now * 1000) >>> 0;
}

/** Counts what comes. */
async function receive(kind, length, total) {
  let bytes = 0;
  let packets = 0;
  let started = 0;
  const count = (data) => {
    if (bytes === 0) started = performance.now();
    bytes += data.length;
    packets++;
  };
  const done = (stats) => {
    const seconds = (performance.now() - started) / 1000;
    const { user, system } = process.cpuUsage();
    process.send({ bytes, packets, seconds, cpu: (user + system) / 1e6, stats });
  };
  if (kind === 'bare') {
    const port = await new Promise((resolve) => openUdp(resolve, count));
    process.send({ port });
    setTimeout(done, BARE_MS + 300);
    return;
  }
  const side = new Side(length, (conn) => {
    conn.sink = {
      onConnected() {},
      onSent() {},
      onClosed: (fault) => fault !== null && fail(fault.message),
      onData(data) {
        count(data);
        if (bytes >= total) done(side.mux.stats);
      },
    };
  });
  process.send({ port: await side.open() });
}

async function send(kind, length, total, port) {
  const batch = randomFillSync(new Uint8Array(BATCH_BYTES));
  if (kind === 'bare') {
    const view = batch.length >= length ? batch.subarray(0, length) : batch;
    const until = performance.now() + BARE_MS;
    const udp = openUdp(
      () => {
        const run = () => {
          for (let i = 0; i < 64; i++) udp.send(view, '127.0.0.1', port);
          if (performance.now() < until) setImmediate(run);
        };
        run();
      },
      () => {},
    );
    return;
  }
  const side = new Side(length, (conn) => conn.close());
  await side.open();
  let left = total;
  const views = [];
  for (let at = 0; at < BATCH_BYTES; at += 16384) views.push(batch.subarray(at, at + 16384));
  const more = () => {
    if (left <= 0) return;
    left -= BATCH_BYTES;
    conn.send(views, views.length);
    side.soon();
  };
  const conn = side.mux.connect(
    performance.now(),
    { ip: '127.0.0.1', port },
    { onConnected: more, onSent: more, onData() {}, onClosed: (fault) => fault !== null && fail(fault.message) },
  );
  side.soon();
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send({ cpu: (user + system) / 1e6, stats: side.mux.stats, window: conn.congestionWindow });
  });
}

async function measure(kind, length, total) {
  const receiver = fork(process.argv[1], ['receive', kind, String(length), String(total)]);
  const port = (await message(receiver)).port;
  const sender = fork(process.argv[1], ['send', kind, String(length), String(total), String(port)]);
  const got = await message(receiver);
  let sent = null;
  if (kind === 'utp') {
    sender.send('stats');
    sent = await message(sender);
  }
  receiver.kill();
  sender.kill();
  return { got, sent, rate: got.bytes / 1e6 / got.seconds };
}

function message(child) {
  return new Promise((resolve) => child.once('message', resolve));
}

const [role, kind, length, total, port] = process.argv.slice(2);
if (role === 'receive') await receive(kind, Number(length), Number(total));
else if (role === 'send') await send(kind, Number(length), Number(total), Number(port));
else {
  const bytes = Number(process.argv[2] ?? 512) << 20;
  const lengths = process.argv.length > 3 ? process.argv.slice(3).map(Number) : [1372, 65507];
  for (const one of lengths) {
    const bare = await measure('bare', one, bytes);
    const utp = await measure('utp', one, bytes);
    const { got, sent } = utp;
    console.log(
      `${one} B: uTP ${utp.rate.toFixed(0)} MB/s, bare ${bare.rate.toFixed(0)} MB/s (${(bare.got.packets / bare.got.seconds / 1000).toFixed(0)} k/s), ` +
        `ratio ${(utp.rate / bare.rate).toFixed(2)}; CPU s receiver ${got.cpu.toFixed(2)}, sender ${sent.cpu.toFixed(2)}; ` +
        `resent ${sent.stats.resent}, timeouts ${sent.stats.timeouts}, packets ${sent.stats.packetsOut} out, ${sent.stats.packetsIn} in, window ${Math.round(sent.window / 1024)} KiB`,
    );
  }
  process.exit(0);
}
