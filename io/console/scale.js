// From values to places: nice ends, nice ticks, and times on the clock.

const NICE = [1, 2, 5, 10];
const MINUTES = [0.25, 0.5, 1, 2, 3, 5, 10];

/** The least nice number (1, 2 or 5 with zeros, 25 with any) that is not less. */
export function niceUp(value) {
  const ten = 10 ** Math.floor(Math.log10(value));
  const steps = ten >= 10 ? [1, 2, 2.5, 5, 10] : NICE;
  return steps.find((step) => step * ten >= value * (1 - 1e-9)) * ten;
}

/**
 * A linear scale from 0. `before` is the top that was shown last: it stays as long as it fits, so that an axis does not jump.
 * @returns {{top: number, ticks: number[], at: (value: number) => number}} `at` gives 0 at the bottom, 1 at the top
 */
export function linear(most, before = 0, intervals = 4) {
  const fits = before >= most && most > before * 0.4;
  let top = before;
  let step = niceUp(Math.max(most, 1e-9) / intervals);
  if (!fits) top = Math.max(step, Math.ceil((most / step) * (1 - 1e-9)) * step);
  else step = niceUp(before / intervals);
  const ticks = [];
  for (let tick = 0; tick <= top * (1 + 1e-9); tick += step) ticks.push(Number(tick.toPrecision(12)));
  return { top, ticks, at: (value) => value / top };
}

/** A scale from 0 to 1. */
export function share() {
  return { top: 1, ticks: [0, 0.25, 0.5, 0.75, 1], at: (value) => value };
}

/** A logarithmic scale over whole decades, two at least; what lies below its foot is at its foot. */
export function logarithmic(least, most, before = null) {
  let low = Math.floor(Math.log10(least) + 1e-9);
  let high = Math.ceil(Math.log10(most) - 1e-9);
  if (high === low) low -= 1;
  if (high - low < 2) high = low + 2;
  if (before && before.low <= low && before.high >= high && before.high - before.low <= high - low + 1) ({ low, high } = before);
  const ticks = [];
  const stride = Math.ceil((high - low) / 5);
  for (let decade = low; decade <= high; decade += stride) ticks.push(10 ** decade);
  return { low, high, ticks, at: (value) => Math.max(0, (Math.log10(Math.max(value, 1e-12)) - low) / (high - low)) };
}

/** Round times of the clock between two times: at most so many, each with whether seconds are needed to tell them apart. */
export function times(from, to, most) {
  const span = (to - from) / 60000;
  const step = MINUTES.find((minutes) => span / minutes <= most) ?? 15;
  const ms = step * 60000;
  const ticks = [];
  for (let tick = Math.ceil(from / ms) * ms; tick <= to; tick += ms) ticks.push(tick);
  return { ticks, seconds: step < 1 };
}
