/** The comparison: selected runs over each other, in three charts with one slider. */

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { Chart } from "./chart.js";
import { histograms, profile, series, spaced } from "./charts.js";
import { GROUPS, MEASURES } from "./measures.js";
import { getHistograms } from "./server.js";

const PLAY_MS = 250;
const PERCENT = Array.from({ length: 101 }, (_, n) => n);

/** Colours that most colour-blind people can tell apart (Okabe and Ito 2008), on light and dark. */
const COLOURS = "#0072b2 #e69f00 #009e73 #d55e00 #cc79a7 #56b4e9 #999999 #b3a100".split(" ");

/** Draws the comparison into a section of the page. */
export class Compare {
  #found = new Map();
  #wanted = "";
  #timer = null;

  constructor(app, section) {
    this.app = app;
    this.section = section;
    this.controls = document.createElement("div");
    this.controls.className = "controls";
    this.charts = ["profile", "series", "histograms"].map((name) => new Chart(name, app));
    this.between = [0, 1].map(() =>
      Object.assign(document.createElement("div"), { className: "controls" }),
    );
    const [first, second, third] = this.charts.map(({ figure }) => figure);
    section.append(this.controls, first, this.between[0], second, this.between[1], third);
    section.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#draw()).observe(section);
  }

  /** Asks for what is lacking, and draws. */
  async update() {
    const { app } = this;
    const runs = app.compared();
    const { measure } = app.state;
    const answers = await app.watching(
      Promise.all([
        Promise.all(runs.map((run) => app.store.get(run, measure))),
        Promise.all(runs.map((run) => app.factsOf(run))),
      ]),
    );
    if (!answers) return;
    const [tables] = answers;
    if (app.state.measure !== measure || String(app.compared()) !== String(runs)) return;
    this.tables = tables.filter(({ steps }) => steps.length);
    this.colour = { domain: runs, range: runs.map((_, n) => COLOURS[n % COLOURS.length]) };
    this.#draw();
    await this.#histograms(runs);
  }

  /** Forgets the histograms of runs that train. */
  forget() {
    this.#found.clear();
  }

  #draw() {
    if (!this.tables || this.section.hidden) return;
    this.#controls();
    this.#drawMeasure();
    this.#drawHistograms();
  }

  #drawMeasure() {
    for (const { figure } of this.charts.slice(0, 2)) figure.hidden = !this.tables.length;
    if (!this.tables.length) return;
    const measure = { ...MEASURES[this.app.state.measure], name: this.app.state.measure };
    const how = {
      place: this.#place(),
      axis: this.app.state.axis,
      colour: this.colour,
      scale: this.#scale(),
    };
    this.charts[0].draw(profile(this.tables, measure, how));
    this.charts[1].draw(series(this.tables, measure, { ...how, layers: this.#shownLayers() }));
  }

  async #histograms(runs) {
    const { group } = this.app.state;
    const layer = this.#layer();
    const wanted = JSON.stringify([runs, group, layer]);
    this.#wanted = wanted;
    if (!layer) this.#found.set(wanted, []);
    if (!this.#found.has(wanted)) {
      const having = runs.filter((run) => this.#layersOf([run], group).includes(layer));
      const answer = await this.app.watching(getHistograms(having, group, layer));
      if (!answer) return;
      this.#found.set(wanted, answer);
    }
    if (this.#wanted !== wanted) return;
    this.histograms = { found: this.#found.get(wanted), group, layer };
    this.#controls();
    this.#drawHistograms();
  }

  #drawHistograms() {
    const chart = this.charts[2];
    const { axis, histograms: kind } = this.app.state;
    chart.figure.hidden = !this.histograms?.found.length;
    if (chart.figure.hidden) return;
    // What is shown stays, with its own title, until what was chosen since is there.
    const { found, group, layer } = this.histograms;
    chart.draw(
      histograms(found, {
        group,
        layer,
        place: this.#place(),
        axis,
        ridges: kind === "ridges",
        colour: this.colour,
        scale: this.app.state.density,
      }),
    );
  }

  /** Where the slider can stand: all steps, or whole percents. */
  #places() {
    if (this.app.state.axis === "relative") return PERCENT;
    const recorded = [...this.tables, ...(this.histograms?.found ?? [])];
    const steps = new Set(recorded.flatMap(({ steps }) => [...steps]));
    return steps.size ? [...steps].sort((a, b) => a - b) : [0];
  }

  #place() {
    const places = this.#places();
    const { step } = this.app.state;
    return step < 0 ? places.at(-1) : (places.findLast((place) => place <= step) ?? places[0]);
  }

  #move(by) {
    const places = this.#places();
    const at = places.indexOf(this.#place()) + by;
    if (at >= 0 && at < places.length) this.app.show({ step: places[at] });
    return at < places.length - 1;
  }

  #key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || /INPUT|SELECT/.test(event.target.tagName)) return;
    event.preventDefault();
    this.#move(by);
  }

  #play() {
    if (this.#timer) {
      clearInterval(this.#timer);
      this.#timer = null;
    } else {
      const places = this.#places();
      if (this.#place() === places.at(-1)) this.app.show({ step: places[0] });
      this.#timer = setInterval(() => {
        if (this.section.hidden || !this.#move(1)) this.#play();
      }, PLAY_MS);
    }
    this.#controls();
  }

  #scale() {
    const { scale, measure } = this.app.state;
    return scale || MEASURES[measure].scale;
  }

  #layersOf(runs, group) {
    const key = /^(activation|units)/.test(group) ? "activation_layers" : "layers";
    return [...new Set(runs.flatMap((run) => this.app.knownFacts(run)?.[key] ?? []))];
  }

  #layers() {
    return [...new Set(this.tables.flatMap(({ layers }) => layers))];
  }

  #shownLayers() {
    const all = this.#layers();
    const chosen = all.filter((layer) => this.app.state.layers.includes(layer));
    return chosen.length ? chosen : spaced(all, 2);
  }

  #layer() {
    const layers = this.#layersOf(this.app.compared(), this.app.state.group);
    return layers.includes(this.app.state.layer) ? this.app.state.layer : layers[0];
  }

  #controls() {
    render(this.#first(), this.controls);
    render(this.#choice(), this.between[0]);
    render(this.#kinds(), this.between[1]);
  }

  #first() {
    const { app } = this;
    const places = this.#places();
    const at = places.indexOf(this.#place());
    const unit = app.state.axis === "relative" ? "%" : "";
    return html`
      ${this.#legend()}
      <label>
        Measure
        <select @change=${(event) => app.show({ measure: event.target.value, zoom: {} })}>
          ${app
            .measures()
            .map(
              (name) => html`
                <option value=${name} .selected=${name === app.state.measure}>
                  ${MEASURES[name].label}
                </option>
              `,
            )}
        </select>
      </label>
      <label>
        Axis
        <select @change=${(event) => app.show({ scale: event.target.value, zoom: {} })}>
          ${["", "log", "linear"].map(
            (scale) => html`
              <option value=${scale} .selected=${scale === app.state.scale}>
                ${scale || "as the measure"}
              </option>
            `,
          )}
        </select>
      </label>
      <label>
        Steps
        <select @change=${(event) => app.show({ axis: event.target.value, step: -1, zoom: {} })}>
          ${["step", "relative"].map(
            (axis) => html`
              <option value=${axis} .selected=${axis === app.state.axis}>
                ${axis === "step" ? "as counted" : "percent of each run"}
              </option>
            `,
          )}
        </select>
      </label>
      <label class="slider">
        Step
        <input
          type="range"
          min="0"
          max=${places.length - 1}
          .value=${String(at)}
          aria-valuetext=${`${places[at]}${unit}`}
          @input=${(event) => app.show({ step: places[event.target.value] })}
        />
        <output>${places[at]}${unit}</output>
      </label>
      <button @click=${() => this.#play()}>${this.#timer ? "Stop" : "Play"}</button>
    `;
  }

  #legend() {
    return html`
      <ul class="runs" aria-label="Runs that are compared">
        ${this.colour.domain.map(
          (run, n) => html`
            <li>
              <span class="swatch" style=${`background:${this.colour.range[n]}`}></span>${run}
              <button
                aria-label=${`Leave out ${run}`}
                @click=${() =>
                  this.app.show(
                    { runs: this.app.compared().filter((other) => other !== run) },
                    true,
                  )}
              >
                ×
              </button>
            </li>
          `,
        )}
      </ul>
    `;
  }

  #choice() {
    if (!this.tables.length)
      return html`<span class="note">None of these runs has recorded it.</span>`;
    const shown = this.#shownLayers();
    const toggle = (layer, on) =>
      this.app.show({ layers: on ? [...shown, layer] : shown.filter((other) => other !== layer) });
    return html`
      <fieldset>
        <legend>Layers</legend>
        ${this.#layers().map(
          (layer) => html`
            <label>
              <input
                type="checkbox"
                .checked=${shown.includes(layer)}
                @change=${(event) => toggle(layer, event.target.checked)}
              />
              ${layer}
            </label>
          `,
        )}
      </fieldset>
    `;
  }

  #kinds() {
    const { app } = this;
    const { group, histograms: kind } = app.state;
    const groups = GROUPS.filter((name) => app.listing.measures.includes(name));
    const layers = this.#layersOf(app.compared(), group);
    const select = (label, key, values, current, named = (value) => value) => html`
      <label>
        ${label}
        <select @change=${(event) => app.show({ [key]: event.target.value, zoom: {} })}>
          ${values.map(
            (value) => html`
              <option value=${value} .selected=${value === current}>${named(value)}</option>
            `,
          )}
        </select>
      </label>
    `;
    return html`
      ${select("Histograms of", "group", groups, group, (name) => name.replace("_", " "))}
      ${select("in layer", "layer", layers, this.#layer())}
      ${select("shown", "histograms", ["step", "ridges"], kind, (name) =>
        name === "step" ? "at the step above" : "as ridges over steps",
      )}
      ${select("share", "density", ["linear", "log"], app.state.density)}
      ${
        this.histograms && !this.histograms.found.length
          ? html`<span class="note">These runs have recorded none.</span>`
          : nothing
      }
    `;
  }
}
