// Numbers, times and names as people read them. Pure.

const NOTHING = "–";

/** Return a loss with four digits that matter. */
export function loss(value) {
  return Number.isFinite(value) ? value.toPrecision(4).replace(/\.?0+$/, "") : NOTHING;
}

/** Return a whole number with separators. */
export function count(value) {
  return Number.isFinite(value) ? value.toLocaleString("en") : NOTHING;
}

/** Return a large number in a short form, such as 134 M. */
export function short(value) {
  if (!Number.isFinite(value)) return NOTHING;
  const units = [[1e12, " T"], [1e9, " B"], [1e6, " M"], [1e3, " k"]];
  const [size, unit] = units.find(([each]) => Math.abs(value) >= each) || [1, ""];
  return `${Number((value / size).toPrecision(3))}${unit}`;
}

/** Return bytes in binary units. */
export function bytes(value) {
  if (!Number.isFinite(value)) return NOTHING;
  const units = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
  const [size, unit] = units.find(([each]) => value >= each) || [1, "B"];
  return `${Number((value / size).toPrecision(3))} ${unit}`;
}

/** Return a span of seconds in its two largest units. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => whole >= size);
  if (first < 0) return "0 s";
  const [size, unit] = units[first];
  const head = `${Math.floor(whole / size)} ${unit}`;
  const next = units[first + 1];
  const rest = next ? Math.floor((whole % size) / next[0]) : 0;
  return rest && first < 2 ? `${head} ${rest} ${next[1]}` : head;
}

/** Return how long ago a time was. */
export function ago(time, now = Date.now()) {
  const then = Date.parse(time);
  return Number.isFinite(then) ? span((now - then) / 1000) : NOTHING;
}

/** Return when something is expected. */
export function until(time, now = Date.now()) {
  const then = Date.parse(time);
  if (!Number.isFinite(then)) return NOTHING;
  return then <= now ? "any moment" : span((then - now) / 1000);
}

/** Return a time in the reader's own zone. */
export function moment(time) {
  const then = new Date(time);
  return Number.isNaN(then.valueOf()) ? NOTHING : then.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** Return a camelCase name in words. */
export function words(name) {
  const text = String(name).replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return whole percent. */
export function percent(value) {
  return Number.isFinite(value) ? `${Math.floor(Math.min(100, Math.max(0, value)))} %` : NOTHING;
}
