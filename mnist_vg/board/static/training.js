/** The training service in the tab: a form for a new run, and the queue. */

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { colourScale } from "./colours.js";
import { paint } from "./heatmap.js";
import { words } from "./measures.js";
import { changed, duration, formOf, grown, nameOf, settingsOf } from "./scenario.js";
import { ask, getJobs, onEvents, Refusal } from "./service.js";
import { range } from "./tables.js";

/** Fields that most people change; the others are folded. */
const FIRST =
  "name activation num_layers hidden_size optimizer learning_rate iterations seed".split(" ");

/** What can be done with a job in each state: the words and the request. */
const ACTIONS = {
  waiting: [["Stop", "stop"]],
  training: [["Stop", "stop"]],
  stopped: [["Go on", "continue"]],
  failed: [["Try again", "continue"]],
  finished: [],
};

/** So many seeds tell whether a change helped: one may be lucky. */
const CURE_SEEDS = 3;

/** Draws the form and the queue into a section of the page. */
export class Training {
  #jobs = [];
  #problem = null;
  #seeds = 1;
  #removing = 0;

  /** @param {object} app @param {HTMLElement} section @param {object} service see `findService`. */
  constructor(app, section, service) {
    [this.app, this.section, this.service] = [app, section, service];
    this.startFrom("", {});
    onEvents((kind, facts) => this.#told(kind, facts));
  }

  /** How many jobs wait or train. */
  get open() {
    return this.#jobs.filter(({ state }) => state === "waiting" || state === "training").length;
  }

  /** Fills the form with the settings of a run, so that one thing can be changed. */
  startFrom(name, settings) {
    const { seed, ...others } = settings;
    this.base = name;
    this.form = formOf(this.service.fields, { ...others, seed: seed ?? 0, name: "" });
    this.before = { ...this.form };
    this.#problem = null;
  }

  /** Draws the section. */
  update() {
    render(html`${this.#formView()} ${this.#queueView()}`, this.section);
    this.#paintLive();
  }

  /** Trains a scenario under several seeds, and shows what is refused at its field. */
  async train(settings, seeds = 1) {
    this.#problem = null;
    try {
      for (let n = 0; n < seeds; n++) {
        const seed = (settings.seed ?? 0) + n;
        const name = settings.name || settings.activation || "sigmoid";
        const each = seeds > 1 ? { ...settings, seed, name: `${name}-seed${seed}` } : settings;
        await ask("POST", "jobs", { settings: each });
      }
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#problem = error;
    }
    await this.#refresh();
  }

  /** Trains a sick run with the remedies that fit it. */
  async cure(settings) {
    this.#problem = null;
    try {
      await ask("POST", "jobs", { kind: "cure", settings, seeds: CURE_SEEDS });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#problem = error;
    }
    await this.#refresh();
  }

  async #told(kind, facts) {
    if (kind === "progress") {
      const job = this.#jobs.find(({ number }) => number === facts.job);
      if (job) {
        const left = (job.request.settings.iterations - 1 - facts.step) / facts.steps_per_second;
        const live = grown(job.progress.live, facts);
        job.progress = { ...facts, live, seconds_left: Number.isFinite(left) ? left : undefined };
      }
      if (facts.records.length) this.app.logGrows();
      this.#draw();
    } else {
      await this.#refresh();
      if (facts.state === "finished" || kind === "removed") this.app.logGrows();
    }
  }

  async #refresh() {
    const before = new Map(this.#jobs.map(({ number, progress }) => [number, progress.live]));
    this.#jobs = (await this.app.watching(getJobs())) ?? this.#jobs;
    for (const job of this.#jobs) job.progress.live = before.get(job.number);
    this.#draw();
    this.app.navigate();
  }

  #draw() {
    if (!this.section.hidden) this.update();
  }

  /** What the runs in training have recorded so far: it is here before TensorBoard has read it. */
  #paintLive() {
    const measure = { scale: "log" };
    for (const { number, progress } of this.#jobs) {
      const canvas = this.section.querySelector(`canvas[data-job="${number}"]`);
      if (!canvas) continue;
      paint(
        canvas,
        progress.live,
        colourScale(measure, range([progress.live], "log")),
        "log",
        null,
      );
    }
  }

  #formView() {
    const { fields } = this.service;
    const first = FIRST.map((name) => fields.find((field) => field.name === name));
    const others = fields.filter(({ name }) => !FIRST.includes(name));
    return html`
      <form
        aria-label="New run"
        @submit=${(event) => {
          event.preventDefault();
          this.train(this.#settings(), this.#seeds);
        }}
      >
        <h2>New run</h2>
        <label>
          Start from
          <select @change=${(event) => this.#start(event.target.value)}>
            <option value="">the usual settings</option>
            ${this.service.scenarios.map(
              ({ name }) => html`
                <option value=${name} ?selected=${name === this.base}>${name}</option>
              `,
            )}
            ${
              this.base && !this.service.scenarios.some(({ name }) => name === this.base)
                ? html`<option value=${this.base} selected>${this.base} (a run)</option>`
                : nothing
            }
          </select>
        </label>
        ${first.map((field) => this.#field(field))}
        <details ?open=${others.some(({ name }) => name === this.#problem?.setting)}>
          <summary>More settings</summary>
          ${others.map((field) => this.#field(field))}
        </details>
        <label>
          Seeds
          <input
            type="number"
            min="1"
            max="100"
            .value=${String(this.#seeds)}
            @input=${(event) => {
              this.#seeds = Number(event.target.value) || 1;
              this.update();
            }}
          />
        </label>
        <button class="main">Train${this.#seeds > 1 ? ` ${this.#seeds} networks` : ""}</button>
        ${
          this.#problem && !fields.some(({ name }) => name === this.#problem.setting)
            ? html`<p class="error" role="alert">${this.#problem.message}</p>`
            : nothing
        }
      </form>
    `;
  }

  #field(field) {
    const { name, help } = field;
    const wrong = this.#problem?.setting === name;
    return html`
      <div class="field">
        <label title=${help}
          ><span>${name.replaceAll("_", " ")}</span>${this.#input(field, wrong)}</label
        >
        ${
          wrong
            ? html`<p class="error" role="alert" id=${`wrong-${name}`}>${this.#problem.message}</p>`
            : nothing
        }
      </div>
    `;
  }

  #input({ name, type, allowed, optional }, wrong) {
    const put = (value) => {
      this.form = { ...this.form, [name]: value };
      this.update();
    };
    const described = wrong ? `wrong-${name}` : nothing;
    if (type === "boolean") {
      return html`
        <input
          type="checkbox"
          name=${name}
          .checked=${this.form[name]}
          @change=${(event) => put(event.target.checked)}
        />
      `;
    }
    if (allowed) {
      const values = [...(optional ? [""] : []), ...new Set([...allowed, this.form[name]])];
      return html`
        <select name=${name} aria-describedby=${described} @change=${(e) => put(e.target.value)}>
          ${values.map(
            (value) => html`
              <option value=${value} ?selected=${value === this.form[name]}>
                ${value || "usual"}
              </option>
            `,
          )}
        </select>
      `;
    }
    return html`
      <input
        name=${name}
        placeholder=${name === "name" ? this.#name() : "usual"}
        aria-invalid=${wrong ? "true" : "false"}
        aria-describedby=${described}
        .value=${this.form[name]}
        @input=${(event) => put(event.target.value)}
      />
    `;
  }

  #start(name) {
    const found = this.service.scenarios.find((scenario) => scenario.name === name);
    this.startFrom(name, found?.settings ?? {});
    this.update();
  }

  /** The name of the new run, where none is given: one that tells what was changed. */
  #name() {
    const changes = changed(this.before, this.form);
    if (!this.base && changes.every((key) => key === "activation")) return this.form.activation;
    return nameOf(
      this.base || this.form.activation,
      this.form,
      changes.filter((c) => this.base || c !== "activation"),
    );
  }

  #settings() {
    const name = this.form.name || this.#name();
    return settingsOf(this.service.fields, { ...this.form, name });
  }

  #queueView() {
    return html`
      <div class="queue">
        <h2>Queue</h2>
        ${this.#jobs.length ? nothing : html`<p>Nothing has been asked for yet.</p>`}
        <ol>
          ${this.#jobs.toReversed().map((job) => this.#jobView(job))}
        </ol>
      </div>
    `;
  }

  #jobView(job) {
    const { number, name, state, reason, progress, request, command } = job;
    const done = progress.step === undefined ? 0 : progress.step + 1;
    const act = (path, body, method = "POST") => this.#act(method, `jobs/${number}${path}`, body);
    return html`
      <li class="job" data-name=${name}>
        <button class="name" @click=${() => this.#open(job)}>${name}</button>
        <span class="badge ${state}">${state}</span>
        ${
          state === "training"
            ? html`
                <progress
                  max=${request.settings.iterations}
                  .value=${done}
                  aria-label=${`Steps of ${name}`}
                ></progress>
                <span>${this.#pace(name, done, request.settings.iterations, progress)}</span>
              `
            : nothing
        }
        ${ACTIONS[state].map(
          ([label, path]) => html`<button @click=${() => act(`/${path}`)}>${label}</button>`,
        )}
        ${
          state === "waiting"
            ? html`<button @click=${() => act("/move", { before: this.#firstWaiting() })}>
                First
              </button>`
            : nothing
        }
        ${state === "training" ? nothing : this.#removal(job, act)}
        ${reason ? html`<p class=${state === "failed" ? "error" : "facts"}>${reason}</p>` : nothing}
        ${(progress.symptoms ?? []).map((line) => html`<p class="damage">${line}</p>`)}
        ${
          progress.live
            ? html`
                <canvas
                  data-job=${number}
                  role="img"
                  aria-label=${`Mean absolute gradient of ${progress.live.run}, layers by steps`}
                ></canvas>
              `
            : nothing
        }
        <details>
          <summary>Command line</summary>
          <code>${command}</code>
        </details>
      </li>
    `;
  }

  #pace(name, done, steps, { run, steps_per_second: rate, seconds_left: left, loss }) {
    const parts = [`${run && run !== name ? `${run}: ` : ""}step ${done} of ${steps}`];
    if (rate) parts.push(`${Math.round(rate)} steps/s`, `${duration(left)} left`);
    if (typeof loss === "number") parts.push(`loss ${words(loss)}`);
    return parts.join(", ");
  }

  /** A run is removed by a second click. */
  #removal({ number, name }, act) {
    if (this.#removing !== number) {
      return html`
        <button
          @click=${() => {
            this.#removing = number;
            this.update();
          }}
        >
          Remove…
        </button>
      `;
    }
    return html`
      <button class="danger" @click=${() => act("", { name }, "DELETE")}>
        Remove ${name} and its records
      </button>
      <button
        @click=${() => {
          this.#removing = 0;
          this.update();
        }}
      >
        Keep it
      </button>
    `;
  }

  /** Shows the run of a job, or the runs of a cure. */
  #open({ name, request }) {
    const shown = request.kind === "cure" ? { filter: `^${name}/` } : { run: name, filter: "" };
    this.app.show({ view: "overview", ...shown }, true);
  }

  #firstWaiting() {
    return this.#jobs.find(({ state }) => state === "waiting")?.number ?? null;
  }

  async #act(method, path, body) {
    this.#removing = 0;
    try {
      await ask(method, path, body);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#problem = error;
    }
    await this.#refresh();
  }
}
