// Elements built by hand: what comes from the node is text and never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * An HTML element: attributes, `onclick`-like listeners, and children. Nulls are left out.
 * @param {string} tag
 * @param {Object<string, *>} [props]
 * @param {...(Node|string|null|Array)} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** One of the symbols of index.html; it says nothing to those who listen. */
export function icon(name, className = "mark") {
  return svg("svg", { class: className, "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

/** Sets an element's text, if it is another one: selections and screen readers are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute if its value is another one; null removes it. */
export function setAttr(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A designed nothing: a word, a sentence, perhaps a way on. */
export function blank(title, words, ...more) {
  return h("div", { class: "blank" }, h("h3", {}, title), h("p", {}, words), ...more);
}

/** Says something to those who listen instead of looking. */
export function say(words) {
  setText(document.getElementById("say"), words);
}
