import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { utf8Encode } from '../base/bytes.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import { IpRangesBuilder } from '../base/ip-ranges.ts';
import { readIpFilter } from './ip-filter.ts';

function filter(text: string) {
  const builder = new IpRangesBuilder();
  const report = readIpFilter(utf8Encode(text), builder);
  const ranges = builder.build();
  return { report, ranges, blocks: (ip: string) => ranges.has(parseIp(ip)!) };
}

describe('block lists', () => {
  it('reads P2P, whatever the name holds', () => {
    const { blocks, report } = filter('Bad: guys, inc. 1-2:1.2.3.4-1.2.3.10\r\n:9.9.9.9-9.9.9.9\n');
    expect(report).toEqual({ rangeCount: 2, badLineCount: 0, firstBadLine: 0 });
    expect(['1.2.3.3', '1.2.3.4', '1.2.3.10', '1.2.3.11', '9.9.9.9'].map(blocks)).toEqual([
      false,
      true,
      true,
      false,
      true,
    ]);
  });

  it('reads DAT with its zeros, and leaves out what it allows', () => {
    const { blocks } = filter(
      '001.002.003.004 - 001.002.003.010 , 000 , a name\n005.000.000.000 - 005.255.255.255 , 200 , allowed\n010.000.000.000-010.000.000.255',
    );
    expect(['1.2.3.10', '5.1.1.1', '10.0.0.200', '8.8.8.8'].map(blocks)).toEqual([true, false, true, false]);
  });

  it('reads CIDR and addresses of both families', () => {
    const { blocks, report } = filter(
      '# x\n\n; y\n// z\n10.9.8.7/8\n2001:db8::/33\n::1\n1.1.1.1\nnet:2001:4860::-2001:4860::ffff\n0.0.0.0/32',
    );
    expect(report.badLineCount).toBe(0);
    const yes = ['10.0.0.0', '10.255.255.255', '2001:db8::1', '::1', '1.1.1.1', '2001:4860::ff'];
    expect(yes.map(blocks)).toEqual(yes.map(() => true));
    const no = ['11.0.0.0', '2001:db8:8000::', '::2', '1.1.1.2', '2001:4860::1:0', '9.255.255.255'];
    expect(no.map(blocks)).toEqual(no.map(() => false));
  });

  it('counts what makes no sense and goes on', () => {
    const { blocks, report } = filter(
      'hello\n1.2.3.4-1.2.3\n1.2.3.4/33\n300.1.1.1\n2.2.2.9-2.2.2.1\n7.7.7.7\n::1/129\n',
    );
    expect(report).toEqual({ rangeCount: 1, badLineCount: 6, firstBadLine: 1 });
    expect(blocks('7.7.7.7')).toBe(true);
  });

  it('blocks exactly what one of the ranges holds', () => {
    const ip = fc.nat(300);
    fc.assert(
      fc.property(fc.array(fc.tuple(ip, fc.nat(20)), { maxLength: 40 }), (ranges) => {
        const base = 0xfffffe00;
        const text = (n: number) => formatIp(Uint8Array.of(n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255));
        const end = ([first, more]: [number, number]) => Math.min(511, first + more);
        const { ranges: set, blocks } = filter(
          ranges.map((r) => `x:${text(base + r[0])}-${text(base + end(r))}`).join('\n'),
        );
        for (let i = 0; i < 512; i++) {
          expect(blocks(text(base + i))).toBe(ranges.some((r) => r[0] <= i && i <= end(r)));
        }
        let lastEnd = -2;
        set.each((first, last) => {
          const at = (b: Uint8Array) => ((b[2]! << 8) | b[3]!) - 0xfe00;
          expect(at(first)).toBeGreaterThan(lastEnd + 1);
          lastEnd = at(last);
        });
      }),
    );
  });

  it('never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        readIpFilter(bytes, new IpRangesBuilder());
      }),
    );
  });
});
