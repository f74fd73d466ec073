/** The overview: a tile a run, filled while it is near the screen. */

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { MARKS } from "./colours.js";
import { MEASURES, words } from "./measures.js";
import { patternOf } from "./runs.js";
import { draw, tile } from "./tile.js";
import { together } from "./tables.js";

/** So many tiles are laid out together, and only while they are near the screen. */
const CHUNK = 60;

/** Of so many runs, all are asked for; of more, those near the screen. */
const WHOLE = 100;

/** How far from the screen tiles are filled, so that scrolling finds them ready. */
const AHEAD = "800px 0px";

/** Keeps an element for each tile, and fills those near the screen. */
export class Overview {
  #shells = new Map();
  #near = new Set();
  #joined = new Map();
  #order = [];
  #timed = null; // For whoever measures how long a page takes.

  /** @param {object} app @param {HTMLElement} grid that holds the tiles. */
  constructor(app, grid) {
    this.app = app;
    this.grid = grid;
    this.watcher = new IntersectionObserver((seen) => this.#seen(seen), { rootMargin: AHEAD });
    new ResizeObserver(() => this.redraw()).observe(grid);
  }

  /** Brings the tiles into the order that the app's state asks for, and fills those near. */
  update() {
    const groups = this.app.groups();
    const names = new Set(groups.map(({ name }) => name));
    for (const [name, { shell }] of this.#shells) if (!names.has(name)) this.#drop(name, shell);
    const shells = groups.map((group) => this.#shellOf(group));
    if (
      shells.length !== this.#order.length ||
      shells.some((shell, n) => shell !== this.#order[n])
    ) {
      this.#order = shells;
      this.grid.replaceChildren(...chunks(shells));
    }
    this.redraw();
    this.#fetchAll(groups);
  }

  /** Fills the tiles near the screen anew. */
  redraw() {
    for (const name of this.#near) this.#fill(name);
  }

  /** Fills one tile anew. */
  refill(name) {
    if (this.#near.has(name)) this.#fill(name);
  }

  /** Brings the tile of a run into view. */
  reveal(run) {
    for (const { shell, group } of this.#shells.values()) {
      if (group.runs.some(({ name }) => name === run)) shell.scrollIntoView({ block: "nearest" });
    }
  }

  /** The table of a tile; undefined until all of its runs are there. */
  tableOf(group) {
    const { store, state } = this.app;
    const known = this.#joined.get(group.name);
    // The store may have dropped some that the tile still shows.
    const shown = known?.measure === state.measure ? known.tables : [];
    const tables = group.runs.map(
      ({ name }) => store.peek(name, state.measure) ?? shown.find(({ run }) => run === name),
    );
    if (tables.some((table) => !table)) return undefined;
    const alike = tables.length === shown.length && tables.every((table, n) => table === shown[n]);
    return alike ? known.joined : this.#join(group, tables, state.measure);
  }

  #join(group, tables, measure) {
    const joined = together(tables);
    if (this.#near.has(group.name)) this.#joined.set(group.name, { tables, joined, measure });
    return joined;
  }

  #shellOf(group) {
    const known = this.#shells.get(group.name);
    if (known) {
      known.group = group;
      return known.shell;
    }
    const shell = document.createElement("article");
    shell.className = "tile";
    shell.dataset.name = group.name;
    shell.setAttribute("aria-label", group.name);
    this.#shells.set(group.name, { shell, group });
    this.watcher.observe(shell);
    return shell;
  }

  #drop(name, shell) {
    this.watcher.unobserve(shell);
    shell.remove();
    this.#shells.delete(name);
    this.#near.delete(name);
    this.#joined.delete(name);
  }

  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const { name } = target.dataset;
      if (isIntersecting) {
        this.#near.add(name);
        this.#fill(name);
      } else if (this.#near.delete(name)) {
        this.#joined.delete(name);
        target.style.minHeight = `${target.offsetHeight}px`; // Or everything below would jump.
        render(nothing, target);
      }
    }
  }

  #fill(name) {
    const { shell, group } = this.#shells.get(name);
    const table = this.tableOf(group);
    shell.style.minHeight = "";
    shell.classList.toggle(
      "shown",
      group.runs.some((run) => run.name === this.app.state.run),
    );
    render(tile(group, table, this.app), shell);
    draw(shell, group, table, this.app);
    if (table && !this.#timed) this.#timed = performance.mark("first tile");
    if (!table && !isDamaged(group)) this.#fetch(group);
  }

  /** Asks for what lies far from the screen, too: all runs have one scale of colours. */
  #fetchAll(groups) {
    if (this.app.listing.runs.length > WHOLE) return;
    for (const group of groups) if (!this.tableOf(group) && !isDamaged(group)) this.#fetch(group);
  }

  async #fetch(group) {
    const { measure } = this.app.state;
    const asked = group.runs.map(({ name }) => this.app.store.get(name, measure));
    const tables = await this.app.watching(Promise.all(asked));
    if (!tables) return;
    this.#join(group, tables, measure);
    this.app.tablesCame();
  }
}

const isDamaged = ({ runs }) => runs.some(({ state }) => state === "damaged");

function chunks(shells) {
  return Array.from({ length: Math.ceil(shells.length / CHUNK) }, (_, n) => {
    const chunk = document.createElement("div");
    chunk.className = "chunk";
    chunk.append(...shells.slice(n * CHUNK, (n + 1) * CHUNK));
    return chunk;
  });
}

/** What stands above the tiles: measure, order, filter and the colours. */
export function controls(app) {
  const { state, listing } = app;
  const found = app.groups().length;
  const wrong = state.filter && !patternOf(state.filter);
  return html`
    <label>
      Measure
      <select @change=${(event) => app.show({ measure: event.target.value })}>
        ${app
          .measures()
          .map(
            (name) => html`
              <option value=${name} .selected=${name === state.measure}>
                ${MEASURES[name].label}
              </option>
            `,
          )}
      </select>
    </label>
    <label>
      Sort by
      <select @change=${(event) => app.show({ sort: event.target.value })}>
        ${["verdict", "name", "result", ...listing.settings].map(
          (key) => html`<option value=${key} .selected=${key === state.sort}>${key}</option>`,
        )}
      </select>
    </label>
    <label>
      Filter
      <input
        type="search"
        placeholder="regular expression"
        .value=${state.filter}
        aria-invalid=${wrong ? "true" : "false"}
        @input=${(event) => app.show({ filter: event.target.value })}
      />
    </label>
    ${
      listing.runs.some(({ name, group }) => name !== group)
        ? html`
            <label>
              <input
                type="checkbox"
                .checked=${state.seeds === "together"}
                @change=${(event) => app.show({ seeds: event.target.checked ? "together" : "each" })}
              />
              Seeds together
            </label>
          `
        : nothing
    }
    <span class="count" role="status">
      ${wrong ? "not a regular expression" : `${found} ${found === 1 ? "tile" : "tiles"}`}
    </span>
    ${legend(app)}
  `;
}

function legend(app) {
  const {
    domain: [low, high],
  } = app.scale();
  const { label, scale } = MEASURES[app.state.measure];
  const marks = ["none", "nan", "inf", ...(scale === "log" ? ["zero"] : [])];
  return html`
    <span
      class="legend"
      role="img"
      aria-label=${`Colours of ${label}: ${words(low)} to ${words(high)}`}
    >
      ${words(low)}<span class="ramp"></span>${words(high)}${scale === "log" ? " (log)" : nothing}
      ${marks.map(
        (mark) => html`
          <span class="mark" style=${`background:${MARKS[mark].colour}`}>${MARKS[mark].sign}</span>
          ${MARKS[mark].label}
        `,
      )}
    </span>
  `;
}
