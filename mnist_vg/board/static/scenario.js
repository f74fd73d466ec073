/** From what a form holds to the settings of a scenario. */

/**
 * The settings that a form asks for.
 *
 * @param {object[]} fields as the service lists them.
 * @param {Object<string, string | boolean>} given name to what stands in the form.
 * @returns {object} without those that are left to their defaults.
 */
export function settingsOf(fields, given) {
  const settings = {};
  for (const { name, type, default: usual } of fields) {
    const value = valueOf(type, given[name]);
    if (value !== undefined && value !== usual) settings[name] = value;
  }
  return settings;
}

const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;

/** A number where one can be read; the service says what is wrong with anything else. */
function valueOf(type, text) {
  if (text === undefined || text === "" || text === null) return undefined;
  if (type === "boolean") return Boolean(text);
  const number = Number(text);
  const isExact = Number.isFinite(number) && (type !== "integer" || Number.isSafeInteger(number));
  return type !== "string" && NUMBER.test(text) && isExact ? number : String(text);
}

/** What a form holds for these settings. */
export function formOf(fields, settings) {
  return Object.fromEntries(
    fields.map(({ name, type, default: usual }) => {
      const value = settings[name] ?? usual;
      return [name, type === "boolean" ? Boolean(value) : value === null ? "" : String(value)];
    }),
  );
}

/** The settings under another seed, with the name that `--seeds` gives. */
export const seeded = (settings, name, seed) => ({
  ...settings,
  seed,
  name: `${name}-seed${seed}`,
});

/** The seeds in the names of runs of a recipe. */
export const seedsOf = (names, recipe) =>
  names
    .filter((name) => name.startsWith(`${recipe}-seed`))
    .map((name) => Number(name.slice(recipe.length + "-seed".length)))
    .filter(Number.isSafeInteger);

/** What a form has to vary, as the service and the command line take it. */
export const varied = (sides) =>
  sides
    .filter(({ field, values }) => field && values.trim())
    .map(({ field, values }) => `${field}=${values.trim()}`);

/** The settings that have other values than before. */
export const changed = (before, now) => Object.keys(now).filter((key) => before[key] !== now[key]);

/** A name for a run that is made from another: its own, and what has changed. */
export function nameOf(name, form, changes) {
  const parts = changes
    .filter((key) => key !== "name")
    .map((key) => (/^[a-z]/i.test(form[key]) ? form[key] : `${key}${form[key]}`));
  return [name, ...parts]
    .join("-")
    .replace(/[^\w.+=-]+/g, "_")
    .slice(0, 100);
}

/**
 * What a run has recorded so far, as a table, with what an event adds.
 *
 * @param {import("./server.js").Table | undefined} table
 * @param {{run: string, layers: string[], records: [number, (number | string)[]][]}} facts
 */
export function grown(table, { run, layers, records }) {
  if (!records.length) return table?.run === run ? table : undefined;
  // A run that goes on from its checkpoint records some steps again.
  const isBefore = ([step]) => step < records[0][0];
  const known = table?.run === run ? columnsOf(table).filter(isBefore) : [];
  const columns = [...known, ...records];
  const values = layers.flatMap((_, layer) => columns.map(([, of]) => numberOf(of[layer])));
  return {
    run,
    layers,
    steps: Float64Array.from(columns, ([step]) => step),
    values: Float32Array.from(values),
    recorded: new Float32Array(values.length).fill(1),
  };
}

const columnsOf = ({ layers, steps, values }) =>
  Array.from(steps, (step, n) => [step, layers.map((_, of) => values[of * steps.length + n])]);

/** JSON has no NaN and no infinity, so they come as text. */
const numberOf = (value) =>
  typeof value === "string" ? Number(value.replace("inf", "Infinity")) : value;

/** How long something takes, in words. */
export function duration(seconds) {
  if (seconds === undefined || seconds === null) return "";
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
