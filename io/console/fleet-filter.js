// What is typed into the fleet's filter: words that all must fit, `key:value` for one column, `-` for what must not.

const KEYS = {
  pod: (worker) => [worker.pod],
  rank: (worker) => [String(worker.rank)],
  model: (worker) => [worker.model],
  lora: (worker) => worker.lora,
  state: (worker) => [worker.state],
  source: (worker) => [worker.source],
  endpoint: (worker) => [worker.endpoint ?? ""],
  problem: (worker) => [worker.problem ?? ""],
};
const ANYWHERE = ["pod", "model", "lora", "state", "source"];

// `=` before a value: all of it, not a part.
function isIn(value, part) {
  return part.startsWith("=") ? value === part.slice(1) : value.includes(part);
}

function term(word) {
  const refused = word.length > 1 && word.startsWith("-");
  const plain = refused ? word.slice(1) : word;
  const colon = plain.indexOf(":");
  const key = plain.slice(0, Math.max(0, colon)).toLowerCase();
  const named = Object.hasOwn(KEYS, key);
  const wanted = (named ? plain.slice(colon + 1) : plain).toLowerCase().split(named ? "," : "\0").filter(Boolean);
  const keys = named ? [key] : ANYWHERE;
  const fits = (worker) => wanted.length === 0
    || keys.some((name) => KEYS[name](worker).some((value) => wanted.some((part) => isIn(value.toLowerCase(), part))));
  return refused ? (worker) => !fits(worker) : fits;
}

/**
 * @param {string} text
 * @returns {(worker: object) => boolean} whether a worker fits all of it
 */
export function filterOf(text) {
  const terms = text.split(/\s+/).filter(Boolean).map(term);
  return (worker) => terms.every((fits) => fits(worker));
}
