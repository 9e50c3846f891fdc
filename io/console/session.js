// The token, if one is in use: in this tab only, and gone with it.

const KEY = "kvroute.token";
const listeners = new Set();
let kept = null;

try {
  kept = sessionStorage.getItem(KEY);
} catch {
  // Storage is switched off: the token lives until the page is left.
}

/** The token in use, or null. */
export function token() {
  return kept;
}

/** Takes a token into use; null forgets it. */
export function setToken(value) {
  kept = value || null;
  try {
    if (kept) sessionStorage.setItem(KEY, kept);
    else sessionStorage.removeItem(KEY);
  } catch {
    // As above.
  }
  for (const listener of listeners) listener(kept);
}

/** Calls back whenever the token has changed. */
export function onToken(listener) {
  listeners.add(listener);
}
