// The two lists. Both get one screen of rows from the server, whatever the number of objects.

import { h, place } from "./dom.js";
import * as format from "./format.js";
import { badge, code, objectLink, pager, progress, since, table } from "./parts.js";

/** Return the list of jobs. */
export function jobList(answer, query) {
  const heads = ["Job", "Phase", "Progress", "Loss", "Eval loss", "Ends in", "Age"];
  const rows = answer.rows.map((row) => [
    h("div", {}, h("strong", {}, objectLink("jobs", row.namespace, row.name)), h("small", {}, row.namespace)),
    h("div", { title: row.message }, badge(row.phase), h("small", {}, row.reason)),
    progress(row),
    format.loss(row.loss),
    format.loss(row.evalLoss),
    row.phase === "Running" && row.etaTime ? h("time", { datetime: row.etaTime, title: format.moment(row.etaTime) }, format.until(row.etaTime)) : "–",
    since(row.created),
  ]);
  return list("jobs", "Jobs", heads, rows, answer, query);
}

/** Return the list of adapters. */
export function adapterList(answer, query) {
  const heads = ["Adapter", "State", "Pods", "Rollout", "Version", "Served as", "Base model", "Age"];
  const rows = answer.rows.map((row) => [
    h("div", {}, h("strong", {}, objectLink("adapters", row.namespace, row.name)), h("small", {}, row.namespace)),
    h("div", { title: row.message }, badge(row.phase), h("small", {}, row.reason)),
    `${row.readyPods ?? 0} of ${row.desiredPods ?? 0}`,
    row.stage ? badge(row.stage) : "–",
    code(row.digest),
    row.servedName,
    row.base,
    since(row.created),
  ]);
  return list("adapters", "Adapters", heads, rows, answer, query);
}

function list(kind, name, heads, rows, answer, query) {
  const keys = answer.rows.map((row) => `${row.namespace}/${row.name}`);
  return h("div", {},
    h("p", { class: "chips", role: "group", "aria-label": "Numbers" }, chips(kind, answer, query)),
    h("p", { class: "muted", role: "status" }, total(answer, name.toLowerCase())),
    rows.length ? table(name, heads, rows, keys) : empty(name.toLowerCase(), query),
    pager(kind, answer, query));
}

function total(answer, name) {
  const more = answer.truncated ? "; there are more than are shown here, choose a namespace" : "";
  return `${format.count(answer.total)} ${answer.total === 1 ? name.replace(/s$/, "") : name}${more}`;
}

function chips(kind, answer, query) {
  return Object.entries(answer.phases).map(([phase, number]) => {
    const chosen = query.phase === phase;
    const href = place([kind], { ...query, page: "", phase: chosen ? "" : phase });
    return h("a", { class: "chip", href, "aria-current": chosen ? "true" : null }, badge(phase), ` ${format.count(number)}`);
  });
}

function empty(name, query) {
  const filtered = query.namespace || query.phase || query.text;
  return h("p", { class: "empty" }, filtered ? `No ${name} fit the filters.`
    : `There are no ${name} yet. kubectl apply -f manifests/samples/lorajob.yaml makes one.`);
}
