/**
 * Milliseconds of the quickest of up to five runs, fewer once one is within `enoughMs`. For bounds that tell linear from
 * quadratic: what else the machine does must not decide a test.
 */
export function quickestMs(enoughMs: number, run: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5 && best > enoughMs; i++) {
    const before = performance.now();
    run();
    best = Math.min(best, performance.now() - before);
  }
  return best;
}
