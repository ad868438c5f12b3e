/**
 * RC4 in WebAssembly, inside the memory of the slots: faster than script, since no access needs a bounds check, and
 * written for a processor that does several things at once.
 *
 *     x = S[i]    j += x    y = S[j]    S[i] = y    S[j] = x    key = S[x + y]
 *
 * Step by step each S[i] waits for the write to S[j] before it, wherever that may go. So the next four x are read and
 * their four j added up before anything is written: right unless one of these j is among the four i, which one group in
 * forty finds out beforehand and then goes step by step.
 *
 * The entries of S are words, and hold four times their value, so that a value is an offset.
 */

import type { Rc4Kernel } from '../base/slot-pool.ts';
import { instantiate, MAX_PAGES, type SharedMemory } from './wasm.ts';

type Run = Rc4Kernel['run'];

const STATE_BYTES = 1024;

/** With its state and then its room in `bytes` of `memory` from `at`. Compiled when it is first used. */
export function makeRc4Kernel(memory: SharedMemory, at: number, bytes: number): Rc4Kernel {
  const { buffer } = memory;
  let compiled: Run | null = null;
  return {
    state: new Int32Array(buffer, at, STATE_BYTES / 4),
    room: new Uint8Array(buffer, at + STATE_BYTES, bytes - STATE_BYTES),
    run(i, j, target, source, length) {
      compiled ??= instantiate(moduleFor(at), memory)['run'] as Run;
      return compiled(i, j, target, source, length);
    },
  };
}

// ------------------------------------------------------------------------------------------------------- the module

/** Steps in a group, and in one round of the loop. */
const GROUP = 4;
const ROUND = 8;
const I32 = 0x7f;
const EMPTY = 0x40;

/** Parameters, then locals. */
const I = 0;
const J = 1;
const TO = 2;
const FROM = 3;
/** The length, then where `TO` ends. */
const END = 4;
const Y = 5;
const KEY = 6;
/** x and j of each step of the group. */
const XS = 7;
const JS: number = XS + GROUP;
const LOCAL_COUNT: number = JS + GROUP - END - 1;

const block: number[] = [0x02, EMPTY];
const loop: number[] = [0x03, EMPTY];
const end: number[] = [0x0b];
const notEqual: number[] = [0x47];
const below: number[] = [0x49];
const add: number[] = [0x6a];
const subtract: number[] = [0x6b];
const and: number[] = [0x71];
const or: number[] = [0x72];
const xor: number[] = [0x73];
const left: number[] = [0x74];
const right: number[] = [0x76];

/** (func (export "run") (param i j to from length) (result j)); S begins at `state`. */
function moduleFor(state: number): Uint8Array<ArrayBuffer> {
  const type = [1, 0x60, 5, I32, I32, I32, I32, I32, 1, I32];
  const memory = [1, ...name('host'), ...name('memory'), 2, 3, 0, ...unsigned(MAX_PAGES)];
  const code = [1, LOCAL_COUNT, I32, ...body(state)];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, type),
    ...section(2, memory),
    ...section(3, [1, 0]),
    ...section(7, [1, ...name('run'), 0, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]);
}

function body(state: number): number[] {
  const code = [...get(END), ...get(TO), ...add, ...set(END), ...loop];
  for (let first = 0; first < ROUND; first += GROUP) code.push(...group(state, first));
  code.push(...get(I), ...number(4 * ROUND), ...add, ...wrapped, ...set(I));
  code.push(...get(FROM), ...number(ROUND), ...add, ...set(FROM));
  code.push(...get(TO), ...number(ROUND), ...add, ...tee(TO), ...get(END), ...notEqual, ...branchIf(0), ...end);
  return [...code, ...get(J), ...end];
}

/** The steps from the `first` of the round on. */
function group(state: number, first: number): number[] {
  const code = [...block, ...block];
  for (let n = 0; n < GROUP; n++) code.push(...get(I), ...load(state + 4 * (first + n)), ...set(XS + n));
  for (let n = 0; n < GROUP; n++) {
    code.push(...get(n === 0 ? J : JS + n - 1), ...get(XS + n), ...add, ...wrapped, ...set(JS + n));
  }
  for (let n = 0; n < GROUP - 1; n++) {
    code.push(...get(JS + n), ...get(I), ...subtract, ...number(4 * (first + n + 1)), ...subtract);
    code.push(...number(4 * (GROUP - 1 - n)), ...below, ...branchIf(0));
  }
  for (let n = 0; n < GROUP; n++) code.push(...swap(state, first + n, XS + n, JS + n));
  code.push(...get(JS + GROUP - 1), ...set(J), ...branch(1), ...end);
  for (let n = 0; n < GROUP; n++) {
    code.push(...get(I), ...load(state + 4 * (first + n)), ...set(XS));
    code.push(...get(J), ...get(XS), ...add, ...wrapped, ...set(J), ...swap(state, first + n, XS, J));
  }
  return [...code, ...end];
}

/** One step from x and j on; the last of four lays their key over the data. */
function swap(state: number, step: number, x: number, j: number): number[] {
  const code = [...get(j), ...load(state), ...set(Y)];
  code.push(...get(I), ...get(Y), ...store(state + 4 * step));
  code.push(...get(j), ...get(x), ...store(state));
  code.push(...get(x), ...get(Y), ...add, ...wrapped, ...load(state));
  const byte = step % 4;
  if (byte === 0) return [...code, ...number(2), ...right, ...set(KEY)];
  code.push(...number(8 * byte - 2), ...left, ...get(KEY), ...or, ...set(KEY));
  if (byte < 3) return code;
  return [...code, ...get(TO), ...get(FROM), ...load(step - 3, 0), ...get(KEY), ...xor, ...store(step - 3, 0)];
}

/** Of an offset in S. */
const wrapped: number[] = [...number(STATE_BYTES - 4), ...and];

function get(local: number): number[] {
  return [0x20, local];
}

function set(local: number): number[] {
  return [0x21, local];
}

function tee(local: number): number[] {
  return [0x22, local];
}

/** `alignment`: as a power of two. */
function load(offset: number, alignment = 2): number[] {
  return [0x28, alignment, ...unsigned(offset)];
}

function store(offset: number, alignment = 2): number[] {
  return [0x36, alignment, ...unsigned(offset)];
}

function branch(depth: number): number[] {
  return [0x0c, depth];
}

function branchIf(depth: number): number[] {
  return [0x0d, depth];
}

/** Not negative. */
function number(value: number): number[] {
  return [0x41, ...leb(value, 64)];
}

function unsigned(value: number): number[] {
  return leb(value, 128);
}

function name(text: string): number[] {
  return [text.length, ...[...text].map((c) => c.charCodeAt(0))];
}

function section(id: number, bytes: readonly number[]): number[] {
  return [id, ...unsigned(bytes.length), ...bytes];
}

/** LEB128, until less than `limit` is left: 64 where the next bit is a sign. */
function leb(value: number, limit: number): number[] {
  const bytes: number[] = [];
  for (; value >= limit; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}
