// Whether the node answers, and what its clock says.

const listeners = new Set();
const state = { link: "connecting", heardAt: null, nextAt: null, words: "" };
let clockAhead = 0;

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

/** An answer came; `nowMs` is the node's clock, if the answer told. */
export function heard(nowMs) {
  if (nowMs) clockAhead = nowMs - Date.now();
  state.heardAt = Date.now();
  if (state.link === "live") return;
  Object.assign(state, { link: "live", nextAt: null, words: "" });
  tell();
}

/** Whether the node wants another token: asking again with the same one is of no use. */
export function isRefused(error) {
  return error.status === 401 || error.status === 403;
}

/** No answer came, or one that is of no use. `waitMs` is how long it will be until the next try. */
export function lost(error, waitMs) {
  state.link = isRefused(error) ? "refused" : "lost";
  state.words = error.message;
  state.nextAt = state.link === "lost" ? Date.now() + waitMs : null;
  tell();
}

/** The node's clock, in milliseconds since 1970. */
export function nodeNow() {
  return Date.now() + clockAhead;
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
