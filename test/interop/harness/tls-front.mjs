/**
 * TLS in front of a tracker: tls-front.mjs {ip, port, to, key, cert} (JSON; `to`: the tracker's port). Says JSON lines:
 * {"name"} for each handshake begun, {"request"} for each request that came through one.
 */

import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import tls from 'node:tls';

const { ip, port, to, key, cert } = JSON.parse(process.argv[2]);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const context = tls.createSecureContext({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) });
const server = https.createServer({
  SNICallback: (name, done) => {
    say({ name });
    done(null, context);
  },
});
server.on('request', (request, response) => {
  say({ request: request.url.split('?', 1)[0] });
  const inner = http.get({ host: ip, port: to, path: request.url, agent: false }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  inner.on('error', () => response.destroy());
});
// whoever does not like the certificate hangs up
server.on('tlsClientError', () => {});
server.listen(port, ip);
