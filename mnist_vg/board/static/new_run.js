/** The form for new runs: every setting of a scenario, seeds, and settings to vary. */

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { changed, formOf, nameOf, seeded, settingsOf, varied } from "./scenario.js";
import { ask, tried } from "./service.js";

/** Fields that most people change; the others are folded. */
const FIRST =
  "name activation num_layers hidden_size optimizer learning_rate iterations seed".split(" ");

/** So many settings can be varied in the form: its heat map has as many sides. */
const SIDES = 2;

/** What a person may type as the values of a field. */
const EXAMPLES = { activation: "tanh,relu", num_layers: "2:20:3", hidden_size: "10,30,100" };

/** So many seeds can be asked for at once. */
const MOST_SEEDS = 100;

/** Time without a key after which the service is asked how many networks that is. */
const PAUSE_MS = 250;

/** The form, and what stands in it. */
export class NewRun {
  #seeds;
  #sides;
  #plan;
  #busy = false;
  #timer = null;

  /** @param {object} training that submits. */
  constructor(training) {
    this.training = training;
    this.startFrom("", {});
  }

  /** Fills the form with the settings of a run, perhaps with changes, for a person to change more. */
  startFrom(name, settings, changes = {}) {
    this.#seeds = "1";
    this.#sides = Array.from({ length: SIDES }, () => ({ field: "", values: "" }));
    this.#plan = null;
    this.base = name;
    this.before = formOf(this.#service.fields, { ...settings, name: "" });
    this.form = formOf(this.#service.fields, { ...settings, ...changes, name: "" });
  }

  get #service() {
    return this.training.service;
  }

  /** The form. */
  view() {
    const { fields } = this.#service;
    const first = FIRST.map((name) => fields.find((field) => field.name === name));
    const others = fields.filter(({ name }) => !FIRST.includes(name));
    const { problem } = this.training;
    const shown = ["vary", ...fields.map(({ name }) => name)].includes(problem?.setting);
    return html`
      <form
        aria-label="New run"
        @submit=${(event) => {
          event.preventDefault();
          this.#submit();
        }}
      >
        <h2>New run</h2>
        ${this.#start()} ${first.map((field) => this.#field(field))}
        <details ?open=${others.some(({ name }) => name === problem?.setting)}>
          <summary>More settings</summary>
          ${others.map((field) => this.#field(field))}
        </details>
        <label>
          Seeds
          <input
            type="number"
            name="seeds"
            min="1"
            max=${MOST_SEEDS}
            .value=${this.#seeds}
            @input=${({ target }) => this.#put(() => (this.#seeds = target.value))}
          />
        </label>
        ${this.#sweep()}
        <button class="main" ?disabled=${this.#busy}>Train${this.#trained()}</button>
        ${problem && !shown ? html`<p class="error" role="alert">${problem.message}</p>` : nothing}
      </form>
    `;
  }

  async #submit() {
    this.#busy = true;
    this.training.draw();
    if (await this.training.submit(this.#requests())) this.form.name = ""; // It is taken now.
    this.#busy = false;
    this.training.draw();
  }

  #start() {
    const { scenarios } = this.#service;
    const named = scenarios.map(({ name }) => name);
    const options = this.base && !named.includes(this.base) ? [...named, this.base] : named;
    return html`
      <label>
        Start from
        <select
          @change=${({ target }) => {
            const found = scenarios.find(({ name }) => name === target.value);
            this.#put(() => this.startFrom(target.value, found?.settings ?? {}));
          }}
        >
          <option value="">the usual settings</option>
          ${options.map(
            (name) => html`
              <option value=${name} .selected=${name === this.base}>${name}</option>
            `,
          )}
        </select>
      </label>
    `;
  }

  #sweep() {
    const { problem } = this.training;
    const wrong = problem?.setting === "vary";
    return html`
      <details class="sweep" ?open=${Boolean(this.#vary().length)}>
        <summary>Vary settings</summary>
        ${this.#sides.map((side, n) => this.#side(side, n, wrong))}
        ${wrong ? html`<p class="error" role="alert" id="wrong-vary">${problem.message}</p>` : nothing}
        <p class="note">
          Values: a list (<code>tanh,relu</code>), or <code>first:last:step</code>
          (<code>2:20:3</code>). Every combination is trained with every seed.
        </p>
      </details>
    `;
  }

  #side(side, n, wrong) {
    const fields = this.#service.fields.filter((field) => field.varied);
    return html`
      <div class="side">
        <select
          aria-label=${`Setting ${n + 1} to vary`}
          @change=${({ target }) => this.#put(() => (side.field = target.value))}
        >
          <option value="">none</option>
          ${fields.map(
            ({ name }) => html`
              <option value=${name} .selected=${name === side.field}>
                ${name.replaceAll("_", " ")}
              </option>
            `,
          )}
        </select>
        <input
          aria-label=${`Values of setting ${n + 1}`}
          aria-describedby=${wrong ? "wrong-vary" : nothing}
          placeholder=${EXAMPLES[side.field] ?? "values"}
          .value=${side.values}
          @input=${({ target }) => this.#put(() => (side.values = target.value))}
        />
      </div>
    `;
  }

  #field(field) {
    const { name, help } = field;
    const { problem } = this.training;
    const wrong = problem?.setting === name;
    return html`
      <div class="field">
        <label title=${help}
          ><span>${name.replaceAll("_", " ")}</span>${this.#input(field, wrong)}</label
        >
        ${
          wrong
            ? html`<p class="error" role="alert" id=${`wrong-${name}`}>${problem.message}</p>`
            : nothing
        }
      </div>
    `;
  }

  #input({ name, type, allowed, optional }, wrong) {
    const put = (value) => this.#put(() => (this.form = { ...this.form, [name]: value }));
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
              <option value=${value} .selected=${value === this.form[name]}>
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

  /** Changes what stands in the form. */
  #put(change) {
    change();
    this.#plan = this.training.problem = null;
    clearTimeout(this.#timer);
    if (this.#vary().length) this.#timer = setTimeout(() => this.#askPlan(), PAUSE_MS);
    this.training.draw();
  }

  async #askPlan() {
    const [request] = this.#requests();
    const [plan, problem] = await tried(ask("POST", "plan", request));
    if (JSON.stringify(request) !== JSON.stringify(this.#requests()[0])) return;
    this.#plan = plan;
    this.training.problem = problem;
    this.training.draw();
  }

  #trained() {
    const networks = this.#vary().length ? this.#plan?.networks : this.#count;
    return networks > 1 ? ` ${networks} networks` : "";
  }

  get #count() {
    return Math.min(Math.max(Math.trunc(Number(this.#seeds)) || 1, 1), MOST_SEEDS);
  }

  #vary() {
    return varied(this.#sides);
  }

  /** The name of the new run, where none is given: one that tells what was changed. */
  #name() {
    const sides = this.#sides.filter(({ field, values }) => field && values.trim());
    const fields = sides.map(({ field }) => field);
    const isKept = (key) => !fields.includes(key) && (this.base || key !== "activation");
    const changes = changed(this.before, this.form).filter(isKept);
    const first = this.base || (fields.includes("activation") ? "all" : this.form.activation);
    return nameOf([first, ...fields].join("-"), this.form, changes);
  }

  #requests() {
    const settings = settingsOf(this.#service.fields, {
      ...this.form,
      name: this.form.name || this.#name(),
    });
    const vary = this.#vary();
    if (vary.length) return [{ kind: "sweep", settings, vary, seeds: this.#count }];
    if (this.#count === 1) return [{ settings }];
    const first = settings.seed ?? 0;
    return Array.from({ length: this.#count }, (_, n) => ({
      settings: seeded(settings, settings.name, first + n),
    }));
  }
}
