/** The page in the tab's frame: TensorBoard calls `render` once. */

import { App } from "./app.js";

/** Builds the page in the document that TensorBoard has made. */
export function render() {
  document.documentElement.lang = "en";
  document.title = "Gradient flow";
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("./style.css", import.meta.url);
  // Sizes are measured, so the style must be there.
  style.addEventListener("load", () => new App(document.body).start());
  document.head.append(style);
}
