import assert from "node:assert/strict";
import { test } from "node:test";
import { colourScale, MARKS, markOf, textOn } from "../../mnist_vg/board/static/colours.js";
import { MEASURES, words } from "../../mnist_vg/board/static/measures.js";

const LOG = { scale: "log" };
const brightness = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;

test("a logarithmic scale reaches out to whole powers of ten, three at least", () => {
  assert.deepEqual(colourScale(LOG, [3e-9, 2e-2]).domain, [1e-9, 0.1]);
  assert.deepEqual(colourScale(LOG, [0.5, 0.6]).domain, [1e-3, 1]);
});

test("a measure with bounds of its own has them whatever is found", () => {
  assert.deepEqual(colourScale(MEASURES.units_dead, [0.2, 0.3]).domain, [0, 1]);
});

test("larger is brighter, and equal factors are equal ways on the scale", () => {
  const { colour } = colourScale(LOG, [1e-8, 1]);
  const levels = [-8, -6, -4, -2, 0].map((power) => brightness(colour(10 ** power)));
  for (let n = 1; n < levels.length; n++) assert.ok(levels[n] > levels[n - 1] + 20);
  assert.deepEqual(colour(1e-8), [68, 1, 84]);
  assert.deepEqual(colour(1), [253, 231, 37]);
});

test("what is beyond the scale has the colour of its end", () => {
  const { colour } = colourScale(LOG, [1e-3, 1]);
  assert.deepEqual(colour(1e-20), colour(1e-3));
});

test("what is no number on the scale has a colour and a sign of its own", () => {
  const marks = [undefined, NaN, Infinity, -Infinity, 0, 1].map((value) => markOf(value, "log"));
  assert.deepEqual(marks, ["none", "nan", "inf", "inf", "zero", undefined]);
  assert.equal(markOf(0, "linear"), undefined);
  const known = Object.values(MARKS);
  assert.equal(new Set(known.map(({ colour }) => colour)).size, 4);
  assert.equal(new Set(known.map(({ sign }) => sign)).size, 4);
});

test("numbers are read with three digits", () => {
  assert.deepEqual([0, 0.5, 1234.5, 1e-7, -2.5e8, NaN, Infinity].map(words), [
    "0",
    "0.5",
    "1230",
    "1.00e-7",
    "-2.50e+8",
    "NaN",
    "Inf",
  ]);
});

/** The contrast of two colours (WCAG 2.2, definition of contrast ratio). */
function contrast(one, other) {
  const luminance = (colour) =>
    [0.2126, 0.7152, 0.0722].reduce((sum, weight, n) => {
      const part = Number.parseInt(colour.slice(1 + 2 * n, 3 + 2 * n), 16) / 255;
      return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    }, 0);
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

test("the text of a cell can be read on every colour", () => {
  for (let n = 0; n < 4096; n += 7) {
    const hex = n.toString(16).padStart(3, "0");
    const colour = `#${[...hex].map((digit) => digit + digit).join("")}`;
    assert.ok(contrast(colour, textOn(colour)) >= 4.5, colour);
  }
});
