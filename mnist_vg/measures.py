"""Pure functions from tensors to numbers, safe inside an XLA-compiled function.

Every measure takes a float tensor of any shape. Values that are not finite are
left out of histograms and counted by `nonfinite_count`; the other measures let
them through, so that an explosion shows.
"""

import tensorflow as tf

BUCKETS = 30
"""Buckets of a histogram: what `tf.summary.histogram` has, and TensorBoard draws."""


def mean_abs(values) -> tf.Tensor:
    """Mean absolute value, float32 scalar: the tutorial's measure of a gradient."""
    return tf.reduce_mean(tf.abs(tf.cast(values, tf.float32)))


def nonfinite_count(values) -> tf.Tensor:
    """How many elements are NaN or infinite, int64 scalar."""
    return tf.math.count_nonzero(~tf.math.is_finite(values))


def histogram(values) -> dict[str, tf.Tensor]:
    """Counts in 30 buckets of equal width between the least and the largest value.

    The rule of `tf.summary.histogram`, TensorBoard's own, to the last bit: float64
    throughout, a bucket holds its left edge, the last one both edges, and where all
    values are equal the last bucket holds them all. Counted by segment, at one pass
    over the values; TensorBoard's own op builds a one-hot row for each.

    Returns:
        `min` and `max`, float64 scalars, and `counts`, float64 `[30]`, of the
        finite values. Without one, `counts` is all zeros and `min` exceeds `max`.
    """
    values = tf.cast(tf.reshape(values, [-1]), tf.float64)
    finite = tf.math.is_finite(values)
    least = tf.reduce_min(tf.where(finite, values, tf.float64.max))
    largest = tf.reduce_max(tf.where(finite, values, tf.float64.min))
    width = (largest - least) / BUCKETS
    bucket = tf.cast(tf.where(finite, tf.floor((values - least) / width), 0), tf.int32)
    # Of equal values (width 0) the quotient is NaN, whose cast to int is undefined.
    bucket = tf.where(width > 0, tf.minimum(bucket, BUCKETS - 1), BUCKETS - 1)
    counts = tf.math.unsorted_segment_sum(tf.cast(finite, tf.float64), bucket, BUCKETS)
    return {"min": least, "max": largest, "counts": counts}


def layer_measures(gradients, weights) -> dict[str, tf.Tensor]:
    """What a record holds of every layer, stacked along a first axis of layers.

    Args:
        gradients: one gradient of the loss a layer, the layer nearest the input first.
        weights: the variables' values that they were taken at, in the same order.

    Returns:
        `gradient_mean_abs`, float32 `[layers]`; `gradient_nonfinite` and
        `weight_nonfinite`, int64 `[layers]`; and `gradients` and `weights`, the histograms, each a dict of
        `min` and `max` `[layers]` and `counts` `[layers, 30]`.
    """

    def each(measure, tensors):
        return tf.nest.map_structure(lambda *layers: tf.stack(layers), *map(measure, tensors))

    return {
        "gradient_mean_abs": each(mean_abs, gradients),
        "gradient_nonfinite": each(nonfinite_count, gradients),
        "weight_nonfinite": each(nonfinite_count, weights),
        "gradients": each(histogram, gradients),
        "weights": each(histogram, weights),
    }
