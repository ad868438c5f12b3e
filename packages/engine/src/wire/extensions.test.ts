import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ascii, OWN } from '../../test/wire-kit.ts';
import { concat, latin1 } from '../base/bytes.ts';
import {
  buildExtendedHandshake,
  MAX_METADATA_BYTES,
  mergeHandshakes,
  NO_HANDSHAKE,
  parseExtendedHandshake,
  RemoteExtensions,
} from './extensions.ts';
import { parseMetadataMessage } from './ut-metadata.ts';

function parse(text: string) {
  return parseExtendedHandshake(ascii(text), new RemoteExtensions());
}

describe('extension handshake', () => {
  it('is written in order, absent values left out', () => {
    expect(latin1(buildExtendedHandshake(OWN))).toBe(
      'd1:md11:lt_donthavei2e11:upload_onlyi3e12:ut_holepunchi5e11:ut_metadatai1e6:ut_pexi4ee13:metadata_sizei40000e1:pi6881e4:reqqi2000e' +
        '11:upload_onlyi0e1:v9:Shoal 0.16:yourip4:\x0a\x00\x00\x01e',
    );
    const least = { ...OWN, client: null, listenPort: -1, reqq: -1, metadataSize: -1, yourIp: null, uploadOnly: true };
    const bare = 'd1:md11:lt_donthavei2e11:upload_onlyi3ee11:upload_onlyi1ee';
    expect(latin1(buildExtendedHandshake({ ...least, privateTorrent: true, holepunch: false }))).toBe(bare);
    const quiet = latin1(buildExtendedHandshake({ ...least, pex: false, holepunch: false }));
    expect(quiet).toBe(bare.replace('i3ee', 'i3e11:ut_metadatai1ee'));
  });

  it('is read back', () => {
    const remote = new RemoteExtensions();
    expect(parseExtendedHandshake(buildExtendedHandshake({ ...OWN, yourIp: '2001:db8::1' }), remote)).toEqual({
      client: 'Shoal 0.1',
      listenPort: 6881,
      reqq: 2000,
      metadataSize: 40000,
      uploadOnly: false,
      yourIp: '2001:db8::1',
      encryption: null,
    });
    const { metadataId, dontHaveId, uploadOnlyId, pexId, holepunchId } = remote;
    expect([metadataId, dontHaveId, uploadOnlyId, pexId, holepunchId]).toEqual([1, 2, 3, 4, 5]);
    parseExtendedHandshake(ascii('d1:md6:ut_pexi0eee'), remote);
    expect([remote.pex, remote.holepunch, remote.metadata]).toEqual([false, true, true]);
  });

  it('counts as absent what cannot be used', () => {
    expect(parse('d1:m4:oops13:metadata_size2:xx1:pi65536e4:reqqi0e11:upload_only1:y1:vi5e6:yourip3:abce')).toEqual(
      NO_HANDSHAKE,
    );
    expect(parse('d13:metadata_sizei-5e1:pi0ee')).toEqual(NO_HANDSHAKE);
    expect(parse('d4:ipv44:\x01\x02\x03\x044:ipv63:abc1:e1:xe')).toEqual(NO_HANDSHAKE);
    expect([parse('d1:ei1ee')?.encryption, parse('d1:ei0ee')?.encryption]).toEqual([true, false]);
    expect(parse(`d13:metadata_sizei${MAX_METADATA_BYTES + 1}ee`)?.metadataSize).toBe(-1);
    expect(parse('d13:metadata_sizei99999999999999999999eee')).toBe(null);
    expect(parse('d4:reqqi100000000ee')?.reqq).toBe(65535);
    const remote = new RemoteExtensions();
    parseExtendedHandshake(ascii('d1:md11:lt_donthavei999e11:upload_onlyi-1e11:ut_metadata1:1eee'), remote);
    expect([remote.metadata, remote.dontHave, remote.uploadOnly]).toEqual([false, false, false]);
  });

  it('shows names without what steers a terminal, cut to 64 characters', () => {
    expect(parse('d1:v9:a\x1b[31mb\x00\x7fe')?.client).toBe('a[31mb');
    const spoof = concat([ascii('d1:v5:x'), Uint8Array.of(0xe2, 0x80, 0xae), ascii('ye')]);
    expect(parseExtendedHandshake(spoof, new RemoteExtensions())?.client).toBe('xy');
    expect(parse(`d1:v5000:${'v'.repeat(5000)}e`)?.client).toBe('v'.repeat(64));
  });

  it('adds to what was said before', () => {
    const first = { ...NO_HANDSHAKE, client: 'x', reqq: 5, uploadOnly: true };
    expect(mergeHandshakes(first, { ...NO_HANDSHAKE, reqq: 7, uploadOnly: false })).toEqual({
      ...first,
      reqq: 7,
      uploadOnly: false,
    });
  });

  it('and metadata messages of any bytes give a value or null', () => {
    const text = fc.stringMatching(/^[deil0-9:mpvx-]{0,60}$/).map(ascii);
    const bytes = fc.oneof(text, fc.uint8Array({ maxLength: 60 }));
    fc.assert(
      fc.property(bytes, (body) => {
        for (const tried of [body, concat([ascii('d1:m'), body, ascii('e')])]) {
          parseExtendedHandshake(tried, new RemoteExtensions());
          parseMetadataMessage(tried);
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('of shared memory is read too', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(100)).subarray(3, 3 + 57);
    const body = `d1:v${48}:é${'x'.repeat(46)}`;
    shared.set(new TextEncoder().encode(`${body}e`).subarray(0, 57));
    expect(parseExtendedHandshake(shared.subarray(0, body.length + 2), new RemoteExtensions())?.client).toBe(
      `é${'x'.repeat(46)}`,
    );
  });
});
