// Why a worker was chosen, in sentences.
import { digits, many, percent, whole } from "./format.js";

/** A worker as people call it: the rank only where there are several. */
export function workerName(target, ranked) {
  return ranked ? `${target.pod} rank ${target.rank}` : target.pod;
}

function requests(candidate) {
  return candidate.running + candidate.waiting;
}

function holds(explained) {
  const { matched_tokens: matched, speculative_tokens: expected, tokens } = explained;
  if (matched + expected === 0) return "it holds none of the prompt";
  const of = tokens ? ` of ${whole(tokens)}` : "";
  const more = expected > 0 ? `, and ${whole(expected)} more are expected there` : "";
  return `it holds ${whole(matched)}${of} ${tokens === 1 ? "token" : "tokens"}${more}`;
}

function most(explained) {
  const best = Math.max(0, ...explained.candidates.map((candidate) => candidate.matched_tokens));
  return explained.candidates.find((candidate) => candidate.matched_tokens === best);
}

function skippedWords(explained) {
  const best = most(explained);
  const name = best?.pod ?? "another worker";
  return `${name} holds ${whole(best?.matched_tokens)} tokens, but it is too busy with ${many(best ? requests(best) : 0, "request")}; of the others it has the fewest`;
}

function matchWords(explained) {
  const rest = explained.candidates.filter((candidate) => candidate.admitted && !candidate.chosen);
  const own = explained.matched_tokens + explained.speculative_tokens;
  const best = Math.max(0, ...rest.map((candidate) => candidate.matched_tokens + candidate.speculative_tokens));
  if (best > own) return `${holds(explained)}; others hold more, but less of it counts, as far as they can be trusted`;
  if (best === own) return `${holds(explained)}; others hold as much, but are busier or count for less`;
  return `${holds(explained)}, more than any other that is not too busy`;
}

const REASONS = {
  prefix_match: matchWords,
  prefix_match_skipped: skippedWords,
  least_request_fallback: (explained) => (explained.minimum_match > explained.matched_tokens && explained.matched_tokens > 0
    ? `nobody holds ${whole(explained.minimum_match)} tokens of it, so the one with the fewest requests`
    : "nobody holds a part of it that is worth mentioning, and it has the fewest requests"),
  no_tokens: () => "the prompt’s tokens are not known to this node, so the one with the fewest requests",
  single_candidate: (explained) => `there is no other${explained.matched_tokens ? `; ${holds(explained)}` : ""}`,
  session: () => "the request’s session is served there",
  cost: (explained) => `it has the least work to do with it; ${holds(explained)}`,
  least_request: () => "the policy asks for the fewest requests",
  round_robin: () => "the policy takes one after the other",
  random: () => "the policy takes any",
};

/** The sentence after "gets it:". */
export function reasonWords(explained) {
  const words = REASONS[explained.reason];
  return words ? words(explained) : explained.reason.replaceAll("_", " ");
}

/** What the loads of the candidates allowed, or null if there was nothing to compare. */
export function gateWords(explained) {
  const { gate, candidates } = explained;
  const compared = ["prefix_match", "prefix_match_skipped", "least_request_fallback"].includes(explained.reason);
  if (candidates.length < 2 || !compared) return null;
  if (gate.least === gate.most) return gate.most === 0 ? "None of them has a request." : `Each of them has ${many(gate.most, "request")}.`;
  const span = `They have between ${whole(gate.least)} and ${many(gate.most, "request")}, ${digits(gate.mean)} on average`;
  if (gate.imbalanced) return `${span}: that is too uneven, so only the least busy were let in.`;
  const out = candidates.filter((candidate) => !candidate.admitted).length;
  if (out > 0) return `${span}. ${many(out, "candidate")} with more than ${digits(gate.limit)} ${out === 1 ? "was" : "were"} left out as too busy.`;
  return `${span}. None is too busy: the limit is ${digits(gate.limit)}.`;
}

/** What part of the prompt need not be computed, in words; null if that is not known. */
export function savedWords(explained) {
  const { tokens, matched_tokens: matched } = explained;
  return tokens && matched ? `${percent(matched / tokens)} of the prompt need not be computed.` : null;
}

/** Words for a form whose token ids cannot be read. */
export function readTokens(text) {
  const parts = text.trim().replace(/^\[|\]$/g, "").split(/[\s,;]+/).filter(Boolean);
  if (parts.length === 0) throw new Error("Give at least one token id.");
  return parts.map((part, place) => {
    const id = Number(part);
    if (!/^\d+$/.test(part) || id > 0xffffffff) throw new Error(`“${part.slice(0, 20)}”, the ${ordinal(place + 1)} of ${parts.length}, is not a token id: those are whole numbers up to 4,294,967,295.`);
    return id;
  });
}

function ordinal(number) {
  const last = number % 10;
  const teen = number % 100 > 10 && number % 100 < 14;
  return `${number}${teen ? "th" : { 1: "st", 2: "nd", 3: "rd" }[last] ?? "th"}`;
}
