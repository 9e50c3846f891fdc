// Health: what is wrong now, in words, and the numbers that say how much goes on.
import { h, icon, setAttr, setText } from "./dom.js";
import { hitRatio, ratesOf } from "./flow-charts.js";
import { bytes, day, lasting, many, micros, percent, si, whole } from "./format.js";
import { linkState, nodeNow, onLink } from "./link.js";
import { onProblems, worst } from "./problems.js";
import { Spark } from "./spark.js";
import { STATES } from "./states.js";
import { onFlow } from "./stream.js";

const SEVERITIES = { page: "act now", ticket: "act soon", info: "to know" };
const us = (field, name, scale) => (sample) => (sample[field] ? sample[field][name] * scale : null);

const TILES = [
  { name: "Lookups", of: ratesOf("lookups"), words: (value) => si(value), unit: "/s", view: "flow" },
  { name: "Hit ratio", of: hitRatio, words: percent, view: "flow", hint: "Tokens that the best worker held, of those asked for" },
  { name: "Lookup p99", of: us("lookup_us", "p99", 1), words: micros, view: "flow" },
  { name: "Events", of: ratesOf("events"), words: (value) => si(value), unit: "/s", view: "flow" },
  { name: "Ingest lag p99", of: us("lag_ms", "p99", 1000), words: micros, view: "flow" },
  { name: "Blocks held", of: (sample) => sample.blocks, words: (value) => si(value), view: "fleet" },
];

function podLink(pod) {
  return h("a", { href: `#/fleet?${new URLSearchParams({ q: `pod:=${pod}` })}` }, pod);
}

function pods(problem) {
  if (problem.pods.length === 0) return null;
  const rest = problem.count - problem.pods.length;
  return h("p", { class: "pods" }, problem.pods.map((pod) => podLink(pod)),
    rest > 0 ? h("span", { class: "muted" }, `and ${many(rest, "more", "more")}`) : null);
}

/** Words of a problem as a list item. */
function item(problem) {
  const since = problem.since_ms ? `for ${lasting(nodeNow() - problem.since_ms)}` : null;
  return h("li", { "data-problem": problem.name, "data-hue": problem.severity, class: "panel" },
    h("span", { class: "state", title: `Severity: ${problem.severity}` }, icon(problem.severity), SEVERITIES[problem.severity] ?? problem.severity),
    h("div", {}, h("p", { class: "text" }, problem.text), pods(problem)),
    h("p", { class: "more" }, since ? h("span", { class: "muted", title: day(problem.since_ms) }, since) : null,
      problem.runbook ? h("a", { href: problem.runbook, title: problem.name }, "What to do", h("span", { class: "unseen" }, ` about ${problem.name}`)) : null));
}

/** The view `#/health`. */
export class HealthView {
  #on = false;
  #answer = null;
  #said = "";

  constructor(section, page) {
    this.page = page;
    this.verdict = h("h2", { class: "verdict" });
    this.told = h("p", { class: "muted" });
    this.list = h("ul", { class: "problems" });
    this.sparks = TILES.map(() => new Spark());
    this.tiles = h("ul", { class: "tiles" }, TILES.map((tile, place) => h("li", { class: "panel" },
      h("a", { href: `#/${tile.view}`, title: tile.hint }, h("span", { class: "name" }, tile.name), h("b", {}, "–"), this.sparks[place].element))));
    this.bar = h("div", { class: "stack-bar", role: "img" });
    this.keys = h("ul", { class: "keys" });
    this.workers = h("section", { class: "panel workers", "aria-label": "Workers by state" }, h("header", {}, h("h3", {}, "Workers"), h("span", { class: "muted" })), this.bar, this.keys);
    this.node = h("dl", { class: "facts" });
    this.about = h("section", { class: "panel node", "aria-label": "The node" }, h("header", {}, h("h3", {}, "Node")), this.node);
    this.below = h("div", { class: "below" }, this.workers, this.about);
    section.append(h("div", { class: "top" }, this.verdict, this.told), this.list, this.tiles, this.below);
    onProblems((answer) => this.#take(answer));
    onFlow((samples) => this.#flow(samples));
    onLink(() => this.#drawNothing());
  }

  /** Shows the view. */
  show() {
    this.#on = true;
    this.#drawNothing();
    if (this.#answer) this.page.drawn();
  }

  /** Nothing to stop: the header needs the same answers. */
  hide() {
    this.#on = false;
  }

  #take(answer) {
    this.#answer = answer;
    this.#drawVerdict(answer);
    this.#drawNode(answer.node);
    this.page.drawn();
  }

  #drawNothing() {
    if (!this.#on || this.#answer) return;
    const words = { refused: ["a token is needed", "The node tells how it is to those who have its token."], lost: ["no answer", "Whether all is well is not known: the node has not answered yet."] }[linkState().link];
    this.verdict.dataset.hue = "stale";
    setText(this.verdict, words ? words[0].charAt(0).toUpperCase() + words[0].slice(1) : "Asking the node…");
    setText(this.told, words?.[1] ?? "");
    this.tiles.hidden = this.below.hidden = true;
  }

  #drawVerdict({ node, problems }) {
    const hue = worst(problems) ?? "well";
    const said = JSON.stringify([problems, node.ready, Math.floor(nodeNow() / 30000)]);
    this.tiles.hidden = this.below.hidden = false;
    if (said === this.#said) return;
    this.#said = said;
    this.verdict.dataset.hue = hue;
    this.verdict.replaceChildren(icon(hue), problems.length ? many(problems.length, "problem") : "All well");
    const ready = node.ready ? "" : `Not ready: ${node.waiting ?? "it is still starting"}.`;
    setText(this.told, ready || { well: "Nothing is wrong that this node can see.", info: "Nothing needs a hand so far." }[hue] || "");
    const focused = this.list.contains(document.activeElement) ? [...this.list.querySelectorAll("a")].indexOf(document.activeElement) : -1;
    this.list.replaceChildren(...problems.map(item));
    if (focused >= 0) this.list.querySelectorAll("a")[focused]?.focus();
  }

  #drawNode(node) {
    this.nodeFacts = node;
    this.#drawFacts();
  }

  #drawFacts(sample = this.sample) {
    if (!this.nodeFacts) return;
    const node = this.nodeFacts;
    const facts = [["Version", node.version], ["Running for", `${lasting(nodeNow() - node.started_ms)}, since ${day(node.started_ms)}`], ["Requests", node.ready ? "are answered" : `not yet: ${node.waiting ?? "starting"}`]];
    if (sample) facts.push(["Index", bytes(sample.index_bytes)], ["Memory", sample.resident_bytes === null ? "not known" : `${bytes(sample.resident_bytes)} in all`]);
    if (this.node.children.length !== facts.length * 2) this.node.replaceChildren(...facts.flatMap(([name]) => [h("dt", {}, name), h("dd", {})]));
    facts.forEach(([, value], place) => setText(this.node.children[place * 2 + 1], value));
  }

  #flow(samples) {
    if (!this.#on && this.sample) return;
    const sample = samples.at(-1);
    this.sample = sample;
    TILES.forEach((tile, place) => {
      const value = tile.of(sample);
      const [, number] = this.tiles.children[place].firstElementChild.children;
      setText(number, value === null ? "–" : `${tile.words(value)}${tile.unit ?? ""}`);
      this.sparks[place].draw(samples, tile.of);
    });
    this.#drawWorkers(sample);
    this.#drawFacts(sample);
  }

  #drawWorkers(sample) {
    const shown = STATES.filter(({ name }) => sample.states[name] > 0);
    setText(this.workers.querySelector("header span"), sample.workers ? `${many(sample.workers, "worker")}` : "none so far");
    setAttr(this.bar, "aria-label", shown.map(({ name }) => `${sample.states[name]} ${name}`).join(", ") || "no workers");
    const said = JSON.stringify(sample.states);
    if (said === this.statesSaid) return;
    this.statesSaid = said;
    this.bar.replaceChildren(...shown.map(({ name }) => {
      const part = h("i", { "data-hue": name });
      part.style.flexGrow = sample.states[name];
      return part;
    }));
    this.keys.replaceChildren(...shown.map(({ name, words }) => h("li", { "data-hue": name },
      h("a", { class: "state", href: `#/fleet?states=${name}` }, icon(name), name), h("b", {}, whole(sample.states[name])), h("span", { class: "small-words" }, words))));
    if (shown.length === 0) this.keys.replaceChildren(h("li", { class: "muted" }, "Nobody has described an engine to this node so far."));
  }
}
