/** Charts as files: PNG, SVG and CSV. */

import { MARKS, markOf } from "./colours.js";
import { csv, valueAt } from "./tables.js";

/** Saves rows as a spreadsheet. */
export const saveCsv = (rows, name) =>
  save(new Blob([csv(rows)], { type: "text/csv" }), name, "csv");

/**
 * @typedef {object} Drawing what a file shows.
 * @property {SVGElement} svg
 * @property {string} title
 * @property {[string, string][]} legend words and their colours.
 */

/** Saves a drawing as it stands. @param {Drawing} drawing */
export function saveSvg(drawing, name) {
  save(svgFile(standalone(drawing)), name, "svg");
}

/** Saves a drawing as a picture, with two pixels for each of its own. @param {Drawing} drawing */
export async function savePng(drawing, name) {
  const svg = standalone(drawing);
  const image = new Image();
  image.src = URL.createObjectURL(svgFile(svg));
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = ["width", "height"].map((side) => 2 * svg.getAttribute(side));
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  canvas.toBlob((blob) => save(blob, name, "png"));
}

/** Pixels of a cell, of a line of text, and across a letter. */
const [CELL, LINE, LETTER] = [12, 14, 7];

/** A heat map as a drawing: a rectangle a cell, the input at the bottom. */
export function heatmapSvg(table, scale, kind) {
  const [columns, rows] = [table.steps.length, table.layers.length];
  const [left, below] = [8 + LETTER * Math.max(0, ...table.layers.map((name) => name.length)), 24];
  const svg = element("svg", {
    viewBox: `0 0 ${left + columns * CELL + 8} ${rows * CELL + below}`,
  });
  svg.setAttribute("font-family", "sans-serif");
  svg.setAttribute("font-size", "10");
  table.layers.forEach((layer, row) => {
    const y = (rows - 1 - row) * CELL;
    svg.append(text(left - 4, y + CELL - 2, layer, "end"));
    table.steps.forEach((_, column) => {
      const value = valueAt(table, row, column);
      const x = left + column * CELL;
      const fill = `rgb(${scale.colour(value)})`;
      svg.append(element("rect", { x, y, width: CELL, height: CELL, fill }));
      const mark = markOf(value, kind);
      if (mark) svg.append(text(x + CELL / 2, y + CELL - 2, MARKS[mark].sign, "middle", "#fff"));
    });
  });
  if (columns) {
    svg.append(text(left, rows * CELL + 14, `step ${table.steps[0]}`, "start"));
    svg.append(text(left + columns * CELL, rows * CELL + 14, String(table.steps.at(-1)), "end"));
  }
  return svg;
}

/** A file's name without what file systems do not take. */
export const fileName = (name) => name.replace(/[^\w.-]+/g, "_").slice(0, 120) || "chart";

function text(x, y, words, anchor, fill = "currentColor") {
  const label = element("text", { x, y, "text-anchor": anchor, fill });
  label.textContent = words;
  return label;
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** A drawing that needs nothing of the page, with its title and its legend above it. */
function standalone({ svg, title, legend }) {
  const copy = svg.cloneNode(true);
  const above = LINE * (1 + legend.length) + 4;
  const longest = Math.max(title.length, ...legend.map(([words]) => words.length));
  const width = Math.max(svg.viewBox.baseVal.width, 24 + LETTER * longest);
  const height = svg.viewBox.baseVal.height + above;
  copy.append(text(4, 10 - above, title, "start"));
  legend.forEach(([words, fill], n) => {
    const y = LINE * (n + 1) - above;
    copy.append(element("rect", { x: 4, y, width: 10, height: 10, fill }));
    copy.append(text(18, y + 9, words, "start"));
  });
  const size = { width, height, viewBox: `0 ${-above} ${width} ${height}` };
  for (const [key, value] of Object.entries(size)) copy.setAttribute(key, value);
  const { color, backgroundColor } = getComputedStyle(document.body);
  copy.style.color = color;
  copy.style.setProperty("--plot-background", backgroundColor);
  return copy;
}

const svgFile = (svg) =>
  new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });

function save(blob, name, kind) {
  // A link of the frame's own would be a page in the frame for Firefox, and TensorBoard's policy
  // allows none but its own.
  const link = window.parent.document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${fileName(name)}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
