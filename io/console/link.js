// Whether the node answers, and what its clock says.

/** What is asked for, each with its own luck: one that fails is not made up for by another that does not. */
const sources = new Map();
const listeners = new Set();
const state = { link: "connecting", heardAt: null, nextAt: null, words: "" };
/** Nothing is asked for less often than this; what passes with time stands still if nothing was heard for longer. */
const QUIET_MS = 6000;
let clockAhead = 0;
let latest = null;

function tell() {
  for (const listener of listeners) listener(state);
}

/** The state of the link: `connecting`, `live`, `lost` or `refused`, when it was last heard of and when it is tried next (browser's clock). */
export function linkState() {
  return state;
}

/** Calls back whenever the link's state changes. */
export function onLink(listener) {
  listeners.add(listener);
  listener(state);
}

// The worst of all sources is told; while all are well, when any was heard.
function settle() {
  const all = [...sources.values()];
  const bad = all.find((source) => source.link === "refused") ?? all.find((source) => source.link === "lost");
  const before = JSON.stringify([state.link, state.words, state.nextAt]);
  if (bad) Object.assign(state, bad);
  else Object.assign(state, { link: all.length ? "live" : state.link, heardAt: latest, nextAt: null, words: "" });
  if (JSON.stringify([state.link, state.words, state.nextAt]) !== before) tell();
}

/** An answer came to `source`; `nowMs` is the node's clock, if the answer told. */
export function heard(nowMs, source) {
  if (nowMs) clockAhead = nowMs - Date.now();
  latest = Date.now();
  const was = sources.get(source)?.link;
  sources.set(source, { link: "live", heardAt: latest, nextAt: null, words: "" });
  settle();
  // It is there again: nobody else has to wait.
  if (was === "lost" && state.link === "lost") queueMicrotask(retryNow);
}

/** Nobody asks for `source` any more. */
export function forget(source) {
  if (sources.delete(source)) settle();
}

/** Whether the node wants another token: asking again with the same one is of no use. */
export function isRefused(error) {
  return error.status === 401 || error.status === 403;
}

/** No answer came to `source`, or one that is of no use. `waitMs` is how long it will be until the next try. */
export function lost(error, waitMs, source) {
  const refused = isRefused(error);
  const heardAt = sources.get(source)?.heardAt ?? null;
  sources.set(source, { link: refused ? "refused" : "lost", heardAt, nextAt: refused ? null : Date.now() + waitMs, words: error.message });
  settle();
}

/** The node's clock, in milliseconds since 1970; it stands still while nothing is heard. */
export function nodeNow() {
  const now = Date.now();
  return (latest === null ? now : Math.min(now, latest + QUIET_MS)) + clockAhead;
}

const retries = new Set();

/** Calls back when the user does not want to wait for the next try. */
export function onRetry(listener) {
  retries.add(listener);
  return () => retries.delete(listener);
}

/** Tries now what would be tried later. */
export function retryNow() {
  for (const listener of [...retries]) listener();
}
