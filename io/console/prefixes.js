// The prefixes that are asked for most: as an icicle, and as a table.
import { blank, h, setText } from "./dom.js";
import { ago, many, percent, si, whole } from "./format.js";
import { Icicle, podStep } from "./icicle.js";
import { nodeNow } from "./link.js";
import { Poll } from "./poll.js";

const EVERY_MS = 5000;
const LIMIT = 400;
const ROWS = 50;
const LONELY = 12;
/** A prefix is hot if at least this share of its context's lookups goes through it. */
const HOT_SHARE = 0.02;
const KEY_CHARS = 8;
const LEGEND = ["1 pod", "2 pods", "3–4", "5 and more"];

function contextName(context, all) {
  const name = (of) => (of.lora ? `${of.model} · ${of.lora}` : of.model);
  const same = all.filter((other) => name(other) === name(context)).length > 1;
  return same ? `${name(context)} · blocks of ${context.block_size}` : name(context);
}

/**
 * A decayed count as a rate: what is counted halves each `half` seconds, so that a steady rate r comes to r·half/ln 2, and to less
 * of it while counting has not gone on for long.
 * @returns {number} per minute
 */
export function perMinute(asked, halfSeconds, countedSeconds) {
  const tau = halfSeconds / Math.LN2;
  const reached = 1 - Math.exp(-Math.max(1, countedSeconds) / tau);
  return (asked * 60) / (tau * reached);
}

/** The view `#/prefixes`. */
export class PrefixesView {
  #answer = null;
  #context = null;

  constructor(section, page) {
    this.page = page;
    this.icicle = new Icicle({ onRead: (place) => this.#read(place), onZoom: () => this.#drawWay() });
    this.poll = new Poll(() => `/v1/prefixes?limit=${LIMIT}`, EVERY_MS, (answer) => this.#take(answer), (error) => this.#failed(error));
    this.#build(section);
  }

  #build(section) {
    this.select = h("select", { id: "prefix-context", "aria-label": "Model and adapter", onchange: () => this.#choose() });
    this.told = h("p", { class: "small-words" });
    this.way = h("div", { class: "way", role: "group", "aria-label": "Zoomed to" });
    this.readout = h("p", { class: "readout" });
    const legend = h("ul", { class: "pod-legend", "aria-label": "Held on" }, LEGEND.map((words, step) => h("li", {}, h("i", { "data-pods": step + 1 }), words)));
    this.body = h("tbody");
    const heads = [["Key", ""], ["Depth", "number"], ["Pods", "number"], ["Asked per minute", "number"], ["Share", "number"], ["Last asked", "number"]];
    const table = h("table", { class: "plain", id: "hottest" }, h("thead", {}, h("tr", {}, heads.map(([name, kind]) => h("th", { class: kind, scope: "col" }, name)))), this.body);
    this.lonely = h("ul", { class: "lonely" });
    this.full = h("div", { class: "prefix-body", hidden: true },
      h("div", { class: "panel picture" }, h("div", { class: "over" }, this.way, legend), this.icicle.element, this.readout),
      h("div", { class: "tables" },
        h("section", { class: "panel", "aria-label": "The hottest" }, h("h3", {}, "The hottest"), h("div", { class: "wide", "data-scrolls": true }, table)),
        h("section", { class: "panel", id: "lonely", "aria-label": "Hot, but on one pod only" }, h("h3", {}, "Hot, but on one pod only"),
          h("p", { class: "small-words" }, "If that pod goes or is busy, these are computed anew."), this.lonely)));
    this.nothing = h("div", {}, h("div", { class: "blank loading" }, h("p", {}, "Asking for the prefixes…")));
    section.append(h("div", { class: "head" }, h("h2", {}, "Prefixes"), this.select, this.told), this.full, this.nothing);
    section.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented && this.icicle.way.length) this.icicle.zoom(null);
    });
    this.select.hidden = true;
    this.#read(null);
  }

  /** Shows the view as the address says. */
  show(params) {
    this.#context ??= params.get("context");
    this.#draw();
    this.poll.start();
  }

  /** Stops asking. */
  hide() {
    this.poll.stop();
  }

  #take(answer) {
    this.#answer = answer;
    this.#draw();
    this.page.drawn();
  }

  #failed(error) {
    if (this.#answer) return;
    const refused = error.status === 401 || error.status === 403;
    const words = refused ? "The node tells what it knows to those who have its token." : `They will be asked for again: ${error.message}.`;
    this.nothing.replaceChildren(blank(refused ? "A token is needed" : "No prefixes yet", words));
  }

  #choose() {
    this.#context = this.select.value;
    this.page.address(new URLSearchParams({ context: this.#context }));
    this.icicle.zoom(null);
    this.#draw();
  }

  get #contexts() {
    return this.#answer.contexts.filter((context) => context.nodes.length > 0);
  }

  #shown() {
    const contexts = this.#contexts;
    return contexts.find((context) => contextName(context, contexts) === this.#context) ?? contexts[0];
  }

  #draw() {
    if (!this.#answer) return;
    const contexts = this.#contexts;
    const some = contexts.length > 0;
    this.full.hidden = this.select.hidden = !some;
    this.nothing.hidden = some;
    if (!some) {
      this.nothing.replaceChildren(blank("Nothing was asked for yet", "Prefixes appear here once lookups have found a worker that holds a part of their prompt. Only keys are kept, never text."));
      setText(this.told, "");
      this.page.drawn();
      return;
    }
    const context = this.#shown();
    this.#drawSelect(contexts, context);
    this.#drawTold();
    this.icicle.show(context);
    this.#drawWay();
    this.#drawTable(context);
    this.#drawLonely(context);
    this.page.drawn();
  }

  #drawSelect(contexts, shown) {
    const names = contexts.map((context) => contextName(context, contexts));
    if (JSON.stringify(names) !== this.names) {
      this.names = JSON.stringify(names);
      this.select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    }
    this.select.value = contextName(shown, contexts);
  }

  #drawTold() {
    const { exact, left_out: left, half_life_seconds: half } = this.#answer;
    const parts = [`counts halve each ${half / 60} min`];
    if (!exact) parts.push("lookups were sampled: estimates");
    if (left.forgotten > 0) parts.push(`${many(left.forgotten, "prefix", "prefixes")} forgotten for want of room`);
    if (left.full + left.busy > 0) parts.push(`${many(left.full + left.busy, "lookup")} not counted`);
    setText(this.told, parts.join(" · "));
  }

  #rate(asked) {
    const { half_life_seconds: half, now_ms: now, since_ms: since } = this.#answer;
    return perMinute(asked, half, (now - since) / 1000);
  }

  #drawWay() {
    const context = this.#shown();
    const way = this.icicle.way;
    const steps = [h("button", { type: "button", onclick: () => this.icicle.zoom(null), "aria-current": way.length ? null : "true" }, "all of ", contextName(context, this.#contexts))];
    way.forEach((node, place) => {
      steps.push(h("span", { "aria-hidden": "true" }, "›"), h("button", { type: "button", class: "mono", onclick: () => this.icicle.zoom(node.key), "aria-current": place === way.length - 1 ? "true" : null }, node.key.slice(0, KEY_CHARS)));
    });
    const said = steps.map((step) => step.textContent).join("");
    if (said === this.waySaid) return;
    this.waySaid = said;
    this.way.replaceChildren(...steps);
  }

  #read(place) {
    if (!place) {
      setText(this.readout, "Wide: asked for often. Deep: long. Point at a prefix to read it; click to zoom in, Escape to zoom out.");
      return;
    }
    const { node } = place;
    const share = node.asked / this.#shown().asked;
    this.readout.replaceChildren(h("code", {}, node.key), ` tokens ${whole(node.from_tokens)}–${whole(node.to_tokens)} · `, h("b", {}, node.pods === 1 ? "on 1 pod only" : `on ${node.pods} pods`),
      node.workers > node.pods ? ` (${many(node.workers, "rank")})` : "", ` · ${si(this.#rate(node.asked))} per minute · ${percent(share)} of what is asked here`);
  }

  #row(node, context) {
    const key = h("button", { type: "button", class: "key mono", title: node.key, onclick: () => this.icicle.find(node.key) }, node.key.slice(0, KEY_CHARS));
    return h("tr", {}, h("td", {}, h("i", { class: "chip", "data-pods": podStep(node.pods) }), key),
      h("td", { class: "number" }, `${whole(node.to_tokens)}`), h("td", { class: "number" }, whole(node.pods)),
      h("td", { class: "number" }, si(this.#rate(node.asked))), h("td", { class: "number" }, percent(node.asked / context.asked)),
      h("td", { class: "number muted" }, ago(nodeNow() - node.last_ms)));
  }

  #refill(list, items) {
    const at = list.contains(document.activeElement) ? [...list.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    list.replaceChildren(...items);
    if (at >= 0) list.querySelectorAll("button")[at]?.focus({ preventScroll: true });
  }

  #drawTable(context) {
    const hottest = [...context.nodes].sort((a, b) => b.asked - a.asked).slice(0, ROWS);
    this.#refill(this.body, hottest.map((node) => this.#row(node, context)));
  }

  #drawLonely(context) {
    const hot = context.nodes.filter((node) => node.pods === 1 && node.asked >= HOT_SHARE * context.asked);
    // Of a chain on one pod only its start: what follows is there too, of course.
    const ids = new Set(hot.map((node) => node.id));
    const starts = hot.filter((node) => !ids.has(node.parent)).sort((a, b) => b.asked - a.asked).slice(0, LONELY);
    if (starts.length === 0) {
      this.lonely.replaceChildren(h("li", { class: "muted" }, `None: whatever ${percent(HOT_SHARE)} of the lookups or more go through is on two pods at least.`));
      return;
    }
    this.#refill(this.lonely, starts.map((node) => h("li", {},
      h("i", { class: "chip", "data-pods": 1 }), h("button", { type: "button", class: "key mono", onclick: () => this.icicle.find(node.key) }, node.key.slice(0, KEY_CHARS)),
      h("span", {}, `${whole(node.to_tokens)} tokens`), h("span", { class: "number" }, `${si(this.#rate(node.asked))}/min`), h("span", { class: "number muted" }, percent(node.asked / context.asked)))));
  }
}
