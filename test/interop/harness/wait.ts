/** Waiting for what other processes do. */

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly everyMs?: number;
  /** Asked for at the end of an unsuccessful wait. */
  readonly detail?: () => string;
}

/** Resolves with the first value that is neither false, null nor undefined; rejects after the time, saying `what`. */
export async function until<T>(
  what: string,
  check: () => T | Promise<T>,
  options: WaitOptions,
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + options.timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== false && value !== null && value !== undefined) {
      return value as Exclude<T, false | null | undefined>;
    }
    if (performance.now() > end) {
      const detail = options.detail === undefined ? '' : ` (${options.detail()})`;
      throw new Error(`not within ${options.timeoutMs / 1000} s: ${what}${detail}`);
    }
    await pause(options.everyMs ?? 50);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A request to a client's own control port; each answers at once or is not up. */
export async function ask(url: string, init: RequestInit = {}): Promise<Response> {
  return await fetch(url, { ...init, signal: AbortSignal.timeout(20_000) });
}
