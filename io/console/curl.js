// The same request as a command: for a shell, and without the token.

/** A word that the shell takes as it is. */
export function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * A curl command for a POST of JSON.
 * @param {string} url
 * @param {object} body
 * @param {boolean} withToken whether a token is in use: it is named, never written
 */
export function curlCommand(url, body, withToken) {
  const lines = [`curl -sS ${shellQuoted(url)}`];
  if (withToken) lines.push("-H \"authorization: Bearer $KVROUTE_TOKEN\"");
  lines.push("-H 'content-type: application/json'", `-d ${shellQuoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}
