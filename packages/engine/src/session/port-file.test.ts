import { expect, test } from 'vitest';
import { utf8Encode } from '../base/bytes.ts';
import { parsePortFile } from './port-file.ts';

test('a port file holds a port on its first line', () => {
  const read = (text: string): number | null => parsePortFile(utf8Encode(text));
  expect(['1', '65535\n', ' 40001 \r\n', '40001\n40002\n', '\n\n51413'].map(read)).toEqual([
    1, 65535, 40001, 40001, 51413,
  ]);
  // it is being written
  expect(['', '\n', ' '].map(read)).toEqual([null, null, null]);
  for (const bad of ['0', '65536', '-1', '0x1f', '1e3', '123456', '12 34', 'port', '4\u0661', '\0']) {
    expect(() => read(bad), bad).toThrow('holds no port');
  }
});
