// Samples as shapes: points in bins of whole samples, broken where samples are missing.

/** Points closer than this many pixels are put into one bin. */
const BIN_PX = 2.5;
/** A pause longer than this many samples is a hole. */
const HOLE_SAMPLES = 2.5;

/** How many milliseconds one bin lasts, for a window of so many on so many pixels. */
export function binMs(rangeMs, widthPx, stepMs) {
  return stepMs * Math.max(1, Math.ceil((BIN_PX * rangeMs) / stepMs / Math.max(widthPx, 1)));
}

/**
 * Bins of a series: the mean of their times and values, least and most. Bins lie on the clock, not on the
 * window: what is drawn moves along, and does not flicker.
 * @returns {Array<Array<{at: number, value: number, least: number, most: number}>>} runs without holes
 */
export function runs(samples, value, ms) {
  const found = [];
  let run = null;
  let bin = null;
  let last = null;
  for (const sample of samples) {
    const y = value(sample);
    const hole = last !== null && sample.at_ms - last > HOLE_SAMPLES * Math.max(sample.dt_ms, 1);
    last = sample.at_ms;
    if (y === null || hole) run = bin = null;
    if (y === null) continue;
    const place = Math.floor(sample.at_ms / ms);
    if (!run) found.push((run = []));
    if (!bin || bin.place !== place) run.push((bin = { place, at: 0, value: 0, count: 0, least: y, most: y }));
    bin.count += 1;
    bin.at += (sample.at_ms - bin.at) / bin.count;
    bin.value += (y - bin.value) / bin.count;
    bin.least = Math.min(bin.least, y);
    bin.most = Math.max(bin.most, y);
  }
  return found;
}

/** The parts of runs whose bins fit, each a run of its own. */
export function partsOf(found, fits) {
  const kept = [];
  for (const run of found) {
    let part = null;
    for (const bin of run) {
      if (!fits(bin)) part = null;
      else if (part) part.push(bin);
      else kept.push((part = [bin]));
    }
  }
  return kept;
}

const n = (number) => number.toFixed(1);

/** A path through the runs' values. A run of one is a short stroke: it happened. */
export function linePath(found, x, y) {
  return found.map((run) => {
    if (run.length === 1) return `M${n(x(run[0].at) - 0.5)} ${n(y(run[0].value))}h1`;
    return run.map((bin, place) => `${place ? "L" : "M"}${n(x(bin.at))} ${n(y(bin.value))}`).join("");
  }).join("");
}

/** The area between two values of each bin: least and most, or a floor and a value. */
export function areaPath(found, x, low, high) {
  return found.filter((run) => run.length > 1).map((run) => {
    const up = run.map((bin, place) => `${place ? "L" : "M"}${n(x(bin.at))} ${n(high(bin))}`).join("");
    const back = [...run].reverse().map((bin) => `L${n(x(bin.at))} ${n(low(bin))}`).join("");
    return `${up}${back}Z`;
  }).join("");
}
