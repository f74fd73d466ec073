/** Arithmetic on tables of a measure: layers by records. */

/** The number of the newest record at a step or before it; -1 if there is none. */
export function recordAt(steps, step) {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The value of a layer at a record; undefined where nothing is recorded. */
export function valueAt(table, layer, record) {
  const at = layer * table.steps.length + record;
  return table.recorded[at] ? table.values[at] : undefined;
}

/**
 * Several runs of one scenario as one table.
 *
 * @param {Table[]} tables
 * @returns {Table} with `values` the median, and `low` and `high`, of the runs that have a record.
 */
export function together(tables) {
  if (tables.length === 1) return tables[0];
  const layers = [...new Set(tables.flatMap((table) => table.layers))];
  const steps = Float64Array.from(new Set(tables.flatMap((table) => [...table.steps]))).sort();
  const size = layers.length * steps.length;
  const [values, low, high, recorded] = [0, 1, 2, 3].map(() => new Float32Array(size).fill(NaN));
  layers.forEach((layer, row) => {
    const sources = tables.map((table) => [table, table.layers.indexOf(layer)]);
    steps.forEach((step, column) => {
      const found = sources
        .map(([table, of]) => [table, of, of < 0 ? -1 : recordAt(table.steps, step)])
        .filter(([table, , record]) => record >= 0 && table.steps[record] === step)
        .map(([table, of, record]) => valueAt(table, of, record))
        .filter((value) => value !== undefined);
      const at = row * steps.length + column;
      recorded[at] = found.length ? 1 : 0;
      if (found.length) [low[at], values[at], high[at]] = spread(found);
    });
  });
  return { run: tables[0].run, layers, steps, values, low, high, recorded };
}

/** The smallest, the middle and the largest; NaN stands above everything. */
function spread(found) {
  const sorted = found.sort((a, b) => Number.isNaN(a) - Number.isNaN(b) || a - b);
  const half = sorted.length >> 1;
  const middle = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return [sorted[0], middle, sorted.at(-1)];
}

/** The smallest and the largest finite value of tables; on a log scale, above zero. */
export function range(tables, scale) {
  let [low, high] = [Infinity, -Infinity];
  for (const { values } of tables) {
    for (const value of values) {
      if (Number.isFinite(value) && (scale === "linear" || value > 0)) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
  }
  return low <= high ? [low, high] : null;
}

/** A step as a share of a run's steps, in percent. */
export const relative = (steps, step) => (100 * step) / Math.max(steps.at(-1) ?? 1, 1);

/** Rows as text for a spreadsheet (RFC 4180). */
export function csv(rows) {
  if (!rows.length) return "";
  const keys = Object.keys(rows[0]);
  const cell = (value) =>
    /[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const lines = [keys, ...rows.map((row) => keys.map((key) => row[key] ?? ""))];
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** The rows of a table, for its numbers on the screen and in a file. */
export function rowsOf(table, measure) {
  return table.layers.flatMap((layer, row) =>
    Array.from(table.steps, (step, column) => {
      const value = valueAt(table, row, column);
      return { run: table.run, layer, step, [measure]: value };
    }).filter((each) => each[measure] !== undefined),
  );
}
