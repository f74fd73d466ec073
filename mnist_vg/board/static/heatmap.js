/** A heat map on a canvas: a column a record, a row a layer, the input at the bottom. */

import { MARKS, markOf } from "./colours.js";
import { valueAt } from "./tables.js";

/** Smaller cells have no room for a sign. */
const SIGN_PIXELS = 8;

/**
 * Paints a table.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {import("./server.js").Table} table
 * @param {{colour: Function}} scale see `colourScale`.
 * @param {"log" | "linear"} kind
 * @param {{layer: number, record: number} | null} cursor the cell with a frame around it; a layer
 *   of -1 is the whole column.
 */
export function paint(canvas, table, scale, kind, cursor) {
  const [columns, rows] = [table.steps.length, table.layers.length];
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  if (!columns || !rows) return;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(cells(table, scale), 0, 0, canvas.width, canvas.height);
  const [width, height] = [canvas.width / columns, canvas.height / rows];
  if (Math.min(width, height) >= SIGN_PIXELS * ratio) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const mark = markOf(valueAt(table, row, column), kind);
        const [x, y] = [(column + 0.5) * width, (rows - row - 0.5) * height];
        if (mark) sign(context, MARKS[mark].sign, x, y, ratio);
      }
    }
  }
  if (cursor && cursor.record >= 0) frame(context, cursor, rows, width, height, ratio);
}

/** A pixel a cell. */
function cells(table, scale) {
  const [columns, rows] = [table.steps.length, table.layers.length];
  const small = new OffscreenCanvas(columns, rows);
  const context = small.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = 4 * ((rows - 1 - row) * columns + column);
      image.data.set(scale.colour(valueAt(table, row, column)), at);
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return small;
}

function sign(context, text, x, y, ratio) {
  context.fillStyle = "#ffffff";
  context.font = `${SIGN_PIXELS * ratio}px sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, x, y);
}

function frame(context, { layer, record }, rows, width, height, ratio) {
  const [top, tall] = layer < 0 ? [0, rows * height] : [(rows - 1 - layer) * height, height];
  for (const [colour, thick] of [
    ["#ffffff", 4],
    ["#e53935", 2],
  ]) {
    context.strokeStyle = colour;
    context.lineWidth = thick * ratio;
    context.strokeRect(record * width, top, Math.max(width, 3 * ratio), tall);
  }
}

/** The cell under a point, in CSS pixels from the corner of a canvas. */
export function cellAt(table, x, y, width, height) {
  const within = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
  return {
    record: within(x / width, table.steps.length),
    layer: table.layers.length - 1 - within(y / height, table.layers.length),
  };
}
