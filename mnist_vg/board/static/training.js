/** The training service in the tab: what is asked of it, and what it tells. */

import { html, render } from "./vendor/lit-html/lit-html.js";
import { NewRun } from "./new_run.js";
import { Queue } from "./queue.js";
import { grown, seeded } from "./scenario.js";
import { ask, getJob, getJobs, onEvents, Refusal } from "./service.js";

/** So many seeds tell whether a change helped: one may be lucky. */
const CURE_SEEDS = 3;

/** So many further seeds tell whether a run was lucky. */
const MORE_SEEDS = 4;

/** Draws the form and the queue into a section of the page, and asks the service. */
export class Training {
  jobs = [];
  problem = null;

  /** @param {object} app @param {HTMLElement} section @param {object} service see `findService`. */
  constructor(app, section, service) {
    [this.app, this.section, this.service] = [app, section, service];
    [this.form, this.queue] = [new NewRun(this), new Queue(this)];
    onEvents((kind, facts) => this.#told(kind, facts));
  }

  /** How many jobs wait or train. */
  get open() {
    return this.jobs.filter(({ state }) => state === "waiting" || state === "training").length;
  }

  /** Fills the form with the settings of a run, and shows it. */
  startFrom(name, settings) {
    this.form.startFrom(name, settings);
    this.problem = null;
    this.app.show({ view: "training" }, true);
  }

  /** Draws the section. */
  update() {
    render(html`${this.form.view()} ${this.queue.view()}`, this.section);
    this.queue.paint();
  }

  /** Draws the section if it is seen. */
  draw() {
    if (!this.section.hidden) this.update();
  }

  /** Submits requests; returns whether all were accepted. */
  async submit(requests) {
    const accepted = await this.trying(async () => {
      for (const request of requests) await ask("POST", "jobs", request);
      return true;
    });
    await this.#refresh();
    return Boolean(accepted);
  }

  /** Does something with a job. */
  async act(number, path, body = {}, method = "POST") {
    await this.trying(() => ask(method, `jobs/${number}${path}`, body));
    await this.#refresh();
  }

  /** Trains a sick run with the remedies that fit it. */
  async cure(run) {
    this.app.show({ view: "training" }, true);
    await this.submit([{ kind: "cure", run, seeds: CURE_SEEDS }]);
  }

  /** Trains a run under more seeds: those after the ones that it was trained under. */
  async moreSeeds(run, recipe, settings) {
    const known = this.app.groupOf(run)?.runs ?? [];
    const seeds = known.map((other) => other.settings.seed ?? settings.seed);
    const first = Math.max(settings.seed, ...seeds) + 1;
    this.app.show({ view: "training" }, true);
    const more = Array.from({ length: MORE_SEEDS }, (_, n) => first + n);
    await this.submit(more.map((seed) => ({ settings: seeded(settings, recipe, seed) })));
  }

  /** What the service answers; if it refuses, the form shows why, and this returns undefined. */
  async trying(asked) {
    this.problem = null;
    try {
      return await asked();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.problem = error;
      return undefined;
    }
  }

  async #told(kind, facts) {
    if (kind === "progress") this.#progress(facts);
    else if (kind === "state") await this.#follow(facts.job);
    else await this.#refresh();
    if (facts.state === "finished" || kind === "removed") this.app.logGrows();
  }

  #progress(facts) {
    const job = this.jobs.find(({ number }) => number === facts.job);
    if (job) {
      const { live, networks } = job.progress;
      job.progress = { ...facts, live: facts.records ? grown(live, facts) : undefined };
      if (networks !== facts.networks) this.queue.mapGrows(job);
    }
    if (facts.records?.length) this.app.logGrows();
    this.draw();
  }

  async #refresh() {
    this.#take((await this.app.watching(getJobs())) ?? this.jobs);
  }

  async #follow(number) {
    try {
      const job = await getJob(number);
      this.#take([...this.jobs.filter((other) => other.number !== number), job]);
      this.queue.mapGrows(job);
    } catch {
      await this.#refresh(); // It was removed meanwhile, or the service does not answer.
    }
  }

  #take(jobs) {
    const before = new Map(this.jobs.map(({ number, progress }) => [number, progress.live]));
    for (const job of jobs) job.progress.live ??= before.get(job.number);
    this.jobs = jobs.toSorted((a, b) => a.place - b.place);
    this.draw();
    this.app.navigate();
  }
}
