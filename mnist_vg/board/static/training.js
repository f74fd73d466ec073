/** The training service in the tab: what is asked of it, and what it tells. */

import { html, render } from "./vendor/lit-html/lit-html.js";
import { NewRun } from "./new_run.js";
import { Queue } from "./queue.js";
import { grown, seeded, seedsOf } from "./scenario.js";
import { ask, getJob, getJobs, onEvents, submit, tried } from "./service.js";

/** So many seeds tell whether a change helped: one may be lucky. */
const CURE_SEEDS = 3;

/** So many further seeds tell whether a run was lucky. */
const MORE_SEEDS = 4;

/** Draws the form and the queue into a section of the page, and asks the service. */
export class Training {
  jobs = [];
  lost = false;
  problem = null;
  #told = Promise.resolve();

  /** @param {object} app @param {HTMLElement} section @param {object} service see `findService`. */
  constructor(app, section, service) {
    [this.app, this.section, this.service] = [app, section, service];
    [this.form, this.queue] = [new NewRun(this), new Queue(this)];
    onEvents((kind, facts) => {
      if (kind === "progress") this.#progress(facts);
      // One after the other, so that no older answer comes last.
      else this.#told = this.#told.then(() => this.app.watching(this.#follow(kind, facts)));
    });
  }

  /** How many jobs wait or train. */
  get open() {
    return this.jobs.filter(({ state }) => state === "waiting" || state === "training").length;
  }

  /** Fills the form with the settings of a run, perhaps with changes, and shows it. */
  startFrom(name, settings, changes = {}) {
    this.form.startFrom(name, settings, changes);
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

  /** Submits requests; returns whether all were accepted. If not, none is, and the form says why. */
  async submit(requests) {
    [, this.problem] = await tried(submit(requests));
    this.draw();
    return !this.problem;
  }

  /** Does something with a job. If the service refuses it, the queue says why. */
  async act(number, path, body = {}, method = "POST") {
    const [, problem] = await tried(ask(method, `jobs/${number}${path}`, body));
    this.queue.problem = problem && { number, message: problem.message };
    this.draw();
  }

  /** Trains a sick run with the remedies that fit it. */
  async cure(run) {
    this.app.show({ view: "training" }, true);
    await this.submit([{ kind: "cure", run, seeds: CURE_SEEDS }]);
  }

  /** Trains a run under more seeds: those after the ones that it was trained under. */
  async moreSeeds(recipe, settings) {
    const names = this.app.listing.runs.map(({ name }) => name);
    const first = Math.max(settings.seed, ...seedsOf(names, recipe)) + 1;
    this.app.show({ view: "training" }, true);
    const more = Array.from({ length: MORE_SEEDS }, (_, n) => first + n);
    await this.submit(more.map((seed) => ({ settings: seeded(settings, recipe, seed) })));
  }

  async #follow(kind, facts) {
    if (kind === "lost") {
      this.lost = true;
      this.draw();
      return;
    }
    this.lost = false;
    if (kind === "state") await this.#followJob(facts.job);
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
    const [jobs] = await tried(getJobs());
    if (jobs) this.#take(jobs);
  }

  async #followJob(number) {
    const [job] = await tried(getJob(number));
    if (!job) return this.#refresh(); // It was removed meanwhile.
    this.#take([...this.jobs.filter((other) => other.number !== number), job]);
    this.queue.mapGrows(job);
  }

  #take(jobs) {
    const before = new Map(this.jobs.map(({ number, progress }) => [number, progress.live]));
    for (const job of jobs) job.progress.live ??= before.get(job.number);
    this.jobs = jobs.toSorted((a, b) => a.place - b.place);
    this.draw();
    this.app.navigate();
  }
}
