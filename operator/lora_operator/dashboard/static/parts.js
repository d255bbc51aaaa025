// Pieces that several pages use: badges, tables, lists of facts, progress.

import { h, place } from "./dom.js";
import * as format from "./format.js";

const TONES = {
  Running: "active", Preflight: "active", Progressing: "active", Rolling: "active", Canary: "active", Loading: "active",
  Downloading: "active", OnDisk: "active", Unloading: "active",
  Succeeded: "good", Ready: "good", Served: "good", Loaded: "good", Serving: "good", Done: "good", Servable: "good", True: "good",
  Failed: "bad", Stalled: "bad", Degraded: "bad", Rejected: "bad", "Not servable": "bad", Unreachable: "bad", NotInjected: "bad",
};

/** Return a word with the colour of its meaning; the word alone says it all. */
export function badge(word, tone = TONES[word] || "neutral") {
  return h("span", { class: `badge ${tone}` }, word || "–");
}

/** Return a table that becomes a list of cards on a narrow screen; rows are arrays of cells. */
export function table(name, heads, rows, keys = []) {
  const head = h("tr", { role: "row" }, heads.map((each) => h("th", { scope: "col", role: "columnheader" }, each)));
  const body = rows.map((cells, row) => h("tr", { role: "row", "data-key": keys[row] },
    cells.map((cell, column) => h("td", { role: "cell", "data-label": heads[column], class: cell === "–" ? "none" : null }, cell))));
  return h("table", { role: "table", class: "cards", "aria-label": name },
    h("thead", { role: "rowgroup" }, head), h("tbody", { role: "rowgroup" }, body));
}

/** Return pairs of a name and a value; those without a value are left out. */
export function facts(pairs) {
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, given.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Return a part of a page, with its heading. */
export function section(name, ...children) {
  const id = `part-${name.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h("section", { "aria-labelledby": id, class: "part" }, h("h2", { id }, name), children);
}

/** Return a bar with its numbers in words. */
export function progress(row) {
  if (!Number.isFinite(row.percent)) return row.phase === "Running" ? h("span", { class: "muted" }, format.words(row.activity || "Starting")) : "–";
  const text = format.percent(row.percent);
  const step = row.totalSteps ? `step ${format.count(row.step)} of ${format.count(row.totalSteps)}` : `step ${format.count(row.step)}`;
  return h("div", { class: "progress" },
    h("progress", { max: 100, value: row.percent.toFixed(1), "aria-label": `Progress of ${row.name}` }, text),
    h("span", { class: "numbers" }, text, h("small", {}, step)));
}

/** Return a link to the page of an object. */
export function objectLink(kind, namespace, name) {
  return h("a", { href: place([kind, namespace, name]) }, name);
}

/** Return a time: how long ago, with the moment as its title. */
export function since(time) {
  if (!time) return "–";
  return h("time", { datetime: time, title: format.moment(time) }, format.ago(time));
}

/** Return a text that a reader may want to copy, which breaks anywhere. */
export function code(text) {
  return text ? h("code", {}, text) : "–";
}

/** Return the conditions of an object. */
export function conditions(list) {
  const rows = list.map((each) => [h("strong", {}, each.type), conditionBadge(each), each.reason, each.message || "–", since(each.lastTransitionTime)]);
  return table("Conditions", ["Condition", "Status", "Reason", "Message", "Since"], rows, list.map((each) => each.type));
}

const BAD_WHEN_TRUE = new Set(["Failed", "Stalled", "Degraded", "Overfitting"]);
const GOOD_WHEN_TRUE = new Set(["PreflightPassed", "Succeeded", "Compatible", "Loaded", "Ready", "Admitted", "Scheduled"]);

function conditionBadge({ type, status }) {
  const bad = status === "True" ? BAD_WHEN_TRUE.has(type) : false;
  const good = status === "True" && GOOD_WHEN_TRUE.has(type);
  return badge(status, bad ? "bad" : good ? "good" : status === "True" ? "active" : "neutral");
}

/** Return verdicts of engines. */
export function verdicts(list) {
  const rows = list.map((each) => [h("strong", {}, each.engine), badge(each.servable ? "Servable" : "Not servable"), each.message || "–"]);
  return table("Engines", ["Engine", "Verdict", "Note"], rows, list.map((each) => each.engine));
}

/** Return the spec as it was written, without what a page must not show. */
export function spec(value) {
  return h("details", { class: "part" }, h("summary", {}, "Spec"),
    h("p", { class: "muted" }, "Values of environment variables and queries of URLs are not shown."),
    h("pre", { tabindex: 0, "aria-label": "Spec as JSON" }, JSON.stringify(value, null, 2)));
}

/** Return where a list goes on. */
export function pager(kind, answer, query) {
  if (answer.pages < 2) return null;
  const go = (page, name) => page < 1 || page > answer.pages ? h("span", { class: "muted" }, name)
    : h("a", { href: place([kind], { ...query, page: page > 1 ? page : "" }) }, name);
  return h("nav", { class: "pager", "aria-label": "Pages of the list" }, go(answer.page - 1, "Previous"),
    h("span", {}, `Page ${answer.page} of ${answer.pages}`), go(answer.page + 1, "Next"));
}
