// Two connections on one thread. Each opens a TCP connection to a server started here, pretends to work for a random
// time, and closes. While one waits the other runs: over several runs the order of closing differs, and each run takes
// as long as its longest part, not as long as the sum of both.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as pretendToWork } from 'node:timers/promises';

const RUNS = 8;
// Chance may favour one order for a while; then a few more runs show the other.
const MOST_RUNS = 50;

async function startServer() {
  const server = createServer((socket) => socket.end('welcome\n'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** One connection from start to end; returns its name and the milliseconds it worked. */
async function visit(name, server, closed) {
  const socket = connect(server.address().port, '127.0.0.1');
  await once(socket, 'connect');
  const workMs = 20 + Math.floor(Math.random() * 180);
  await pretendToWork(workMs);
  socket.destroy();
  await once(socket, 'close');
  closed.push(name);
  return workMs;
}

const servers = await Promise.all([startServer(), startServer()]);
const orders = new Map();
for (let run = 1; run <= RUNS || (orders.size < 2 && run <= MOST_RUNS); run++) {
  const closed = [];
  const startedAt = performance.now();
  const [a, b] = await Promise.all([visit('A', servers[0], closed), visit('B', servers[1], closed)]);
  const tookMs = Math.round(performance.now() - startedAt);
  const order = closed.join(' then ');
  orders.set(order, (orders.get(order) ?? 0) + 1);
  console.log(
    `run ${run}: closed ${order}; A worked ${a} ms, B ${b} ms; took ${tookMs} ms: longest ${Math.max(a, b)}, sum ${a + b}`,
  );
}
for (const [order, count] of orders) console.log(`closed ${order}: ${count} times`);
for (const server of servers) server.close();
