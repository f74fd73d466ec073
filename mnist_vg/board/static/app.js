/** The page: its state, what it shows of it, and how it follows TensorBoard. */

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { DEFAULTS } from "./address.js";
import { colourScale } from "./colours.js";
import { panel } from "./diagnosis.js";
import { onAddress, onDarkMode, onReload, putIntoAddress, stateOfAddress } from "./host.js";
import { MEASURES } from "./measures.js";
import { controls, Overview } from "./overview.js";
import { arranged, sickest } from "./runs.js";
import { getRun, getRuns, pageUrl } from "./server.js";
import { findService } from "./service.js";
import { TableStore } from "./store.js";
import { range, recordAt } from "./tables.js";

/** So many records of a run are asked for: a tile has about as many pixels. */
const COLUMNS = 300;
/** So many runs are compared where none is chosen. */
const COMPARED = 6;
/** While a run trains, the tab looks as often as TensorBoard reads the log. */
const TRAINING_MS = 5000;
/** Otherwise it looks now and then whether a run has begun. */
const WAITING_MS = 30_000;
/** A service's TensorBoard reads the log every second. */
const GROWN_MS = 1100;
/** So long after a run has written, TensorBoard may not have read it: it has much else to do. */
const SETTLED_MS = 60_000;
/** A narrower page has no room for a diagnosis beside the tiles. */
const WIDE = 900;

/** Holds the state, and passes every change of it to the parts of the page. */
export class App {
  state = { ...DEFAULTS };
  listing = { runs: [], settings: [], measures: [] };
  store = new TableStore(COLUMNS);
  #facts = new Map();
  #ranges = new WeakMap();
  #cell = null;
  #groups = null;
  #painting = false;
  #opens = false; // Whether the sickest run's diagnosis is to be opened once there are runs.

  constructor(body) {
    render(
      html`
        <header class="unseen"><h1>Gradient flow</h1></header>
        <nav></nav>
        <p class="error" role="alert" hidden></p>
        <section class="controls overview-controls" aria-label="What is shown"></section>
        <main>
          <section class="grid" aria-label="Runs"></section>
          <section class="compare" aria-label="Comparison" hidden></section>
          <section class="training-view" aria-label="Training" hidden></section>
          <aside aria-label="Diagnosis" hidden></aside>
        </main>
      `,
      body,
    );
    const part = (selector) => body.querySelector(selector);
    [this.nav, this.error, this.controls, this.grid, this.section, this.queue, this.aside] = [
      "nav",
      ".error",
      ".overview-controls",
      ".grid",
      ".compare",
      ".training-view",
      "aside",
    ].map(part);
    this.overview = new Overview(this, this.grid);
  }

  /** Shows what the address says, or the answer: the sickest run's diagnosis. */
  async start() {
    this.state = stateOfAddress();
    onDarkMode((dark) => document.documentElement.classList.toggle("dark", dark));
    onAddress(() => this.#follow());
    const asGiven = JSON.stringify(this.state) !== JSON.stringify(DEFAULTS);
    this.#opens = !asGiven && window.innerWidth >= WIDE;
    await this.#reload();
    onReload(() => this.#reload());
    await this.#findService();
    this.#lookAgain();
  }

  /** The form and the queue, where there is a service. */
  async #findService() {
    const service = this.listing.service && (await findService().catch(() => null));
    if (!service) return;
    const { Training } = await import("./training.js");
    this.training = new Training(this, this.queue, service);
    this.#update();
  }

  /** Looks at the log soon, as a run has written to it. */
  logGrows() {
    this.#grew = Date.now();
    if (this.#soon) return;
    this.#soon = setTimeout(async () => {
      this.#soon = null;
      await this.#reload();
      this.#lookAgain();
    }, GROWN_MS);
  }
  #soon = null;
  #grew = 0;

  /** Draws the tabs anew. */
  navigate() {
    render(this.#tabs(this.state.view === "compare"), this.nav);
  }

  #lookAgain() {
    const settling = Date.now() - this.#grew < SETTLED_MS;
    const training = this.listing.runs.some(({ state }) => state === "training");
    clearTimeout(this.#later);
    this.#later = setTimeout(
      async () => {
        if (!document.hidden) await this.#reload();
        this.#lookAgain();
      },
      training || settling ? TRAINING_MS : WAITING_MS,
    );
  }
  #later = null;

  /**
   * Shows something else.
   *
   * @param {object} changes of the state.
   * @param {boolean} asStep whether "back" leads to what was shown before.
   */
  show(changes, asStep = false) {
    this.#opens = false;
    this.state = { ...this.state, ...changes };
    putIntoAddress(this.state, asStep);
    this.#update();
    if (changes.mark || changes.run) this.overview.reveal(this.state.run);
  }

  /** Takes the runs of a tile into the comparison, or out of it. */
  choose(group, chosen) {
    const names = group.runs.map(({ name }) => name);
    const others = this.state.runs.filter((run) => !names.includes(run));
    this.show({ runs: chosen ? [...others, ...names] : others });
  }

  /** The runs that are compared: the chosen ones, or else the first of the overview. */
  compared() {
    const known = new Set(this.#sound().map(({ name }) => name));
    const chosen = this.state.runs.filter((run) => known.has(run));
    if (chosen.length) return chosen;
    return arranged(this.#sound(), this.state)
      .slice(0, COMPARED)
      .map((group) => sickest(group).name);
  }

  /** The tiles, in the order in which they are shown. */
  groups() {
    const { filter, sort, seeds } = this.state;
    const key = JSON.stringify([filter, sort, seeds]);
    if (this.#groups?.key !== key || this.#groups.listing !== this.listing) {
      const groups = arranged(this.listing.runs, this.state);
      this.#groups = { key, listing: this.listing, groups };
    }
    return this.#groups.groups;
  }

  /** The tile in which a run is shown. */
  groupOf(run) {
    return this.groups().find(({ runs }) => runs.some(({ name }) => name === run));
  }

  /** The measures that any run has recorded. */
  measures() {
    const found = Object.keys(MEASURES).filter((name) => this.listing.measures.includes(name));
    return found.length ? found : [DEFAULTS.measure];
  }

  /** The colours of the measure, of all tables that are there. */
  scale() {
    const measure = MEASURES[this.state.measure];
    const ranges = this.store.of(this.state.measure).map((table) => this.#rangeOf(table, measure));
    const found = ranges.filter(Boolean);
    const low = found.reduce((least, [value]) => Math.min(least, value), Infinity);
    const high = found.reduce((most, [, value]) => Math.max(most, value), -Infinity);
    const domain = found.length ? [low, high] : null;
    const key = JSON.stringify([this.state.measure, domain]);
    if (this.#scale?.key !== key) this.#scale = { key, scale: colourScale(measure, domain) };
    return this.#scale.scale;
  }
  #scale = null;

  /** The frame in a tile: what is read there, or the symptom that was clicked. */
  cellOf(group) {
    if (this.#cell?.name === group.name) return this.#cell.cell;
    const { mark, run } = this.state;
    if (mark.length !== 2 || !group.runs.some(({ name }) => name === run)) return null;
    const table = this.overview.tableOf(group);
    if (!table) return null;
    const [layer, step] = mark;
    return { layer: table.layers.indexOf(layer), record: Math.max(recordAt(table.steps, step), 0) };
  }

  /** Reads a cell of a tile; null reads none. */
  read(group, cell) {
    this.#cell = cell && { name: group.name, cell };
    this.overview.refill(group.name);
  }

  /** Draws the tiles once for all tables that came in this frame. */
  tablesCame() {
    if (this.#painting) return;
    this.#painting = true;
    requestAnimationFrame(() => {
      this.#painting = false;
      if (this.state.view === "compare") this.#compare();
      else {
        render(controls(this), this.controls);
        this.overview.redraw();
      }
    });
  }

  /** The facts of a run. */
  async factsOf(run) {
    if (!this.#facts.has(run)) this.#facts.set(run, await getRun(run));
    return this.#facts.get(run);
  }

  /** The facts of a run, if they are there. */
  knownFacts(run) {
    return this.#facts.get(run);
  }

  /** The address of a page about a symptom. */
  pageOf(page) {
    return pageUrl(page);
  }

  /** Waits for an answer; if none comes, the page says so, and this returns undefined. */
  async watching(answer) {
    try {
      const given = await answer;
      this.#complain("");
      return given;
    } catch (error) {
      this.#complain(`TensorBoard does not answer as expected: ${error.message}`);
      return undefined;
    }
  }

  #follow() {
    this.#opens = false;
    this.state = stateOfAddress();
    this.#update();
  }

  #openWorst() {
    this.#opens = false;
    // Damaged runs come first, and may not be sick.
    const run = this.groups()
      .map(sickest)
      .find(({ health }) => health === "sick");
    if (run) this.state.run = run.name;
  }

  async #reload() {
    const before = new Map(this.listing.runs.map((run) => [run.name, run]));
    this.listing = (await this.watching(getRuns())) ?? this.listing;
    const changed = this.listing.runs.filter((run) => {
      const known = before.get(run.name);
      // A run that was trained anew may end at the same step.
      return known && ["state", "step", "written"].some((key) => known[key] !== run[key]);
    });
    const names = changed.map(({ name }) => name);
    names.forEach((name) => this.#facts.delete(name));
    this.store.forget(names, this.state.measure);
    if (names.length) this.compare?.forget();
    const there = names.filter((name) => this.store.peek(name, this.state.measure));
    if (this.#opens && this.listing.runs.length) this.#openWorst();
    this.#update();
    if (there.length) {
      // What is shown stays until the new tables are there.
      await this.watching(this.store.refresh(there, this.state.measure));
      this.tablesCame();
    }
  }

  #sound() {
    return this.listing.runs.filter(({ state }) => state !== "damaged");
  }

  #update() {
    if (!this.measures().includes(this.state.measure)) this.state.measure = this.measures()[0];
    const comparing = this.state.view === "compare";
    const training = this.state.view === "training" && Boolean(this.training);
    render(this.#tabs(comparing), this.nav);
    this.grid.hidden = this.controls.hidden = comparing || training;
    this.section.hidden = !comparing;
    this.queue.hidden = !training;
    this.aside.hidden = comparing || training || !this.state.run;
    if (comparing) this.#compare();
    else if (training) this.training.update();
    else {
      render(controls(this), this.controls);
      this.overview.update();
      this.#diagnosis();
    }
  }

  #tabs(comparing) {
    const chosen = this.state.runs.length;
    const training = this.listing.runs.filter(({ state }) => state === "training").length;
    const tab = (view, label) => html`
      <button
        aria-current=${this.state.view === view ? "page" : "false"}
        @click=${() => this.show({ view }, true)}
      >
        ${label}
      </button>
    `;
    return html`
      ${tab("overview", "Overview")}
      ${tab("compare", chosen ? `Compare ${chosen} ${chosen === 1 ? "run" : "runs"}` : "Compare")}
      ${
        this.training
          ? tab("training", this.training.open ? `Training (${this.training.open})` : "Training")
          : nothing
      }
      ${
        chosen && !comparing
          ? html`<button @click=${() => this.show({ runs: [] }, true)}>Choose none</button>`
          : nothing
      }
      ${training ? html`<span class="training" role="status">${training} training</span>` : nothing}
    `;
  }

  /** The charts, and the library that draws them, are loaded when they are first asked for. */
  async #compare() {
    const { Compare } = await import("./compare.js");
    this.compare ??= new Compare(this, this.section);
    await this.compare.update();
  }

  async #diagnosis() {
    const { run } = this.state;
    if (!run) return;
    const row = this.listing.runs.find(({ name }) => name === run);
    render(panel(this.knownFacts(run), this, row), this.aside);
    if (!row || row.state === "damaged" || this.knownFacts(run)) return;
    await this.watching(this.factsOf(run));
    if (this.state.run === run) render(panel(this.knownFacts(run), this, row), this.aside);
  }

  #rangeOf(table, { scale }) {
    if (!this.#ranges.has(table)) this.#ranges.set(table, range([table], scale));
    return this.#ranges.get(table);
  }

  #complain(words) {
    this.error.hidden = !words;
    this.error.textContent = words;
  }
}
