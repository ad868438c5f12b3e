/** Parsers of single values made into parsers of options: what they throw names the option. */

import { UsageError } from './exit-code.ts';

/** For an option given once. */
export function checked<T>(flag: string, parser: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parser(text);
    } catch (error) {
      if (error instanceof UsageError) throw new UsageError(`${flag}: ${error.message}`);
      throw error;
    }
  };
}

/** The same for an option that may be repeated. */
export function collect<T>(
  flag: string,
  parser: (text: string) => T,
): (text: string, before: readonly T[]) => readonly T[] {
  const parseOne = checked(flag, parser);
  return (text, before) => [...before, parseOne(text)];
}
