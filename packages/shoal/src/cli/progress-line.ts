/** One line on stderr that tells how far something is, a line that is drawn over; nothing when stderr is no terminal or --json was asked. */

import { progressBar } from './bars.ts';
import { formatDuration, formatPercent, formatRate, truncate } from './format.ts';
import { isLive, themeOf } from './theme.ts';
import { nowMs } from './view.ts';

const DRAW_EVERY_MS = 100;

export class ProgressLine implements Disposable {
  readonly #verb: string;
  readonly #shown: boolean;
  readonly #startedMs = nowMs();
  #drawnMs = 0;

  constructor(verb: string, silent: boolean) {
    this.#verb = verb;
    this.#shown = !silent && isLive(process.stderr, process.env);
  }

  show(done: number, total: number): void {
    const now = nowMs();
    if (!this.#shown || now - this.#drawnMs < DRAW_EVERY_MS) return;
    this.#drawnMs = now;
    const theme = themeOf(process.stderr, process.env);
    const rate = done / Math.max((now - this.#startedMs) / 1000, 0.001);
    const left = rate > 0 ? formatDuration((total - done) / rate) : '-';
    const bar = progressBar(total === 0 ? 1 : done / total, 30, theme);
    process.stderr.write(
      `\r${this.#verb} ${bar} ${formatPercent(done, total)}  ${formatRate(rate)}  ${left} left\x1b[K`,
    );
  }

  /** Any text in its place. */
  say(text: string): void {
    const now = nowMs();
    if (!this.#shown || now - this.#drawnMs < DRAW_EVERY_MS) return;
    this.#drawnMs = now;
    process.stderr.write(`\r${truncate(`${this.#verb} ${text}`, (process.stderr.columns ?? 80) - 1)}\x1b[K`);
  }

  clear(): void {
    if (this.#shown && this.#drawnMs > 0) process.stderr.write('\r\x1b[K');
    this.#drawnMs = 0;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
