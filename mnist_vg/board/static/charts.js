/** What the charts of the comparison show: functions from tables to what `Chart` draws. */

import "./vendor/d3/d3.min.js";
import "./vendor/plot/plot.umd.min.js";
import { words } from "./measures.js";
import { range, recordAt, relative, valueAt } from "./tables.js";

const { d3, Plot } = globalThis;

/** The layers of several runs: as many places as the deepest has, and names where all agree. */
export function places(tables) {
  const deepest = tables.reduce((a, b) => (b.layers.length > a.layers.length ? b : a));
  const agree = tables.every(({ layers }) =>
    layers.every((layer, n) => layer === deepest.layers[n]),
  );
  return { count: deepest.layers.length, name: (n) => (agree ? deepest.layers[n] : `${n + 1}`) };
}

/** The record of a table at a place of the slider: a step, or a share of the run in percent. */
export function recordOf(table, place, axis) {
  const step = axis === "relative" ? (place / 100) * (table.steps.at(-1) ?? 0) : place;
  return recordAt(table.steps, step);
}

/**
 * The profile: a line a run, layers along it, at one step.
 *
 * @param {Table[]} tables
 * @param {import("./measures.js").Measure & {name: string}} measure
 * @param {{place: number, axis: string, colour: object, scale: string}} how
 */
export function profile(tables, measure, { place, axis, colour, scale }) {
  const rows = tables.flatMap((table) => {
    const record = recordOf(table, place, axis);
    if (record < 0) return [];
    return table.layers.map((layer, n) => ({
      run: table.run,
      layer,
      place: n + 1,
      step: table.steps[record],
      [measure.name]: valueAt(table, n, record),
    }));
  });
  const { shown, broken, note } = onScale(rows, measure.name, scale);
  return {
    title: `${measure.label} by layer, ${axis === "relative" ? `at ${place}% of each run` : `step ${place}`}`,
    note,
    rows: rows.map(({ place: _, ...row }) => row),
    options: {
      ...alongLayers(places(tables)),
      y: axisOf(measure, tables, scale),
      color: colour,
      symbol: { domain: colour.domain },
      marks: [
        Plot.line(broken, { x: "place", y: measure.name, stroke: "run", z: "run" }),
        Plot.dot(shown, { x: "place", y: measure.name, fill: "run", symbol: "run", r: 4 }),
        Plot.tip(
          shown,
          Plot.pointer({
            x: "place",
            y: measure.name,
            title: (row) =>
              `${row.run}\n${row.layer}, step ${row.step}\n${words(row[measure.name])}`,
          }),
        ),
      ],
    },
  };
}

/** The width of a letter in a chart, in pixels; most are narrower. */
const LETTER = 7;

/** So many pixels have the names of layers side by side. Those that need more stand upright. */
const ACROSS = 1000;

/** The axis of layers, with room for as many of their names as there can be. */
function alongLayers({ count, name }) {
  const ticks = count > 12 ? d3.ticks(1, count, 12) : d3.range(1, count + 1);
  const tickFormat = (n) => (Number.isInteger(n) && n <= count ? name(n - 1) : "");
  const widths = ticks.map((n) => LETTER * tickFormat(n).length);
  const upright = d3.pairs(widths).some(([a, b]) => (a + b) / 2 > ACROSS / ticks.length);
  const below = upright ? d3.max(widths) : 0;
  const aside = upright ? 0 : Math.max(widths[0], widths.at(-1)) / 2;
  return {
    height: 320 + below,
    marginLeft: Math.max(64, aside),
    marginRight: Math.max(20, aside),
    marginBottom: 44 + below,
    x: {
      domain: [1, Math.max(count, 2)],
      ticks,
      tickFormat,
      tickRotate: upright ? -90 : 0,
      label: "layer, the input at the left",
      grid: true,
    },
  };
}

/** More records are so close to each other that their line is to be seen. */
const MOST_DOTS = 600;

/**
 * The measure over steps: a panel a layer, a line a run.
 *
 * @param {string[]} layers those that are shown.
 */
export function series(tables, measure, { axis, colour, scale, layers }) {
  const along = axis === "relative" ? "percent" : "step";
  const rows = tables.flatMap((table) =>
    layers.flatMap((layer) => {
      const of = table.layers.indexOf(layer);
      if (of < 0) return [];
      return Array.from(table.steps, (step, record) => ({
        run: table.run,
        layer,
        step,
        percent: relative(table.steps, step),
        [measure.name]: valueAt(table, of, record),
      }));
    }),
  );
  const { shown, broken, note } = onScale(rows, measure.name, scale);
  return {
    title: `${measure.label} over steps`,
    note,
    onlyX: true,
    rows: rows.map(({ percent: _, ...row }) => row),
    options: {
      height: 60 + 130 * Math.max(layers.length, 1),
      marginLeft: 64,
      marginRight: 20 + LETTER * Math.max(...layers.map((layer) => layer.length), 0),
      fy: { domain: layers, label: null },
      x: {
        label: axis === "relative" ? "percent of the run" : "step",
        grid: true,
        domain: d3.extent(rows, (row) => row[along]),
      },
      y: axisOf(measure, tables, scale),
      color: colour,
      marks: [
        Plot.frame({ strokeOpacity: 0.2 }),
        Plot.line(broken, { x: along, y: measure.name, stroke: "run", z: "run", fy: "layer" }),
        // A single record makes no line.
        Plot.dot(shown.length > MOST_DOTS ? [] : shown, {
          x: along,
          y: measure.name,
          fill: "run",
          fy: "layer",
          r: 2,
        }),
        Plot.tip(
          shown,
          Plot.pointer({
            x: along,
            y: measure.name,
            fy: "layer",
            title: (row) =>
              `${row.run}\n${row.layer}, step ${row.step}\n${words(row[measure.name])}`,
          }),
        ),
      ],
    },
  };
}

/** So many steps have room as ridges. */
const RIDGES = 8;

/**
 * Histograms of a layer in several runs on one axis: the share of the values per unit of width.
 *
 * @param {{run: string, steps: Float64Array, buckets: Float32Array}[]} found
 * @param {{group: string, layer: string, place: number, axis: string, ridges: boolean}} how
 */
export function histograms(found, { group, layer, place, axis, ridges, colour, scale }) {
  const steps = [...new Set(found.flatMap((of) => [...of.steps]))].sort((a, b) => a - b);
  const at = ridges ? spaced(steps, RIDGES) : [place];
  const rows = at.flatMap((step) =>
    found.flatMap((of) => {
      const record = recordOf(of, step, ridges ? "step" : axis);
      return record < 0 ? [] : bars(of, record, `step ${ridges ? step : of.steps[record]}`);
    }),
  );
  const { shown, note } = onScale(rows, "density", scale);
  const [low, high] = [d3.min(rows, (row) => row.left), d3.max(rows, (row) => row.right)];
  const facet = ridges ? { fy: "at" } : {};
  const bottom = scale === "log" ? (d3.min(shown, (row) => row.density) ?? 1) / 2 : 0;
  return {
    title: `${group} of ${layer}, ${ridges ? "over steps" : axis === "relative" ? `at ${place}% of each run` : `step ${place}`}`,
    note,
    onlyX: true,
    rows: rows.map(({ at: _, ...row }) => row),
    options: {
      height: ridges ? 60 + 80 * at.length : 320,
      marginLeft: 64,
      marginRight: ridges ? 90 : 20,
      ...(ridges && { fy: { domain: at.map((step) => `step ${step}`), label: null } }),
      x: { label: group.replace("_", " "), grid: true, domain: [low, high] },
      y: { label: "share of the values per unit", type: scale, ...(ridges && { ticks: 2 }) },
      color: colour,
      marks: [
        Plot.rect(shown, {
          x1: "left",
          x2: "right",
          y1: bottom,
          y2: "density",
          fill: "run",
          fillOpacity: 0.25,
          ...facet,
        }),
        Plot.line(outline(rows, bottom), {
          x: "x",
          y: "density",
          stroke: "run",
          z: (row) => `${row.run}${row.at}`,
          ...facet,
        }),
        Plot.tip(
          shown,
          Plot.pointerX({
            x: (row) => (row.left + row.right) / 2,
            y: "density",
            ...facet,
            title: (row) =>
              `${row.run}, ${row.at}\n${words(row.left)} to ${words(row.right)}\n${row.count} of ${row.total} values`,
          }),
        ),
      ],
    },
  };
}

/** Evenly spread members of a list, the first and the last among them. */
export function spaced(list, count) {
  if (list.length <= count) return list;
  return d3.range(count).map((n) => list[Math.round((n * (list.length - 1)) / (count - 1))]);
}

/** The buckets of one histogram. */
export function bars({ run, steps, buckets }, record, at) {
  const size = buckets.length / steps.length;
  const mine = buckets.subarray(record * size, (record + 1) * size);
  const counts = d3.range(2, size, 3).map((n) => mine[n]);
  const total = d3.sum(counts);
  return counts.map((count, n) => {
    const [left, right] = [mine[3 * n], mine[3 * n + 1]];
    // A layer whose values are all alike has buckets without width.
    const density = count / total / (right - left || 1);
    return { run, at, step: steps[record], left, right, count, total, density };
  });
}

/** The top of the bars as a line. */
function outline(rows, bottom) {
  const ends = d3.groups(rows, (row) => `${row.run}\n${row.at}`);
  return ends.flatMap(([, bars]) => [
    { ...bars[0], x: bars[0].left, density: bottom },
    ...bars.flatMap((bar) =>
      [bar.left, bar.right].map((x) => ({ ...bar, x, density: Math.max(bar.density, bottom) })),
    ),
    { ...bars.at(-1), x: bars.at(-1).right, density: bottom },
  ]);
}

/**
 * The rows that an axis has a place for, and what is said of the others; `broken` are all rows, for
 * a line that breaks where there is no place.
 */
export function onScale(rows, key, scale) {
  const finite = rows.filter((row) => Number.isFinite(row[key]));
  const fits = (row) => Number.isFinite(row[key]) && (scale !== "log" || row[key] > 0);
  const shown = rows.filter(fits);
  const broken = rows.map((row) => (fits(row) ? row : { ...row, [key]: NaN }));
  const none = rows.filter((row) => row[key] === undefined).length;
  const parts = [
    [
      finite.length - shown.length,
      scale === "log" && key !== "density"
        ? "zero or negative, which a log axis has no place for"
        : "",
    ],
    [rows.length - finite.length - none, "not finite"],
  ];
  const told = parts
    .filter(([count, why]) => count && why)
    .map(([count, why]) => `${count} ${why}`);
  return { shown, broken, note: told.length ? `Not shown: ${told.join("; ")}` : "" };
}

/** More powers of ten have no room. */
const MOST_POWERS = 9;

/** Powers of ten, evenly spread. */
function powers([low, high]) {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const apart = Math.max(Math.ceil((to - from) / MOST_POWERS), 1);
  return d3.range(from, to + 1, apart).map((power) => 10 ** power);
}

/** The axis of a measure, the same for all steps, so that playing does not move it. */
function axisOf(measure, tables, scale) {
  const domain = measure.domain ?? range(tables, scale) ?? [1, 10];
  const even = domain[0] === domain[1];
  const wider = scale === "log" ? [domain[0] / 2, domain[1] * 2] : [domain[0] - 1, domain[1] + 1];
  return {
    label: measure.label,
    type: scale,
    domain: even ? wider : domain,
    nice: true,
    grid: true,
    ...(scale === "log" && { ticks: powers(even ? wider : domain), tickFormat: "~e" }),
  };
}
