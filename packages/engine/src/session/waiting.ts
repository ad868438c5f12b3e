/**
 * Promises around the synchronous core. Invariant: each ends: with what it waits for, with its AbortSignal ('aborted'), or
 * when the session begins to close ('closed'), since alarms ring no more after that.
 */

import { ShoalError } from '../base/errors.ts';
import type { SessionCore } from './core.ts';

/**
 * Waits for what `begin` starts; `begin` returns how to give it up, which is called when it was not what ended the wait.
 * Rejects with ShoalError 'aborted' and 'closed'; what `begin` throws is its own.
 */
export function waitFor<T>(
  core: SessionCore,
  signal: AbortSignal | undefined,
  begin: (resolve: (value: T) => void, reject: (error: ShoalError) => void) => () => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (core.closed) return reject(closed());
    if (signal?.aborted) return reject(aborted());
    let cancel: () => void = () => {};
    const stop = (): void => {
      signal?.removeEventListener('abort', onAbort);
      offClose();
    };
    const giveUp = (error: ShoalError): void => {
      stop();
      core.begin();
      cancel();
      reject(error);
    };
    const onAbort = (): void => giveUp(aborted());
    const offClose = core.onClose(() => giveUp(closed()));
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      cancel = begin(
        (value) => {
          stop();
          resolve(value);
        },
        (error) => {
          stop();
          reject(error);
        },
      );
    } catch (error) {
      stop();
      reject(error);
    }
  });
}

/** Resolves after so many milliseconds. Rejects with ShoalError 'aborted' and 'closed'. */
export function pause(core: SessionCore, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return waitFor<void>(core, signal, (resolve) => core.alarm(ms, resolve));
}

function aborted(): ShoalError {
  return new ShoalError('aborted', 'aborted');
}

function closed(): ShoalError {
  return new ShoalError('closed', 'the session is closed');
}
