// The fleet's columns: what they are called, what they sort by, how a cell is drawn.
import { h, setAttr, setText } from "./dom.js";
import { ago, day, lasting, percent, si, whole } from "./format.js";
import { severity, stateBadge } from "./states.js";

const TAIL_CHARS = 6;

/** A worker's name: its pod and rank. */
export function nameOf(worker) {
  return `${worker.pod}#${worker.rank}`;
}

/** The events that were passed over, for whatever reason. */
export function skippedOf(worker) {
  let sum = 0;
  for (const reason in worker.events_skipped) sum += worker.events_skipped[reason];
  return sum;
}

// Draws anew only what has changed, so that a selection survives.
function once(cell, value, build) {
  if (cell.drawn === value) return;
  cell.drawn = value;
  cell.replaceChildren(...build());
}

// A pod's name loses its middle where there is no room: both ends tell pods apart.
function podName(pod) {
  const slash = pod.indexOf("/") + 1;
  const cut = Math.max(slash, pod.length - TAIL_CHARS);
  return [
    h("span", { class: "start" }, slash ? h("span", { class: "muted" }, pod.slice(0, slash)) : null, pod.slice(slash, cut)),
    h("span", { class: "end" }, pod.slice(cut)),
  ];
}

function drawPod(cell, worker, fleet) {
  const ranked = fleet.ranked.has(worker.pod);
  once(cell, `${nameOf(worker)}|${ranked}|${worker.serving}`, () => [
    h("span", { class: "pod", title: worker.pod }, podName(worker.pod),
      ranked ? h("span", { class: "tag" }, `rank ${worker.rank}`) : null,
      worker.serving ? null : h("span", { class: "tag", title: "Requests are not sent to it" }, "not serving")),
  ]);
}

function drawModel(cell, worker) {
  once(cell, `${worker.model}|${worker.lora.length}`, () => [
    h("span", { class: "cut", title: [worker.model, ...worker.lora].join("\n") }, worker.model),
    worker.lora.length ? h("span", { class: "tag", title: worker.lora.join("\n") }, `+${worker.lora.length}`) : null,
  ].filter(Boolean));
}

function drawAge(cell, worker, fleet) {
  const known = worker.last_event_ms !== null;
  setText(cell, known ? lasting(fleet.now - worker.last_event_ms) : "–");
  setAttr(cell, "title", known ? `Last event ${day(worker.last_event_ms)}` : "No event so far");
}

function bar(cell, share, words, title) {
  if (!cell.firstElementChild) cell.replaceChildren(h("span", { class: "meter" }, h("i", { class: "fill" })), h("span", { class: "value" }));
  const [meter, value] = cell.children;
  meter.firstElementChild.style.transform = `scaleX(${Math.min(1, Math.max(0, share)).toFixed(3)})`;
  setText(value, words);
  setAttr(cell, "title", title);
}

function drawBlocks(cell, worker, fleet) {
  bar(cell, fleet.blocksMost ? worker.blocks / fleet.blocksMost : 0, whole(worker.blocks), worker.block_size ? `${si(worker.blocks * worker.block_size)} tokens` : null);
}

function drawKv(cell, worker) {
  const usage = worker.load?.kv_usage ?? null;
  bar(cell, usage ?? 0, usage === null ? "–" : `${Math.round(usage * 100)} %`, usage === null ? "Not known" : `${percent(usage)} of the engine’s cache is in use`);
}

function drawLoad(cell, worker) {
  const load = worker.load;
  setText(cell, load ? `${load.running} + ${load.waiting}` : "–");
  setAttr(cell, "title", load ? `${load.running} running, ${load.waiting} waiting` : "Not known");
  cell.classList.toggle("zero", !load);
}

const counted = (value) => (cell, worker) => {
  const number = value(worker);
  setText(cell, whole(number));
  cell.classList.toggle("zero", !number);
};

/**
 * Columns in their order. `key` is the name in `data-sort`, `value` what is sorted by (numbers: the greatest first at the first
 * click; nulls last), `level` how early the column gives way in a narrow window.
 */
export const COLUMNS = [
  { key: "state", label: "State", value: (w) => severity(w.state), draw: (cell, w) => once(cell, w.state, () => [stateBadge(w.state)]), hint: "How far what is known of it can be trusted" },
  { key: "pod", label: "Pod", words: true, value: (w) => w.pod, draw: drawPod },
  { key: "model", label: "Model", words: true, value: (w) => w.model, draw: drawModel },
  { key: "age", label: "Last event", number: true, value: (w) => w.last_event_ms, draw: drawAge, hint: "How long ago its last event came" },
  { key: "sequence", label: "Sequence", number: true, value: (w) => w.last_sequence, draw: (cell, w) => setText(cell, whole(w.last_sequence)), hint: "Number of the last batch of events that was applied" },
  { key: "blocks", label: "Blocks", number: true, value: (w) => w.blocks, draw: drawBlocks, hint: "Blocks that it holds" },
  { key: "load", label: "Load", number: true, value: (w) => (w.load ? w.load.running + w.load.waiting : null), draw: drawLoad, hint: "Requests running + waiting" },
  { key: "kv", label: "KV use", number: true, value: (w) => w.load?.kv_usage ?? null, draw: drawKv, hint: "Share of the engine’s cache in use" },
  { key: "gaps", label: "Gaps", number: true, value: (w) => w.gaps, draw: counted((w) => w.gaps), hint: "Times that batches were missing" },
  { key: "replays", label: "Replays", number: true, value: (w) => w.replays, draw: counted((w) => w.replays), hint: "Times that missing batches were asked for" },
  { key: "restarts", label: "Restarts", number: true, value: (w) => w.restarts, draw: counted((w) => w.restarts), hint: "Times that the engine began anew" },
  { key: "skipped", label: "Skipped", number: true, value: skippedOf, draw: counted(skippedOf), hint: "Events that were passed over" },
  { key: "source", label: "Source", words: true, value: (w) => w.source, draw: (cell, w) => setText(cell, w.source), hint: "Who describes it" },
];

/** What all rows are drawn against. */
export function fleetFacts(workers, now) {
  const ranked = new Set();
  let blocksMost = 0;
  for (const worker of workers) {
    if (worker.rank > 0) ranked.add(worker.pod);
    blocksMost = Math.max(blocksMost, worker.blocks);
  }
  return { ranked, blocksMost, now };
}

/** "3 s ago" for a worker's last event. */
export function ageWords(worker, now) {
  return worker.last_event_ms === null ? "never" : ago(now - worker.last_event_ms);
}
