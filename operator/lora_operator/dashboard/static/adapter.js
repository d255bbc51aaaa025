// The page of an adapter: versions, rollout, and the pods that serve it.

import { h } from "./dom.js";
import { badge, code, conditions, facts, objectLink, section, since, spec, table, verdicts } from "./parts.js";

/** Return the page. */
export function adapterPage(adapter) {
  return h("div", { class: "page" },
    state(adapter),
    section("Pods", adapter.pods?.length ? pods(adapter.pods) : h("p", { class: "muted" }, "No pod asks for this adapter.")),
    adapter.versions?.length ? section("Versions", versions(adapter.versions)) : null,
    adapter.compatibility?.length ? section("Engines", verdicts(adapter.compatibility)) : null,
    adapter.conditions?.length ? section("Conditions", conditions(adapter.conditions)) : null,
    spec(adapter.spec));
}

function state(adapter) {
  const { rollout } = adapter;
  return h("section", { class: `state part ${adapter.phase === "Degraded" ? "bad" : ""}`, "aria-label": "State" },
    h("p", { class: "headline" }, badge(adapter.phase), " ", h("strong", {}, adapter.reason)),
    h("p", { class: "message" }, adapter.message),
    adapter.deleting ? h("p", { class: "muted" }, "This adapter is being deleted.") : null,
    facts([
      ["Namespace", adapter.namespace], ["Served as", code(adapter.servedName)], ["Base model", code(adapter.base)],
      ["Made by job", adapter.job && objectLink("jobs", adapter.namespace, adapter.job)],
      ["Pods", `${adapter.readyPods ?? 0} of ${adapter.desiredPods ?? 0}`],
      ["Rollout", rollout && h("span", {}, badge(rollout.stage), " began ", since(rollout.startedTime), " ago")],
      ["First pod", rollout?.canary],
      ["Digest", adapter.fullDigest && code(adapter.fullDigest)],
      ["Served before", adapter.previousDigest && code(adapter.previousDigest)],
      ["Source", code(adapter.source)],
    ]));
}

function pods(list) {
  const rows = list.map((each) => [
    h("strong", {}, each.name), badge(each.state), each.engine || "–", each.node || "–",
    code(shortDigest(each.digest)), [each.reason, each.message].filter(Boolean).join(": ") || "–",
  ]);
  return table("Pods", ["Pod", "State", "Engine", "Node", "Version", "Message"], rows, list.map((each) => each.name));
}

function versions(list) {
  const rows = list.map((each) => [
    code(shortDigest(each.digest)), badge(each.state), since(each.time), code(each.uri),
    [each.reason, each.message].filter(Boolean).join(": ") || "–",
  ]);
  return table("Versions", ["Version", "State", "Since", "Source", "Message"], rows, list.map((each) => each.digest));
}

function shortDigest(digest) {
  return String(digest || "").replace(/^sha256:/, "").slice(0, 12);
}
