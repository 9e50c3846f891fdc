// What is wrong now, asked for by whatever view is shown: the header counts it.
import { Poll } from "./poll.js";

const EVERY_MS = 5000;
const listeners = new Set();
let latest = null;

const poll = new Poll(() => "/v1/problems", EVERY_MS, (answer) => {
  latest = answer;
  for (const listener of listeners) listener(answer);
});

/** Calls back with each answer, and at once if there is one. */
export function onProblems(listener) {
  listeners.add(listener);
  if (latest) listener(latest);
}

/** The worst severity of some problems; undefined if there are none. */
export function worst(problems) {
  return ["page", "ticket", "info"].find((severity) => problems.some((problem) => problem.severity === severity));
}

/** Begins to ask. */
export function startProblems() {
  poll.start();
}
