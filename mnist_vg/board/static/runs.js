/** Which runs are shown, in which order, and which of them make one tile. */

const ORDER = ["sick", "not judged", "so far", "healthy"];

/**
 * @typedef {object} Group the runs of one tile.
 * @property {string} name
 * @property {object[]} runs as the server lists them.
 */

/**
 * The tiles in their order.
 *
 * @param {object[]} runs as the server lists them.
 * @param {{filter: string, sort: string, seeds: string}} how
 * @returns {Group[]}
 */
export function arranged(runs, { filter, sort, seeds }) {
  const pattern = patternOf(filter);
  const shown = pattern ? runs.filter((run) => pattern.test(run.name)) : runs;
  const groups = new Map();
  for (const run of shown) {
    const name = seeds === "together" ? run.group : run.name;
    if (!groups.has(name)) groups.set(name, { name, runs: [] });
    groups.get(name).runs.push(run);
  }
  for (const group of groups.values()) if (group.runs.length === 1) group.name = group.runs[0].name;
  return [...groups.values()].sort(comparing(sort));
}

/** The pattern in a filter; null for an empty one and for one that is not complete yet. */
export function patternOf(filter) {
  try {
    return filter ? new RegExp(filter, "i") : null;
  } catch {
    return null;
  }
}

/** The run of a group that stands for it: the sickest. */
export const sickest = (group) => group.runs.toSorted(bySeverity)[0];

const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });

function bySeverity(a, b) {
  const rank = ({ damage, health }) => (damage ? -1 : ORDER.indexOf(health));
  return rank(a) - rank(b) || (a.share ?? -1) - (b.share ?? -1) || byName(a, b);
}

function comparing(sort) {
  if (sort === "name") return byName;
  if (sort === "verdict") return (a, b) => bySeverity(sickest(a), sickest(b));
  const key = sort === "result" ? result : (group) => group.runs[0].settings[sort];
  return (a, b) => compared(key(a), key(b)) || byName(a, b);
}

/** The middle result of a group, the best first; a loss is better if it is smaller. */
function result(group) {
  const values = group.runs
    .filter((run) => run.result)
    .map(({ result: { name, value } }) => (name.endsWith("loss") ? value : -value))
    .sort((a, b) => a - b);
  return values.length ? values[values.length >> 1] : undefined;
}

/** Numbers by size, then texts, then what is not known. */
function compared(a, b) {
  const unknown = (value) => value === undefined || value === null;
  if (unknown(a) || unknown(b)) return unknown(a) - unknown(b);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}
