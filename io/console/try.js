// Try it: who would get a prompt, and why. Nothing is sent to any engine, and nothing is booked.
import { getJson, postJson } from "./api.js";
import { curlCommand } from "./curl.js";
import { blank, h, say, setText } from "./dom.js";
import { many } from "./format.js";
import { Poll } from "./poll.js";
import { onToken, token } from "./session.js";
import { candidateTable } from "./try-table.js";
import { gateWords, readTokens, reasonWords, savedWords, workerName } from "./try-words.js";

const EVERY_MS = 5000;
const POLICIES = [["", "as the node is set"], ["prefix-cache", "prefix-cache: the longest match"], ["cost", "cost: the least work"], ["least-request", "least-request: the fewest requests"], ["round-robin", "round-robin"], ["random", "random"]];
const KINDS = [["prompt", "Text"], ["tokens", "Token ids"]];
const HINTS = { prompt: "Paste a prompt. It goes to this node only, and is not kept.", tokens: "Token ids: [1, 2, 3] or separated by spaces or commas." };

/** The view `#/try`. */
export class TryView {
  #models = null;
  #asking = null;

  constructor(section, page) {
    this.page = page;
    this.poll = new Poll(() => "/v1/workers", EVERY_MS, (workers) => this.#take(workers), (error) => this.#failed(error));
    this.#buildForm();
    this.#buildResult();
    section.append(h("div", { class: "head" }, h("h2", {}, "Try it"), h("p", { class: "small-words" }, "who would get a prompt, and why; nothing is computed for it")), h("div", { class: "try" }, this.form, this.result));
    onToken(() => this.#drawCurl());
    this.#kind();
  }

  #buildForm() {
    this.model = h("select", { id: "try-model", name: "model", required: true }, h("option", { value: "" }, "asking for the models…"));
    this.policy = h("select", { id: "try-policy", name: "policy" }, POLICIES.map(([value, words]) => h("option", { value }, words)));
    this.kinds = h("div", { class: "segments", role: "radiogroup", "aria-label": "The prompt is given as" }, KINDS.map(([value, words]) =>
      h("label", {}, h("input", { type: "radio", name: "try-kind", value, checked: value === "prompt" }), words)));
    this.prompt = h("textarea", { id: "try-prompt", rows: 9, spellcheck: "false", "aria-describedby": "try-hint", autocomplete: "off" });
    this.hint = h("p", { id: "try-hint", class: "small-words" });
    this.lora = h("input", { id: "try-lora", autocomplete: "off", spellcheck: "false", list: "try-adapters" });
    this.adapters = h("datalist", { id: "try-adapters" });
    this.salt = h("input", { id: "try-salt", autocomplete: "off", spellcheck: "false" });
    this.submit = h("button", { type: "submit", class: "primary" }, "Who gets it?");
    const field = (label, control) => h("div", { class: "field" }, h("label", { for: control.id }, label), control);
    this.form = h("form", { id: "try-form", class: "panel", onsubmit: (event) => this.#send(event), oninput: () => this.#kind(), onkeydown: (event) => this.#key(event) },
      h("div", { class: "pair" }, field("Model", this.model), field("Policy", this.policy)),
      h("div", { class: "field" }, h("div", { class: "labels" }, h("label", { for: "try-prompt" }, "Prompt"), this.kinds), this.prompt, this.hint),
      h("details", {}, h("summary", {}, "Adapter and cache salt"), h("div", { class: "pair" }, field("Adapter", this.lora), field("Cache salt", this.salt)), this.adapters),
      h("div", { class: "actions" }, this.submit, h("span", { class: "small-words" }, "or Ctrl + Enter")));
  }

  #buildResult() {
    this.answer = h("div", { class: "answer", "aria-live": "polite" }, blank("No question yet", "Give a prompt and see which worker would get it, what it holds of it, and how the others compare."));
    this.curl = h("code", { id: "try-curl" });
    this.copy = h("button", { type: "button", class: "small", onclick: () => this.#copy() }, "Copy");
    this.result = h("div", { id: "try-result", class: "panel" }, this.answer,
      h("section", { class: "command", "aria-label": "As a curl command" }, h("header", {}, h("h3", {}, "As a command"), this.copy), h("pre", { tabindex: "0" }, this.curl)));
  }

  /** Shows the view as the address says. */
  show(params) {
    this.wanted = params.get("model");
    this.poll.start();
    if (this.#models) this.page.drawn();
  }

  /** Stops asking for models. */
  hide() {
    this.poll.stop();
  }

  #take(workers) {
    this.reached = new Set(workers.filter((worker) => worker.endpoint).map((worker) => worker.model));
    const models = new Map();
    for (const worker of workers) {
      const adapters = models.get(worker.model) ?? new Set();
      for (const name of worker.lora) adapters.add(name);
      models.set(worker.model, adapters);
    }
    const said = JSON.stringify([...models].map(([model, adapters]) => [model, [...adapters].sort()]).sort());
    if (said !== this.#models) {
      this.#models = said;
      this.#drawModels(models);
    }
    this.page.drawn();
  }

  #drawModels(models) {
    const before = this.model.value || this.wanted;
    const names = [...models.keys()].sort();
    this.model.replaceChildren(...(names.length ? names : [""]).map((name) => h("option", { value: name }, name || "no model: the fleet is empty")));
    if (names.includes(before)) this.model.value = before;
    this.adapters.replaceChildren(...[...new Set([...models.values()].flatMap((names) => [...names]))].sort().map((name) => h("option", { value: name })));
    this.submit.disabled = names.length === 0;
    this.#drawCurl();
  }

  #failed(error) {
    if (this.#models) return;
    this.model.replaceChildren(h("option", { value: "" }, error.status === 401 ? "a token is needed" : "the node does not answer"));
    this.submit.disabled = true;
  }

  #isTokens() {
    return this.form.elements["try-kind"].value === "tokens";
  }

  #kind() {
    const tokens = this.#isTokens();
    this.prompt.placeholder = tokens ? "[128000, 2028, 374, 264]" : "You are a helpful assistant…";
    this.prompt.classList.toggle("mono", tokens);
    this.#complain(null);
    this.#drawCurl();
  }

  #complain(words) {
    setText(this.hint, words ?? HINTS[this.#isTokens() ? "tokens" : "prompt"]);
    this.hint.classList.toggle("wrong", words !== null);
    this.prompt.setAttribute("aria-invalid", words === null ? "false" : "true");
  }

  /** The request's body; throws words if the form cannot be read. */
  #body() {
    const body = { model: this.model.value };
    if (this.#isTokens()) body.token_ids = readTokens(this.prompt.value);
    else if (this.prompt.value) body.prompt = this.prompt.value;
    else throw new Error("Give a prompt.");
    if (this.lora.value) body.lora = this.lora.value;
    if (this.salt.value) body.cache_salt = this.salt.value;
    if (this.policy.value) body.policy = this.policy.value;
    return { ...body, dry_run: true };
  }

  #drawCurl() {
    let body;
    try {
      body = this.#body();
    } catch {
      body = { model: this.model.value, ...(this.#isTokens() ? { token_ids: [] } : { prompt: "…" }), dry_run: true };
    }
    setText(this.curl, curlCommand(`${location.origin}/v1/route`, body, token() !== null));
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.curl.textContent);
      setText(this.copy, "Copied");
    } catch {
      // Without a secure origin there is no clipboard: it is selected, ready to be copied by hand.
      getSelection().selectAllChildren(this.curl);
      setText(this.copy, "Selected: press Ctrl + C");
    }
    say(this.copy.textContent);
    setTimeout(() => setText(this.copy, "Copy"), 2500);
  }

  #key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
  }

  async #send(event) {
    event.preventDefault();
    let body;
    try {
      body = this.#body();
    } catch (error) {
      this.#complain(error.message);
      this.prompt.focus();
      return;
    }
    this.#complain(null);
    this.#drawCurl();
    this.#asking?.abort();
    if (!this.reached?.has(body.model)) {
      this.#drawUnreached(body.model);
      return;
    }
    const asking = (this.#asking = new AbortController());
    this.result.setAttribute("aria-busy", "true");
    try {
      const route = await postJson("/v1/route", body, { signal: asking.signal });
      const explained = await getJson(`/v1/explain/${encodeURIComponent(route.request_id)}`, { signal: asking.signal });
      this.#drawAnswer(explained);
    } catch (error) {
      if (asking.signal.aborted) return;
      if (!("status" in error)) throw error;
      this.#drawError(error);
    } finally {
      if (this.#asking === asking) this.result.removeAttribute("aria-busy");
    }
  }

  #drawUnreached(model) {
    this.answer.replaceChildren(blank("Nobody can get it", `No worker that serves ${model} is described with an address for requests. Its events are known, but a request could not be sent to it.`));
  }

  #drawError(error) {
    const titles = { 0: "The node does not answer", 401: "A token is needed", 404: "Nobody serves this", 503: "Nobody can get it now" };
    const field = error.field ? h("p", {}, "It is about ", h("code", {}, error.field), error.code ? [" (", h("code", {}, error.code), ")"] : null, ".") : null;
    const words = error.message.charAt(0).toUpperCase() + error.message.slice(1);
    this.answer.replaceChildren(blank(titles[error.status] ?? "The node refuses it", `${words}.`.replace("..", "."), field));
  }

  #drawAnswer(explained) {
    const { target, candidates } = explained;
    const ranked = candidates.some((candidate) => candidate.rank > 0);
    const extra = [savedWords(explained), gateWords(explained)].filter(Boolean).join(" ");
    const name = h("a", { href: `#/fleet?${new URLSearchParams({ worker: `${target.pod}#${target.rank}` })}`, "data-target": `${target.pod}#${target.rank}` }, workerName(target, ranked));
    this.answer.replaceChildren(...[
      h("p", { class: "sentence" }, name, " gets it: ", reasonWords(explained), "."),
      extra ? h("p", { class: "muted" }, extra) : null,
      h("p", { class: "small-words" }, `policy ${explained.policy} · reason `, h("code", {}, explained.reason), explained.tokens ? ` · ${many(explained.tokens, "token")}` : "", ` · ${many(candidates.length + explained.left_out, "candidate")}`),
      candidateTable(explained),
    ].filter(Boolean));
  }
}
