// A small line without axes: whether a number goes up or down.
import { areaPath, binMs, linePath, runs } from "./chart-lines.js";
import { setAttr, svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;
const LEAST_MS = 2 * 60000;

/** A line of the last 15 minutes for a number that is written beside it. */
export class Spark {
  constructor() {
    this.line = svg("path", { class: "line c1" });
    this.area = svg("path", { class: "area under c1" });
    this.element = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line);
  }

  /** Draws a value of each sample. */
  draw(samples, value) {
    const to = samples.at(-1).at_ms;
    const from = Math.min(samples[0].at_ms, to - LEAST_MS);
    const found = runs(samples, value, binMs(to - from, WIDTH, 1000));
    let most = 0;
    for (const run of found) for (const bin of run) most = Math.max(most, bin.value);
    const x = (at) => ((at - from) / (to - from)) * WIDTH;
    const y = (number) => HEIGHT - 2 - (most > 0 ? (number / most) * (HEIGHT - 4) : 0);
    setAttr(this.area, "d", areaPath(found, x, () => HEIGHT, (bin) => y(bin.value)) || null);
    setAttr(this.line, "d", linePath(found, x, y) || null);
  }
}
