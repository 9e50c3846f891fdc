// Requests to the node, and what can go wrong with them in words.
import { token } from "./session.js";

const PATIENCE_MS = 15000;

/** An answer that is an error, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(status, code, field, message) {
    super(message);
    Object.assign(this, { status, code, field });
  }
}

async function refusal(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // Something between here and the node answered in its own way.
  }
  const message = error.message ?? `the answer was ${answer.status} ${answer.statusText}`.trim();
  return new ApiError(answer.status, error.code ?? null, error.field ?? null, message);
}

/** Whether somebody else stopped it on purpose. */
export function isAborted(error, signal) {
  return Boolean(signal?.aborted) && error.name !== "TimeoutError";
}

/**
 * A request with the token, if there is one. Throws ApiError for anything but success.
 * @returns {Promise<Response>}
 */
export async function ask(path, { signal, headers = {}, ...rest } = {}) {
  const all = { accept: "application/json", ...headers };
  if (token()) all.authorization = `Bearer ${token()}`;
  let answer;
  try {
    answer = await fetch(path, { ...rest, headers: all, signal, cache: "no-store", credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (isAborted(error, signal)) throw error;
    const words = error.name === "TimeoutError" ? `no answer within ${PATIENCE_MS / 1000} s` : "the node does not answer";
    throw new ApiError(0, "no_answer", null, words);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

/** A JSON answer, or ApiError. It may take 15 s. */
export async function getJson(path, { signal, ...rest } = {}) {
  const limit = AbortSignal.timeout(PATIENCE_MS);
  const answer = await ask(path, { ...rest, signal: signal ? AbortSignal.any([signal, limit]) : limit });
  try {
    return await answer.json();
  } catch (error) {
    if (isAborted(error, signal)) throw error;
    throw new ApiError(0, "cut_off", null, "the answer ended early");
  }
}

/** Sends JSON and gets JSON. */
export function postJson(path, body, options = {}) {
  const headers = { "content-type": "application/json" };
  return getJson(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}
