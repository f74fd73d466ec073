/** What the page has asked for and may need again. */

import { getTables } from "./server.js";

/** So many tables are kept: several screens of tiles. */
const MOST = 600;

/** Asks in one request for what is wanted at about the same time. */
const TOGETHER_MS = 15;

/** Tables of measures, asked for once. Those of runs that train are asked for again. */
export class TableStore {
  #kept = new Map();
  #wanted = new Map();
  #coming = new Map();

  /** @param {number} columns at most so many records of each run. */
  constructor(columns) {
    this.columns = columns;
  }

  /** The table of a run, if it is there already. */
  peek(run, measure) {
    return this.#kept.get(key(run, measure));
  }

  /** The table of a run. */
  get(run, measure) {
    const kept = this.peek(run, measure);
    if (kept) return Promise.resolve(kept);
    return this.#coming.get(key(run, measure)) ?? this.#ask(run, measure);
  }

  /** All tables of a measure that are there. */
  of(measure) {
    return [...this.#kept].filter(([at]) => at.endsWith(key("", measure))).map(([, kept]) => kept);
  }

  /** The tables of these runs anew. */
  refresh(runs, measure) {
    return Promise.all(runs.map((run) => this.#ask(run, measure)));
  }

  /** Forgets the tables of these runs, except those of one measure. */
  forget(runs, except) {
    const gone = new Set(runs);
    for (const [at, { run }] of this.#kept) {
      if (gone.has(run) && at !== key(run, except)) this.#kept.delete(at);
    }
  }

  #ask(run, measure) {
    if (!this.#wanted.has(measure)) {
      this.#wanted.set(measure, new Map());
      setTimeout(() => this.#send(measure), TOGETHER_MS);
    }
    const wanted = this.#wanted.get(measure);
    if (!wanted.has(run)) wanted.set(run, Promise.withResolvers());
    const { promise } = wanted.get(run);
    this.#coming.set(key(run, measure), promise);
    return promise;
  }

  async #send(measure) {
    const wanted = this.#wanted.get(measure);
    this.#wanted.delete(measure);
    try {
      for (const table of await getTables([...wanted.keys()], measure, this.columns)) {
        this.#keep(table, measure);
        wanted.get(table.run).resolve(table);
      }
    } catch (error) {
      for (const { reject } of wanted.values()) reject(error);
    }
    for (const run of wanted.keys()) this.#coming.delete(key(run, measure));
  }

  #keep(table, measure) {
    const at = key(table.run, measure);
    this.#kept.delete(at); // So that the map's first entry is the one that was asked for first.
    this.#kept.set(at, table);
    if (this.#kept.size > MOST) this.#kept.delete(this.#kept.keys().next().value);
  }
}

const key = (run, measure) => `${run}\n${measure}`;
