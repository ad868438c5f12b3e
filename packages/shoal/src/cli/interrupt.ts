/**
 * Ctrl-C and kind kills. The first SIGINT, SIGTERM or SIGHUP asks for an orderly end (`signal` aborts); a second one
 * leaves at once. One per process, held for as long as a command runs.
 */

import { ExitCode } from './exit-code.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #exitCode: ExitCode;

  /** `exitCode`: what a second signal leaves with. */
  constructor(exitCode: ExitCode = ExitCode.Interrupted) {
    this.#exitCode = exitCode;
    for (const name of SIGNALS) process.on(name, this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get interrupted(): boolean {
    return this.#controller.signal.aborted;
  }

  /** Resolves once the user asked to stop. */
  async wait(): Promise<void> {
    if (this.interrupted) return;
    await new Promise<void>((resolve) => this.signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  [Symbol.dispose](): void {
    for (const name of SIGNALS) process.off(name, this.#onSignal);
  }

  readonly #onSignal = (): void => {
    if (this.interrupted) process.exit(this.#exitCode);
    this.#controller.abort();
  };
}
