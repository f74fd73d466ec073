/** The measures of layers that the tab can show: their names in words, and their scales. */

/**
 * @typedef {object} Measure
 * @property {string} label
 * @property {"log" | "linear"} scale
 * @property {[number, number]} [domain] of values that have bounds of their own.
 */

/** @type {Object<string, Measure>} */
export const MEASURES = {
  gradient_mean_abs: { label: "mean absolute gradient", scale: "log" },
  relative_sensitivity: { label: "relative sensitivity", scale: "log" },
  update_ratio: { label: "update ratio", scale: "log" },
  gradient_nonfinite: { label: "gradients that are not finite", scale: "linear" },
  weight_nonfinite: { label: "weights that are not finite", scale: "linear" },
  units_dead: { label: "dead units, as a share", scale: "linear", domain: [0, 1] },
  units_saturated: { label: "saturated units, as a share", scale: "linear", domain: [0, 1] },
  weight_std: { label: "spread of the weights", scale: "log" },
  weight_norm: { label: "norm of the weights", scale: "log" },
  activation_std: { label: "spread of the activations", scale: "log" },
  activation_slope: { label: "slope of the activation", scale: "log" },
  gradient_std: { label: "spread of the gradients", scale: "log" },
  gradient_norm: { label: "norm of the gradients", scale: "log" },
  gradient_zeros: { label: "gradients that are zero, as a share", scale: "linear", domain: [0, 1] },
  gradient_clipped_mean_abs: { label: "mean absolute gradient after clipping", scale: "log" },
  gradient_clipped_norm: { label: "norm of the gradients after clipping", scale: "log" },
  gradient_nonfinite_share: {
    label: "gradients that are not finite, as a share",
    scale: "linear",
    domain: [0, 1],
  },
  gradient_mean: { label: "mean of the gradients", scale: "linear" },
  weight_mean: { label: "mean of the weights", scale: "linear" },
  activation_mean: { label: "mean of the activations", scale: "linear" },
  gradient_through_time: { label: "log10 of first over last time step", scale: "linear" },
  activation_gradient_rms: { label: "gradient of the activations", scale: "log" },
  backpropagated_rms: { label: "gradient that is passed back", scale: "log" },
};

/** What a histogram can show. */
export const GROUPS = ["gradients", "weights", "activations", "activation_inputs"];

/** A number as it is read: three digits, and powers of ten far from 1. */
export function words(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "Inf" : "-Inf";
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}
