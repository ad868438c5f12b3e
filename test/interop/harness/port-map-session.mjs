/** A session that has its port mapped: port-map-session.mjs OPTIONS (JSON). Says how it stands whenever that changes. */

import { Session } from '@shoal/engine';

const session = new Session({ lsd: false, pex: false, dht: { bootstrap: [] }, ...JSON.parse(process.argv[2]) });
let said = '';
const look = () => {
  const mappings = session.portMapping().map(({ expiresS, ...rest }) => rest);
  const text = JSON.stringify({ type: 'state', addresses: session.addresses, mappings });
  if (text !== said) process.stdout.write(`${text}\n`);
  said = text;
};
await session.ready();
setInterval(look, 50);
process.on('SIGTERM', async () => {
  await session.close();
  process.exit(0);
});
