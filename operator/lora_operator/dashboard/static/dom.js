// Makes elements. The only place that does, and it knows no markup: every text becomes a text node, and only the
// attributes below can be set. A string of a user can therefore never become an element, a script or a foreign link.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "circle", "rect", "text", "title"]);
const TAGS = new Set([
  "a", "button", "caption", "code", "dd", "details", "div", "dl", "dt", "h2", "h3", "li", "nav", "ol", "option", "p",
  "pre", "progress", "section", "small", "span", "strong", "summary", "table", "tbody", "td", "th", "thead", "time",
  "tr", "ul",
]);
const ATTRIBUTES = new Set([
  "class", "id", "role", "scope", "value", "max", "datetime", "title", "tabindex", "hidden", "open", "selected",
  "viewBox", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "text-anchor",
]);

/** Return an element; `attributes` may also hold `href`, of a place within this page only. */
export function h(tag, attributes, ...children) {
  const isSvg = SVG_TAGS.has(tag);
  if (!isSvg && !TAGS.has(tag)) throw new Error(`no such tag: ${tag}`);
  const element = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) setAttribute(element, name, value);
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  const allowed = ATTRIBUTES.has(name) || name.startsWith("aria-") || name.startsWith("data-");
  const inner = name === "href" && String(value).startsWith("#");
  if (!allowed && !inner) throw new Error(`no such attribute: ${name}`);
  element.setAttribute(name, value === true ? "" : String(value));
}

/** Return the address of a place within this page. */
export function place(parts, parameters = {}) {
  const path = parts.map(encodeURIComponent).join("/");
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined);
  const query = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

/**
 * Make the children of `target` what those of `source` are, and leave alone what is so already: focus, a selection, an
 * opened part and the place on the screen survive an update.
 */
export function patch(target, source) {
  const wanted = [...source.childNodes];
  const found = [...target.childNodes];
  wanted.forEach((node, index) => {
    const old = found[index];
    if (!old) target.append(node);
    else if (!sameKind(old, node)) old.replaceWith(node);
    else patchNode(old, node);
  });
  found.slice(wanted.length).forEach((node) => node.remove());
}

function sameKind(old, node) {
  if (old.nodeType !== node.nodeType || old.nodeName !== node.nodeName) return false;
  return node.nodeType !== Node.ELEMENT_NODE || old.getAttribute("data-key") === node.getAttribute("data-key");
}

function patchNode(old, node) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== node.data) old.data = node.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // What a reader has opened stays open.
    if (!node.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of [...node.attributes]) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patch(old, node);
}
