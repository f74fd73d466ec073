import assert from "node:assert/strict";
import { test } from "node:test";
import { arranged, patternOf, sickest } from "../../mnist_vg/board/static/runs.js";

const run = (name, health, more = {}) => ({ name, group: name, health, settings: {}, ...more });
const RUNS = [
  run("b10", "healthy", { share: 0.9, result: { name: "test accuracy", value: 0.9 } }),
  run("b9", "sick", { share: 0.5, settings: { depth: 10 } }),
  run("a", "sick", { share: 0.1, settings: { depth: 9 } }),
  run("new", "so far"),
  run("short", "not judged"),
  { name: "torn", group: "torn", state: "damaged", damage: "why", settings: {} },
];
const names = (how) =>
  arranged(RUNS, { filter: "", sort: "verdict", seeds: "each", ...how }).map(({ name }) => name);

test("the sickest comes first, and what is damaged before it", () => {
  assert.deepEqual(names({}), ["torn", "a", "b9", "short", "new", "b10"]);
});

test("names are ordered as people count", () => {
  assert.deepEqual(names({ sort: "name" }), ["a", "b9", "b10", "new", "short", "torn"]);
});

test("a setting is ordered by size, and who does not have it comes last", () => {
  assert.deepEqual(names({ sort: "depth" }).slice(0, 2), ["a", "b9"]);
});

test("the best result comes first", () => {
  assert.equal(names({ sort: "result" })[0], "b10");
  const losses = [3, 1, 2].map((value, n) =>
    run(`r${n}`, "sick", { result: { name: "loss", value } }),
  );
  const order = arranged(losses, { filter: "", sort: "result", seeds: "each" });
  assert.deepEqual(
    order.map(({ name }) => name),
    ["r1", "r2", "r0"],
  );
});

test("a filter is a regular expression, and one that is not finished hides nothing", () => {
  assert.deepEqual(names({ filter: "^B\\d+$" }), ["b9", "b10"]);
  assert.equal(names({ filter: "(" }).length, RUNS.length);
  assert.equal(patternOf("("), null);
});

test("seeds of a scenario are one tile, which is as sick as its sickest", () => {
  const seeds = [
    run("x-seed1", "healthy", { group: "x", share: 0.9 }),
    run("x-seed2", "sick", { group: "x", share: 0.2 }),
    run("y-seed1", "healthy", { group: "y", share: 0.8 }),
  ];
  const tiles = arranged(seeds, { filter: "", sort: "verdict", seeds: "together" });
  assert.deepEqual(
    tiles.map(({ name, runs }) => [name, runs.length]),
    [
      ["x", 2],
      ["y-seed1", 1],
    ],
  );
  assert.equal(sickest(tiles[0]).name, "x-seed2");
});
