/** The training service, where TensorBoard was started by it (`mnist-vg serve`). */

/** The fields of a scenario, the named ones and the limits; null where there is no service. */
export async function findService() {
  const answers = await Promise.all(
    ["fields", "scenarios", "limits"].map((part) => fetch(address(part))),
  );
  if (!answers.every(({ ok }) => ok)) return null;
  const [{ fields }, { scenarios }, limits] = await Promise.all(answers.map((each) => each.json()));
  return { fields, scenarios, limits };
}

/** All jobs, in the order in which they are trained. */
export const getJobs = async () => (await ask("GET", "jobs")).jobs;

/** Submits requests: all are accepted, or none. */
export const submit = (requests) => ask("POST", "batches", { requests });

/** A job. */
export const getJob = (number) => ask("GET", `jobs/${number}`);

/** What a sweep has found so far. */
export const getMap = (number) => ask("GET", `jobs/${number}/map`);

/**
 * Asks the service for a change.
 *
 * @throws {Refusal} it does not do that.
 */
export async function ask(method, path, body) {
  const request = {
    method,
    headers: { "Content-Type": "application/json" },
    body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
  };
  const response = await fetch(address(path), request).catch(() => {
    throw new Refusal("The service does not answer.");
  });
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  throw new Refusal(text);
}

/** A browser does not try again by itself where a service refuses the token of the one before. */
const AGAIN_MS = 3000;

/**
 * Calls `told(kind, facts)` with each event, also after the connection was lost for a while: it then
 * begins with "lost", and with "open" once it is there again.
 */
export function onEvents(told) {
  const source = new EventSource(address("events"));
  for (const kind of ["state", "progress", "moved", "removed"]) {
    source.addEventListener(kind, ({ data }) => told(kind, JSON.parse(data)));
  }
  source.addEventListener("open", () => told("open", {}));
  source.addEventListener("error", () => {
    told("lost", {});
    if (source.readyState === EventSource.CLOSED) setTimeout(() => onEvents(told), AGAIN_MS);
  });
}

/** Why the service refuses something, and the setting that it is about. */
export class Refusal extends Error {
  constructor(text) {
    let told = { error: text };
    try {
      told = JSON.parse(text);
    } catch {
      // What guards the service answers in plain text.
    }
    super(told.error);
    this.setting = told.setting ?? "";
  }
}

/** What the service answers, and why it refuses: one of both. */
export async function tried(asked) {
  try {
    return [await asked, null];
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return [undefined, error];
  }
}

const address = (path) => new URL(`service/${path}`, import.meta.url.replace(/\/data\/.*/, "/"));
