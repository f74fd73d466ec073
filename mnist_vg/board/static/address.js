/** What the tab shows, as it stands in TensorBoard's address, so that a link shows the same. */

import { GROUPS } from "./measures.js";

const PREFIX = "p.mnist_vg.";

/** What is shown where the address says nothing. */
export const DEFAULTS = Object.freeze({
  view: "overview",
  measure: "gradient_mean_abs",
  sort: "verdict",
  filter: "",
  seeds: "together",
  runs: [],
  run: "",
  mark: [],
  layers: [],
  step: -1,
  axis: "step",
  group: "gradients",
  layer: "",
  histograms: "step",
  scale: "",
  density: "log",
  zoom: {},
});

const oneOf =
  (...values) =>
  (value) =>
    values.includes(value);
const isSide = (side) => Array.isArray(side) && side.length === 2 && side.every(Number.isFinite);

/** What else a value must be, beside of its default's kind. */
const CHECKS = {
  view: oneOf("overview", "compare", "training"),
  seeds: oneOf("together", "each"),
  axis: oneOf("step", "relative"),
  group: oneOf(...GROUPS),
  histograms: oneOf("step", "ridges"),
  scale: oneOf("", "log", "linear"),
  density: oneOf("log", "linear"),
  zoom: (zoom) => Object.values(zoom).every((sides) => Object.values(sides).every(isSide)),
};

/**
 * What a hash says.
 *
 * @param {string} hash as `location.hash`.
 * @returns {object} each key of `DEFAULTS`; a value that cannot be is ignored.
 */
export function parse(hash) {
  const state = { ...DEFAULTS };
  for (const pair of hash.replace(/^#/, "").split("&")) {
    const [key, text = ""] = pair.split("=");
    const name = key.startsWith(PREFIX) ? key.slice(PREFIX.length) : "";
    if (!Object.hasOwn(DEFAULTS, name)) continue;
    try {
      const value = decoded(decodeURIComponent(text), DEFAULTS[name]);
      const allowed = CHECKS[name] ?? (() => true);
      if (kind(value) === kind(DEFAULTS[name]) && allowed(value)) state[name] = value;
    } catch {
      // A damaged link shows the default.
    }
  }
  return state;
}

/**
 * The hash that says this; what is as in `DEFAULTS` is left out.
 *
 * @param {object} state
 * @param {string} hash the one that is there now: what is not the tab's own stays.
 */
export function format(state, hash = "") {
  const others = hash
    .replace(/^#/, "")
    .split("&")
    .filter((pair) => pair && !pair.startsWith(PREFIX));
  const own = Object.keys(DEFAULTS)
    .filter((name) => JSON.stringify(state[name]) !== JSON.stringify(DEFAULTS[name]))
    .map((name) => `${PREFIX}${name}=${encodeURIComponent(encoded(state[name]))}`);
  return `#${[...(others.length ? others : ["mnist_vg"]), ...own].join("&")}`;
}

const encoded = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const decoded = (text, like) => (typeof like === "string" ? text : JSON.parse(text));
const kind = (value) => (Array.isArray(value) ? "array" : value === null ? "null" : typeof value);
