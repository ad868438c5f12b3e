/** One line on stderr that counts up while files are hashed; nothing when stderr is no terminal or --json was asked. */

import { progressBar } from './bars.ts';
import { formatDuration, formatPercent, formatRate } from './format.ts';
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

  clear(): void {
    if (this.#shown && this.#drawnMs > 0) process.stderr.write('\r\x1b[K');
    this.#drawnMs = 0;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
