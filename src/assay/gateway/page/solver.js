// Solves challenges with several workers. A worker gets one slice at a time, so stopping is just not asking on.
import { sha256 } from "./sha256.js";

const STRIDE = 2n ** 48n;
const MEMORY = 14; // log2 of scrypt's N that gateways ask for: 16 MiB a try

/** Return the claims of a challenge and what follows from them. The gateway has signed them; we only read. */
export function readChallenge(token) {
  const [payload] = token.split(".");
  const base64 = payload.replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const claims = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  const target = BigInt(`0x${claims.target64}`);
  const { alg, k, memory } = claims;
  const most = { sha256: 64, scrypt: 4 }[alg];
  if (claims.v !== 1 || !most || !Number.isInteger(k) || k < 1 || k > most || target < 1n) {
    throw new Error("This is not a challenge that this page can solve.");
  }
  if (alg === "scrypt" && !(Number.isInteger(memory) && memory >= 10 && memory <= 20)) {
    throw new Error("The challenge names a cost of memory that is not allowed.");
  }
  return { token, claims, alg, k, target, memory, hashes: k * (2 ** 64 / Number(target)) };
}

/** Return the seed of a challenge: SHA-256 over a tag and the whole token. */
export function seedOf(token) {
  return sha256(new TextEncoder().encode(`calpow/1\0${token}`));
}

/** Workers of this page, and how fast they are. */
export class Crew {
  #workers = [];

  rates = {}; // tries a second, of each kind of puzzle
  kinds = {};

  /** Use this many workers, a whole number of at least one. */
  resize(count) {
    const wanted = Math.max(1, Math.floor(count) || 1);
    while (this.#workers.length > wanted) this.#workers.pop().terminate();
    while (this.#workers.length < wanted) {
      this.#workers.push(new Worker("worker.js", { type: "module" }));
    }
  }

  get size() {
    return this.#workers.length;
  }

  #ask(worker, message) {
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(`A worker failed. ${message ?? ""}`.trim()));
      worker.postMessage(message);
    });
  }

  /** Measure tries a second of all workers together. */
  async measure(alg = "sha256") {
    const job = { alg, memory: MEMORY, seed: new Uint8Array(32), index: 0, first: 0n, target: 1n };
    await Promise.all(this.#workers.map((worker) => this.#ask(worker, job))); // loads and compiles
    const started = performance.now();
    const slices = await Promise.all(this.#workers.map((worker) => this.#ask(worker, job)));
    this.rates[alg] = (1000 * slices.reduce((sum, slice) => sum + slice.hashes, 0)) / (performance.now() - started);
    this.kinds[alg] = slices[0].kind;
  }

  /** Return the proof of a challenge. Tells progress({ solved, k, hashes, seconds }); stops by an AbortSignal. */
  async solve(challenge, progress, signal) {
    const { token, alg, k, target, memory } = challenge;
    const seed = seedOf(token);
    const nonces = new Array(k).fill(null);
    const searchers = new Array(k).fill(0);
    const started = performance.now();
    let hashes = 0;

    const run = async (worker) => {
      for (;;) {
        // The open sub-puzzle with the fewest searchers; several begin far apart.
        let index = -1;
        for (let i = 0; i < k; i += 1) {
          if (nonces[i] === null && (index < 0 || searchers[i] < searchers[index])) index = i;
        }
        if (index < 0) return;
        let first = BigInt(searchers[index]) * STRIDE;
        searchers[index] += 1;
        while (nonces[index] === null) {
          signal.throwIfAborted();
          const slice = await this.#ask(worker, { alg, memory, seed, index, first, target });
          hashes += slice.hashes;
          first = slice.next;
          if (slice.nonce !== null && nonces[index] === null) nonces[index] = slice.nonce;
          const seconds = (performance.now() - started) / 1000;
          progress({ done: nonces.map((nonce) => nonce !== null), hashes, seconds });
        }
      }
    };
    // All must have come home: an answer still under way would be taken for one of the next challenge.
    const ends = await Promise.allSettled(this.#workers.map(run));
    const failed = ends.find((end) => end.status === "rejected");
    if (failed) throw failed.reason;
    const seconds = (performance.now() - started) / 1000;
    if (seconds > 0.2) this.rates[alg] = hashes / seconds;
    return { proof: `${token};${nonces.join(",")}`, hashes, seconds };
  }
}
