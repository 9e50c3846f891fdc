// States of trust: their order from good to bad, what they mean, how they look.
import { h, icon } from "./dom.js";

/** All states, best first, each with a sentence. */
export const STATES = [
  { name: "exact", words: "Every event since the engine’s start was applied." },
  { name: "replaying", words: "It is being brought up to date, or waits for its turn." },
  { name: "partial", words: "Some history is missing: what is known of it may be too little, never too much." },
  { name: "approximate", words: "Learnt from routing decisions, not from events." },
  { name: "stale", words: "Not heard of, or disconnected: what is known of it may be out of date." },
  { name: "distrusted", words: "Known to be wrong, or not understood: nothing that it holds counts." },
];

const RANK = new Map(STATES.map((state, rank) => [state.name, rank]));

/** A state's place from best to worst. */
export function severity(name) {
  return RANK.get(name) ?? STATES.length;
}

/** What a state means, in a sentence. */
export function meaning(name) {
  return STATES[RANK.get(name)]?.words ?? "";
}

/** A state as symbol and word in its colour. */
export function stateBadge(name) {
  return h("span", { class: "state", "data-hue": name, title: meaning(name) }, icon(RANK.has(name) ? name : "info"), name);
}
