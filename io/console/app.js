// The console: which view is shown, and what all of them share.
import { drawNode, startHeader } from "./header.js";
import { onProblems, startProblems } from "./problems.js";
import { startSignIn } from "./signin.js";
import { startFlow } from "./stream.js";
import { startTheme } from "./theme.js";
import { FleetView } from "./fleet.js";
import { FlowView } from "./flow.js";
import { HealthView } from "./health.js";
import { PrefixesView } from "./prefixes.js";
import { TryView } from "./try.js";

const VIEWS = { health: HealthView, fleet: FleetView, flow: FlowView, prefixes: PrefixesView, try: TryView };
const TITLES = { health: "Health", fleet: "Fleet", flow: "Flow", prefixes: "Prefixes", try: "Try it" };
const built = {};
let current = null;

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: path in VIEWS ? path : "health", params: new URLSearchParams(query) };
}

/** What a view gets to talk to the page: that it has drawn, and its part of the address. */
function page(name) {
  return {
    drawn() {
      if (current === name) document.documentElement.dataset.ready = name;
    },
    address(params) {
      if (current !== name) return;
      const query = params.toString();
      history.replaceState(null, "", `#/${name}${query ? `?${query}` : ""}`);
    },
  };
}

function mark(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.dataset.view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.getElementById("main").setAttribute("aria-label", TITLES[name]);
}

function navigate() {
  const { name, params } = place();
  if (current !== name) {
    if (current) built[current].hide();
    delete document.documentElement.dataset.ready;
    current = name;
    mark(name);
    document.getElementById("main").scrollTop = 0;
  }
  const section = document.querySelector(`main > section[data-view="${name}"]`);
  built[name] ??= new VIEWS[name](section, page(name));
  built[name].show(params);
}

function start() {
  startTheme(document.getElementById("theme"));
  startHeader();
  startSignIn(document.getElementById("sign-out"));
  onProblems(drawNode);
  startProblems();
  startFlow();
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });
  addEventListener("hashchange", navigate);
  navigate();
}

start();
