/** TensorBoard around the frame: its address, its dark mode, and when it has read the log anew. */

import { format, parse } from "./address.js";

const host = window.parent;

/** What the address says now. */
export function stateOfAddress() {
  return parse(host.location.hash);
}

/**
 * Puts what is shown into the address.
 *
 * @param {object} state
 * @param {boolean} asStep whether "back" is to lead to what was shown before.
 */
export function putIntoAddress(state, asStep) {
  const hash = format(state, host.location.hash);
  if (hash === host.location.hash) return;
  host.history[asStep ? "pushState" : "replaceState"](host.history.state, "", hash);
}

/** Calls `changed` when "back", "forward" or a link changes the address. */
export function onAddress(changed) {
  host.addEventListener("popstate", changed);
  host.addEventListener("hashchange", changed);
}

/** Calls `changed(dark)` now and whenever TensorBoard changes between light and dark. */
export function onDarkMode(changed) {
  const body = host.document.body;
  const tell = () => changed(body.classList.contains("dark-mode"));
  new MutationObserver(tell).observe(body, { attributeFilter: ["class"] });
  tell();
}

/** Calls `reloaded` when TensorBoard has read the log anew. */
export function onReload(reloaded) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.isReply) return;
    if (/DataReloaded|RunsChanged/.test(message.type)) reloaded();
    port1.postMessage(JSON.stringify({ type: message.type, id: message.id, isReply: true }));
  };
  host.postMessage("experimental.bootstrap", host.location.origin, [port2]);
}
