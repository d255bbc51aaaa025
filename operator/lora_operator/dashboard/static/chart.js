// Loss curves as SVG, drawn from status.lossCurve. A cursor follows the pointer or the arrow keys; the same values
// stand in a table below, for readers who see no picture.

import { h } from "./dom.js";
import * as format from "./format.js";

const HEIGHT = 270;
const LEFT = 52;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 42;
const SERIES = [{ key: "loss", name: "Training loss", css: "train" }, { key: "evalLoss", name: "Evaluation loss", css: "eval" }];

/** Return the chart of a curve, `width` pixels wide, or a word that there is none yet. */
export function chart(curve, totalSteps, width) {
  const shown = SERIES.filter(({ key }) => curve.some((point) => Number.isFinite(point[key])));
  if (!shown.length) return h("p", { class: "muted" }, "No loss has been measured yet.");
  const scale = scales(curve, totalSteps, width);
  return h("div", { class: "chart" },
    h("p", { class: "legend" }, shown.map(({ name, css }) => h("span", { class: `key ${css}` }, name)),
      h("span", { id: "readout", class: "readout", role: "status" }, lastValues(curve))),
    h("svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`, role: "application", tabindex: 0, id: "curve",
      "aria-roledescription": "chart", "aria-label": `${summary(curve, shown)} Arrow keys read single values.`,
    }, axes(scale), shown.map((each) => line(curve, each, scale)),
      h("line", { id: "cursor", class: "cursor", x1: 0, x2: 0, y1: TOP, y2: HEIGHT - BOTTOM, hidden: true })),
    h("details", {}, h("summary", {}, "Values as a table"), valueTable(curve, shown)));
}

/**
 * Let the cursor follow pointer and keys within `root`; `curve()` is the one shown. Returns how to put the cursor back
 * after an update, and how to forget it with its page.
 */
export function followCursor(root, curve) {
  let chosen = -1;
  const show = (index) => {
    const points = curve();
    if (!points.length) return;
    chosen = Math.max(0, Math.min(points.length - 1, index));
    moveCursor(points, chosen);
  };
  root.addEventListener("pointermove", (event) => {
    const svg = event.target.closest("#curve");
    if (svg) show(nearest(curve(), svg, event.clientX));
  });
  root.addEventListener("keydown", (event) => {
    if (event.target.id !== "curve") return;
    const points = curve().length;
    const start = chosen < 0 ? points : chosen;
    const target = { ArrowLeft: start - 1, ArrowRight: start + 1, Home: 0, End: points - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    show(target);
  });
  const restore = () => chosen >= 0 && document.getElementById("curve") && show(chosen);
  const forget = () => (chosen = -1);
  return { restore, forget };
}

function moveCursor(points, index) {
  const cursor = document.getElementById("cursor");
  const readout = document.getElementById("readout");
  const x = Number(document.getElementById("curve").querySelector(`[data-step="${points[index].step}"]`)?.getAttribute("cx"));
  if (!cursor || !readout || !Number.isFinite(x)) return;
  cursor.setAttribute("x1", String(x));
  cursor.setAttribute("x2", String(x));
  cursor.removeAttribute("hidden");
  readout.textContent = valuesOf(points[index]);
}

function nearest(points, svg, clientX) {
  const dots = points.map((point) => svg.querySelector(`[data-step="${point.step}"]`)?.getBoundingClientRect());
  let best = 0;
  dots.forEach((box, index) => {
    const distance = (each) => each ? Math.abs(each.left + each.width / 2 - clientX) : Infinity;
    if (distance(box) < distance(dots[best])) best = index;
  });
  return best;
}

function scales(curve, totalSteps, width) {
  const values = curve.flatMap((point) => SERIES.map(({ key }) => point[key])).filter(Number.isFinite);
  const last = Math.max(totalSteps || 0, ...curve.map((point) => point.step), 1);
  const ticks = niceTicks(Math.min(...values), Math.max(...values));
  const [low, high] = [ticks[0], ticks[ticks.length - 1]];
  return {
    ticks, last, right: width - RIGHT,
    x: (step) => LEFT + (step / last) * (width - LEFT - RIGHT),
    y: (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM),
  };
}

/** Return round numbers that enclose a range, some five of them. */
export function niceTicks(low, high) {
  const range = high - low || Math.abs(high) * 0.1 || 1;
  const rough = range / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const first = Math.floor(low / size);
  const last = Math.max(first + 1, Math.ceil(high / size));
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * size).toPrecision(12)));
}

function axes(scale) {
  const steps = [...new Set(niceTicks(0, scale.last).filter((each) => each <= scale.last && Number.isInteger(each)))];
  return h("g", { class: "axes", "aria-hidden": "true" },
    scale.ticks.map((value) => [
      h("line", { x1: LEFT, x2: scale.right, y1: scale.y(value), y2: scale.y(value) }),
      h("text", { x: LEFT - 8, y: scale.y(value) + 4, "text-anchor": "end" }, String(value)),
    ]),
    steps.map((step) => h("text", { x: scale.x(step), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, String(step))),
    h("text", { x: (LEFT + scale.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "step"));
}

function line(curve, { key, css }, scale) {
  const points = curve.filter((point) => Number.isFinite(point[key]));
  const path = points.map((point, index) => `${index ? "L" : "M"}${scale.x(point.step).toFixed(1)} ${scale.y(point[key]).toFixed(1)}`).join("");
  return h("g", { class: css, "aria-hidden": "true" }, h("path", { d: path }),
    points.map((point) => h("circle", { cx: scale.x(point.step).toFixed(1), cy: scale.y(point[key]).toFixed(1), r: css === "eval" ? 3.5 : 1.5, "data-step": point.step })));
}

function valuesOf(point) {
  const values = SERIES.filter(({ key }) => Number.isFinite(point[key])).map(({ key, name }) => `${name.toLowerCase()} ${format.loss(point[key])}`);
  return `Step ${format.count(point.step)}: ${values.join(", ") || "no value"}`;
}

function lastValues(curve) {
  return valuesOf(curve[curve.length - 1]);
}

function summary(curve, shown) {
  const told = shown.map(({ key, name }) => {
    const points = curve.filter((point) => Number.isFinite(point[key]));
    return `${name} from ${format.loss(points[0][key])} to ${format.loss(points[points.length - 1][key])}`;
  });
  return `${told.join("; ")}, over steps ${curve[0].step} to ${curve[curve.length - 1].step}.`;
}

function valueTable(curve, shown) {
  const head = h("tr", {}, h("th", { scope: "col" }, "Step"), shown.map(({ name }) => h("th", { scope: "col" }, name)));
  const rows = curve.map((point) => h("tr", {}, h("th", { scope: "row" }, format.count(point.step)),
    shown.map(({ key }) => h("td", {}, format.loss(point[key])))));
  return h("table", { class: "values" }, h("caption", {}, "Losses by step"), h("thead", {}, head), h("tbody", {}, rows));
}
