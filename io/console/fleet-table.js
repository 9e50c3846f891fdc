// The fleet's table: only the rows in view exist, and they are kept as long as they stay in view.
import { h, icon, setAttr } from "./dom.js";
import { COLUMNS, nameOf } from "./fleet-columns.js";

const OVERSCAN_ROWS = 6;
const ROW_PX = 32;

function headCell(column, onSort) {
  const button = h("button", { type: "button", "data-sort": column.key, title: column.hint, onclick: () => onSort(column) },
    h("span", {}, column.label), h("span", { class: "arrow" }));
  return h("th", { class: `c-${column.key}${column.number ? " number" : ""}`, role: "columnheader", scope: "col" }, button);
}

/** A table of workers in a scrolling box. */
export class FleetTable {
  #rows = [];
  #drawn = new Map();
  #spare = [];
  #facts = null;
  #rowPx = ROW_PX;
  #frame = 0;
  #active = null;
  #chosen = null;

  /** @param {{onSort: function, onOpen: function, onMove: function}} callbacks */
  constructor(callbacks) {
    this.callbacks = callbacks;
    this.before = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
    this.after = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
    this.body = h("tbody", { role: "rowgroup" }, this.before, this.after);
    const head = h("tr", { role: "row", "aria-rowindex": "1" }, COLUMNS.map((column) => headCell(column, callbacks.onSort)));
    this.table = h("table", { id: "workers", role: "grid", "aria-label": "Workers" }, h("thead", { role: "rowgroup" }, head), this.body);
    this.box = h("div", { class: "scroller", tabindex: "-1" }, this.table);
    this.box.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#soon()).observe(this.box);
    this.body.addEventListener("click", (event) => this.#click(event));
    this.body.addEventListener("focusin", (event) => this.#focused(event));
    this.box.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Shows these workers, in this order. */
  show(rows, facts) {
    this.#rows = rows;
    this.#facts = facts;
    setAttr(this.table, "aria-rowcount", rows.length + 1);
    this.#draw();
  }

  /** Draws again what passes with time. */
  tick(now) {
    if (!this.#facts) return;
    this.#facts.now = now;
    this.#draw();
  }

  /** Says in the head what is sorted by. */
  markSort(key, descending) {
    for (const cell of this.table.tHead.rows[0].cells) {
      const mine = cell.querySelector("button").dataset.sort === key;
      setAttr(cell, "aria-sort", mine ? (descending ? "descending" : "ascending") : null);
      cell.querySelector(".arrow").replaceChildren(...(mine ? [icon(descending ? "down" : "up")] : []));
    }
  }

  /** Marks the row whose details are shown; null: none. */
  choose(name) {
    this.#chosen = name;
    for (const [key, row] of this.#drawn) setAttr(row, "aria-selected", key === name ? "true" : "false");
  }

  /** Brings a worker into view and focuses it; whether it is there. */
  focus(name) {
    const at = this.#rows.findIndex((worker) => nameOf(worker) === name);
    if (at < 0) return false;
    this.#goTo(at);
    return true;
  }

  #soon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #range() {
    const first = Math.floor(this.box.scrollTop / this.#rowPx) - OVERSCAN_ROWS;
    const count = Math.ceil(this.box.clientHeight / this.#rowPx) + 2 * OVERSCAN_ROWS;
    const from = Math.max(0, Math.min(first, this.#rows.length - count));
    return [from, Math.min(this.#rows.length, from + count)];
  }

  #draw() {
    if (!this.#facts || this.box.clientHeight === 0) return;
    const sample = this.#drawn.values().next().value;
    if (sample?.offsetHeight) this.#rowPx = sample.offsetHeight;
    const [from, to] = this.#range();
    const focused = document.activeElement?.closest?.("tr[data-worker]");
    const owner = focused?.dataset.worker;
    this.#drop(from, to, focused);
    this.#place(from, to);
    this.before.firstElementChild.style.height = `${from * this.#rowPx}px`;
    this.after.firstElementChild.style.height = `${(this.#rows.length - to) * this.#rowPx}px`;
    this.before.hidden = from === 0;
    this.after.hidden = to === this.#rows.length;
    if (focused && document.activeElement !== focused && focused.dataset.worker === owner) focused.focus({ preventScroll: true });
    if (!sample && this.#drawn.size) this.#soon();
  }

  #drop(from, to, focused) {
    const wanted = new Set();
    for (let at = from; at < to; at++) wanted.add(nameOf(this.#rows[at]));
    for (const [name, row] of this.#drawn) {
      if (wanted.has(name)) continue;
      // The keys still work: the box takes them until the row comes back.
      if (row === focused) this.box.focus({ preventScroll: true });
      this.#drawn.delete(name);
      this.#spare.push(row);
    }
    const waiting = document.activeElement === this.box && wanted.has(this.#active) && !this.#drawn.has(this.#active);
    if (waiting) queueMicrotask(() => this.#drawn.get(this.#active)?.focus({ preventScroll: true }));
  }

  #place(from, to) {
    let next = this.before.nextSibling;
    let stop = null;
    for (let at = from; at < to; at++) {
      const worker = this.#rows[at];
      const name = nameOf(worker);
      const row = this.#drawn.get(name) ?? this.#make(name);
      this.#fill(row, worker, at);
      if (row === next) next = next.nextSibling;
      else this.body.insertBefore(row, next);
      if (name === this.#active) stop = row;
    }
    for (const row of this.#spare.splice(0)) row.remove();
    // One stop for the Tab key; the arrows do the rest.
    stop ??= this.before.nextSibling;
    for (const row of this.#drawn.values()) row.tabIndex = row === stop ? 0 : -1;
  }

  // Rows that have left the view come back as others: that is much cheaper than new ones.
  #make(name) {
    const row = this.#spare.pop() ?? this.#build();
    row.dataset.worker = name;
    setAttr(row, "aria-selected", name === this.#chosen ? "true" : "false");
    this.#drawn.set(name, row);
    return row;
  }

  #build() {
    const cells = COLUMNS.map((column) => h("td", { class: `c-${column.key}${column.number ? " number" : ""}`, role: "gridcell" }));
    return h("tr", { tabindex: "-1", role: "row" }, cells);
  }

  #fill(row, worker, at) {
    setAttr(row, "aria-rowindex", at + 2);
    COLUMNS.forEach((column, place) => column.draw(row.children[place], worker, this.#facts));
  }

  #focused(event) {
    const row = event.target.closest("tr[data-worker]");
    if (!row || row.dataset.worker === this.#active) return;
    this.#active = row.dataset.worker;
    for (const other of this.#drawn.values()) other.tabIndex = other === row ? 0 : -1;
  }

  #click(event) {
    const row = event.target.closest("tr[data-worker]");
    if (!row || String(getSelection()).trim()) return;
    row.focus({ preventScroll: true });
    this.callbacks.onOpen(row.dataset.worker, false);
  }

  #key(event) {
    if (event.target.closest("thead") || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = this.#rows.findIndex((worker) => nameOf(worker) === this.#active);
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.#rowPx) - 2);
    const last = this.#rows.length - 1;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last }[event.key];
    if (to !== undefined && last >= 0) {
      event.preventDefault();
      this.#goTo(Math.max(0, Math.min(last, to)));
      this.callbacks.onMove(this.#active);
    } else if ((event.key === "Enter" || event.key === " ") && this.#active && at >= 0) {
      event.preventDefault();
      this.callbacks.onOpen(this.#active, true);
    }
  }

  #goTo(at) {
    const head = this.table.tHead.offsetHeight;
    const top = at * this.#rowPx;
    const room = this.box.clientHeight - head - this.#rowPx;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top > this.box.scrollTop + room) this.box.scrollTop = top - room;
    this.#active = nameOf(this.#rows[at]);
    this.#draw();
    this.#drawn.get(this.#active)?.focus({ preventScroll: true });
  }
}
