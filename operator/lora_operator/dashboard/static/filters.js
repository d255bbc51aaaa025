// The filters above a list. They live in the address, so that a link or the back button brings the same list again.

import { h, patch } from "./dom.js";

const TYPING_MILLISECONDS = 250;
const PHASES = {
  jobs: ["Pending", "Preflight", "Queued", "Scheduling", "Running", "Succeeded", "Failed", "Suspended", "Stalled"],
  adapters: ["Ready", "Progressing", "Degraded", "Waiting"],
};
const text = document.getElementById("filter-text");
const namespace = document.getElementById("filter-namespace");
const phase = document.getElementById("filter-phase");
const namespaces = document.getElementById("namespaces");
const phaseName = document.getElementById("filter-phase-name");

/** Call `onChange` with the filters, when they have changed and typing has paused. */
export function startFilters(onChange) {
  let timer = 0;
  const tell = () => onChange({ namespace: namespace.value.trim(), phase: phase.value, text: text.value.trim() });
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(tell, TYPING_MILLISECONDS);
  };
  text.addEventListener("input", later);
  namespace.addEventListener("input", later);
  phase.addEventListener("change", tell);
  document.getElementById("filter-form").addEventListener("submit", (event) => {
    event.preventDefault();
    tell();
  });
}

/** Show the filters of an address; a field that is being typed into is left alone. */
export function showFilters({ kind, query }) {
  phaseName.textContent = kind === "jobs" ? "Phase" : "State";
  const known = PHASES[kind];
  const all = known.includes(query.phase) || !query.phase ? known : [...known, query.phase];
  patch(phase, h("div", {}, h("option", { value: "" }, "all"), all.map((each) => h("option", { value: each }, each))));
  phase.value = query.phase;
  for (const [field, value] of [[text, query.text], [namespace, query.namespace]]) {
    if (document.activeElement !== field && field.value !== value) field.value = value;
  }
}

/** Offer the namespaces that there are. */
export function offerNamespaces(names) {
  patch(namespaces, h("div", {}, names.map((each) => h("option", { value: each }))));
}
