/**
 * Text for people: sizes, rates, times, and names made safe for a terminal. Whatever comes from a torrent, a peer or a
 * tracker passes `sanitize` before it is printed, so that no name can move the cursor, recolour or reorder a line.
 */

import { stripVTControlCharacters } from 'node:util';

/** Removes escape sequences; what is left of control, bidirectional and line-breaking characters becomes U+FFFD. */
export function sanitize(text: string): string {
  return stripVTControlCharacters(text).replace(UNSAFE, '\ufffd');
}

// C0, DEL and C1 controls; direction marks, embeddings, overrides and isolates; line and paragraph separators; lone
// surrogates; the byte order mark.
const UNSAFE = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** 1536 -> '1.5 KiB'. Powers of 1024. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** 83 -> '1m 23s'. Two units at most; null: unknown. */
export function formatDuration(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return '-';
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m ${whole % 60}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${minutes % 60}m`;
  const days = Math.floor(hours / 24);
  return days < 1000 ? `${days}d ${hours % 24}h` : '> 2 years';
}

/** Rounded down, so that 100 % is said only of what is whole. */
export function formatPercent(done: number, total: number): string {
  if (total <= 0) return '100%';
  const share = Math.floor((done / total) * 1000) / 10;
  return `${share >= 100 ? '100' : share.toFixed(1)}%`;
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Terminal columns that `text` takes; colours take none. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const char of stripVTControlCharacters(text)) width += charWidth(char);
  return width;
}

/** Cuts plain text (no escapes) to at most `columns`, with an ellipsis where something was lost. */
export function truncate(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  if (columns <= 1) return columns === 1 ? '…' : '';
  let width = 0;
  let out = '';
  for (const char of text) {
    const next = width + charWidth(char);
    if (next > columns - 1) break;
    width = next;
    out += char;
  }
  return `${out}…`;
}

/** Fills up with spaces to `columns` (text may hold colours). */
export function padEnd(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - displayWidth(text)));
}

export function padStart(text: string, columns: number): string {
  return ' '.repeat(Math.max(0, columns - displayWidth(text))) + text;
}

const ZERO_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}]$/u;
const EMOJI = /^\p{Emoji_Presentation}$/u;

function charWidth(char: string): number {
  const code = char.codePointAt(0) ?? 0;
  if (code < 0x300) return 1;
  if (ZERO_WIDTH.test(char)) return 0;
  return isWide(code) || EMOJI.test(char) ? 2 : 1;
}

// The wide and full-width blocks of Unicode's EastAsianWidth, coarsely.
function isWide(code: number): boolean {
  return (
    (code >= 0x1100 && code <= 0x115f) ||
    (code >= 0x2e80 && code <= 0xa4cf && code !== 0x303f) ||
    (code >= 0xa960 && code <= 0xa97c) ||
    (code >= 0xac00 && code <= 0xd7a3) ||
    (code >= 0xf900 && code <= 0xfaff) ||
    (code >= 0xfe30 && code <= 0xfe6f) ||
    (code >= 0xff00 && code <= 0xff60) ||
    (code >= 0xffe0 && code <= 0xffe6) ||
    (code >= 0x20000 && code <= 0x3fffd)
  );
}
