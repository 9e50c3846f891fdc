// Server-sent events read by fetch(): EventSource cannot send a token.

/** Longer than a history of 15 minutes, by far. */
const EVENT_CHARS_MAX = 16e6;

/** Splits a stream of text into events of a name and data; comments and ids are passed over. */
export class EventSplitter {
  #rest = "";
  #name = "";
  #data = [];

  /**
   * @param {string} text what came next
   * @returns {{name: string, data: string}[]} the events that it completed
   */
  push(text) {
    const events = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    if (this.#rest.length > EVENT_CHARS_MAX) throw new Error("an event is too long");
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) events.push({ name: this.#name || "message", data: this.#data.join("\n") });
        this.#name = "";
        this.#data = [];
      } else this.#take(line);
    }
    return events;
  }

  #take(line) {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
  }
}

/** Reads an answer's events until it ends; `onEvent` gets each one's name and data. */
export async function readEvents(answer, onEvent) {
  const splitter = new EventSplitter();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    for (const event of splitter.push(value)) onEvent(event.name, event.data);
  }
}
