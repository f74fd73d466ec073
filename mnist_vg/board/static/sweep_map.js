/** The heat map of a sweep: a table whose cells are medians of networks, as the service has them. */

import "./vendor/d3/d3.min.js";
import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { textOn } from "./colours.js";
import { words } from "./measures.js";

const { d3 } = globalThis;

/** What a cell can show. */
const SHOWN = {
  accuracy: "test accuracy",
  last_ratio: "log10 of gradient ratio, layer 1 / last layer, last record",
  first_ratio: "log10 of gradient ratio, layer 1 / last layer, first record",
  verdict: "diagnosis",
};

/**
 * The table.
 *
 * @param {object} map as the service has it.
 * @param {string} measure one of `SHOWN`.
 * @param {{choose: Function, open: Function}} actions what the choice of a measure and a click on a
 *   cell do; `open` gets the cell's settings.
 */
export function sweepMap(map, measure, { choose, open }) {
  if (!map.x) return html`<p class="facts">No network has been trained yet.</p>`;
  const { x, y } = map;
  const rows = [...map[measure].entries()].reverse(); // As a picture: numbers grow upwards.
  return html`
    <div class="sweep-map">
      <label>
        Cells
        <select @change=${({ target }) => choose(target.value)}>
          ${Object.entries(SHOWN).map(
            ([name, label]) =>
              html`<option value=${name} .selected=${name === measure}>${label}</option>`,
          )}
        </select>
      </label>
      <table>
        <caption>
          ${y ? `${spaced(y.title)} (rows) by ` : nothing}${spaced(x.title)}${y ? " (columns)" : ""}
        </caption>
        <tbody>
          ${rows.map(
            ([row, values]) => html`
              <tr>
                <th scope="row">${y ? y.labels[row] : SHOWN[measure]}</th>
                ${values.map((value, column) => {
                  const settings = { [x.field]: x.values[column] };
                  if (y) settings[y.field] = y.values[row];
                  return cell(value, colourOf(map, measure, value), settings, open);
                })}
              </tr>
            `,
          )}
          <tr>
            <td></td>
            ${x.labels.map((label) => html`<th scope="col">${label}</th>`)}
          </tr>
        </tbody>
      </table>
      ${measure === "verdict" ? legend(map) : nothing}
    </div>
  `;
}

const spaced = (name) => name.replaceAll("_", " ");

function cell(value, colour, settings, open) {
  const shown = value === null ? "" : typeof value === "number" ? words(value) : "";
  const where = Object.entries(settings)
    .map(([name, given]) => `${spaced(name)} ${given ?? "none"}`)
    .join(", ");
  const said = value === null ? "no number" : typeof value === "number" ? words(value) : value;
  return html`
    <td>
      <button
        style=${`background:${colour};color:${textOn(colour)}`}
        title=${`${where}: ${said}. Click to start a new run from it.`}
        aria-label=${`${where}: ${said}`}
        @click=${() => open(settings)}
      >
        ${shown}
      </button>
    </td>
  `;
}

/** The colour of a cell: Viridis for the accuracy, and two directions from 0 for a ratio. */
function colourOf(map, measure, value) {
  if (value === null || value === undefined) return "#9e9e9e";
  if (measure === "verdict") return map.colours[value];
  if (measure === "accuracy") return d3.interpolateViridis(value);
  const all = [...map.first_ratio, ...map.last_ratio].flat().filter((other) => other !== null);
  const limit = Math.ceil(Math.max(1, ...all.map(Math.abs)));
  return d3.interpolatePuOr(0.5 - value / (2 * limit));
}

function legend(map) {
  const present = Object.keys(map.colours).filter((name) => map.verdict.flat().includes(name));
  return html`
    <ul class="verdicts" aria-label="Diagnoses">
      ${present.map(
        (name) => html`
          <li><span class="swatch" style=${`background:${map.colours[name]}`}></span>${name}</li>
        `,
      )}
    </ul>
  `;
}
