// The last 15 minutes of the node, kept up to date by its stream of samples.
import { ApiError, ask, getJson, isAborted } from "./api.js";
import { heard, isRefused, lost, onRetry } from "./link.js";
import { pause } from "./poll.js";
import { onToken } from "./session.js";
import { readEvents } from "./sse.js";

const SAMPLES_MAX = 900;
/** A stream that says nothing for so long is given up; it speaks each second. */
const SILENCE_MS = 8000;
/** Where there are too many streams already, the history is asked for instead, this often. */
const INSTEAD_MS = 5000;
/** The longest that a timer can take: a refused stream waits for another token. */
const FOREVER_MS = 2 ** 31 - 1;

const SOURCE = "flow";

const listeners = new Set();
let samples = [];
let running = null;
let wake = () => {};

/** The samples there are, oldest first. */
export function flow() {
  return samples;
}

/** Calls back with all samples whenever there are new ones, and at once if there are some. */
export function onFlow(listener) {
  listeners.add(listener);
  if (samples.length) listener(samples);
  return () => listeners.delete(listener);
}

// A chart that cannot be drawn is no reason to take the node for lost.
function tell() {
  if (samples.length === 0) return;
  for (const listener of listeners) {
    try {
      listener(samples);
    } catch (error) {
      reportError(error);
    }
  }
}

function takeHistory(history) {
  heard(history.now_ms, SOURCE);
  samples = history.samples.slice(-SAMPLES_MAX);
  tell();
}

function takeSample(sample) {
  heard(sample.at_ms, SOURCE);
  if (samples.at(-1)?.at_ms === sample.at_ms) return;
  // The node's clock may have been set back: what is later than now is of no use.
  const before = samples.filter((known) => known.at_ms < sample.at_ms);
  samples = [...before.slice(1 - SAMPLES_MAX), sample];
  tell();
}

async function listen(signal) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const both = AbortSignal.any([signal, silence.signal]);
  try {
    const answer = await ask("/v1/flow", { signal: both, headers: { accept: "text/event-stream" } });
    await readEvents(answer, (name, data) => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      if (name === "history") takeHistory(JSON.parse(data));
      else if (name === "sample") takeSample(JSON.parse(data));
    });
    throw new ApiError(0, "ended", null, "the node has ended its stream");
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError(0, "silent", null, silence.signal.aborted ? "the node has fallen silent" : "the stream was cut off");
  } finally {
    clearTimeout(timer);
  }
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    wake = done;
    signal.addEventListener("abort", done);
  });
}

async function run(signal) {
  let tries = 0;
  while (!signal.aborted) {
    const before = samples.at(-1);
    try {
      await listen(signal);
    } catch (error) {
      if (isAborted(error, signal)) return;
      if (samples.at(-1) !== before) tries = 0;
      if (error.code === "too_many_streams" && (await instead(signal))) continue;
      const wait = pause(tries++);
      lost(error, wait, SOURCE);
      await sleep(isRefused(error) ? FOREVER_MS : wait, signal);
    }
  }
}

async function instead(signal) {
  try {
    takeHistory(await getJson("/v1/flow", { signal }));
    await sleep(INSTEAD_MS, signal);
    return true;
  } catch {
    return false;
  }
}

function restart() {
  running?.abort();
  running = null;
  if (document.hidden) return;
  running = new AbortController();
  run(running.signal);
}

/** Begins to listen; not while the page is hidden. */
export function startFlow() {
  document.addEventListener("visibilitychange", restart);
  onToken(restart);
  onRetry(() => wake());
  restart();
}
