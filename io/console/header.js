// The line at the top: which node, whether it is ready, its workers by state, and whether it answers.
import { h, icon, setText } from "./dom.js";
import { clock, lasting, many, whole } from "./format.js";
import { linkState, nodeNow, onLink, retryNow } from "./link.js";
import { worst } from "./problems.js";
import { openSignIn } from "./signin.js";
import { STATES } from "./states.js";
import { onFlow } from "./stream.js";

const element = (id) => document.getElementById(id);

function drawStates(sample) {
  const shown = STATES.filter((state) => sample.states[state.name] > 0);
  const links = shown.map(({ name }) => {
    const words = `${many(sample.states[name], "worker")} ${name}`;
    const props = { class: "state", "data-hue": name, href: `#/fleet?states=${name}`, title: words, "aria-label": words };
    return h("a", props, icon(name), h("span", { "aria-hidden": "true" }, whole(sample.states[name])));
  });
  element("states").replaceChildren(...(links.length ? links : [h("span", { class: "muted" }, "no workers")]));
}

/** Draws what `/v1/problems` says of the node, and how many problems there are. */
export function drawNode(answer) {
  const { node, problems } = answer;
  setText(element("version"), node.version);
  const ready = element("ready");
  ready.hidden = false;
  setText(ready, node.ready ? "ready" : "not ready");
  ready.dataset.ready = String(node.ready);
  ready.title = node.ready ? `Up for ${lasting(nodeNow() - node.started_ms)}` : node.waiting ?? "";
  const badge = element("problem-count");
  const count = problems.length;
  badge.hidden = count === 0;
  badge.dataset.hue = worst(problems) ?? "info";
  setText(badge, String(count));
  badge.setAttribute("aria-label", many(count, "problem"));
  document.title = count ? `(${count}) kvroute` : "kvroute";
}

function linkWords(state) {
  if (state.link === "live") return "live";
  if (state.link === "refused") return "token needed";
  if (state.heardAt === null) return state.link === "lost" ? "no answer" : "connecting…";
  return `reconnecting… last data ${lasting(Date.now() - state.heardAt)} ago`;
}

function drawBanner(state) {
  const banner = element("banner");
  const [said, button] = banner.children;
  // The countdown is for those who look: heard each second, it would be a nuisance.
  const [words, countdown] = said.children;
  banner.hidden = state.link !== "lost" && state.link !== "refused";
  if (banner.hidden) return;
  const asOf = state.heardAt === null ? "" : `As of ${clock(state.heardAt)}. `;
  const why = state.words.charAt(0).toUpperCase() + state.words.slice(1);
  if (state.link === "refused") {
    setText(countdown, "");
    setText(words, `${asOf}The node wants a token before it tells anything.`);
    setText(button, "Sign in");
    return;
  }
  const seconds = Math.max(0, Math.ceil((state.nextAt - Date.now()) / 1000));
  setText(words, `${asOf}${why}.`);
  setText(countdown, seconds ? `Next try in ${seconds} s.` : "Trying again…");
  setText(button, "Try now");
}

function drawLink(state) {
  const link = element("link");
  link.dataset.state = state.link === "refused" ? "lost" : state.link;
  setText(link.lastElementChild, linkWords(state));
  link.title = state.heardAt ? `Last data at ${clock(state.heardAt)}` : "No data so far";
  document.body.classList.toggle("old", state.link === "lost" && state.heardAt !== null);
  drawBanner(state);
}

/** Keeps the line up to date. */
export function startHeader() {
  onLink(drawLink);
  onFlow((samples) => drawStates(samples.at(-1)));
  setInterval(() => linkState().link !== "live" && !document.hidden && drawLink(linkState()), 1000);
  element("banner").lastElementChild.addEventListener("click", () => {
    if (linkState().link === "refused") openSignIn();
    else retryNow();
  });
}
