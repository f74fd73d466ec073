/** A chart with lines: zoom, exact numbers, and files to take along. */

import "./vendor/d3/d3.min.js";
import "./vendor/plot/plot.umd.min.js";
import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { saveCsv, savePng, saveSvg } from "./export.js";

const { d3, Plot } = globalThis;

/** So many rows a table of numbers shows; the file has all. */
const MOST_ROWS = 500;

/** How much a key zooms in, and moves, as a share of what is shown. */
const [ZOOM, MOVE] = [0.2, 0.1];

/**
 * @typedef {object} Content of a chart.
 * @property {string} title
 * @property {object} options for `Plot.plot`, with the domains that are shown without zoom.
 * @property {object[]} rows the numbers that are shown.
 * @property {string} [note] what is not shown, and why.
 * @property {boolean} [onlyX] whether only the horizontal axis can be zoomed.
 */

/** Draws contents into a figure, and keeps its zoom in the app's state. */
export class Chart {
  #numbers = false;

  /** @param {string} name of the chart, for the state and for files. @param {object} app */
  constructor(name, app) {
    this.name = name;
    this.app = app;
    this.figure = document.createElement("figure");
    this.figure.className = name;
    this.caption = document.createElement("figcaption");
    this.place = document.createElement("div");
    this.place.className = "plot";
    this.place.tabIndex = 0;
    this.place.setAttribute("role", "img");
    this.place.addEventListener("keydown", (event) => this.#key(event));
    this.place.addEventListener("dblclick", () => this.#zoom(null));
    this.table = document.createElement("div");
    this.table.className = "numbers";
    this.figure.append(this.caption, this.place, this.table);
  }

  /** @param {Content} content */
  draw(content) {
    this.content = content;
    const zoom = this.app.state.zoom[this.name] ?? {};
    const { options } = content;
    const svg = Plot.plot({
      width: Math.max(this.place.clientWidth, 320),
      ...options,
      x: { ...options.x, ...(zoom.x && { domain: zoom.x }) },
      y: { ...options.y, ...(zoom.y && { domain: zoom.y }) },
    });
    this.plot = svg;
    this.place.setAttribute("aria-label", `${content.title}. Keys: plus, minus, arrows, 0.`);
    // The chart is one picture for a screen reader; its numbers are in the table.
    for (const group of svg.querySelectorAll("g[aria-label]")) {
      group.dataset.mark = group.ariaLabel;
      group.removeAttribute("aria-label");
    }
    this.place.replaceChildren(svg);
    this.#brush();
    this.#around();
  }

  #around() {
    const { title, note, rows, options } = this.content;
    const legend = d3.zip(options.color.domain, options.color.range);
    const drawing = () => ({ svg: this.plot, title, legend });
    const name = `${this.name} ${title}`;
    render(
      html`
        <h2>${title}</h2>
        ${note ? html`<span class="note">${note}</span>` : nothing}
        <span class="save" role="group" aria-label=${`Save: ${title}`}>
          <button
            aria-expanded=${this.#numbers ? "true" : "false"}
            @click=${() => {
              this.#numbers = !this.#numbers;
              this.#around();
            }}
          >
            Numbers
          </button>
          ${
            this.app.state.zoom[this.name]
              ? html`<button @click=${() => this.#zoom(null)}>Whole</button>`
              : nothing
          }
          <button @click=${() => savePng(drawing(), name)}>PNG</button>
          <button @click=${() => saveSvg(drawing(), name)}>SVG</button>
          <button @click=${() => saveCsv(rows, name)}>CSV</button>
        </span>
      `,
      this.caption,
    );
    render(this.#numbers ? numbers(rows, title) : nothing, this.table);
  }

  /** A rectangle drawn with the mouse is what is shown then. */
  #brush() {
    const svg = d3.select(this.plot);
    const [x, y] = [this.plot.scale("x"), this.plot.scale("y")];
    if (!x?.invert) return;
    const [left, right] = d3.extent(x.range);
    const [, , width, height] = [0, 0, ...this.plot.getAttribute("viewBox").split(" ").slice(2)];
    const onlyX = this.content.onlyX || !y?.invert;
    const extent = onlyX
      ? [
          [left, 0],
          [Math.min(right, width), height],
        ]
      : [
          [left, d3.min(y.range)],
          [right, d3.max(y.range)],
        ];
    const brush = (onlyX ? d3.brushX() : d3.brush()).extent(extent).on("end", ({ selection }) => {
      if (!selection) return;
      const sides = onlyX
        ? { x: selection }
        : {
            x: [selection[0][0], selection[1][0]],
            y: [selection[1][1], selection[0][1]],
          };
      const zoom = { x: sides.x.map(x.invert) };
      if (sides.y) zoom.y = sides.y.map(y.invert);
      this.#zoom(zoom);
    });
    svg.append("g").attr("class", "brush").call(brush);
  }

  #key(event) {
    const how = {
      "+": [ZOOM, -ZOOM],
      "=": [ZOOM, -ZOOM],
      "-": [-ZOOM, ZOOM],
      ...(this.app.state.zoom[this.name] && {
        ArrowLeft: [-MOVE, -MOVE],
        ArrowRight: [MOVE, MOVE],
      }),
    }[event.key];
    if (event.key === "0") this.#zoom(null);
    if (!how) return;
    event.preventDefault();
    event.stopPropagation();
    const x = this.plot.scale("x");
    if (!x?.invert) return;
    const [low, high] = x.domain;
    const [from, to] = how.map((share) => share * (high - low));
    this.#zoom({ ...this.app.state.zoom[this.name], x: [low + from, high + to] });
  }

  #zoom(zoom) {
    const others = { ...this.app.state.zoom };
    delete others[this.name];
    this.app.show({ zoom: zoom ? { ...others, [this.name]: zoom } : others });
  }
}

function numbers(rows, title) {
  if (!rows.length) return html`<p>No numbers.</p>`;
  const keys = Object.keys(rows[0]);
  const left = rows.length - MOST_ROWS;
  return html`
    <table>
      <caption>
        ${title}${left > 0 ? `: the first ${MOST_ROWS} of ${rows.length} rows; the CSV has all` : ""}
      </caption>
      <tr>
        ${keys.map((key) => html`<th scope="col">${key}</th>`)}
      </tr>
      ${rows.slice(0, MOST_ROWS).map(
        (row) =>
          html`<tr>
            ${keys.map((key) => html`<td>${row[key] ?? ""}</td>`)}
          </tr>`,
      )}
    </table>
  `;
}
