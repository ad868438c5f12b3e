import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Screen, type ScreenStream } from './screen.ts';

/** A terminal that knows what Screen writes: text, newline, CR, cursor up, erase to end of line and of screen. */
class FakeTerminal implements ScreenStream {
  readonly columns = 80;
  readonly rows = 24;
  readonly lines: string[] = [''];
  cursorShown = true;
  #row = 0;
  #column = 0;

  write(text: string): boolean {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is read here
    for (const [token] of text.matchAll(/\x1b\[\??\d*[A-Za-z]|[\s\S]/g)) this.#apply(token);
    return true;
  }

  on(): void {}
  off(): void {}

  get text(): string {
    return this.lines.join('\n').trimEnd();
  }

  #apply(token: string): void {
    if (token === '\n') {
      this.#row++;
      this.#column = 0;
      if (this.#row === this.lines.length) this.lines.push('');
    } else if (token === '\r') this.#column = 0;
    else if (token === '\x1b[K') this.lines[this.#row] = this.lines[this.#row]!.slice(0, this.#column);
    else if (token === '\x1b[0J') {
      this.lines.length = this.#row + 1;
      this.lines[this.#row] = this.lines[this.#row]!.slice(0, this.#column);
    } else if (token === '\x1b[?25l' || token === '\x1b[?25h') this.cursorShown = token.endsWith('h');
    else if (token.startsWith('\x1b') && token.endsWith('A')) {
      this.#row -= Number.parseInt(token.slice(2), 10);
      if (this.#row < 0) throw new Error('moved above the screen');
    } else if (token.startsWith('\x1b')) return;
    else {
      const line = this.lines[this.#row]!.padEnd(this.#column);
      this.lines[this.#row] = line.slice(0, this.#column) + token + line.slice(this.#column + 1);
      this.#column++;
    }
  }
}

describe('Screen', () => {
  it('always ends up showing the lasting lines and then the last frame', () => {
    const line = fc.constantFrom('a', 'bb', 'ccc', 'dddd', '');
    const step = fc.oneof(
      fc.array(line, { maxLength: 6 }).map((frame) => ({ frame, print: null })),
      fc.constantFrom('one', 'two').map((print) => ({ frame: null, print })),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const terminal = new FakeTerminal();
        const screen = new Screen(terminal);
        const printed: string[] = [];
        let shown: string[] = [];
        for (const { frame, print } of steps) {
          if (frame !== null) {
            screen.draw(frame);
            shown = frame;
          } else if (print !== null) {
            screen.print(print);
            printed.push(print);
          }
          expect(terminal.text).toBe([...printed, ...shown].join('\n').trimEnd());
        }
        screen.clear();
        expect(terminal.text).toBe(printed.join('\n').trimEnd());
        screen.close();
        expect(terminal.cursorShown).toBe(true);
      }),
    );
  });

  it('writes only what changed', () => {
    const written: string[] = [];
    const screen = new Screen({ columns: 80, rows: 24, write: (text) => written.push(text) > 0, on() {}, off() {} });
    screen.draw(['head', 'old', 'foot']);
    written.length = 0;
    screen.draw(['head', 'new', 'foot']);
    expect(written.join('')).toContain('new');
    expect(written.join('')).not.toMatch(/head|foot/);
    written.length = 0;
    screen.draw(['head', 'new', 'foot']);
    expect(written).toEqual([]);
  });
});
