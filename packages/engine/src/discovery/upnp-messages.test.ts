import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8Decode, utf8Encode } from '../base/bytes.ts';
import {
  FORWARDS,
  formatGatewayUrl,
  type GatewayUrl,
  PINHOLES,
  parseGatewayUrl,
  readDescription,
  readPort,
  readSearchReply,
  readSoapReply,
  resolveGatewayUrl,
  searchPacket,
  soapBody,
} from './upnp-messages.ts';

const TARGET = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1';
const AT = { host: '10.0.0.1', port: 5000, path: '/a/desc.xml' };

/** To us at 10.0.0.2. */
function found(bytes: Uint8Array, from: string): GatewayUrl | null {
  return readSearchReply(bytes, from, '10.0.0.2', FORWARDS);
}

function reply(location: string, more = ''): Uint8Array {
  return utf8Encode(
    `HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nSt: ${TARGET}\r\nLocation:${location}\r\n${more}\r\n`,
  );
}

test('searches as UPnP Device Architecture 1.1 has it', () => {
  expect(utf8Decode(searchPacket(FORWARDS, TARGET))).toBe(
    `M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: ${TARGET}\r\n\r\n`,
  );
});

test('goes only where who answered is, and only in the local network', () => {
  expect(found(reply(' http://10.0.0.1:5000/a/desc.xml'), '10.0.0.1')).toEqual(AT);
  expect(found(reply('HTTP://10.0.0.1'), '10.0.0.1')).toEqual({ host: '10.0.0.1', port: 80, path: '/' });
  for (const [location, from] of [
    ['http://10.0.0.2:5000/', '10.0.0.1'],
    ['http://169.254.169.254/latest/', '10.0.0.1'],
    ['http://203.0.113.5/', '203.0.113.5'],
    ['http://router.lan/', '10.0.0.1'],
    ['http://10.0.0.1@203.0.113.5/', '10.0.0.1'],
    ['http://10.0.0.1:0/', '10.0.0.1'],
    ['http://10.0.0.1:99999/', '10.0.0.1'],
    ['http://10.0.0.01/', '10.0.0.1'],
    ['http://0x0a000001/', '10.0.0.1'],
    ['https://10.0.0.1/', '10.0.0.1'],
    ['file:///etc/passwd', '10.0.0.1'],
    ['http://10.0.0.1/a b', '10.0.0.1'],
    [`http://10.0.0.1/${'a'.repeat(2000)}`, '10.0.0.1'],
    ['http://[fe80::1]/', 'fe80::1'],
    ['', '10.0.0.1'],
  ] as const) {
    expect(found(reply(location), from), location).toBeNull();
  }
  const other = utf8Encode(utf8Decode(reply('http://10.0.0.1/')).replace(TARGET, 'upnp:rootdevice'));
  expect(found(other, '10.0.0.1')).toBeNull();
  expect(found(utf8Encode('NOTIFY * HTTP/1.1\r\n'), '10.0.0.1')).toBeNull();
  expect(found(reply('http://10.0.0.1/', `x: ${'y'.repeat(5000)}`), '10.0.0.1')).toBeNull();
  fc.assert(fc.property(fc.uint8Array(), (any) => found(any, '10.0.0.1') === null));
});

function service(type: string, control: string): string {
  return `<service><serviceType>urn:schemas-upnp-org:service:${type}</serviceType><serviceId>x</serviceId><controlURL>${control}</controlURL></service>`;
}

function description(inner: string, base = ''): string {
  return `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">${base}<device><deviceType>x</deviceType><deviceList><device><serviceList>${inner}</serviceList></device></deviceList></device></root>`;
}

test('finds the services that map, the best first, at the same address alone', () => {
  const services = readDescription(
    description(
      service('WANCommonInterfaceConfig:1', '/common') +
        service('WANPPPConnection:1', 'ppp') +
        service('WANIPConnection:1', 'http://10.0.0.1:6000/ip?x=1') +
        service('WANIPConnection:2', '/ip2') +
        service('WANIPConnection:1', 'http://10.0.0.9/evil') +
        service('WANIPConnection:1', '//10.0.0.9/evil') +
        service('WANIPConnection:1', 'ftp://10.0.0.1/') +
        service('WANIPConnection:1', ''),
    ),
    AT,
    FORWARDS,
  );
  expect(services.map(({ type, control }) => [type.slice(29), formatGatewayUrl(control)])).toEqual([
    ['WANIPConnection:2', 'http://10.0.0.1:5000/ip2'],
    ['WANIPConnection:1', 'http://10.0.0.1:6000/ip?x=1'],
    ['WANPPPConnection:1', 'http://10.0.0.1:5000/a/ppp'],
  ]);
  const base = (url: string): string | undefined => {
    const [first] = readDescription(
      description(service('WANIPConnection:1', 'c'), `<URLBase>${url}</URLBase>`),
      AT,
      FORWARDS,
    );
    return first && formatGatewayUrl(first.control);
  };
  expect(base('http://10.0.0.1:7000/b/')).toBe('http://10.0.0.1:7000/b/c');
  expect(base('http://203.0.113.5/')).toBe('http://10.0.0.1:5000/a/c');
  const bomb = `<!DOCTYPE r [<!ENTITY a "${'x'.repeat(1000)}">]>${description(service('WANIPConnection:1', '/c'))}`;
  for (const bad of ['', '<html>', bomb, description('')]) expect(readDescription(bad, AT, FORWARDS)).toEqual([]);
});

test('of a router that does both, each family has its own service, at addresses of either', () => {
  const at = { host: '2001:db8::1', port: 5000, path: '/d' };
  const both = description(service('WANIPConnection:2', '/ip') + service('WANIPv6FirewallControl:1', 'six'));
  const [six, ...more] = readDescription(both, at, PINHOLES);
  expect([formatGatewayUrl(six!.control), more]).toEqual(['http://[2001:db8::1]:5000/six', []]);
  expect(readDescription(both, AT, FORWARDS).map(({ type }) => type.slice(29))).toEqual(['WANIPConnection:2']);
  expect(parseGatewayUrl('http://[2001:DB8:0::1]/x')).toEqual({ host: '2001:db8::1', port: 80, path: '/x' });
  for (const bad of ['http://[::1', 'http://::1/', 'http://[10.0.0.1]/', 'http://[fe80::1%25eth0]/', 'http://[]/']) {
    expect(parseGatewayUrl(bad), bad).toBeNull();
  }
});

test('resolves what a router names against where it is', () => {
  expect(resolveGatewayUrl(AT, '../x')).toEqual({ ...AT, path: '/a/../x' });
  expect(resolveGatewayUrl({ ...AT, path: '/d.xml?a=/b/c' }, 'x')).toEqual({ ...AT, path: '/x' });
  for (const bad of ['', 'http://10.0.0.2/', 'x y', '/a#b', 'javascript:1', '\n/a']) {
    expect(resolveGatewayUrl(AT, bad), bad).toBeNull();
  }
  expect(parseGatewayUrl('http://1.2.3.4/\r\nX: y')).toBeNull();
});

test('actions and answers', () => {
  const [wan] = readDescription(description(service('WANIPConnection:1', '/c')), AT, FORWARDS);
  const body = utf8Decode(soapBody(wan!, 'AddPortMapping', { NewInternalClient: '<&"' }));
  expect(body).toContain('<u:AddPortMapping xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">');
  expect(body).toContain('<NewInternalClient>&lt;&amp;&quot;</NewInternalClient>');
  const fault =
    '<s:Envelope xmlns:s="s"><s:Body><s:Fault><faultcode>s:Client</faultcode><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>';
  expect(readSoapReply(500, fault, [])?.errorCode).toBe(718);
  const good = '<e><b><NewReservedPort>7000</NewReservedPort></b></e>';
  expect(readSoapReply(200, good, ['NewReservedPort'])?.values.get('NewReservedPort')).toBe('7000');
  for (const [status, xml] of [
    [500, good],
    [404, '<html></html>'],
    [200, 'no'],
    [500, fault.replace('718', '7180')],
  ] as const) {
    expect(readSoapReply(status, xml, ['NewReservedPort'])).toBeNull();
  }
  expect(['0', '65535', '65536', '-1', '1e3', '', undefined].map(readPort)).toEqual([0, 65535, 0, 0, 0, 0, 0]);
});
