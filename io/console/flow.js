// The flow: what went through the node in the last 15 minutes, live.
import { Chart } from "./chart.js";
import { blank, h, say, setAttr, setText } from "./dom.js";
import { CHARTS } from "./flow-charts.js";
import { clock } from "./format.js";
import { linkState, nodeNow, onLink } from "./link.js";
import { flow, onFlow } from "./stream.js";

const RANGES = [1, 5, 15];
const FAST_STEPS = 15;
/** A window is drawn once it is filled so far: a node that has run for a minute has no use for an axis of fifteen. */
const FILLED = 0.3;

/** The view `#/flow`. */
export class FlowView {
  #on = false;
  #chosen = null;
  #held = null;
  #at = null;
  #frame = 0;
  #byKey = false;

  constructor(section, page) {
    this.page = page;
    const callbacks = { onPoint: (at) => this.#point(at), onKey: (event) => this.#key(event) };
    this.charts = CHARTS.map((spec) => new Chart(spec, callbacks));
    this.#build(section);
    onFlow(() => this.#draw());
    onLink(() => this.#drawNothing());
  }

  #build(section) {
    this.ranges = h("div", { class: "segments", role: "group", "aria-label": "Time shown" }, RANGES.map((minutes) =>
      h("button", { type: "button", "data-minutes": minutes, onclick: () => this.#range(minutes) }, `${minutes} min`)));
    this.pause = h("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => this.#hold() }, "Pause");
    this.told = h("p", { class: "small-words" });
    this.charted = h("div", { class: "charts" }, this.charts.map((chart) => chart.figure));
    this.nothing = h("div", { hidden: true });
    section.append(h("div", { class: "head" }, h("h2", {}, "Flow"), this.told, h("div", { class: "spread tools" }, this.pause, this.ranges)), this.charted, this.nothing);
  }

  /** Shows the view as the address says. */
  show(params) {
    this.#on = true;
    const minutes = Number(params.get("minutes"));
    this.#chosen = RANGES.includes(minutes) ? minutes : null;
    this.#drawNothing();
    this.#draw();
  }

  /** Stops drawing. */
  hide() {
    this.#on = false;
    this.#point(null);
  }

  // Unless it was chosen: the longest window that is filled well enough.
  get #minutes() {
    if (this.#chosen) return this.#chosen;
    const samples = this.#samples();
    const there = samples.length ? samples.at(-1).at_ms - samples[0].at_ms : 0;
    return RANGES.findLast((minutes) => there >= minutes * 60000 * FILLED) ?? RANGES[0];
  }

  #range(minutes) {
    this.#chosen = minutes;
    this.page.address(new URLSearchParams({ minutes: String(minutes) }));
    this.#draw();
  }

  #hold() {
    this.#held = this.#held ? null : flow();
    setText(this.pause, this.#held ? "Go on" : "Pause");
    setAttr(this.pause, "aria-pressed", this.#held ? "true" : "false");
    this.#draw();
  }

  #samples() {
    return this.#held ?? flow();
  }

  #window() {
    const to = this.#samples().at(-1)?.at_ms ?? nodeNow();
    return [to - this.#minutes * 60000, to];
  }

  #drawNothing() {
    if (!this.#on) return;
    const none = this.#samples().length === 0;
    this.nothing.hidden = !none;
    this.charted.hidden = none;
    if (!none) return;
    const { link } = linkState();
    const waiting = h("div", { class: "blank loading" }, h("p", {}, "Listening to the node…"));
    const words = { lost: ["No flow yet", "The node does not answer. Its history of 15 minutes is drawn as soon as it does."], refused: ["A token is needed", "The node tells what it knows to those who have its token."] }[link];
    this.nothing.replaceChildren(words ? blank(...words) : waiting);
  }

  #draw() {
    if (!this.#on) return;
    this.#drawNothing();
    const window = this.#window();
    for (const button of this.ranges.children) setAttr(button, "aria-pressed", Number(button.dataset.minutes) === this.#minutes ? "true" : "false");
    for (const chart of this.charts) chart.draw(this.#samples(), window);
    setText(this.told, this.#held ? `paused at ${clock(window[1])}` : "");
    if (this.#at !== null) this.#drawPoint();
    if (this.#samples().length) this.page.drawn();
  }

  #point(at, byKey = false) {
    if (at === null && this.#byKey && document.activeElement?.closest(".plot")) return;
    this.#at = at;
    this.#byKey = byKey;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#drawPoint();
    });
  }

  // The sample next to the crosshair, if there is one near.
  #nearest() {
    if (this.#at === null) return null;
    const [from] = this.#window();
    let best = null;
    for (const sample of this.#samples()) {
      if (sample.at_ms < from) continue;
      if (!best || Math.abs(sample.at_ms - this.#at) < Math.abs(best.at_ms - this.#at)) best = sample;
    }
    return best;
  }

  #drawPoint() {
    const sample = this.#nearest();
    for (const chart of this.charts) chart.point(sample);
  }

  #key(event) {
    const steps = event.shiftKey ? FAST_STEPS : 1;
    const [from, to] = this.#window();
    const shown = this.#samples().filter((sample) => sample.at_ms >= from);
    if (event.key === "Escape") {
      this.#byKey = false;
      this.#point(null);
      return;
    }
    const now = this.#at === null ? shown.length : shown.indexOf(this.#nearest());
    const next = { ArrowLeft: now - steps, ArrowRight: now + steps, Home: 0, End: shown.length - 1 }[event.key];
    if (next === undefined || shown.length === 0) return;
    event.preventDefault();
    const sample = shown[Math.max(0, Math.min(shown.length - 1, next))];
    this.#point(Math.min(sample.at_ms, to), true);
    const chart = this.charts.find((candidate) => candidate.plot === event.currentTarget);
    if (chart) say(chart.wordsAt(sample));
  }
}
