/** Colours of values: one scale for all tiles, and a mark for what has no place on it. */

import "./vendor/d3/d3.min.js";

const { d3 } = globalThis;

/** What is not a number on the scale: its name in the legend, its colour and its sign. */
export const MARKS = {
  nan: { label: "NaN", colour: "#d81b60", sign: "×" },
  inf: { label: "Inf", colour: "#ff8f00", sign: "∞" },
  zero: { label: "zero", colour: "#000000", sign: "0" },
  none: { label: "no record", colour: "#9e9e9e", sign: "–" },
};

const MARK_COLOURS = Object.fromEntries(
  Object.entries(MARKS).map(([mark, { colour }]) => [mark, rgb(colour)]),
);

/** The mark of a value; undefined for one that is on the scale. */
export function markOf(value, scale) {
  if (value === undefined) return "none";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return "inf";
  return scale === "log" && value === 0 ? "zero" : undefined;
}

const SHADES = 1024;
const VIRIDIS = Array.from({ length: SHADES }, (_, n) =>
  rgb(d3.interpolateViridis(n / (SHADES - 1))),
);

/**
 * A scale from values to colours: Viridis, which colour-blind people can read, dark at the bottom.
 *
 * @param {import("./measures.js").Measure} measure
 * @param {[number, number] | null} found the smallest and the largest value that there are.
 * @returns {{domain: [number, number], colour: (value: number) => number[]}} the domain is rounded
 *   to whole powers of ten where the measure is logarithmic; a colour is red, green and blue.
 */
export function colourScale(measure, found) {
  const domain = measure.domain ?? roundedOut(measure.scale, found ?? [1, 1]);
  const place = (measure.scale === "log" ? d3.scaleLog() : d3.scaleLinear())
    .domain(domain)
    .range([0, 1])
    .clamp(true);
  return {
    domain,
    colour(value) {
      const mark = markOf(value, measure.scale);
      return mark ? MARK_COLOURS[mark] : VIRIDIS[Math.round(place(value) * (SHADES - 1))];
    },
  };
}

/** Fewer than this many powers of ten, and small differences look large. */
const DECADES = 3;

function roundedOut(scale, [low, high]) {
  if (scale === "linear") return [Math.min(low, 0), high > Math.min(low, 0) ? high : 1];
  const top = Math.ceil(Math.log10(high));
  const bottom = Math.min(Math.floor(Math.log10(low)), top - DECADES);
  return [10 ** bottom, 10 ** top];
}

function rgb(colour) {
  const { r, g, b } = d3.rgb(colour);
  return [r, g, b];
}

/** Black or white, what can be read better on a colour (WCAG 2.2, relative luminance). */
export function textOn(colour) {
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const { r, g, b } = d3.rgb(colour);
  const [red, green, blue] = [r, g, b].map((part) => linear(part / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}
