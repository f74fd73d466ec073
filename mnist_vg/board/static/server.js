/** What the tab asks TensorBoard's server for. */

/**
 * @typedef {object} Table a measure of a run's layers.
 * @property {string} run
 * @property {string[]} layers the one nearest the input first.
 * @property {Float64Array} steps
 * @property {Float32Array} values a row a layer; NaN where there is no record, and where it is NaN.
 * @property {Float32Array} recorded the same shape: 1 where there is a record.
 */

const SMALL = 20;

/** All runs in brief; see `listing.py`. */
export const getRuns = async () => (await answer("runs", {})).json();

/** Everything that a run has noted of itself. */
export const getRun = async (run) => (await answer("run", { run: [run] })).json();

/**
 * A measure of some runs.
 *
 * @param {string[]} runs
 * @param {string} measure
 * @param {number} columns at most so many records of each.
 * @returns {Promise<Table[]>}
 */
export async function getTables(runs, measure, columns) {
  const parts = await inParts(runs, (run) => ["tables", { run, measure, columns }]);
  return parts.flatMap(tablesIn);
}

/**
 * The histograms of a layer.
 *
 * @returns {Promise<{run: string, steps: Float64Array, buckets: Float32Array}[]>} three numbers a
 *   bucket, 30 buckets a record: left edge, right edge and count.
 */
export async function getHistograms(runs, group, layer) {
  const parts = await inParts(runs, (run) => ["histograms", { run, group, layer }]);
  return parts.flatMap(histogramsIn);
}

/** The tables in a message; see `binary.py`. */
export function tablesIn(buffer) {
  const { header, float64, float32 } = unpack(buffer);
  const { tables } = header;
  const steps = tables.map(({ records }) => float64(records));
  const [values, recorded] = [0, 1].map(() =>
    tables.map(({ layers, records }) => float32(layers.length * records)),
  );
  return tables.map(({ run, layers }, n) => ({
    run,
    layers,
    steps: steps[n],
    values: values[n],
    recorded: recorded[n],
  }));
}

/** The histograms in a message. */
export function histogramsIn(buffer) {
  const { header, float64, float32 } = unpack(buffer);
  const steps = header.histograms.map(({ records }) => float64(records));
  return header.histograms.map(({ run, records, buckets }, n) => ({
    run,
    steps: steps[n],
    buckets: float32(records * buckets * 3),
  }));
}

/** A message's header, and functions that take the next numbers out of it. */
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const next = (Kind) => (count) => {
    const numbers = new Kind(buffer, at, count);
    at += numbers.byteLength;
    return numbers;
  };
  return { header, float64: next(Float64Array), float32: next(Float32Array) };
}

/** Several requests, since an address has a limited length. */
async function inParts(runs, request) {
  const parts = [];
  for (let start = 0; start < runs.length; start += SMALL) {
    const [route, query] = request(runs.slice(start, start + SMALL));
    parts.push(answer(route, query).then((response) => response.arrayBuffer()));
  }
  return Promise.all(parts);
}

/** The address of the page about a symptom. */
export const pageUrl = (page) => new URL(`page/${page}`, base());

/** Where the server's answers are, under whichever of its two addresses this file was found. */
const base = () => import.meta.url.replace(/(\/data\/plugin\/mnist_vg\/).*/, "$1");

async function answer(route, query) {
  const url = new URL(route, base());
  for (const [key, given] of Object.entries(query)) {
    for (const value of [given].flat()) url.searchParams.append(key, value);
  }
  const response = await fetch(url, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`${route}: ${(await response.text()).slice(0, 300)}`);
  return response;
}
