// The fleet: every worker a row.
import { blank, h, icon, setAttr, setText } from "./dom.js";
import { COLUMNS, fleetFacts, nameOf } from "./fleet-columns.js";
import { Detail } from "./fleet-detail.js";
import { filterOf } from "./fleet-filter.js";
import { FleetTable } from "./fleet-table.js";
import { many, whole } from "./format.js";
import { nodeNow } from "./link.js";
import { Poll } from "./poll.js";
import { STATES } from "./states.js";

const EVERY_MS = 2000;
const COLLATOR = new Intl.Collator("en", { numeric: true });
const SORT = "pod";

/** Words in natural order, as numbers: comparing them again and again would take long. */
function places(values) {
  return new Map([...new Set(values)].sort(COLLATOR.compare).map((value, place) => [value, place]));
}

/** The view `#/fleet`. */
export class FleetView {
  #workers = null;
  #podPlaces = new Map();
  #states = new Set();
  #sort = { key: SORT, descending: false };
  #wanted = null;

  constructor(section, page) {
    this.page = page;
    this.table = new FleetTable({
      onSort: (column) => this.#sortBy(column),
      onOpen: (name, byKey) => this.#open(name, byKey),
      onMove: (name) => this.detail.name && this.#open(name, false),
    });
    this.detail = new Detail(() => this.#close());
    this.poll = new Poll(() => "/v1/workers", EVERY_MS, (workers) => this.#take(workers), (error) => this.#failed(error));
    this.#build(section);
    section.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("keydown", (event) => this.#slash(event, section));
    setInterval(() => !section.hidden && !document.hidden && this.table.tick(nodeNow()), 1000);
  }

  #build(section) {
    this.filter = h("input", {
      id: "filter", type: "search", placeholder: "Filter: words, state:stale, model:…", "aria-label": "Filter workers", autocomplete: "off", spellcheck: "false",
      title: "All words must fit: pod, model, adapter, state or source. pod:a,b fits either; pod:=a fits a alone; -word must not fit. Press / to come here.",
      oninput: () => this.#refilter(),
    });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Only workers in these states" }, STATES.map(({ name, words }) => {
      const chip = h("button", { type: "button", "data-state": name, "data-hue": name, "aria-pressed": "false", title: words, onclick: () => this.#toggle(name) },
        icon(name), h("span", {}, name), h("b", {}, "–"));
      return chip;
    }));
    this.count = h("p", { id: "fleet-count", class: "small-words", role: "status" });
    this.nothing = h("div", { class: "nothing" }, h("div", { class: "blank loading" }, h("p", {}, "Asking for the fleet…")));
    section.append(
      h("div", { class: "head" }, h("h2", {}, "Fleet"), this.count, this.filter, this.chips),
      h("div", { class: "split" }, h("div", { class: "panel list" }, this.table.box, this.nothing), this.detail.element));
    this.table.box.hidden = true;
    this.table.markSort(SORT, false);
  }

  /** Shows the view as the address says. */
  show(params) {
    this.filter.value = params.get("q") ?? "";
    this.#states = new Set((params.get("states") ?? "").split(",").filter((name) => STATES.some((state) => state.name === name)));
    const [key, direction] = (params.get("sort") ?? SORT).split(":");
    if (COLUMNS.some((column) => column.key === key)) this.#sort = { key, descending: direction === "desc" };
    this.table.markSort(this.#sort.key, this.#sort.descending);
    this.#wanted = params.get("worker");
    if (!this.#wanted) this.detail.close();
    this.#draw();
    this.poll.start();
    this.detail.awake(true);
  }

  /** Stops asking. */
  hide() {
    this.poll.stop();
    this.detail.awake(false);
  }

  #take(workers) {
    const pods = new Set(workers.map((worker) => worker.pod));
    if (pods.size !== this.#podPlaces.size || [...pods].some((pod) => !this.#podPlaces.has(pod))) this.#podPlaces = places(pods);
    this.#workers = workers;
    this.#draw();
  }

  #failed(error) {
    if (this.#workers) return;
    const words = error.status === 401 ? "The node tells what it knows to those who have its token." : `It will be asked for again: ${error.message}.`;
    this.nothing.replaceChildren(blank(error.status === 401 ? "A token is needed" : "No fleet yet", words));
  }

  #draw() {
    if (!this.#workers) return;
    const rows = this.#rows();
    this.#drawChips();
    const [all, shown] = [this.#workers.length, rows.length];
    const pods = this.#podPlaces.size;
    setText(this.count, shown === all ? `${many(all, "worker")}${pods === all ? "" : ` on ${many(pods, "pod")}`}` : `${whole(shown)} of ${many(all, "worker")}`);
    this.table.box.hidden = shown === 0;
    this.nothing.hidden = shown !== 0;
    if (shown === 0) this.#drawNothing(all);
    this.table.show(rows, fleetFacts(this.#workers, nodeNow()));
    this.#openWanted();
    this.page.drawn();
  }

  #drawNothing(all) {
    if (all > 0) {
      const clear = h("button", { type: "button", onclick: () => this.#clear() }, "Show all");
      this.nothing.replaceChildren(blank("No worker fits", `None of the ${whole(all)} workers fits this filter.`, clear));
      return;
    }
    this.nothing.replaceChildren(blank("The fleet is empty",
      "Nobody has described an engine to this node so far. Pods come from a fleet file, from Kubernetes, from DNS, or by registration (POST /v1/workers)."));
  }

  #rows() {
    const fits = filterOf(this.filter.value);
    const states = this.#states;
    const rows = this.#workers.filter((worker) => (states.size === 0 || states.has(worker.state)) && fits(worker));
    const column = COLUMNS.find((candidate) => candidate.key === this.#sort.key);
    const sign = this.#sort.descending ? -1 : 1;
    const words = column.words && column.key !== "pod" ? places(rows.map(column.value)) : this.#podPlaces;
    const value = column.words ? (worker) => words.get(column.value(worker)) : column.value;
    const keyed = rows.map((worker) => ({ worker, key: value(worker), place: this.#podPlaces.get(worker.pod) }));
    keyed.sort((a, b) => {
      if (a.key !== b.key) {
        if (a.key === null) return 1;
        if (b.key === null) return -1;
        return sign * (a.key - b.key);
      }
      return a.place - b.place || a.worker.rank - b.worker.rank;
    });
    return keyed.map((entry) => entry.worker);
  }

  #drawChips() {
    const counts = new Map();
    for (const worker of this.#workers) counts.set(worker.state, (counts.get(worker.state) ?? 0) + 1);
    for (const chip of this.chips.children) {
      const name = chip.dataset.state;
      const count = counts.get(name) ?? 0;
      setText(chip.lastElementChild, whole(count));
      setAttr(chip, "aria-pressed", this.#states.has(name) ? "true" : "false");
      chip.classList.toggle("none", count === 0);
    }
  }

  #sortBy(column) {
    const same = this.#sort.key === column.key;
    // The first click on a number shows the greatest, on an age the latest.
    this.#sort = { key: column.key, descending: same ? !this.#sort.descending : Boolean(column.number) || column.key === "state" };
    this.table.markSort(this.#sort.key, this.#sort.descending);
    this.#remember();
    this.#draw();
  }

  #toggle(name) {
    if (!this.#states.delete(name)) this.#states.add(name);
    this.#refilter();
  }

  #refilter() {
    this.table.box.scrollTop = 0;
    this.#remember();
    this.#draw();
  }

  #clear() {
    this.filter.value = "";
    this.#states.clear();
    this.#refilter();
    this.filter.focus();
  }

  #remember() {
    const params = new URLSearchParams();
    if (this.filter.value) params.set("q", this.filter.value);
    if (this.#states.size) params.set("states", [...this.#states].join(","));
    if (this.#sort.key !== SORT || this.#sort.descending) params.set("sort", `${this.#sort.key}${this.#sort.descending ? ":desc" : ""}`);
    if (this.detail.name) params.set("worker", this.detail.name);
    this.page.address(params);
  }

  #openWanted() {
    if (!this.#wanted) return;
    const worker = this.#workers.find((candidate) => nameOf(candidate) === this.#wanted);
    if (worker) this.#show(worker);
    this.#wanted = null;
  }

  #show(worker) {
    this.detail.open(worker);
    this.table.choose(nameOf(worker));
  }

  #open(name, byKey) {
    const worker = this.#workers.find((candidate) => nameOf(candidate) === name);
    if (!worker) return;
    this.#show(worker);
    this.#remember();
    if (byKey) this.detail.title.focus();
  }

  #close() {
    const name = this.detail.name;
    if (!name) return;
    this.detail.close();
    this.table.choose(null);
    this.#remember();
    this.table.focus(name);
  }

  #key(event) {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (event.target === this.filter && this.filter.value) return;
    if (this.detail.name) {
      event.preventDefault();
      this.#close();
    }
  }

  #slash(event, section) {
    if (event.key !== "/" || section.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    this.filter.select();
  }
}
