/** The queue of the training service: what trains, waits and has ended. */

import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { colourScale } from "./colours.js";
import { paint } from "./heatmap.js";
import { MEASURES, words } from "./measures.js";
import { duration } from "./scenario.js";
import { getMap } from "./service.js";
import { sweepMap } from "./sweep_map.js";
import { range } from "./tables.js";

/** What can be done with a job in each state: the words and the request. */
const ACTIONS = {
  waiting: [["Stop", "/stop"]],
  training: [["Stop", "/stop"]],
  stopped: [["Go on", "/continue"]],
  failed: [["Try again", "/continue"]],
  finished: [],
};

/** In place of a map that a person has closed. */
const CLOSED = "closed";

/** What the pictures of runs show. */
const MEASURE = "gradient_mean_abs";

/** The lists of jobs, and which of them shows more of itself. */
export class Queue {
  problem = null;
  #removing = 0;
  #maps = new Map();
  #measure = "accuracy";

  /** @param {object} training that has the jobs. */
  constructor(training) {
    [this.training, this.app] = [training, training.app];
  }

  /** The queue. */
  view() {
    const { jobs } = this.training;
    const of = (...states) => jobs.filter(({ state }) => states.includes(state));
    const ended = of("finished", "stopped", "failed").toSorted((a, b) => b.ended - a.ended);
    return html`
      <div class="queue">
        <h2>Queue</h2>
        ${
          this.training.lost
            ? html`<p class="error" role="alert">
                The service does not answer: this is how things stood before. If it was started
                anew, open the link that it has printed.
              </p>`
            : nothing
        }
        ${jobs.length ? nothing : html`<p>Nothing has been asked for yet.</p>`}
        ${this.#list("In training", of("training"))}
        ${this.#list("Waiting, the next one first", of("waiting"))}
        ${this.#list("Ended, the newest first", ended)}
      </div>
    `;
  }

  #list(title, jobs) {
    if (!jobs.length) return nothing;
    return html`
      <h3>${title}</h3>
      <ol>
        ${repeat(
          jobs,
          ({ number }) => number,
          (job, at) => this.#job(job, jobs, at),
        )}
      </ol>
    `;
  }

  #job(job, among, at) {
    const { number, name, state, reason, progress, request, command } = job;
    const act = (path, body, method) => {
      this.#removing = 0;
      this.training.act(number, path, body, method);
    };
    return html`
      <li class="job" data-name=${name} data-number=${number}>
        <button class="name" @click=${() => this.#open(job)}>${name}</button>
        <span class="badge ${state}">${state}</span>
        ${state === "training" ? this.#pace(job) : nothing}
        ${ACTIONS[state].map(
          ([label, path]) => html`<button @click=${() => act(path)}>${label}</button>`,
        )}
        ${state === "waiting" ? order(among, at, act, this.training) : nothing}
        ${state === "training" ? nothing : this.#removal(job, act)}
        ${
          this.problem?.number === number
            ? html`<p class="error" role="alert">${this.problem.message}</p>`
            : nothing
        }
        ${reason ? html`<p class=${state === "failed" ? "error" : "facts"}>${reason}</p>` : nothing}
        ${(progress.symptoms ?? []).map((line) => html`<p class="damage">${line}</p>`)}
        ${
          progress.live && !job.outcome.after
            ? html`
                <canvas
                  data-job=${number}
                  role="img"
                  aria-label=${`Mean absolute gradient of ${progress.live.run}, layers by steps`}
                ></canvas>
              `
            : nothing
        }
        ${this.#cure(job)} ${request.kind === "sweep" ? this.#map(job) : nothing}
        <details>
          <summary>Command line</summary>
          <code>${command}</code>
        </details>
      </li>
    `;
  }

  #pace({ name, request, progress }) {
    const { share = 0, run, step, networks, of, loss } = progress;
    const { steps_per_second: rate, seconds_left: left } = progress;
    const parts = [];
    if (step !== undefined) parts.push(`step ${step + 1} of ${request.settings.iterations}`);
    if (networks !== undefined) parts.push(`${networks} of ${of} networks`);
    if (rate) parts.push(`${Math.round(rate)} steps/s`);
    if (left !== undefined && left !== null) parts.push(`${duration(left)} left`);
    if (typeof loss === "number") parts.push(`loss ${words(loss)}`);
    return html`
      <progress .value=${share} aria-label=${`Share of ${name} that is done`}></progress>
      <span>${run && run !== name ? `${run}: ` : ""}${parts.join(", ")}</span>
    `;
  }

  /** A run is removed by a second click. */
  #removal({ number, name }, act) {
    const ask = (removing) => {
      this.#removing = removing;
      this.training.draw();
      this.training.section.querySelector(`[data-number="${number}"] .remove`)?.focus();
    };
    if (this.#removing !== number) {
      return html`<button class="remove" @click=${() => ask(number)}>Remove…</button>`;
    }
    return html`
      <button class="remove danger" @click=${() => act("", { name }, "DELETE")}>
        Remove ${name} and its records
      </button>
      <button @click=${() => ask(0)}>Keep it</button>
    `;
  }

  /** What a cure has found: the same seed before and after. */
  #cure({ outcome: { before, after, ...accuracies } }) {
    if (!after) return nothing;
    const one = (run, word) => html`
      <figure>
        <canvas
          data-run=${run}
          role="img"
          aria-label=${`Mean absolute gradient of ${run}, layers by steps`}
        ></canvas>
        <figcaption>${word}: test accuracy ${words(accuracies[`accuracy_${word}`])}</figcaption>
      </figure>
    `;
    return html`
      <div class="both">${one(before, "before")} ${one(after, "after")}</div>
      <button
        @click=${() => this.app.show({ view: "compare", runs: [before, after], filter: "" }, true)}
      >
        Compare before and after
      </button>
    `;
  }

  /** What a sweep has found so far. */
  #map(job) {
    const { number, state } = job;
    const map = this.#maps.get(number);
    const shown = map === CLOSED ? undefined : map;
    return html`
      ${
        state === "waiting"
          ? nothing
          : html`<button
              aria-expanded=${shown ? "true" : "false"}
              @click=${() => this.#toggleMap(job)}
            >
              Heat map
            </button>`
      }
      ${shown ? sweepMap(shown, this.#measure, this.#mapActions(job)) : nothing}
    `;
  }

  #toggleMap(job) {
    const shown = this.#maps.get(job.number) ?? CLOSED;
    this.#maps.set(job.number, shown === CLOSED ? undefined : CLOSED);
    if (shown === CLOSED) this.#ask(job);
    else this.training.draw();
  }

  #mapActions({ name, request }) {
    return {
      choose: (measure) => {
        this.#measure = measure;
        this.training.draw();
      },
      open: (values) => this.training.startFrom(name, request.settings, values),
    };
  }

  /** Asks for the map of a sweep again, as there is more of it. */
  mapGrows(job) {
    const shown = this.#maps.get(job.number);
    const isNew = shown === undefined && job.state === "training";
    if (job.request.kind === "sweep" && (isNew || (shown ?? CLOSED) !== CLOSED)) this.#ask(job);
  }

  async #ask({ number }) {
    const map = await this.app.watching(getMap(number));
    if (!map || this.#maps.get(number) === CLOSED) return;
    this.#maps.set(number, map);
    this.training.draw();
  }

  /** Paints the canvases. */
  paint() {
    for (const { number, progress, outcome } of this.training.jobs) {
      // What a run in training has recorded is here before TensorBoard has read it.
      if (progress.live) this.#paint([`[data-job="${number}"]`], [progress.live]);
      if (outcome.after) this.#paintBoth([outcome.before, outcome.after]);
    }
  }

  async #paintBoth(runs) {
    const finished = (run) =>
      this.app.listing.runs.some(({ name, state }) => name === run && state === "finished");
    if (!runs.every(finished)) return;
    const asked = Promise.all(runs.map((run) => this.app.store.get(run, MEASURE)));
    const tables = await this.app.watching(asked);
    const selectors = runs.map((run) => `[data-run="${CSS.escape(run)}"]`);
    if (tables) this.#paint(selectors, tables);
  }

  /** Paints tables on one scale. */
  #paint(selectors, tables) {
    const { scale } = MEASURES[MEASURE];
    const colours = colourScale(MEASURES[MEASURE], range(tables, scale));
    for (const [n, selector] of selectors.entries()) {
      const canvas = this.training.section.querySelector(`canvas${selector}`);
      if (canvas) paint(canvas, tables[n], colours, scale, null);
    }
  }

  /** Shows the run of a job, the runs of a cure, or the heat map of a sweep. */
  #open(job) {
    const { kind } = job.request;
    if (kind === "sweep") return this.#toggleMap(job);
    const filter = `^${job.name.replace(/[.+]/g, "\\$&")}/`;
    const shown = kind === "train" ? { run: job.name, filter: "" } : { filter };
    return this.app.show({ view: "overview", ...shown }, true);
  }
}

/** Buttons that change the order of jobs that wait. */
function order(waiting, at, act, training) {
  const before = (place) => waiting[place]?.number;
  const move = (other) => act("/move", { before: other });
  return html`
    <button ?disabled=${at === 0} @click=${() => move(before(0))}>First</button>
    <button ?disabled=${at === 0} @click=${() => move(before(at - 1))}>Earlier</button>
    <button
      ?disabled=${at === waiting.length - 1}
      @click=${() => training.act(before(at + 1), "/move", { before: before(at) })}
    >
      Later
    </button>
  `;
}
