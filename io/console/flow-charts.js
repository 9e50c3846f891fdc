// What the charts of the flow show, and how their values are read.
import { micros, percent, si, whole } from "./format.js";
import { STATES } from "./states.js";

const rate = (field) => (sample) => (sample.dt_ms > 0 ? (sample[field] * 1000) / sample.dt_ms : null);
const quantile = (field, name, scale = 1) => (sample) => (sample[field] ? sample[field][name] * scale : null);
const perSecond = (value) => `${si(value)}/s`;
/** How quantiles look in every chart. */
const QUANTILES = { p50: { ink: 1, style: "" }, p90: { ink: 3, style: "second" }, p99: { ink: 4, style: "third" } };

/** The share of asked tokens that somebody held, or null if none was asked for. */
export function hitRatio(sample) {
  return sample.asked_tokens > 0 ? sample.matched_tokens / sample.asked_tokens : null;
}

/** Rates of a field in a sample. */
export const ratesOf = rate;

/** All charts, in their order. */
export const CHARTS = [
  {
    key: "events", title: "Events", unit: "applied per second", scale: "linear", tick: si, words: perSecond, topLeast: 10,
    series: [{ name: "events", of: rate("events") }, { name: "skipped", style: "second", of: rate("skipped") }],
  },
  {
    key: "blocks", title: "Blocks", unit: "stored and removed per second", scale: "linear", tick: si, words: perSecond, topLeast: 10,
    series: [{ name: "stored", of: rate("blocks_stored") }, { name: "removed", style: "second", of: rate("blocks_removed") }],
  },
  {
    key: "lookups", title: "Lookups", unit: "per second, with all requests", scale: "linear", tick: si, words: perSecond, topLeast: 10,
    series: [{ name: "lookups", of: rate("lookups") }, { name: "requests", style: "second", of: rate("requests") }],
  },
  {
    key: "hits", title: "Hit ratio", unit: "tokens found of those asked for", scale: "share", tick: (value) => `${Math.round(value * 100)} %`, words: percent, none: "no lookups in this time",
    series: [{ name: "held by the best worker", of: hitRatio }],
  },
  {
    key: "latency", title: "Lookup latency", unit: "over 15 s, log scale", scale: "log", tick: micros, words: micros, none: "no lookups in this time",
    series: ["p50", "p90", "p99"].map((name) => ({ name, ...QUANTILES[name], of: quantile("lookup_us", name) })),
  },
  {
    key: "lag", title: "Ingest lag", unit: "publishing to index, log scale", scale: "log", tick: micros, words: micros, none: "no events in this time",
    series: ["p50", "p99"].map((name) => ({ name, ...QUANTILES[name], of: quantile("lag_ms", name, 1000) })),
  },
  {
    key: "states", title: "Workers", unit: "by state", scale: "linear", stacked: true, tick: (value) => (Number.isInteger(value) ? whole(value) : ""), words: whole, topLeast: 4,
    series: STATES.map(({ name }) => ({ name, hue: name, of: (sample) => sample.states[name] ?? 0 })),
  },
  {
    key: "held", title: "Blocks held", unit: "by all workers together", scale: "linear", fill: true, tick: si, words: si, topLeast: 100,
    series: [{ name: "blocks", of: (sample) => sample.blocks }],
  },
];
