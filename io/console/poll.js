// Asking again and again: while somebody looks, and with growing pauses while nobody answers.
import { getJson, isAborted } from "./api.js";
import { forget, heard, isRefused, lost, onRetry } from "./link.js";
import { onToken } from "./session.js";

const PAUSE_LEAST_MS = 2000;
const PAUSE_MOST_MS = 30000;
/** At most this share of the time goes into reading answers: a large fleet is asked for less often. */
const BUSY_SHARE = 0.1;

/** The pause before try number `tries` (from 0): 2 s, 4 s … 30 s. */
export function pause(tries) {
  return Math.min(PAUSE_MOST_MS, PAUSE_LEAST_MS * 2 ** tries);
}

/** One path that is asked for every so often between `start` and `stop`, and not while the page is hidden. */
export class Poll {
  #timer = 0;
  #asking = null;
  #tries = 0;
  #wanted = false;

  /**
   * @param {() => string} path
   * @param {number} everyMs
   * @param {(data: *) => void} onData
   * @param {(error: Error) => void} [onError]
   */
  constructor(path, everyMs, onData, onError = () => {}) {
    Object.assign(this, { path, everyMs, onData, onError });
    document.addEventListener("visibilitychange", () => this.#turn());
    onRetry(() => this.#wanted && this.now());
    onToken(() => this.#wanted && this.now());
  }

  /** Begins, or goes on. */
  start() {
    this.#wanted = true;
    this.#turn();
  }

  /** Stops; what is under way is given up. */
  stop() {
    this.#wanted = false;
    this.#turn();
    forget(this);
  }

  /** Asks at once, whatever is under way. */
  now() {
    this.#halt();
    if (this.#wanted && !document.hidden) this.#ask();
  }

  #turn() {
    const on = this.#wanted && !document.hidden;
    if (!on) this.#halt();
    else if (!this.#asking && !this.#timer) this.#ask();
  }

  #halt() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#asking?.abort();
    this.#asking = null;
  }

  async #ask() {
    const asking = new AbortController();
    this.#asking = asking;
    let wait = this.everyMs;
    try {
      const data = await getJson(this.path(), { signal: asking.signal });
      if (asking.signal.aborted) return;
      this.#tries = 0;
      heard(data.now_ms, this);
      const began = performance.now();
      this.onData(data);
      wait = Math.max(wait, (performance.now() - began) / BUSY_SHARE);
    } catch (error) {
      if (isAborted(error, asking.signal)) return;
      if (!("status" in error)) throw error;
      wait = this.#failed(error);
    } finally {
      if (this.#asking === asking) this.#later(wait);
    }
  }

  #failed(error) {
    const wait = pause(this.#tries++);
    // What is asked for by name may be gone: that is an answer.
    if (error.status !== 404) lost(error, wait, this);
    else heard(null, this);
    this.onError(error);
    return isRefused(error) ? null : wait;
  }

  // With no wait at all, until there is another token.
  #later(wait) {
    this.#asking = null;
    if (wait === null) return;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#ask();
    }, wait);
  }
}
