// Run by udp.test.ts in a network namespace with the interfaces `one` and `two`: prints who heard what.
import dgram from 'node:dgram';
import { HostNet } from '../../packages/engine/dist/src/host/net.js';

const PORT = 6771;
const GROUPS = { 4: '239.192.152.143', 6: 'ff15::efc0:988f' };
const net = new HostNet(new Uint8Array(1024));
const heard = {};

function open(name, ip) {
  return new Promise((resolve) => {
    heard[name] = [];
    const group = ip.includes(':') ? GROUPS[6] : GROUPS[4];
    const socket = net.udp(
      { ip, port: PORT },
      { group, shared: true, bufferBytes: 0 },
      {
        onUdpBound: () => resolve({ name, group, socket }),
        onUdpFault: (fault) => {
          heard[name] = fault.code;
          resolve(null);
        },
        onDatagram: (bytes, from) => {
          const text = `${from} ${Buffer.from(bytes)}`;
          if (!heard[name].includes(text)) heard[name].push(text);
        },
      },
    );
  });
}

const sockets = [];
for (const [name, ip] of [
  ['one', '10.9.1.1'],
  ['two', '10.9.2.1'],
  ['six', 'fd09:1::1'],
  ['nobody', '10.9.3.1'],
  ['all', '0.0.0.0'],
]) {
  sockets.push(await open(name, ip));
}
for (const socket of sockets) {
  if (socket === null || socket.name === 'all') continue;
  if (!socket.socket.send(Buffer.from(`from ${socket.name}`), socket.group, PORT)) heard[socket.name].push('not sent');
}
const plain = dgram.createSocket('udp4').bind(0, '127.0.0.1', () => plain.send('alone', PORT, '127.0.0.1'));
const limit = performance.now() + 5000;
const isEarly = () => Object.values(heard).flat().length < 8;
while (isEarly() && performance.now() < limit) await new Promise((resolve) => setTimeout(resolve, 20));
await new Promise((resolve) => setTimeout(resolve, 100));
plain.close();
heard.port = Object.values(heard).flat().includes('127.0.0.1 alone') ? 'heard' : 'not heard';
for (const list of Object.values(heard)) if (Array.isArray(list)) list.sort();
process.stdout.write(JSON.stringify(heard));
net.close(() => {});
