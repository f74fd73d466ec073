/** A tile of the overview: what a run is called and came to, and its heat map. */

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { cellAt, paint } from "./heatmap.js";
import { heatmapSvg, saveCsv, savePng, saveSvg } from "./export.js";
import { MEASURES, words } from "./measures.js";
import { sickest } from "./runs.js";
import { rowsOf, valueAt } from "./tables.js";

/** So many layers are read out with their numbers. */
const NAMED = 8;

/** The height of a heat map and of a line beside it in pixels, and the letters in a line. */
const [HEIGHT, LINE, LETTERS] = [120, 13, 17];

/** Whether each layer's name has room beside its row. */
const haveRoom = (layers) =>
  layers.every(({ length }) => LINE * Math.ceil(length / LETTERS) <= HEIGHT / layers.length);

const STATES = {
  training: "is training",
  "not finished": "not finished",
  interrupted: "interrupted",
  broken: "its log could not be written to the end",
};

/**
 * A tile without its picture, which `draw` paints.
 *
 * @param {import("./runs.js").Group} group
 * @param {object | undefined} table of its runs together.
 * @param {object} app for what a click does.
 */
export function tile(group, table, app) {
  const run = sickest(group);
  const chosen = group.runs.every(({ name }) => app.state.runs.includes(name));
  return html`
    <header>
      <input
        type="checkbox"
        .checked=${chosen}
        aria-label=${`Compare ${group.name}`}
        ?hidden=${run.state === "damaged"}
        @change=${(event) => app.choose(group, event.target.checked)}
      />
      <button class="name" @click=${() => app.show({ run: run.name, mark: [] }, true)}>
        ${group.name}
      </button>
      ${badge(group)}
    </header>
    <p class="facts">${facts(group)}</p>
    ${run.damage ? html`<p class="damage">Damaged: ${run.damage}</p>` : nothing}
    ${run.state === "damaged" ? nothing : map(group, table, app)}
  `;
}

function badge(group) {
  const run = sickest(group);
  const health = run.damage ? "damaged" : run.health.replace(" ", "-");
  const alike = group.runs.filter((each) => each.verdict === run.verdict).length;
  const count = group.runs.length > 1 ? ` (${alike} of ${group.runs.length} seeds)` : "";
  return html`
    <span class="badge ${health}">${run.verdict ?? "damaged"}${count}</span>
    ${run.where ? html`<span class="where">${run.where}</span>` : nothing}
  `;
}

function facts(group) {
  const run = sickest(group);
  const parts = Object.entries(run.settings).map(([key, value]) => `${key} ${value ?? "none"}`);
  const results = group.runs.flatMap(({ result }) => (result ? [result.value] : []));
  if (results.length) {
    results.sort((a, b) => a - b);
    const shown = run.result?.name.endsWith("accuracy") ? (v) => `${(100 * v).toFixed(1)}%` : words;
    const name = group.runs.find(({ result }) => result).result.name;
    const range = `${shown(results[0])} to ${shown(results.at(-1))}`;
    parts.unshift(`${name} ${results.length > 1 ? range : shown(results[0])}`);
  }
  if (STATES[run.state]) {
    parts.unshift(`${STATES[run.state]}, step ${run.step}`);
  }
  return parts.join(" · ");
}

function map(group, table, app) {
  const layers = table ? table.layers.toReversed() : [];
  const named = haveRoom(layers) ? layers : [layers[0], layers.at(-1)];
  const read = (cell) => app.read(group, cell);
  return html`
    <div class="map">
      <div class="layers ${named.length < layers.length ? "ends" : ""}" aria-hidden="true">
        ${named.map((layer) => html`<span>${layer}</span>`)}
      </div>
      <canvas
        tabindex="0"
        role="img"
        aria-label=${spoken(group, table, app.state.measure)}
        @pointermove=${(event) => table && read(under(event, table))}
        @pointerleave=${() => read(null)}
        @blur=${() => read(null)}
        @keydown=${(event) => table && move(event, group, table, app)}
      ></canvas>
      <div class="steps" aria-hidden="true">
        ${
          table?.steps.length
            ? html`<span>step ${table.steps[0]}</span><span>${table.steps.at(-1)}</span>`
            : html`<span>${table ? "nothing recorded" : "…"}</span>`
        }
      </div>
    </div>
    <div class="below">
      <output aria-live="polite">${reading(app.cellOf(group), table)}</output>
      ${table?.steps.length ? saving(group, table, app) : nothing}
    </div>
  `;
}

function saving(group, table, app) {
  const { measure } = app.state;
  const { label, scale: kind } = MEASURES[measure];
  const name = `${group.name} ${measure}`;
  const drawing = () => ({
    svg: heatmapSvg(table, app.scale(), kind),
    title: `${group.name}: ${label}`,
    legend: legend(app.scale(), kind),
  });
  return html`
    <span class="save" role="group" aria-label=${`Save the heat map of ${group.name}`}>
      <button @click=${() => savePng(drawing(), name)}>PNG</button>
      <button @click=${() => saveSvg(drawing(), name)}>SVG</button>
      <button @click=${() => saveCsv(rowsOf(table, measure), name)}>CSV</button>
    </span>
  `;
}

/** The colours at the ends of a scale and in its middle, for a picture that is taken along. */
function legend({ domain: [low, high], colour }, kind) {
  const middle = kind === "log" ? Math.sqrt(low * high) : (low + high) / 2;
  return [low, middle, high].map((value) => [words(value), `rgb(${colour(value)})`]);
}

/** Paints the heat map of a tile that is on the page. */
export function draw(shell, group, table, app) {
  const canvas = shell.querySelector("canvas");
  if (!canvas || !table) return;
  paint(canvas, table, app.scale(), MEASURES[app.state.measure].scale, app.cellOf(group));
}

/** What a cell holds, in words; of several seeds the middle, and the range. */
export function reading(cell, table) {
  if (!cell || !table || cell.record < 0) return "";
  const { layer, record } = cell;
  if (layer < 0) return `step ${table.steps[record]}`;
  const value = valueAt(table, layer, record);
  const at = layer * table.steps.length + record;
  const between = table.low ? ` (${words(table.low[at])} to ${words(table.high[at])})` : "";
  const told = value === undefined ? "no record" : words(value) + between;
  return `${table.layers[layer]}, step ${table.steps[record]}: ${told}`;
}

function spoken(group, table, measure) {
  const what = `${MEASURES[measure].label} of ${group.name}, layers by steps`;
  if (!table?.steps.length) return what;
  const newest = table.steps.length - 1;
  const told = table.layers.map((layer, n) => {
    const value = valueAt(table, n, newest);
    return `${layer} ${value === undefined ? "no record" : words(value)}`;
  });
  const some = told.length > NAMED ? [told[0], told.at(-1)] : told;
  return `${what}. At step ${table.steps[newest]}: ${some.join(", ")}. Arrow keys read each cell.`;
}

function under(event, table) {
  const { width, height } = event.target.getBoundingClientRect();
  return cellAt(table, event.offsetX, event.offsetY, width, height);
}

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };

function move(event, group, table, app) {
  if (!MOVES[event.key] || !table.steps.length) return;
  event.preventDefault();
  const [up, on] = MOVES[event.key];
  const from = app.cellOf(group) ?? { layer: -up, record: -on };
  const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
  app.read(group, {
    layer: within(from.layer + up, table.layers.length),
    record: within(from.record + on, table.steps.length),
  });
}
