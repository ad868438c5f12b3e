/** Pictures in characters: the progress bar, the piece map (two samples a character) and the curve of the speed. */

import type { Theme } from './theme.ts';

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A bar of `columns` characters, `share` (0..1) of it full, in eighths of a character. */
export function progressBar(share: number, columns: number, theme: Theme): string {
  const filled = Math.min(1, Math.max(0, share)) * columns;
  const whole = Math.floor(filled);
  if (!theme.unicode) return `${'#'.repeat(whole)}${'-'.repeat(columns - whole)}`;
  const part = EIGHTHS[Math.floor((filled - whole) * 8)] ?? '';
  const rest = columns - whole - (part === '' ? 0 : 1);
  const { cyan, green, dim } = theme.colors;
  const full = '█'.repeat(whole) + part;
  return (share >= 1 ? green(full) : cyan(full)) + dim('░'.repeat(rest));
}

/** As in `torrent.pieces()`. */
const VERIFIED = 2;

/** What one sample of the map shows: a stretch of pieces, or a part of one when pieces are few. */
const Sample = { Missing: 0, Partial: 1, Mostly: 2, Have: 3 } as const;
type Sample = (typeof Sample)[keyof typeof Sample];

/** `rows` lines of `columns` characters; the left and right half of each character are samples of their own. */
export function pieceMap(pieces: Uint8Array, columns: number, rows: number, theme: Theme): string[] {
  const samples = columns * rows * (theme.unicode ? 2 : 1);
  const lines: string[] = [];
  for (let row = 0; row < rows; row++) {
    let line = '';
    let ink = '';
    for (let column = 0; column < columns; column++) {
      const at = row * columns + column;
      if (!theme.unicode) {
        line += ASCII[sampleAt(pieces, at, samples)];
        continue;
      }
      const left = sampleAt(pieces, at * 2, samples);
      const right = sampleAt(pieces, at * 2 + 1, samples);
      const [nextInk, glyph] = theme.colored ? coloredCell(left, right) : ['', plainCell(left, right)];
      line += nextInk === ink ? glyph : `\x1b[0;${nextInk}m${glyph}`;
      ink = nextInk;
    }
    lines.push(ink === '' ? line : `${line}\x1b[0m`);
  }
  return lines;
}

function sampleAt(pieces: Uint8Array, index: number, samples: number): Sample {
  const first = Math.floor((index * pieces.length) / samples);
  const last = Math.max(first + 1, Math.floor(((index + 1) * pieces.length) / samples));
  let have = 0;
  let begun = 0;
  for (let i = first; i < last && i < pieces.length; i++) {
    const state = pieces[i]!;
    if (state >= VERIFIED) have++;
    else if (state > 0) begun++;
  }
  const count = last - first;
  if (have === count) return Sample.Have;
  if (have * 2 >= count) return Sample.Mostly;
  return have + begun > 0 ? Sample.Partial : Sample.Missing;
}

const ASCII = ['.', '-', '+', '#'];
// Missing: bright black; partial: yellow; mostly: cyan; have: green.
const INK = [90, 33, 36, 32];

function coloredCell(left: Sample, right: Sample): [string, string] {
  if (left === right) return [`${INK[left]}`, left === Sample.Missing ? '·' : '█'];
  if (right === Sample.Missing) return [`${INK[left]}`, '▌'];
  if (left === Sample.Missing) return [`${INK[right]}`, '▐'];
  return [`${INK[left]};${INK[right]! + 10}`, '▌'];
}

function plainCell(left: Sample, right: Sample): string {
  const a = left >= Sample.Mostly;
  const b = right >= Sample.Mostly;
  if (a && b) return '█';
  if (a) return '▌';
  if (b) return '▐';
  return left + right > 0 ? '░' : '·';
}

const LEVELS = '▁▂▃▄▅▆▇█';

/** The last `columns` values as a curve, scaled to their largest. */
export function sparkline(values: readonly number[], columns: number, theme: Theme): string {
  if (!theme.unicode || columns < 1) return '';
  const shown = values.slice(-columns);
  const top = Math.max(1, ...shown);
  const curve = shown.map((value) => LEVELS[Math.min(7, Math.floor((value / top) * 7.99))]).join('');
  return theme.colors.cyan(curve);
}
