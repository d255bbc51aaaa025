// Which page is shown, and keeping it fresh: by a stream that says when something changed, else by asking again.

import { adapterPage } from "./adapter.js";
import { followCursor } from "./chart.js";
import { h, patch, place } from "./dom.js";
import { offerNamespaces, showFilters, startFilters } from "./filters.js";
import { jobPage } from "./job.js";
import { adapterList, jobList } from "./lists.js";

const POLL_MILLISECONDS = 10_000;
const REDRAW_MILLISECONDS = 15_000;
const view = document.getElementById("view");
const notice = document.getElementById("notice");
const linkState = document.getElementById("link-state");

let shown = { route: null, etag: "", data: null };
let stream = null;
let loading = false;
let again = false;

function readRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(safeDecode);
  const kind = parts[0] === "adapters" ? "adapters" : "jobs";
  const { namespace = "", phase = "", text = "", page = "" } = Object.fromEntries(new URLSearchParams(query));
  return { kind, object: parts.length === 3 ? parts.slice(1) : null, query: { namespace, phase, text, page } };
}

function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function address({ kind, object, query }) {
  if (object) return `api/${kind}/${object.map(encodeURIComponent).join("/")}`;
  const given = Object.entries(query).filter(([, value]) => value);
  return `api/${kind}?${new URLSearchParams(given)}`;
}

async function load() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  try {
    do {
      again = false;
      await loadOnce(readRoute());
    } while (again);
  } finally {
    loading = false;
  }
}

async function loadOnce(route) {
  const url = address(route);
  const same = shown.route && address(shown.route) === url;
  try {
    const known = same && shown.etag ? { "If-None-Match": shown.etag } : {};
    const response = await fetch(url, { headers: known, cache: "no-store", credentials: "same-origin" });
    if (address(readRoute()) !== url) return void (again = true);
    if (response.status === 304) return say(shown.data);
    const data = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
    if (!response.ok) return fail(data.error || `The server answered ${response.status}.`, route, response.status);
    shown = { route, etag: response.headers.get("ETag") || "", data };
    draw();
    say(data);
  } catch {
    fail("The dashboard does not answer; what is shown may be out of date.", route, 0);
  }
}

function draw() {
  const { route, data } = shown;
  if (!data) return;
  const pages = { jobs: [jobList, jobPage], adapters: [adapterList, adapterPage] };
  const [list, page] = pages[route.kind];
  const made = route.object ? page(data, view.clientWidth) : list(data, route.query);
  patch(view, h("div", {}, made));
  cursor.restore();
  if (!route.object) offerNamespaces(data.namespaces);
}

function say(data) {
  const stale = data?.stale ? "The API server has not been heard for a while; what is shown may be out of date." : "";
  setNotice(stale);
  const live = stream && stream.readyState === EventSource.OPEN;
  setText(linkState, live ? "Live" : `Every ${POLL_MILLISECONDS / 1000} s`);
}

function fail(message, route, status) {
  setNotice(message);
  setText(linkState, status ? "" : "Not connected");
  const isOther = !shown.route || address(shown.route) !== address(route);
  // What belongs to another address, or may not be seen any more, does not stay on the screen.
  if (isOther || [401, 403, 404].includes(status)) {
    shown = { route, etag: "", data: null };
    patch(view, h("div", {}));
  }
}

function setNotice(message) {
  notice.hidden = !message;
  setText(notice, message);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function navigate() {
  const route = readRoute();
  const isOther = shown.route && placeOf(shown.route) !== placeOf(route);
  const name = route.kind === "jobs" ? "Jobs" : "Adapters";
  const title = route.object ? route.object[1] : name;
  document.title = route.object ? `${title} | LoRA dashboard` : `${name} | LoRA dashboard`;
  setText(document.getElementById("title"), title);
  document.getElementById("filters").hidden = Boolean(route.object);
  for (const kind of ["jobs", "adapters"]) {
    const link = document.getElementById(`nav-${kind}`);
    if (kind === route.kind) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (isOther) {
    shown = { route: null, etag: "", data: null };
    patch(view, h("div", {}));
    cursor.forget();
    window.scrollTo(0, 0);
    document.getElementById("title").focus({ preventScroll: true });
  }
  showFilters(route);
  load();
}

/** Return what a page is about; other filters of the same list are no other page. */
function placeOf({ kind, object }) {
  return [kind, ...(object || [])].join("/");
}

function listen() {
  stream?.close();
  stream = new EventSource("api/events");
  stream.addEventListener("changed", load);
  stream.addEventListener("open", () => say(shown.data));
  stream.addEventListener("error", () => say(shown.data));
}

// A browser opens six connections to a server, over all tabs: one that nobody looks at gives its own back, and rests.
function attend() {
  if (document.hidden) return rest();
  listen();
  load();
}

function rest() {
  stream?.close();
  stream = null;
}

const cursor = followCursor(view, () => shown.data?.curve || []);
startFilters((query) => {
  const next = place([readRoute().kind], query);
  if (location.hash !== next) location.replace(next);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part after # is the address of a page
  document.getElementById("main").focus();
});
window.addEventListener("hashchange", navigate);
window.addEventListener("resize", draw);
document.addEventListener("visibilitychange", attend);
window.addEventListener("pageshow", (event) => event.persisted && attend());
window.addEventListener("pagehide", rest);
// Without a stream this is all; with one it finds what a lost word would have told.
setInterval(() => document.hidden || load(), POLL_MILLISECONDS);
setInterval(() => document.hidden || draw(), REDRAW_MILLISECONDS); // "12 min ago" goes on by itself
navigate();
if (!document.hidden) listen();
