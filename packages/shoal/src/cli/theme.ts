/** What the terminal can show: colours (NO_COLOR and FORCE_COLOR honoured), block characters, or plain ASCII lines. */

import pc from 'picocolors';

export type Colors = ReturnType<typeof pc.createColors>;

export interface Theme {
  readonly colors: Colors;
  readonly colored: boolean;
  /** Block and arrow characters can be shown. */
  readonly unicode: boolean;
}

export interface TerminalLike {
  readonly isTTY?: boolean;
}

export function themeOf(stream: TerminalLike, env: Readonly<Record<string, string | undefined>>): Theme {
  const forced = env['FORCE_COLOR'] !== undefined && env['FORCE_COLOR'] !== '' && env['FORCE_COLOR'] !== '0';
  const forbidden = env['NO_COLOR'] !== undefined && env['NO_COLOR'] !== '';
  const colored = !forbidden && (forced || isLive(stream, env));
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return { colors: pc.createColors(colored), colored, unicode: !/^(C|POSIX)$/.test(locale) };
}

/** Whether lines can be redrawn in place. */
export function isLive(stream: TerminalLike, env: Readonly<Record<string, string | undefined>>): boolean {
  return stream.isTTY === true && env['TERM'] !== 'dumb';
}
