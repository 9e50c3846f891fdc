// An icicle: prefixes as boxes, as wide as they are asked for, as deep as they are long.
import { h, setAttr, setText } from "./dom.js";
import { si } from "./format.js";
import { niceUp } from "./scale.js";

const AXIS_PX = 46;
const LEAST_PX = 1.5;
const LABEL_PX = 44;

/** How many pods hold it, in the steps that have a colour. */
export function podStep(pods) {
  return pods <= 1 ? 1 : pods === 2 ? 2 : pods <= 4 ? 3 : 4;
}

/**
 * Places nodes: `x` and `width` as shares of what is shown, roots side by side, children under their parent from its left.
 * @param {object[]} nodes parents before children
 * @param {number} asked all that was asked of the context
 * @returns {Map<number, {node: object, x: number, width: number, parent: number|null, children: number[], deepest: number}>}
 */
export function layout(nodes, asked) {
  const places = new Map();
  const filled = new Map();
  const roots = nodes.filter((node) => !places.has(node.parent) && node.parent === null);
  const whole = Math.max(asked, roots.reduce((sum, node) => sum + node.asked, 0)) || 1;
  for (const node of nodes) {
    const parent = places.get(node.parent) ?? null;
    const left = filled.get(node.parent) ?? parent?.x ?? 0;
    const width = node.asked / whole;
    filled.set(node.parent, left + width);
    places.set(node.id, { node, x: left, width, parent: parent ? node.parent : null, children: [], deepest: node.to_tokens });
    parent?.children.push(node.id);
  }
  for (const place of [...places.values()].reverse()) {
    const parent = places.get(place.parent);
    if (parent) parent.deepest = Math.max(parent.deepest, place.deepest);
  }
  return places;
}

/** The boxes of one context. */
export class Icicle {
  #places = new Map();
  #buttons = new Map();
  #zoomed = null;
  #size = [0, 0];

  /** @param {{onRead: (place: object|null) => void, onZoom: () => void}} callbacks */
  constructor(callbacks) {
    this.callbacks = callbacks;
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.boxes = h("div", { class: "boxes", role: "group", "aria-label": "Hottest prefixes; arrows move, Enter zooms in, Escape out" });
    this.element = h("div", { class: "icicle" }, this.axis, this.boxes);
    this.boxes.addEventListener("keydown", (event) => this.#key(event));
    this.boxes.addEventListener("pointerover", (event) => this.#read(event.target));
    this.boxes.addEventListener("focusin", (event) => this.#read(event.target));
    this.boxes.addEventListener("pointerleave", () => this.#read(document.activeElement));
    this.boxes.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(([entry]) => {
      this.#size = [entry.contentRect.width, entry.contentRect.height];
      this.#draw();
    }).observe(this.boxes);
  }

  /** The way from the root to the box that fills the width, outermost first. */
  get way() {
    const way = [];
    for (let place = this.#place(this.#zoomed); place; place = this.#places.get(place.parent)) way.unshift(place.node);
    return way;
  }

  /** Shows a context; the zoom stays where it was, if that is still there. */
  show(context) {
    this.#places = layout(context.nodes, context.asked);
    if (!this.#place(this.#zoomed)) this.#zoomed = null;
    this.#draw();
  }

  /** Zooms to a key; null: all. */
  zoom(key) {
    this.#zoomed = this.#place(key) ? key : null;
    this.#draw();
    this.callbacks.onZoom();
  }

  /** Zooms to where a key can be seen, and focuses it. */
  find(key) {
    const place = this.#place(key);
    if (!place) return;
    this.zoom(this.#places.get(place.parent)?.node.key ?? null);
    this.#buttons.get(key)?.focus();
  }

  #place(key) {
    if (key === null) return null;
    for (const place of this.#places.values()) if (place.node.key === key) return place;
    return null;
  }

  #window() {
    const zoomed = this.#place(this.#zoomed);
    let deepest = 0;
    for (const place of this.#places.values()) deepest = Math.max(deepest, place.deepest);
    if (!zoomed) return { x: 0, width: 1, from: 0, to: deepest };
    return { x: zoomed.x, width: zoomed.width, from: zoomed.node.from_tokens, to: zoomed.deepest };
  }

  #draw() {
    const [width, height] = this.#size;
    if (width === 0) return;
    const view = this.#window();
    const deep = Math.max(1, view.to - view.from);
    this.#drawAxis(view, deep, height);
    const seen = new Set();
    for (const place of this.#places.values()) {
      const box = this.#box(place, view, deep, width, height);
      if (!box) continue;
      seen.add(place.node.key);
      this.#drawBox(place, box);
    }
    for (const [key, button] of this.#buttons) {
      if (seen.has(key)) continue;
      button.remove();
      this.#buttons.delete(key);
    }
    this.#stop();
  }

  #box(place, view, deep, width, height) {
    const { node } = place;
    if (node.to_tokens <= view.from || node.from_tokens >= view.to) return null;
    const left = Math.max(0, (place.x - view.x) / view.width);
    const right = Math.min(1, (place.x + place.width - view.x) / view.width);
    const box = { left: left * width, width: (right - left) * width, top: ((Math.max(node.from_tokens, view.from) - view.from) / deep) * height, height: 0 };
    box.height = Math.max(2, ((node.to_tokens - view.from) / deep) * height - box.top);
    return box.width < LEAST_PX ? null : box;
  }

  #drawBox(place, box) {
    const { node } = place;
    let button = this.#buttons.get(node.key);
    if (!button) {
      button = h("button", { type: "button", "data-key": node.key, tabindex: "-1" }, h("span", {}), h("small", {}));
      this.#buttons.set(node.key, button);
      this.boxes.append(button);
    }
    button.style.left = `${box.left.toFixed(1)}px`;
    button.style.top = `${box.top.toFixed(1)}px`;
    button.style.width = `${Math.max(1, box.width - 1).toFixed(1)}px`;
    button.style.height = `${Math.max(1, box.height - 1).toFixed(1)}px`;
    button.dataset.pods = podStep(node.pods);
    const room = box.width > LABEL_PX && box.height > 15;
    const pods = node.pods === 1 ? "1 pod" : `${node.pods} pods`;
    button.classList.toggle("low", box.height < 32);
    setText(button.firstElementChild, room ? (box.width > 120 ? node.key.slice(0, 8) : pods) : "");
    setText(button.lastElementChild, room && box.width > 120 ? (box.width > 210 ? `${pods} · ${si(node.to_tokens)} tokens` : pods) : "");
    setAttr(button, "aria-label", `Prefix ${node.key.slice(0, 8)}, tokens ${node.from_tokens} to ${node.to_tokens}, on ${pods}`);
  }

  // Depth in tokens, from the prompt's start.
  #drawAxis(view, deep, height) {
    const step = niceUp(deep / Math.max(2, Math.floor(height / 64)));
    const ticks = [view.from];
    for (let tick = Math.ceil(view.from / step) * step; tick <= view.to; tick += step) {
      const room = ((tick - view.from) / deep) * height;
      if (room > 16) ticks.push(tick);
    }
    this.axis.replaceChildren(...ticks.map((tick) => {
      const label = h("span", {}, si(tick));
      label.style.top = `${(((tick - view.from) / deep) * height).toFixed(1)}px`;
      return label;
    }));
    this.element.style.setProperty("--axis", `${AXIS_PX}px`);
  }

  #stop() {
    const focused = this.boxes.contains(document.activeElement) ? document.activeElement : this.boxes.firstElementChild;
    for (const button of this.boxes.children) button.tabIndex = button === focused ? 0 : -1;
  }

  #read(target) {
    const key = target?.closest?.("[data-key]")?.dataset.key ?? null;
    this.callbacks.onRead(key && this.#buttons.has(key) ? this.#place(key) : null);
  }

  #click(event) {
    const button = event.target.closest("[data-key]");
    if (!button) return;
    const { key } = button.dataset;
    if (key === this.#zoomed) this.#out();
    else this.zoom(key);
    button.isConnected && button.focus();
  }

  #out() {
    const place = this.#place(this.#zoomed);
    if (!place) return false;
    const { key } = place.node;
    this.zoom(this.#places.get(place.parent)?.node.key ?? null);
    this.#buttons.get(key)?.focus();
    return true;
  }

  #key(event) {
    const place = this.#place(event.target.closest("[data-key]")?.dataset.key ?? null);
    if (event.key === "Escape" || event.key === "Backspace") {
      if (this.#out()) event.preventDefault();
      return;
    }
    if (!place) return;
    const siblings = place.parent === null ? [...this.#places.values()].filter((other) => other.parent === null) : this.#places.get(place.parent).children.map((id) => this.#places.get(id));
    const at = siblings.indexOf(place);
    const next = {
      ArrowUp: this.#places.get(place.parent), ArrowDown: this.#places.get(place.children[0]),
      ArrowLeft: siblings[at - 1], ArrowRight: siblings[at + 1], Home: this.#places.values().next().value,
    }[event.key];
    const button = next && this.#buttons.get(next.node.key);
    if (!button) return;
    event.preventDefault();
    button.focus();
    this.#stop();
  }
}
