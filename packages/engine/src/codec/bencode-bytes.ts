/** The bytes that bencode is written with (BEP 3). */

/** d, e, i, l. */
export const D = 100;
export const E = 101;
export const I = 105;
export const L = 108;
/** 0 .. 9. */
export const ZERO = 48;
export const NINE = 57;
export const COLON = 58;
export const MINUS = 45;
