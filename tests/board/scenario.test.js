import assert from "node:assert/strict";
import { test } from "node:test";
import {
  changed,
  duration,
  formOf,
  grown,
  nameOf,
  seeded,
  seedsOf,
  settingsOf,
  varied,
} from "../../mnist_vg/board/static/scenario.js";

const FIELDS = [
  { name: "name", type: "string", default: "" },
  { name: "activation", type: "string", default: "sigmoid" },
  { name: "num_layers", type: "integer", default: 6 },
  { name: "learning_rate", type: "number", default: null },
  { name: "skip_connections", type: "boolean", default: false },
];

test("a form gives the settings that it was filled with", () => {
  const settings = {
    activation: "tanh",
    num_layers: 12,
    learning_rate: 1e-3,
    skip_connections: true,
  };
  assert.deepEqual(settingsOf(FIELDS, formOf(FIELDS, settings)), settings);
});

test("what is as usual is left to the service", () => {
  assert.deepEqual(settingsOf(FIELDS, formOf(FIELDS, {})), {});
});

test("what is no number is sent as it stands, for the service to refuse", () => {
  assert.deepEqual(settingsOf(FIELDS, { num_layers: "many" }), { num_layers: "many" });
});

test("a run is named after what has changed", () => {
  const before = formOf(FIELDS, { activation: "tanh" });
  const now = { ...before, num_layers: "12", activation: "relu" };
  assert.deepEqual(changed(before, now), ["activation", "num_layers"]);
  assert.equal(nameOf("base", now, changed(before, now)), "base-relu-num_layers12");
  assert.equal(nameOf("x".repeat(200), now, []).length, 100);
});

test("records that come one by one make the table that they would make at once", () => {
  const records = [
    [0, [1, 2]],
    [10, [3, "nan"]],
    [20, ["inf", 6]],
  ];
  const facts = { run: "r", layers: ["a", "b"] };
  const table = records.reduce(
    (so, record) => grown(so, { ...facts, records: [record] }),
    undefined,
  );
  assert.deepEqual(table, grown(undefined, { ...facts, records }));
  assert.deepEqual([...table.values], [1, 3, Infinity, 2, NaN, 6]);
  assert.equal(grown(table, { ...facts, run: "next", records: [] }), undefined);
  assert.deepEqual(grown(table, { ...facts, records: records.slice(1) }), table);
});

test("times are read as people say them", () => {
  assert.deepEqual([undefined, 0.2, 61, 5400].map(duration), ["", "1 s", "1 min", "1.5 h"]);
});

test("what is varied is told as the command line has it", () => {
  const sides = [
    { field: "num_layers", values: " 2:20:3 " },
    { field: "", values: "1,2" },
    { field: "activation", values: " " },
  ];
  assert.deepEqual(varied(sides), ["num_layers=2:20:3"]);
});

test("a run under another seed has the name that --seeds gives", () => {
  const settings = { activation: "tanh", seed: 0, name: "deep" };
  assert.deepEqual(seeded(settings, "deep", 3), { ...settings, seed: 3, name: "deep-seed3" });
});

test("only a number that the command line would read becomes one", () => {
  const fields = [
    { name: "seed", type: "integer", default: 0 },
    { name: "rate", type: "number", default: null },
  ];
  const sent = (seed, rate) => settingsOf(fields, { seed, rate });
  assert.deepEqual(sent("16", "1e-3"), { seed: 16, rate: 0.001 });
  for (const text of [" ", "0x10", "1e400", "1_000", "Infinity"]) {
    assert.deepEqual(sent(text, text), { seed: text, rate: text });
  }
  // JSON's readers here would change its last digit.
  assert.deepEqual(sent("9007199254740993", ""), { seed: "9007199254740993" });
});

test("the seeds of a recipe are read from the names of its runs", () => {
  const names = ["deep", "deep-seed3", "deep-seed12", "deeper-seed5", "deep-seedling"];
  assert.deepEqual(seedsOf(names, "deep"), [3, 12]);
});
