// The candidates of a choice, the best first.
import { h, icon } from "./dom.js";
import { digits, whole } from "./format.js";
import { stateBadge } from "./states.js";

const TIERS = [["gpu", "GPU"], ["cpu", "CPU"], ["disk", "disk"]];

function tierWords(tiers) {
  const parts = TIERS.map(([tier, name], place) => [name, tiers[tier] - (place ? tiers[TIERS[place - 1][0]] : 0)]).filter(([, tokens]) => tokens > 0);
  return parts.map(([name, tokens]) => `${whole(tokens)} on ${name}`).join(", ");
}

function matchCell(candidate, tokens) {
  const all = tokens || Math.max(1, candidate.matched_tokens);
  const fill = h("i", { class: "fill" });
  fill.style.transform = `scaleX(${Math.min(1, candidate.matched_tokens / all).toFixed(3)})`;
  const more = candidate.speculative_tokens ? h("span", { class: "muted", title: "Expected there, not yet said by its events" }, ` + ${whole(candidate.speculative_tokens)}`) : null;
  return h("td", { class: "number", title: tierWords(candidate.tiers) || "Nothing of it" }, h("span", { class: "meter" }, fill), whole(candidate.matched_tokens), more);
}

function row(candidate, explained, ranked) {
  const name = candidate.pod === null ? h("span", { class: "muted" }, "gone by now") : candidate.pod;
  const verdict = candidate.chosen ? h("span", { class: "state", "data-hue": "well" }, icon("well"), "chosen") : candidate.admitted ? h("span", { class: "muted" }, "possible") : h("span", { class: "state", "data-hue": "stale", title: "Its load was above the limit" }, "too busy");
  const score = candidate.score === null ? "–" : whole(candidate.score);
  return h("tr", { "aria-current": candidate.chosen ? "true" : null },
    h("td", { class: "who" }, name, ranked ? h("span", { class: "tag" }, `rank ${candidate.rank}`) : null),
    h("td", {}, verdict), matchCell(candidate, explained.tokens),
    h("td", { class: "number", title: `${candidate.running} running, ${candidate.waiting} waiting` }, `${candidate.running} + ${candidate.waiting}`),
    h("td", { class: "number", title: `${whole(candidate.queued_tokens)} tokens wait to be computed` }, whole(candidate.queued_tokens)),
    h("td", { class: "number", title: "What counts of its match" }, digits(candidate.credit)),
    h("td", { class: "number", title: explained.policy === "cost" ? "The work it would have, in thousandths of a token, less is better" : "What the policy compares, the highest wins" }, score),
    h("td", {}, stateBadge(candidate.state)));
}

const HEADS = [["Candidate", ""], ["", ""], ["Tokens held", "number"], ["Load", "number"], ["Queued", "number"], ["Credit", "number"], ["Score", "number"], ["State", ""]];

/** The table of all that could have got the request. */
export function candidateTable(explained) {
  const ranked = explained.candidates.some((candidate) => candidate.rank > 0);
  const head = h("tr", {}, HEADS.map(([name, kind]) => h("th", { class: kind, scope: "col" }, name || h("span", { class: "unseen" }, "Verdict"))));
  const rows = explained.candidates.map((candidate) => row(candidate, explained, ranked));
  const more = explained.left_out ? h("p", { class: "small-words rest" }, `${whole(explained.left_out)} more are not listed.`) : null;
  return h("div", {}, h("div", { class: "wide", "data-scrolls": true }, h("table", { class: "plain candidates" }, h("thead", {}, head), h("tbody", {}, rows))), more);
}
