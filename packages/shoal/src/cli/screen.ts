/**
 * A block of lines at the bottom of the terminal that is redrawn in place: only lines that changed are written, in one
 * write per frame. It is the one writer of its stream while it is open; `print` puts a lasting line above the block.
 * Limits: as many lines as the terminal is high, less one; no line is longer than the terminal is wide (the caller cuts).
 */

export interface ScreenStream {
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): boolean;
  on(event: 'resize', listener: () => void): unknown;
  off(event: 'resize', listener: () => void): unknown;
}

export class Screen {
  readonly #stream: ScreenStream;
  #shown: string[] = [];
  #open = false;
  /** Set by a resize: the terminal may have wrapped what was shown, so nothing of it can be trusted. */
  #stale = false;

  constructor(stream: ScreenStream) {
    this.#stream = stream;
  }

  get columns(): number {
    return Math.max(20, this.#stream.columns ?? 80);
  }

  get rows(): number {
    return Math.max(4, this.#stream.rows ?? 24);
  }

  /** Shows `lines` in place of the block shown before. */
  draw(lines: readonly string[]): void {
    if (!this.#open) this.#begin();
    const next = lines.slice(0, this.rows - 1);
    const body = this.#stale ? this.#erase() + next.map((line) => `${line}\n`).join('') : this.#difference(next);
    this.#stale = false;
    this.#shown = next;
    if (body !== '') this.#stream.write(SYNC_ON + body + SYNC_OFF);
  }

  /** Writes a line that stays, above the block. */
  print(line: string): void {
    if (!this.#open) {
      this.#stream.write(`${line}\n`);
      return;
    }
    const shown = this.#shown;
    const erased = this.#erase();
    this.#stream.write(`${SYNC_ON}${erased}${line}\n${shown.map((text) => `${text}\n`).join('')}${SYNC_OFF}`);
    this.#shown = shown;
  }

  /** Takes the block away. */
  clear(): void {
    if (this.#open && this.#shown.length > 0) this.#stream.write(this.#erase());
  }

  /** Leaves the block as it stands and gives the cursor back. May be called twice. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#shown = [];
    this.#stream.off('resize', this.#onResize);
    this.#stream.write(SHOW_CURSOR);
  }

  readonly #onResize = (): void => {
    this.#stale = true;
  };

  #begin(): void {
    this.#open = true;
    this.#stream.on('resize', this.#onResize);
    this.#stream.write(HIDE_CURSOR);
  }

  #erase(): string {
    const count = this.#shown.length;
    this.#shown = [];
    return count === 0 ? '' : `\x1b[${count}A\r\x1b[0J`;
  }

  /** The cursor stands at the start of the line below the block, before and after. */
  #difference(next: readonly string[]): string {
    const before = this.#shown;
    let first = 0;
    while (first < before.length && first < next.length && before[first] === next[first]) first++;
    if (first === before.length && first === next.length) return '';
    let out = before.length > first ? `\x1b[${before.length - first}A\r` : '';
    for (let i = first; i < next.length; i++) out += before[i] === next[i] ? '\n' : `${next[i]}\x1b[0m\x1b[K\n`;
    return next.length < before.length ? `${out}\x1b[0J` : out;
  }
}

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
// Terminals that know synchronised output show a frame whole; others ignore these.
const SYNC_ON = '\x1b[?2026h';
const SYNC_OFF = '\x1b[?2026l';
