import assert from "node:assert/strict";
import { test } from "node:test";
import {
  csv,
  range,
  recordAt,
  relative,
  rowsOf,
  together,
  valueAt,
} from "../../mnist_vg/board/static/tables.js";

const table = (steps, values, recorded = values.map(() => 1), layers = ["a", "b"]) => ({
  run: "run",
  layers,
  steps: Float64Array.from(steps),
  values: Float32Array.from(values),
  recorded: Float32Array.from(recorded),
});

test("the record at a step is the newest one up to it", () => {
  const steps = [0, 100, 250];
  const places = [-1, 0, 99, 100, 249, 250, 1e9].map((step) => recordAt(steps, step));
  assert.deepEqual(places, [-1, 0, 0, 1, 1, 2, 2]);
  assert.equal(recordAt([], 5), -1);
});

test("nothing recorded is not the same as NaN", () => {
  const one = table([0, 1], [1, NaN, 3, NaN], [1, 1, 1, 0]);
  assert.equal(valueAt(one, 0, 1), NaN);
  assert.equal(valueAt(one, 1, 1), undefined);
});

test("seeds together are the median and the range at each step", () => {
  const seeds = [
    table([0, 10], [1, 4, 10, 40]),
    table([0, 10], [2, 6, 20, 60]),
    table([0, 20], [9, 5, 90, 50]),
  ];
  const { steps, values, low, high, recorded } = together(seeds);
  assert.deepEqual([...steps], [0, 10, 20]);
  assert.deepEqual([...values], [2, 5, 5, 20, 50, 50]);
  assert.deepEqual([...low], [1, 4, 5, 10, 40, 50]);
  assert.deepEqual([...high], [9, 6, 5, 90, 60, 50]);
  assert.ok(recorded.every((each) => each === 1));
});

test("most seeds without a number make a median that is none", () => {
  const { values, low } = together([1, NaN, NaN].map((value) => table([0], [value], [1], ["a"])));
  assert.equal(values[0], NaN);
  assert.equal(low[0], 1);
});

test("steps are in order of size, not of their digits", () => {
  const { steps } = together([table([9, 1000], [1, 1, 1, 1]), table([80], [1, 1])]);
  assert.deepEqual([...steps], [9, 80, 1000]);
});

test("a range knows only numbers that its scale has", () => {
  const tables = [table([0, 1], [0, -2, NaN, Infinity]), table([0], [1e-9, 5])];
  assert.deepEqual(range(tables, "linear"), [-2, 5]);
  assert.deepEqual(
    range(tables, "log").map((value) => Number(value.toPrecision(3))),
    [1e-9, 5],
  );
  assert.equal(range([], "log"), null);
  assert.equal(range([table([0], [0, 0])], "log"), null);
});

test("relative steps are percents of a run", () => {
  assert.equal(relative([0, 50, 200], 50), 25);
  assert.equal(relative([0], 0), 0);
});

test("numbers go into a spreadsheet as they are", () => {
  const rows = rowsOf(table([0, 5], [1.5, 2, NaN, 0], [1, 0, 1, 1]), "x");
  assert.deepEqual(rows.length, 3);
  assert.equal(csv(rows), "run,layer,step,x\r\nrun,a,0,1.5\r\nrun,b,0,NaN\r\nrun,b,5,0\r\n");
  assert.equal(csv([{ a: 'say "x", y\n' }]), 'a\r\n"say ""x"", y\n"\r\n');
  assert.equal(csv([]), "");
});
