"""Pure functions from tensors to numbers, safe inside an XLA-compiled function.

Every measure takes a float `[rows, values]`, a row for each tensor that is
measured, and returns a number (or thirty) a row. Values that are not finite are
left out of histograms and counted by `nonfinite_count`; the mean lets them through,
so that an explosion shows.
"""

import numpy as np
import tensorflow as tf

BUCKETS = 30
"""Buckets of a histogram: what `tf.summary.histogram` has, and TensorBoard draws."""


def mean_abs(values) -> tf.Tensor:
    """Mean absolute value, float32 `[rows]`: the tutorial's measure of a gradient."""
    return tf.reduce_mean(tf.abs(tf.cast(values, tf.float32)), axis=1)


def nonfinite_count(values) -> tf.Tensor:
    """How many values are NaN or infinite, int64 `[rows]`."""
    return tf.math.count_nonzero(~tf.math.is_finite(values), axis=1)


def histogram(values) -> dict[str, tf.Tensor]:
    """Counts in 30 buckets of equal width between a row's least and largest value.

    The rule of `tf.summary.histogram`, TensorBoard's own, to the last bit: float64
    throughout, a bucket holds its left edge, the last one both edges, and where all
    values are equal the last bucket holds them all. Counted by segment, in one pass
    over the values; TensorBoard's own op builds a one-hot row for each.

    Returns:
        `min` and `max`, float64 `[rows]`, and `counts`, float64 `[rows, 30]`, of the
        finite values. Of a row without one, `counts` is all zeros.
    """
    values = tf.cast(values, tf.float64)
    finite = tf.math.is_finite(values)
    least = tf.reduce_min(tf.where(finite, values, np.inf), axis=1, keepdims=True)
    largest = tf.reduce_max(tf.where(finite, values, -np.inf), axis=1, keepdims=True)
    width = (largest - least) / BUCKETS
    # Where all values are equal the quotient is NaN, whose cast would be undefined.
    countable = finite & (width > 0)
    bucket = tf.cast(tf.where(countable, tf.floor((values - least) / width), BUCKETS), tf.int32)
    rows = values.shape[0]
    segment = BUCKETS * tf.range(rows)[:, tf.newaxis] + tf.minimum(bucket, BUCKETS - 1)
    counts = tf.math.unsorted_segment_sum(tf.cast(finite, tf.float64), segment, BUCKETS * rows)
    return {
        "min": least[:, 0],
        "max": largest[:, 0],
        "counts": tf.reshape(counts, [rows, BUCKETS]),
    }


def measure_each(measure, tensors) -> dict[str, tf.Tensor]:
    """Apply a measure to tensors of any shapes, in as few operations as their sizes allow.

    Args:
        measure: from `[rows, values]` to a structure of tensors `[rows, ...]`.
        tensors: float tensors.

    Returns:
        The measure's structure, each part stacked along a first axis in the order
        of `tensors`.
    """
    groups: dict[int, list[int]] = {}
    for position, tensor in enumerate(tensors):
        groups.setdefault(tensor.shape.num_elements(), []).append(position)
    measured = [
        measure(tf.stack([tf.reshape(tensors[position], [-1]) for position in positions]))
        for positions in groups.values()
    ]
    back_in_order = np.argsort(np.concatenate(list(groups.values())))
    return tf.nest.map_structure(
        lambda *parts: tf.gather(tf.concat(parts, axis=0), back_in_order), *measured
    )


def layer_measures(gradients, weights) -> dict[str, tf.Tensor]:
    """What a record holds of every layer, stacked along a first axis of layers.

    Args:
        gradients: one gradient of the loss a layer, the layer nearest the input first.
        weights: the variables' values that they were taken at, in the same order.

    Returns:
        `gradient_mean_abs`, float32 `[layers]`; `gradient_nonfinite` and
        `weight_nonfinite`, int64 `[layers]`; and `gradients` and `weights`, the
        histograms, each a dict of `min` and `max` `[layers]` and `counts`
        `[layers, 30]`.
    """

    def measure(rows):
        return mean_abs(rows), nonfinite_count(rows), histogram(rows)

    # Gradients and weights are of the same sizes, and so are measured together.
    both = measure_each(measure, [*gradients, *weights])
    layers = len(gradients)
    of_gradients = tf.nest.map_structure(lambda part: part[:layers], both)
    of_weights = tf.nest.map_structure(lambda part: part[layers:], both)
    return {
        "gradient_mean_abs": of_gradients[0],
        "gradient_nonfinite": of_gradients[1],
        "weight_nonfinite": of_weights[1],
        "gradients": of_gradients[2],
        "weights": of_weights[2],
    }
