import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, toHex } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import { natPmpAddressPacket, natPmpMapPacket, pcpMapPacket, readMapReply, resultText } from './port-map-packets.ts';

const bytes = (hex: string): Uint8Array => fromHex(hex.replaceAll(' ', ''))!;
const NONCE = '000102030405060708090a0b';

test('NAT-PMP asks as RFC 6886 has it, sections 3.2 and 3.3', () => {
  expect(toHex(natPmpAddressPacket())).toBe('0000');
  const ask = { protocol: 'tcp', internalPort: 6881, externalPort: 6882, lifetimeS: 3600 } as const;
  expect(toHex(natPmpMapPacket(ask))).toBe('000200001ae11ae200000e10');
  expect(toHex(natPmpMapPacket({ ...ask, protocol: 'udp', externalPort: 0, lifetimeS: 0 }))).toBe(
    '000100001ae1000000000000',
  );
});

test('NAT-PMP answers are read, refusals included', () => {
  expect(readMapReply(bytes('00 80 0000 00000064 cb007107'))).toMatchObject({
    version: 0,
    protocol: null,
    result: 0,
    epochS: 100,
    externalIp: '203.0.113.7',
  });
  expect(readMapReply(bytes('00 82 0000 00000064 1ae1 1ae2 00000e10'))).toMatchObject({
    protocol: 'tcp',
    internalPort: 6881,
    externalPort: 6882,
    lifetimeS: 3600,
  });
  expect(readMapReply(bytes('00 81 0002 00000064 1ae1 0000 00000000'))).toMatchObject({ protocol: 'udp', result: 2 });
  // the router speaks no other version than this (section 3.5)
  expect(readMapReply(bytes('00 81 0001 00000064'))).toMatchObject({ version: 0, result: 1 });
  expect(resultText(0, 2)).toBe('not allowed');
});

test('PCP asks and is answered as RFC 6887 has it, sections 7 and 11.1', () => {
  const ask = { protocol: 'udp', internalPort: 6881, externalPort: 6882, lifetimeS: 7200 } as const;
  const local = '00000000000000000000ffff0a630002';
  expect(toHex(pcpMapPacket(ask, parseIp('10.99.0.2')!, bytes(NONCE), null))).toBe(
    `0201000000001c20${local}${NONCE}110000001ae11ae200000000000000000000ffff00000000`,
  );
  const v6 = pcpMapPacket({ ...ask, protocol: 'tcp' }, parseIp('2001:db8::2')!, bytes(NONCE), null);
  expect(toHex(v6.subarray(8, 24))).toBe('20010db8000000000000000000000002');
  expect([v6[36], toHex(v6.subarray(44))]).toEqual([6, '0'.repeat(32)]);
  const reply = `02 81 00 00 00000e10 000003e8 000000000000000000000000 ${NONCE} 06 000000 1ae1 1ae2 00000000000000000000ffffcb007107`;
  expect(readMapReply(bytes(reply))).toEqual({
    version: 2,
    protocol: 'tcp',
    result: 0,
    epochS: 1000,
    internalPort: 6881,
    externalPort: 6882,
    lifetimeS: 3600,
    externalIp: '203.0.113.7',
    nonce: bytes(NONCE),
  });
  // ANNOUNCE, and a server of another version
  expect(readMapReply(bytes(`02 80 00 00 00000000 00000005 ${'00'.repeat(12)}`))).toMatchObject({
    protocol: null,
    epochS: 5,
  });
  expect(readMapReply(bytes(`01 81 00 01 00000000 00000005 ${'00'.repeat(12)}`))).toMatchObject({
    version: 1,
    result: 1,
  });
});

test('what is no whole reply is nothing', () => {
  const whole = [
    bytes('0080000000000064cb007107'),
    bytes('00820000000000641ae11ae200000e10'),
    bytes(`02810000000000e10000003e8${'0'.repeat(23)}${NONCE}060000001ae11ae2${'0'.repeat(32)}`.padEnd(120, '0')),
  ];
  for (const reply of whole) {
    expect(readMapReply(reply)).not.toBeNull();
    for (let length = 0; length < reply.length; length++) {
      const cut = readMapReply(reply.subarray(0, length));
      if (cut !== null) expect(cut.externalPort).toBe(0);
    }
    const request = reply.slice();
    request[1]! &= 127;
    expect(readMapReply(request)).toBeNull();
  }
  expect(readMapReply(new Uint8Array(1104).fill(2))).toBeNull();
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (any) => void readMapReply(any)));
});
