// The page of a job.

import { chart } from "./chart.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { badge, code, conditions, facts, objectLink, progress, section, since, spec, table, verdicts } from "./parts.js";

const CARD_EDGES = 40;

/** Return the page, for a room of some pixels. */
export function jobPage(job, width) {
  return h("div", { class: "page" },
    state(job),
    section("Loss", chart(job.curve || [], job.totalSteps, Math.max(260, width - CARD_EDGES))),
    job.progress && section("Progress", progressFacts(job)),
    job.resolved && section("What the preflight found", resolved(job.resolved)),
    job.adapter && section("Adapter", adapter(job)),
    job.conditions?.length ? section("Conditions", conditions(job.conditions)) : null,
    job.history?.length ? section("Earlier runs", history(job.history)) : null,
    spec(job.spec));
}

function state(job) {
  const told = job.explanation || {};
  const bad = job.phase === "Failed" || job.phase === "Stalled";
  return h("section", { class: `state part ${bad ? "bad" : ""}`, "aria-label": "State" },
    h("p", { class: "headline" }, badge(job.phase), " ", h("strong", {}, told.reason),
      Number.isFinite(told.exitCode) ? h("small", {}, `exit code ${told.exitCode}`) : null),
    h("p", { class: "message" }, told.message),
    told.hint ? h("p", { class: "hint" }, h("strong", {}, "What to do: "), told.hint) : null,
    job.overfitting ? h("p", { class: "hint" }, h("strong", {}, "Overfitting: "), job.overfitting) : null,
    job.outdated ? h("p", { class: "muted" }, "The spec has changed since; the operator has not looked at it yet.") : null,
    job.deleting ? h("p", { class: "muted" }, "This job is being deleted.") : null,
    Number.isFinite(job.percent) ? progress(job) : null,
    facts([
      ["Namespace", job.namespace], ["Run", job.run], ["Task", job.task], ["Base model", code(job.base)],
      ["Started", job.startTime && h("span", {}, since(job.startTime), " ago")],
      ["Took", job.startTime && job.completionTime && format.span((Date.parse(job.completionTime) - Date.parse(job.startTime)) / 1000)],
      ["Ends in", job.phase === "Running" && job.etaTime ? format.until(job.etaTime) : null],
      ["Failures", job.attempts?.failures || null], ["Disruptions", job.attempts?.disruptions || null],
    ]));
}

function progressFacts(job) {
  const { progress: told, checkpoint } = job;
  return facts([
    ["Activity", format.words(told.activity)],
    ["Epoch", Number.isFinite(told.epoch) ? told.epoch.toFixed(2) : null],
    ["Loss", format.loss(told.loss)], ["Evaluation loss", format.loss(told.evalLoss)],
    ["Tokens a second", Number.isFinite(told.tokensPerSecond) ? format.count(Math.round(told.tokensPerSecond)) : null],
    ["Micro-batch", told.microBatchSize && `${told.microBatchSize} × ${told.accumulationSteps ?? 1}`],
    ["Went on from step", told.resumedFromStep],
    ["Newest checkpoint", checkpoint && h("span", {}, `step ${format.count(checkpoint.step)}, `, since(checkpoint.time), " ago")],
  ]);
}

function resolved(found) {
  const { plan, memoryEstimate: memory } = found;
  const terms = ["weights", "adapter", "activations", "logits", "working"].map((name) => `${name} ${format.bytes(memory[name] || 0)}`);
  return [
    facts([
      ["Rows", format.count(found.rows)], ["Validation rows", format.count(found.validationRows)],
      ["Tokens an epoch", format.short(found.tokens)], ["Format", found.format],
      ["Parameters", format.short(found.parameters)],
      ["Trained", `${format.short(found.trainableParameters)} (${(100 * found.trainableParameters / found.parameters).toPrecision(2)} %)`],
      ["Adapter size", found.adapterBytes ? format.bytes(found.adapterBytes) : null],
      ["Steps", format.count(plan.totalSteps)], ["Longest row", `${format.count(plan.maxLength)} tokens`],
      ["Batch", `${plan.microBatchSize} × ${plan.accumulationSteps}${plan.packing ? ", packed" : ""}`],
      ["Memory a device", format.bytes(memory.total)], ["Of which", terms.join(", ")],
      ["Rows cut", found.truncatedRows ? format.count(found.truncatedRows) : null],
      ["Rows twice", found.duplicateRows ? format.count(found.duplicateRows) : null],
      ["Expected time", found.estimatedSeconds ? format.span(found.estimatedSeconds) : null],
      ["Base revision", code(found.baseRevision)], ["Data digest", code(found.datasetDigest)],
    ]),
    found.warnings?.length ? h("ul", { class: "warnings" }, found.warnings.map((each) => h("li", {}, each))) : null,
  ];
}

function adapter(job) {
  const made = job.adapter;
  const metrics = Object.entries(made.metrics || {}).map(([name, value]) => [format.words(name), format.loss(value)]);
  return [
    facts([
      ["Served as", job.adapterName && objectLink("adapters", job.namespace, job.adapterName)],
      ["Digest", code(made.digest)], ["URI", code(made.uri)], ["Size", format.bytes(made.bytes)], ...metrics,
    ]),
    made.servable?.length ? h("h3", {}, "Engines") : null,
    made.servable?.length ? verdicts(made.servable) : null,
  ];
}

function history(runs) {
  const rows = runs.map((each) => [String(each.run), badge(each.result), each.reason || "–", code(each.digest), since(each.finishedTime)]);
  return table("Earlier runs", ["Run", "Result", "Reason", "Digest", "Ended"], rows, runs.map((each) => each.run));
}
