/** Charts as files: PNG, SVG and CSV. */

import { MARKS, markOf } from "./colours.js";
import { csv, valueAt } from "./tables.js";

/** Saves rows as a spreadsheet. */
export const saveCsv = (rows, name) =>
  save(new Blob([csv(rows)], { type: "text/csv" }), name, "csv");

/** Saves a chart as it stands. */
export function saveSvg(svg, name) {
  save(new Blob([standalone(svg)], { type: "image/svg+xml" }), name, "svg");
}

/** Saves a chart as a picture, with two pixels for each of the screen's. */
export async function savePng(svg, name) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([standalone(svg)], { type: "image/svg+xml" }));
  await image.decode();
  const canvas = document.createElement("canvas");
  const { width, height } = svg.viewBox.baseVal;
  [canvas.width, canvas.height] = [2 * width, 2 * height];
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  canvas.toBlob((blob) => save(blob, name, "png"));
}

const CELL = 12;

/** A heat map as a drawing: a rectangle a cell, the input at the bottom. */
export function heatmapSvg(table, scale, kind) {
  const [columns, rows] = [table.steps.length, table.layers.length];
  const [left, below] = [120, 24];
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

/** A drawing that needs nothing of the page. */
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.style.color = getComputedStyle(document.body).color;
  copy.style.setProperty("--plot-background", getComputedStyle(document.body).backgroundColor);
  return new XMLSerializer().serializeToString(copy);
}

function save(blob, name, kind) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${fileName(name)}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
