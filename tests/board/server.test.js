import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { histogramsIn, tablesIn } from "../../mnist_vg/board/static/server.js";

/** What Python packs, as a browser gets it. */
function packed(header, arrays) {
  const code = `
import sys, numpy as np
from mnist_vg.board.binary import packed
sys.stdout.buffer.write(packed(${header}, [${arrays.join(", ")}]))`;
  const bytes = execFileSync(process.env.PYTHON ?? "python3", ["-c", code]);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
}

test("tables come as Python packed them", () => {
  const buffer = packed(
    '{"tables": [dict(run="ä", layers=["a", "b"], records=3), dict(run="y", layers=["a"], records=1)]}',
    [
      "np.array([0, 1, 2**40], float)",
      "np.array([7.0])",
      "np.array([1, 2, np.nan, 1e-30, np.inf, 0], np.float32)",
      "np.array([5], np.float32)",
      "np.array([1, 1, 0, 1, 1, 1], np.float32)",
      "np.array([1], np.float32)",
    ],
  );
  const [x, y] = tablesIn(buffer);
  assert.equal(x.run, "ä");
  assert.deepEqual([...x.steps], [0, 1, 2 ** 40]);
  assert.deepEqual([...x.values], [1, 2, NaN, Math.fround(1e-30), Infinity, 0]);
  assert.deepEqual([...x.recorded], [1, 1, 0, 1, 1, 1]);
  assert.deepEqual([y.layers, [...y.steps], [...y.values]], [["a"], [7], [5]]);
});

test("histograms come as Python packed them", () => {
  const buffer = packed('{"histograms": [dict(run="x", records=2, buckets=2)]}', [
    "np.array([0.0, 5.0])",
    "np.arange(12, dtype=np.float32)",
  ]);
  const [{ run, steps, buckets }] = histogramsIn(buffer);
  assert.equal(run, "x");
  assert.deepEqual([...steps], [0, 5]);
  assert.deepEqual([...buckets], [...Array(12).keys()]);
});
