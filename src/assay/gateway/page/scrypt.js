// scrypt (Percival 2009; RFC 7914) for the memory-hard puzzle, in plain JavaScript: half as fast as native code,
// which is as near as this puzzle wants browsers to be. One try takes 128 * 8 * N bytes.
import { sha256 } from "./sha256.js";

const R = 8;
const WORDS = 32 * R; // of one block of 128 * R bytes

function hmac(key, message) {
  const block = new Uint8Array(64);
  block.set(key.length > 64 ? sha256(key) : key);
  const inner = new Uint8Array(64 + message.length);
  inner.set(message, 64);
  const outer = new Uint8Array(96);
  for (let i = 0; i < 64; i += 1) {
    inner[i] = block[i] ^ 0x36;
    outer[i] = block[i] ^ 0x5c;
  }
  outer.set(sha256(inner), 64);
  return sha256(outer);
}

/** PBKDF2-HMAC-SHA-256 with one iteration. */
function pbkdf2(password, salt, length) {
  const result = new Uint8Array(length);
  const message = new Uint8Array(salt.length + 4);
  message.set(salt);
  for (let at = 0, n = 1; at < length; at += 32, n += 1) {
    new DataView(message.buffer).setUint32(salt.length, n);
    result.set(hmac(password, message).subarray(0, Math.min(32, length - at)), at);
  }
  return result;
}

/** Salsa20/8 of state ^ block[at .. at + 15], kept in state and written to out[to .. to + 15]. */
function salsa(state, block, at, out, to) {
  const s0 = (state[0] ^= block[at]);
  const s1 = (state[1] ^= block[at + 1]);
  const s2 = (state[2] ^= block[at + 2]);
  const s3 = (state[3] ^= block[at + 3]);
  const s4 = (state[4] ^= block[at + 4]);
  const s5 = (state[5] ^= block[at + 5]);
  const s6 = (state[6] ^= block[at + 6]);
  const s7 = (state[7] ^= block[at + 7]);
  const s8 = (state[8] ^= block[at + 8]);
  const s9 = (state[9] ^= block[at + 9]);
  const s10 = (state[10] ^= block[at + 10]);
  const s11 = (state[11] ^= block[at + 11]);
  const s12 = (state[12] ^= block[at + 12]);
  const s13 = (state[13] ^= block[at + 13]);
  const s14 = (state[14] ^= block[at + 14]);
  const s15 = (state[15] ^= block[at + 15]);
  let [x0, x1, x2, x3, x4, x5, x6, x7] = [s0, s1, s2, s3, s4, s5, s6, s7];
  let [x8, x9, x10, x11, x12, x13, x14, x15] = [s8, s9, s10, s11, s12, s13, s14, s15];
  let t = 0;
  for (let round = 0; round < 4; round += 1) {
    // Columns.
    t = (x0 + x12) | 0; x4 ^= (t << 7) | (t >>> 25);
    t = (x4 + x0) | 0; x8 ^= (t << 9) | (t >>> 23);
    t = (x8 + x4) | 0; x12 ^= (t << 13) | (t >>> 19);
    t = (x12 + x8) | 0; x0 ^= (t << 18) | (t >>> 14);
    t = (x5 + x1) | 0; x9 ^= (t << 7) | (t >>> 25);
    t = (x9 + x5) | 0; x13 ^= (t << 9) | (t >>> 23);
    t = (x13 + x9) | 0; x1 ^= (t << 13) | (t >>> 19);
    t = (x1 + x13) | 0; x5 ^= (t << 18) | (t >>> 14);
    t = (x10 + x6) | 0; x14 ^= (t << 7) | (t >>> 25);
    t = (x14 + x10) | 0; x2 ^= (t << 9) | (t >>> 23);
    t = (x2 + x14) | 0; x6 ^= (t << 13) | (t >>> 19);
    t = (x6 + x2) | 0; x10 ^= (t << 18) | (t >>> 14);
    t = (x15 + x11) | 0; x3 ^= (t << 7) | (t >>> 25);
    t = (x3 + x15) | 0; x7 ^= (t << 9) | (t >>> 23);
    t = (x7 + x3) | 0; x11 ^= (t << 13) | (t >>> 19);
    t = (x11 + x7) | 0; x15 ^= (t << 18) | (t >>> 14);
    // Rows.
    t = (x0 + x3) | 0; x1 ^= (t << 7) | (t >>> 25);
    t = (x1 + x0) | 0; x2 ^= (t << 9) | (t >>> 23);
    t = (x2 + x1) | 0; x3 ^= (t << 13) | (t >>> 19);
    t = (x3 + x2) | 0; x0 ^= (t << 18) | (t >>> 14);
    t = (x5 + x4) | 0; x6 ^= (t << 7) | (t >>> 25);
    t = (x6 + x5) | 0; x7 ^= (t << 9) | (t >>> 23);
    t = (x7 + x6) | 0; x4 ^= (t << 13) | (t >>> 19);
    t = (x4 + x7) | 0; x5 ^= (t << 18) | (t >>> 14);
    t = (x10 + x9) | 0; x11 ^= (t << 7) | (t >>> 25);
    t = (x11 + x10) | 0; x8 ^= (t << 9) | (t >>> 23);
    t = (x8 + x11) | 0; x9 ^= (t << 13) | (t >>> 19);
    t = (x9 + x8) | 0; x10 ^= (t << 18) | (t >>> 14);
    t = (x15 + x14) | 0; x12 ^= (t << 7) | (t >>> 25);
    t = (x12 + x15) | 0; x13 ^= (t << 9) | (t >>> 23);
    t = (x13 + x12) | 0; x14 ^= (t << 13) | (t >>> 19);
    t = (x14 + x13) | 0; x15 ^= (t << 18) | (t >>> 14);
  }
  out[to] = state[0] = (x0 + s0) | 0;
  out[to + 1] = state[1] = (x1 + s1) | 0;
  out[to + 2] = state[2] = (x2 + s2) | 0;
  out[to + 3] = state[3] = (x3 + s3) | 0;
  out[to + 4] = state[4] = (x4 + s4) | 0;
  out[to + 5] = state[5] = (x5 + s5) | 0;
  out[to + 6] = state[6] = (x6 + s6) | 0;
  out[to + 7] = state[7] = (x7 + s7) | 0;
  out[to + 8] = state[8] = (x8 + s8) | 0;
  out[to + 9] = state[9] = (x9 + s9) | 0;
  out[to + 10] = state[10] = (x10 + s10) | 0;
  out[to + 11] = state[11] = (x11 + s11) | 0;
  out[to + 12] = state[12] = (x12 + s12) | 0;
  out[to + 13] = state[13] = (x13 + s13) | 0;
  out[to + 14] = state[14] = (x14 + s14) | 0;
  out[to + 15] = state[15] = (x15 + s15) | 0;
}

const state = new Int32Array(16);
let table = new Int32Array(0);

/** Mix one block into another: even parts go to the first half, odd ones to the second. */
function mix(from, to) {
  state.set(from.subarray(WORDS - 16));
  for (let part = 0; part < 2 * R; part += 1) {
    salsa(state, from, 16 * part, to, 16 * ((part >> 1) + (part & 1) * R));
  }
}

/** Return the first eight bytes of scrypt with N = 2 ** memory, r = 8, p = 1. */
export function scrypt(password, salt, memory) {
  const cost = 2 ** memory;
  // Kept between tries: asking for megabytes anew takes longer than filling them.
  if (table.length !== cost * WORDS) table = new Int32Array(cost * WORDS);
  const bytes = pbkdf2(password, salt, 4 * WORDS);
  const view = new DataView(bytes.buffer);
  let block = new Int32Array(WORDS);
  let other = new Int32Array(WORDS);
  for (let i = 0; i < WORDS; i += 1) block[i] = view.getInt32(4 * i, true);
  for (let i = 0; i < cost; i += 1) {
    table.set(block, i * WORDS);
    mix(block, other);
    [block, other] = [other, block];
  }
  for (let i = 0; i < cost; i += 1) {
    const at = (block[WORDS - 16] & (cost - 1)) * WORDS;
    for (let j = 0; j < WORDS; j += 1) block[j] ^= table[at + j];
    mix(block, other);
    [block, other] = [other, block];
  }
  for (let i = 0; i < WORDS; i += 1) view.setInt32(4 * i, block[i], true);
  return pbkdf2(password, bytes, 8);
}

/** Whether a nonce, which has passed the gate, solves a sub-puzzle. */
export function solves(seed, index, nonce, memory, target) {
  const password = new Uint8Array(8);
  new DataView(password.buffer).setBigUint64(0, nonce);
  const salt = new Uint8Array(36);
  salt.set(seed);
  new DataView(salt.buffer).setUint32(32, index);
  return new DataView(scrypt(password, salt, memory).buffer).getBigUint64(0) < target;
}
