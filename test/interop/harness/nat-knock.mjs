/** Whether a session answers at an address: nat-knock.mjs IP PORT. Prints the protocols it answered by. */

import dgram from 'node:dgram';
import net from 'node:net';

const [ip, port] = process.argv.slice(2);
const answered = [];
const wait = (ms, start) => {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
    start(resolve);
  });
};

const tcp = wait(2000, (done) => {
  const socket = net.connect(Number(port), ip);
  socket.on('error', done);
  socket.on('connect', () => {
    answered.push('tcp');
    socket.destroy();
    done();
  });
});
const udp = wait(2000, (done) => {
  const socket = dgram.createSocket(ip.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', done);
  socket.on('message', (bytes) => {
    // it asks us something too
    if (!bytes.includes('1:y1:r')) return;
    answered.push('udp');
    done();
  });
  // a ping of the DHT (BEP 5)
  socket.send(`d1:ad2:id20:${'k'.repeat(20)}e1:q4:ping1:t2:kn1:y1:qe`, Number(port), ip);
});
await Promise.all([tcp, udp]);
console.log(answered.sort().join(' '));
process.exit();
