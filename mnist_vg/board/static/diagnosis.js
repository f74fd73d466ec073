/** The diagnosis of a run: its symptoms, the causes first, and what to try. */

import { html, nothing } from "./vendor/lit-html/lit-html.js";

const KINDS = {
  fault: "",
  remark: "does not keep it from learning",
  passed: "announced while it trained, and gone since",
};

/**
 * The panel beside the tiles.
 *
 * @param {object} facts of the run; undefined while they are on their way.
 * @param {object} app
 * @param {object | undefined} row the run as the server lists it; undefined if there is none.
 */
export function panel(facts, app, row) {
  const name = app.state.run;
  return html`
    <header>
      <h2>${name}</h2>
      <button
        class="close"
        aria-label="Close the diagnosis"
        @click=${() => app.show({ run: "" }, true)}
      >
        ×
      </button>
    </header>
    ${seeds(app)} ${row?.damage ? html`<p class="damage">Damaged: ${row.damage}</p>` : nothing}
    ${facts ? told(facts, app) : html`<p>${missing(row)}</p>`}
  `;
}

/** What the service can do with a run that our trainer trained. */
function training({ settings, health, recipe }, app) {
  const { run } = app.state;
  const act = (label, action) => html`<button @click=${action}>${label}</button>`;
  return html`
    <p class="actions">
      ${health === "sick" ? act("Cure", () => app.training.cure(run)) : nothing}
      ${act("More seeds", () => app.training.moreSeeds(recipe, settings))}
      ${act("Change one thing…", () => app.training.startFrom(run, settings))}
    </p>
  `;
}

/** The other seeds, where they share a tile. */
function seeds(app) {
  const { name, runs } = app.groupOf(app.state.run) ?? { runs: [] };
  if (runs.length < 2) return nothing;
  return html`
    <p class="seeds" role="group" aria-label=${`Seeds of ${name}`}>
      ${runs.map(
        (run) => html`
          <button
            aria-pressed=${run.name === app.state.run ? "true" : "false"}
            @click=${() => app.show({ run: run.name, mark: [] }, true)}
          >
            ${run.name.slice(name.length).replace(/^-/, "") || run.name}
          </button>
        `,
      )}
    </p>
  `;
}

function missing(row) {
  if (!row) return "The log has no run of this name.";
  return row.state === "damaged" ? "" : "…";
}

function told(facts, app) {
  return html`
    <p class="verdict">${facts.verdict}</p>
    ${app.training && facts.dataset ? training(facts, app) : nothing}
    ${facts.advice.length ? html`<p>Try: ${facts.advice.join("; ")}</p>` : nothing}
    <ol class="symptoms">
      ${facts.symptoms.map((symptom, n) => html`<li>${one(symptom, n, app)}</li>`)}
    </ol>
    ${marks(facts.marks)}
    <details>
      <summary>Settings</summary>
      <table>
        ${Object.entries(facts.settings).map(
          ([key, value]) =>
            html`<tr>
              <th scope="row">${key}</th>
              <td>${value ?? "none"}</td>
            </tr>`,
        )}
      </table>
    </details>
  `;
}

function one(symptom, number, app) {
  const { layer, step, kind, cause, words, why, advice, source } = symptom;
  const mark = JSON.stringify([layer ?? "", step]);
  return html`
    <button
      class="symptom ${kind}"
      aria-pressed=${JSON.stringify(app.state.mark) === mark ? "true" : "false"}
      title="Show it in the heat map"
      @click=${() => app.show({ mark: JSON.parse(mark) }, true)}
    >
      ${cause ? html`<span class="cause">cause</span>` : nothing} ${symptom.symptom}
      ${layer ? `in ${layer}` : nothing}
    </button>
    <p class="when">${when(symptom)}${KINDS[kind] ? `; ${KINDS[kind]}` : nothing}</p>
    <p>${words}</p>
    ${why ? html`<p>${why}</p>` : nothing}
    ${advice.length ? html`<p class="advice">Try: ${advice.join("; ")}</p>` : nothing}
    <p class="source">
      ${source}.
      ${symptom.page ? html`<a href=${app.pageOf(symptom.page)} target="_blank">More</a>` : nothing}
    </p>
  `;
}

/** When a symptom showed. */
export function when({ step, known, until }) {
  const certain = known > step ? `, certain at step ${known}` : "";
  if (until === null || until === undefined) return `from step ${step} on${certain}`;
  if (until === step) return `at step ${step} only`;
  return `from step ${step}${certain}; was there until step ${until}`;
}

function marks(found) {
  const layers = Object.entries(found);
  if (!layers.length) return nothing;
  return html`<p>${layers.map(([layer, mark]) => `${layer}: ${mark}`).join("; ")}</p>`;
}
