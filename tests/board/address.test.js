import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULTS, format, parse } from "../../mnist_vg/board/static/address.js";

const state = {
  ...DEFAULTS,
  view: "compare",
  filter: "a&b=c#d%",
  runs: ["sigmoid", 'x/"y",&z', "ä ö"],
  mark: ["layer1", 400],
  step: 400,
  zoom: { profile: { x: [1, 3.5] } },
};

test("an address shows what it was made from", () => {
  assert.deepEqual(parse(format(state)), state);
});

test("what is as usual is left out", () => {
  assert.equal(format(DEFAULTS), "#mnist_vg");
});

test("what is not the tab's own stays", () => {
  const hash = format(state, "#mnist_vg&other=1&p.mnist_vg.view=old");
  assert.match(hash, /^#mnist_vg&other=1&/);
  assert.deepEqual(parse(hash), state);
});

test("a damaged address shows what is usual", () => {
  for (const pair of [
    "runs={",
    "runs=7",
    "runs=null",
    "step=[]",
    "zoom=[1]",
    "view=%E0%A4%A",
    "view=other",
    "scale=other",
    'zoom={"profile":{"x":["a","b"]}}',
    'zoom={"profile":null}',
    "__proto__=1",
    "unknown=1",
  ]) {
    assert.deepEqual(parse(`#mnist_vg&p.mnist_vg.${pair}`), { ...DEFAULTS }, pair);
  }
});
