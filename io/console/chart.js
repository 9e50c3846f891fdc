// One chart: axes, lines or areas, a legend that reads out the values, and a crosshair.
import { areaPath, binMs, linePath, partsOf, runs } from "./chart-lines.js";
import { h, icon, setAttr, setText, svg } from "./dom.js";
import { clock, minute } from "./format.js";
import { linear, logarithmic, share, times } from "./scale.js";

const LEFT = 46;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;
/** From this height on there is room for more ticks. */
const ROOMY = 220;
/** Half a flag and half a time. */
const COVERED = 50;

/**
 * What a chart shows.
 * @typedef {object} Spec
 * @property {string} key name in `data-chart`
 * @property {string} title
 * @property {string} unit in words, beside the title
 * @property {"linear"|"log"|"share"} scale
 * @property {boolean} [stacked]
 * @property {(value: number) => string} tick words for a tick
 * @property {(value: number) => string} words for a value
 * @property {{name: string, hue?: string, ink?: number, style?: string, of: (sample: object) => number|null}[]} series
 */
export class Chart {
  #samples = [];
  #window = [0, 1];
  #size = [0, 0];
  #before = null;
  #at = null;

  /**
   * @param {Spec} spec
   * @param {{onPoint: (at: number|null) => void, onKey: (event: KeyboardEvent) => void}} callbacks
   */
  constructor(spec, { onPoint, onKey }) {
    this.spec = spec;
    this.grid = svg("g", { class: "grid" });
    this.shapes = svg("g", { class: "shapes" });
    this.cross = svg("g", { class: "cross" });
    this.cross.style.display = "none";
    this.plot = svg("svg", { class: "plot", tabindex: "0", role: "img" }, this.grid, this.shapes, this.cross);
    this.legend = h("ul", { class: "legend" }, spec.series.map((series, place) => this.#legendItem(series, place)));
    this.empty = h("p", { class: "empty" }, "no samples yet");
    this.figure = h("figure", { class: "panel chart", "data-chart": spec.key },
      h("figcaption", {}, h("h3", {}, spec.title), h("span", { class: "unit" }, spec.unit), this.legend), h("div", { class: "frame" }, this.plot, this.empty));
    this.plot.addEventListener("pointermove", (event) => onPoint(this.#timeAt(event)));
    this.plot.addEventListener("pointerdown", (event) => onPoint(this.#timeAt(event)));
    this.plot.addEventListener("pointerleave", () => onPoint(null));
    this.plot.addEventListener("keydown", onKey);
    this.#makeShapes();
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect)).observe(this.plot.parentElement);
  }

  #legendItem(series, place) {
    const swatch = series.hue ? icon(series.hue) : svg("svg", { class: `swatch c${series.ink ?? place + 1} ${series.style ?? ""}`, viewBox: "0 0 14 8", "aria-hidden": "true" }, svg("path", { d: "M0 4h14" }));
    return h("li", { "data-hue": series.hue ?? null }, swatch, h("span", { class: "name" }, series.name), h("b", {}, "–"));
  }

  #makeShapes() {
    this.parts = this.spec.series.map((series, place) => {
      const colour = series.hue ? `fill-${series.hue}` : `c${series.ink ?? place + 1}`;
      const area = svg("path", { class: `area ${colour} ${this.spec.stacked ? "stack" : this.spec.fill ? "under" : "band"}` });
      const line = svg("path", { class: `line ${colour} ${series.style ?? ""}` });
      const dot = svg("circle", { class: `dot ${colour}`, r: 3 });
      return { area, line, dot };
    });
    this.shapes.append(...this.parts.map((part) => part.area), ...this.parts.map((part) => part.line).reverse());
    this.rule = svg("line", { class: "rule" });
    this.flag = svg("text", { class: "flag", "text-anchor": "middle" });
    this.flagBack = svg("rect", { class: "flag-back", rx: 3, height: 16 });
    this.cross.append(this.rule, ...this.parts.map((part) => part.dot), this.flagBack, this.flag);
  }

  #resize({ width, height }) {
    if (width === 0) return;
    this.#size = [width, height];
    setAttr(this.plot, "viewBox", `0 0 ${width} ${height}`);
    this.draw(this.#samples, this.#window);
    this.point(this.#at);
  }

  #timeAt(event) {
    const box = this.plot.getBoundingClientRect();
    const [from, to] = this.#window;
    const part = (event.clientX - box.left - LEFT) / (this.#size[0] - LEFT - RIGHT);
    return part < -0.02 || part > 1.02 ? null : from + part * (to - from);
  }

  #x(at) {
    const [from, to] = this.#window;
    return LEFT + ((at - from) / (to - from)) * (this.#size[0] - LEFT - RIGHT);
  }

  #y(value) {
    return TOP + (1 - Math.min(1, this.scale.at(value))) * (this.#size[1] - TOP - BOTTOM);
  }

  /** Draws samples in a window of time, `[from, to]` in milliseconds. */
  draw(samples, window) {
    this.#samples = samples;
    this.#window = window;
    if (this.#size[0] === 0) return;
    const shown = samples.filter((sample) => sample.at_ms >= window[0] - 2000 && sample.at_ms <= window[1]);
    this.shown = shown;
    const widest = this.#size[0] - LEFT - RIGHT;
    const step = shown.length ? Math.max(1, shown.at(-1).dt_ms) : 1000;
    const ms = binMs(window[1] - window[0], widest, step);
    const found = this.#stack(this.spec.series.map((series) => runs(shown, series.of, ms)));
    this.#setScale(found);
    this.#drawGrid();
    this.#drawSeries(found);
    const some = found.some((list) => list.length > 0);
    this.empty.hidden = some;
    setText(this.empty, shown.length ? this.spec.none ?? "nothing to measure in this time" : "no samples yet");
    if (this.#at === null) this.#read(shown.at(-1));
    this.#describe();
  }

  // Each series on top of the one before it; stacked series have a value in every sample.
  #stack(found) {
    if (!this.spec.stacked) return found;
    found.forEach((list, place) => list.forEach((run, at) => run.forEach((bin, nth) => {
      bin.floor = place ? found[place - 1][at][nth].value : 0;
      bin.own = bin.value;
      bin.value = bin.most = bin.floor + bin.own;
    })));
    return found;
  }

  #setScale(found) {
    let [least, most] = [Infinity, 0];
    for (const list of found) for (const run of list) for (const bin of run) {
      if (bin.least > 0) least = Math.min(least, bin.least);
      most = Math.max(most, bin.most);
    }
    if (this.spec.scale === "share") this.scale = share();
    else if (this.spec.scale === "log") this.scale = this.#before = most > 0 ? logarithmic(least, most, this.#before) : logarithmic(1, 100);
    else {
      this.scale = linear(Math.max(most, this.spec.topLeast ?? 1), this.#before ?? 0, this.#size[1] > ROOMY ? 6 : 4);
      this.#before = this.scale.top;
    }
  }

  #drawGrid() {
    const [width, height] = this.#size;
    const parts = [];
    for (const tick of this.scale.ticks) {
      const y = Math.round(this.#y(tick)) + 0.5;
      parts.push(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, class: tick === this.scale.ticks[0] ? "base" : null }));
      parts.push(svg("text", { x: LEFT - 6, y: y + 3.5, "text-anchor": "end" }, this.spec.tick(tick)));
    }
    const marks = times(this.#window[0], this.#window[1], Math.max(2, Math.floor((width - LEFT) / 72)));
    for (const tick of marks.ticks) {
      const x = Math.round(this.#x(tick)) + 0.5;
      parts.push(svg("line", { x1: x, x2: x, y1: height - BOTTOM, y2: height - BOTTOM + 4, class: "base" }));
      const inside = Math.min(Math.max(x, LEFT + 4), width - (marks.seconds ? 26 : 18));
      parts.push(svg("text", { x: inside, y: height - 4, "text-anchor": "middle", class: "time" }, marks.seconds ? clock(tick) : minute(tick)));
    }
    this.grid.replaceChildren(...parts);
  }

  #drawSeries(found) {
    const x = (at) => this.#x(at);
    const y = (value) => this.#y(value);
    this.parts.forEach((part, place) => {
      const list = found[place];
      const low = this.spec.stacked ? (bin) => y(bin.floor) : this.spec.fill ? () => y(0) : (bin) => y(bin.least);
      const high = this.spec.stacked || this.spec.fill ? (bin) => y(bin.value) : (bin) => y(bin.most);
      setAttr(part.area, "d", areaPath(list, x, low, high) || null);
      const lines = this.spec.stacked ? partsOf(list, (bin) => bin.own > 0) : list;
      setAttr(part.line, "d", linePath(lines, x, y) || null);
    });
  }

  // Where there is no colour to go by, words: each series' latest value and its range.
  #describe() {
    const told = this.spec.series.map((series, place) => {
      const values = this.shown.map(series.of).filter((value) => value !== null);
      if (series.hue) this.legend.children[place].hidden = !values.some((value) => value > 0);
      if (values.length === 0) return `${series.name}: none`;
      const [least, most] = [Math.min(...values), Math.max(...values)].map(this.spec.words);
      return `${series.name}: ${this.spec.words(values.at(-1))}, between ${least} and ${most}`;
    });
    setAttr(this.plot, "aria-label", `${this.spec.title}, ${this.spec.unit}. ${told.join("; ")}. Left and right arrows read single times.`);
  }

  #read(sample) {
    this.spec.series.forEach((series, place) => {
      const value = sample ? series.of(sample) : null;
      const item = this.legend.children[place];
      setText(item.lastElementChild, value === null ? "–" : this.spec.words(value));
    });
  }

  /** The readout of one sample in words. */
  wordsAt(sample) {
    const parts = this.spec.series.map((series) => [series.name, series.of(sample)]).filter(([, value]) => value !== null);
    return `${this.spec.title} ${clock(sample.at_ms)}: ${parts.map(([name, value]) => `${name} ${this.spec.words(value)}`).join(", ") || "no value"}`;
  }

  // Times on the axis that the crosshair's own would half cover.
  #makeWay(flagAt) {
    for (const text of this.grid.querySelectorAll(".time")) {
      const covered = flagAt !== null && Math.abs(Number(text.getAttribute("x")) - flagAt) < COVERED;
      text.style.visibility = covered ? "hidden" : "";
    }
  }

  /** Puts the crosshair at a sample; null takes it away. */
  point(sample) {
    this.#at = sample;
    this.cross.style.display = sample ? "" : "none";
    this.#read(sample ?? this.shown?.at(-1));
    if (!sample) this.#makeWay(null);
    if (!sample || this.#size[0] === 0) return;
    const [width, height] = this.#size;
    const x = this.#x(sample.at_ms);
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", TOP], ["y2", height - BOTTOM]]) setAttr(this.rule, name, value);
    let sum = 0;
    this.parts.forEach((part, place) => {
      const value = this.spec.series[place].of(sample);
      sum += value ?? 0;
      part.dot.style.display = value === null || (this.spec.stacked && !value) ? "none" : "";
      if (value === null) return;
      setAttr(part.dot, "cx", x);
      setAttr(part.dot, "cy", this.#y(this.spec.stacked ? sum : value));
    });
    const flagAt = Math.min(Math.max(x, LEFT + 28), width - 31);
    setAttr(this.flag, "x", flagAt);
    setAttr(this.flag, "y", height - 4);
    setAttr(this.flagBack, "x", flagAt - 30);
    setAttr(this.flagBack, "y", height - 16);
    setAttr(this.flagBack, "width", 60);
    setText(this.flag, clock(sample.at_ms));
    this.#makeWay(flagAt);
  }
}
