// What is known of one worker: its state in words, its recent history, where it is reached.
import { h, icon, setText } from "./dom.js";
import { ageWords, nameOf, skippedOf } from "./fleet-columns.js";
import { clock, day, lasting, many, percent, si, whole } from "./format.js";
import { nodeNow } from "./link.js";
import { Poll } from "./poll.js";
import { meaning, stateBadge } from "./states.js";

const EVERY_MS = 2000;

const WHATS = {
  state: "State", gap: "Gap", replay: "Replay", restart: "Restart", dropped: "Dropped", connected: "Connected",
  disconnected: "Disconnected", skipped: "Skipped", distrusted: "Distrusted", block_size: "Block size",
};

function fact(name, ...value) {
  return [h("dt", {}, name), h("dd", {}, ...value)];
}

function address(value) {
  return value ? h("code", {}, value) : h("span", { class: "muted" }, "not given");
}

function loadWords(load) {
  if (!load) return "not known";
  const usage = load.kv_usage === null ? "" : `, ${percent(load.kv_usage)} of its cache in use`;
  return `${load.running} running, ${load.waiting} waiting${usage}`;
}

function facts(worker) {
  const tokens = worker.block_size ? `${whole(worker.blocks)} of ${worker.block_size} tokens (${si(worker.blocks * worker.block_size)} in all)` : whole(worker.blocks);
  return h("dl", { class: "facts" },
    fact("Model", worker.model),
    worker.lora.length ? fact("Adapters", worker.lora.join(", ")) : null,
    fact("Blocks", tokens),
    fact("Load", loadWords(worker.load)),
    fact("Last event", worker.last_event_ms ? `${ageWords(worker, nodeNow())} (${clock(worker.last_event_ms)})` : "none so far"),
    fact("Sequence", whole(worker.last_sequence)),
    fact("Repairs", `${many(worker.gaps, "gap")}, ${many(worker.replays, "replay")}, ${many(worker.restarts, "restart")}`),
    fact("Requests", address(worker.endpoint)),
    fact("Events", address(worker.events)),
    fact("Replay", address(worker.replay)),
    fact("Described by", worker.source),
    worker.uid ? fact("UID", h("code", {}, worker.uid)) : null);
}

function skipped(worker) {
  const reasons = Object.entries(worker.events_skipped).sort((a, b) => b[1] - a[1]);
  if (reasons.length === 0) return null;
  return [
    h("h4", {}, `${many(skippedOf(worker), "event")} skipped`),
    h("ul", { class: "reasons" }, reasons.map(([reason, count]) => h("li", {}, h("code", {}, reason), h("span", {}, whole(count))))),
  ];
}

function moment(entry) {
  const today = new Date(entry.at_ms).toDateString() === new Date(nodeNow()).toDateString();
  return h("li", { "data-what": entry.what },
    h("time", { datetime: new Date(entry.at_ms).toISOString(), title: day(entry.at_ms) }, today ? clock(entry.at_ms) : day(entry.at_ms)),
    h("span", { class: "what" }, WHATS[entry.what] ?? entry.what),
    h("span", { class: "text" }, entry.text, entry.count ? h("b", { title: "how often" }, ` × ${whole(entry.count)}`) : null));
}

function history(worker) {
  if (!worker.history) return null;
  const latest = [...worker.history].reverse();
  return [
    h("h4", {}, "History"),
    latest.length ? h("ol", { class: "history" }, latest.map((entry) => moment(entry))) : h("p", { class: "muted" }, "Nothing happened so far."),
    worker.history_lost ? h("p", { class: "small-words" }, `${many(worker.history_lost, "older entry", "older entries")} were forgotten.`) : null,
  ];
}

function about(worker) {
  const since = worker.state_since_ms ? ` for ${lasting(nodeNow() - worker.state_since_ms)}` : "";
  return [
    h("p", { class: "standing" }, stateBadge(worker.state), h("span", { class: "muted" }, since), worker.serving ? null : h("span", { class: "tag" }, "not serving")),
    h("p", { class: "small-words" }, meaning(worker.state)),
    worker.problem ? h("p", { class: "problem" }, icon("ticket"), worker.problem) : null,
    facts(worker), skipped(worker), history(worker),
  ];
}

/** The panel beside the table. */
export class Detail {
  #name = null;
  #said = "";

  /** @param {() => void} onClose */
  constructor(onClose) {
    this.title = h("h3", { tabindex: "-1" });
    this.rank = h("span", { class: "tag" });
    this.content = h("div", { class: "content" });
    const close = h("button", { type: "button", class: "quiet icon", "aria-label": "Close", title: "Close (Escape)", onclick: onClose }, icon("close", ""));
    this.element = h("aside", { id: "detail", "aria-label": "Details of a worker", hidden: true }, h("header", {}, this.title, this.rank, close), this.content);
    this.poll = new Poll(() => `/v1/workers/${encodeURIComponent(this.#pod())}`, EVERY_MS, (ranks) => this.#draw(ranks), (error) => this.#failed(error));
  }

  /** Whose details are shown; null: nobody's. */
  get name() {
    return this.#name;
  }

  /** Shows a worker; what the fleet's list says of it until its history has come. */
  open(worker) {
    const name = nameOf(worker);
    if (this.#name === name) return;
    this.#name = name;
    this.#said = "";
    setText(this.title, worker.pod);
    this.title.title = worker.pod;
    setText(this.rank, `rank ${worker.rank}`);
    this.element.hidden = false;
    this.content.scrollTop = 0;
    this.#fill(worker);
    this.poll.start();
    this.poll.now();
  }

  /** Hides the panel. */
  close() {
    this.#name = null;
    this.element.hidden = true;
    this.poll.stop();
  }

  /** Goes on asking, or not: with the view. */
  awake(on) {
    if (on && this.#name) this.poll.start();
    else this.poll.stop();
  }

  #pod() {
    return this.#name.slice(0, this.#name.lastIndexOf("#"));
  }

  #draw(ranks) {
    const worker = ranks.find((rank) => nameOf(rank) === this.#name);
    if (worker) this.#fill(worker);
    else this.#gone();
  }

  // Drawn anew only if it says something new, so that text can be selected.
  #fill(worker) {
    const said = JSON.stringify(worker) + Math.floor(nodeNow() / 2000);
    if (said === this.#said || this.#selecting()) return;
    this.#said = said;
    this.content.replaceChildren(...about(worker).flat(Infinity).filter(Boolean));
  }

  #selecting() {
    const selection = getSelection();
    return !selection.isCollapsed && this.content.contains(selection.anchorNode);
  }

  #failed(error) {
    if (error.status === 404) this.#gone();
  }

  #gone() {
    this.#said = "";
    this.content.replaceChildren(h("p", { class: "problem" }, icon("info"), "This worker is gone: nobody describes it any more."));
  }
}
