"""Measures: pure functions from tensors to numbers, safe inside an XLA-compiled function.

Every measure takes float `[rows, values]`, one row per measured tensor, and returns
one number per row (a histogram: thirty). Histograms leave out values that are not finite,
and `nonfinite_count` counts them. The other measures let them through, so that an
explosion shows.
"""

import numpy as np
import tensorflow as tf

from mnist_vg.runs.tags import (
    ACTIVATION_GRADIENT,
    ACTIVATION_INPUTS,
    ACTIVATION_SLOPE,
    ACTIVATIONS,
    GRADIENTS,
    UNITS_DEAD,
    UNITS_SATURATED,
    WEIGHTS,
)

BUCKETS = 30
"""Buckets of a histogram: as many as `tf.summary.histogram` writes and TensorBoard draws."""

LARGE = 2**18
"""A tensor with more values than this gets a histogram of a sample."""

SAMPLE = 2**16
"""Values in a sample, about. The share of a bucket is then known to 0.2% (one standard
error, `sqrt(p (1 - p) / n)`), less than a drawn histogram shows."""

RUN = 64
"""Neighbouring values that a sample takes together, since memory is fetched in such blocks."""

STACKED = 2**14
"""Tensors of one size with at most this many values are copied together and measured at once."""

SATURATION = float(1 / (1 + np.exp(5)))
"""A bounded activation counts as saturated within this share of its range from an end.

That is where a sigmoid is at an input of 5, the bound of DeepDiagnosis (Wardat et al.
2022). For tanh, which is the same curve, it is an input of 2.5."""


def mean_abs(values) -> tf.Tensor:
    """Mean absolute value, float32 `[rows]`: the tutorial's measure of a gradient."""
    return _mean(tf.abs(tf.cast(values, tf.float32)))


def norm(values) -> tf.Tensor:
    """Euclidean norm, float32 `[rows]`."""
    return tf.sqrt(_sum(tf.square(tf.cast(values, tf.float32))))


def mean(values) -> tf.Tensor:
    """Mean with its sign, float32 `[rows]`."""
    return _mean(tf.cast(values, tf.float32))


def std(values) -> tf.Tensor:
    """Standard deviation of the row as a population, float32 `[rows]`."""
    values = tf.cast(values, tf.float32)
    return tf.sqrt(_mean(tf.square(values - _mean(values)[:, tf.newaxis])))


def rms(values) -> tf.Tensor:
    """Root mean square, float32 `[rows]`: the standard deviation about zero."""
    return tf.sqrt(_mean(tf.square(tf.cast(values, tf.float32))))


def zero_share(values) -> tf.Tensor:
    """Share of values that are exactly zero, float32 `[rows]`."""
    return _mean(tf.cast(values == 0, tf.float32))


def nonfinite_count(values) -> tf.Tensor:
    """How many values are NaN or infinite, float32 `[rows]`."""

    def count():
        return _sum(tf.cast(~tf.math.is_finite(values), tf.float32))

    if values.shape[1] <= LARGE:
        return count()
    # A mean is finite only if all values are, and it is computed anyway.
    none = tf.reduce_all(tf.math.is_finite(mean_abs(values)))
    return tf.cond(none, lambda: tf.zeros(values.shape[0]), count)


def nonfinite_share(values) -> tf.Tensor:
    """Share of values that are NaN or infinite, float32 `[rows]`."""
    return nonfinite_count(values) / values.shape[1]


def _mean(values):
    return _sum(values) / values.shape[1]


def _sum(values):
    """Sum of each row.

    For a long row it is a product with ones: on a CPU, XLA splits a product among the
    cores, but not a sum, and so takes a third of the time.
    """
    size = values.shape[1]
    if size <= LARGE:
        return tf.reduce_sum(values, axis=1)
    width = 1024
    whole = size // width * width
    lines = tf.reshape(values[:, :whole], [values.shape[0], -1, width])
    sums = tf.linalg.matvec(lines, tf.ones([width]))
    return tf.reduce_sum(sums, axis=1) + tf.reduce_sum(values[:, whole:], axis=1)


def histogram(values) -> dict[str, tf.Tensor]:
    """Counts in 30 buckets of equal width between a row's smallest and largest value.

    The counts are those of `tf.summary.histogram` to the last bit: float64 throughout, a
    bucket holds its left edge, the last bucket holds both edges, and if all values are
    equal, the last bucket holds them all. Counting by segment takes one pass over the
    values; TensorBoard's op builds a one-hot row for each value.

    A row of more than `LARGE` values gets the histogram of about `SAMPLE` evenly spread
    values, each counted for as many values as it stands for.

    Returns:
        `min` and `max`, float64 `[rows]`, and `counts`, float64 `[rows, 30]`, of the
        finite values. A row without finite values has zeros in `counts`.
    """
    values, weight = _sample(values)
    values = tf.cast(values, tf.float64)
    finite = tf.math.is_finite(values)
    least = tf.reduce_min(tf.where(finite, values, np.inf), axis=1, keepdims=True)
    largest = tf.reduce_max(tf.where(finite, values, -np.inf), axis=1, keepdims=True)
    width = (largest - least) / BUCKETS
    # If all values are equal the quotient is NaN, and casting NaN to int is undefined.
    countable = finite & (width > 0)
    bucket = tf.cast(tf.where(countable, tf.floor((values - least) / width), BUCKETS), tf.int32)
    rows = values.shape[0]
    segment = BUCKETS * tf.range(rows)[:, tf.newaxis] + tf.minimum(bucket, BUCKETS - 1)
    counts = tf.math.unsorted_segment_sum(tf.cast(finite, tf.float64), segment, BUCKETS * rows)
    return {
        "min": least[:, 0],
        "max": largest[:, 0],
        "counts": weight * tf.reshape(counts, [rows, BUCKETS]),
    }


def _sample(values):
    """The values of each row that a histogram counts, and how many values each stands for."""
    size = values.shape[1]
    if size is None or size <= LARGE:
        return values, 1
    # A prime: a divisor of the matrix's width would pick values of a few columns only.
    stride = size // SAMPLE
    while any(stride % divisor == 0 for divisor in range(2, stride)):
        stride += 1
    rows = values.shape[0]
    runs = tf.reshape(values[:, : size // RUN * RUN], [rows, -1, RUN])[:, ::stride]
    sample = tf.reshape(runs, [rows, -1])
    return sample, size / sample.shape[1]


def measure_each(measure, tensors, stacked=False) -> dict[str, tf.Tensor]:
    """Apply a measure to tensors of any shapes, in few operations.

    Args:
        measure: from `[rows, values]` to a structure of tensors `[rows, ...]`.
        tensors: float tensors of known shapes.
        stacked: whether each tensor holds stacked networks, `[..., values]`, one row each.

    Returns:
        The measure's structure, each part `[rows, ...]`, in the order of `tensors` and
        of their rows.
    """
    tables = [tf.reshape(t, [-1, t.shape[-1]] if stacked else [1, -1]) for t in tensors]
    groups: dict[object, list[int]] = {}
    for position, table in enumerate(tables):
        size = table.shape[1]
        # Copying a large tensor would cost more than it saves.
        key = (size, table.dtype) if size <= STACKED else position
        groups.setdefault(key, []).append(position)
    measured = [
        measure(tf.concat([tables[position] for position in positions], axis=0))
        for positions in groups.values()
    ]
    ends = np.cumsum([table.shape[0] for table in tables])
    places = [np.arange(end - t.shape[0], end) for end, t in zip(ends, tables, strict=True)]
    order = np.concatenate([places[at] for positions in groups.values() for at in positions])

    def in_order(*parts):
        joined = tf.concat(parts, axis=0)
        # XLA can fuse slices of a concatenation, but not a gather.
        return joined if (np.diff(order) == 1).all() else tf.gather(joined, np.argsort(order))

    return tf.nest.map_structure(in_order, *measured)


GRADIENT = {"gradient_mean_abs": mean_abs, "gradient_nonfinite": nonfinite_count}
WEIGHT = {"weight_nonfinite": nonfinite_count}
FULL_GRADIENT = GRADIENT | {
    "gradient_mean": mean,
    "gradient_std": std,
    "gradient_norm": norm,
    "gradient_zeros": zero_share,
    "gradient_nonfinite_share": nonfinite_share,
}
FULL_WEIGHT = WEIGHT | {"weight_mean": mean, "weight_std": std, "weight_norm": norm}
FULL_CLIPPED = {"gradient_clipped_mean_abs": mean_abs, "gradient_clipped_norm": norm}
"""What a default and a full record hold of every layer, by the name of its tags."""


def layer_measures(
    gradients, weights, clipped=None, histograms=True, full=False, stacked=False
) -> dict[str, tf.Tensor]:
    """What a record holds of every layer, stacked along a first axis of layers.

    Args:
        gradients: one gradient of the loss per layer, the layer nearest the input first.
        weights: the weights at which they were taken, in the same order.
        clipped: the gradients after clipping, if the optimizer clips.
        histograms: whether to add histograms.
        full: whether to add means, spreads, norms and shares.
        stacked: whether the tensors hold stacked networks, `[..., replicas, values]`. Each
            network then counts as a layer; those of one layer stand side by side.

    Returns:
        By the name of its tags, float32 `[layers]` each: `GRADIENT` and `WEIGHT`, or with
        `full` `FULL_GRADIENT`, `FULL_WEIGHT` and, given `clipped`, `FULL_CLIPPED`; with
        `histograms` also `gradients` and `weights`, each a dict of `min` and `max`
        `[layers]` and `counts` `[layers, 30]`.
    """
    parts = [FULL_GRADIENT, FULL_WEIGHT] if full else [GRADIENT, WEIGHT]
    parts += [FULL_CLIPPED] if full and clipped else []
    functions = dict.fromkeys(function for part in parts for function in part.values())
    functions |= {histogram: None} if histograms else {}

    def measure(rows):
        return {function.__name__: function(rows) for function in functions}

    # Gradients and weights have the same sizes, so one call measures them together. The
    # compiler drops what is not used.
    tensors = [*gradients, *weights, *(clipped if len(parts) == 3 else [])]
    together = measure_each(measure, tensors, stacked)
    count = together["mean_abs"].shape[0] // len(parts)

    def measured(function, part):
        layers = slice(part * count, (part + 1) * count)
        return tf.nest.map_structure(lambda values: values[layers], together[function.__name__])

    measures = {
        name: measured(function, part)
        for part, names in enumerate(parts)
        for name, function in names.items()
    }
    if histograms:
        measures |= {GRADIENTS: measured(histogram, 0), WEIGHTS: measured(histogram, 1)}
    return measures


def weight_measures(weights, histograms=True, full=False) -> dict[str, tf.Tensor]:
    """What a record holds of layers that get no gradient: what is of the weights alone.

    Arguments and result are those of `layer_measures`.
    """
    functions = FULL_WEIGHT if full else WEIGHT
    if histograms:
        functions = functions | {WEIGHTS: histogram}
    return measure_each(
        lambda rows: {name: function(rows) for name, function in functions.items()}, weights
    )


def activation_measures(outputs, ranges, histograms=True) -> dict[str, tf.Tensor]:
    """What a full record holds of every layer with an activation.

    Args:
        outputs: for each layer a list of outputs `[batch, ..., units]`, one per call.
        ranges: for each layer the ends `(low, high)` of its activation's range, or None
            for an activation without two ends.
        histograms: whether to add histograms.

    Returns:
        By the name of its tags, `[layers]` each: `activation_mean` and
        `activation_std`; what `unit_shares` returns; and with `histograms`
        `activations`.
    """
    measured = []
    for calls, limits in zip(outputs, ranges, strict=True):
        units = calls[0].shape[-1]
        values = tf.concat([tf.reshape(call, [-1, units]) for call in calls], axis=0)
        measured.append(_activation_measure(tf.cast(values, tf.float32), limits, histograms))
    return _stacked(measured)


def unit_shares(outputs, ranges) -> dict[str, tf.Tensor]:
    """Shares of units that pass on no gradient, or hardly any.

    Args:
        outputs: of each activation, `[batch, units]`.
        ranges: as `activation_measures` takes them.

    Returns:
        `units_dead` `[layers]`, the share of units that are exactly zero on the whole
        batch (dead ReLUs, Lu et al. 2019), and `units_saturated` `[layers]`, the share
        of units that are within `SATURATION` of an end on more than half of the batch.
    """
    return _stacked([shares_of_units(*layer) for layer in zip(outputs, ranges, strict=True)])


def _stacked(measured):
    return tf.nest.map_structure(lambda *parts: tf.stack(parts), *measured)


def shares_of_units(values, limits) -> dict[str, tf.Tensor]:
    """What `unit_shares` returns, for one activation: `[batch, ..., units]` gives `[...]`."""
    if limits is None:
        saturated = tf.zeros(values.shape[1:-1])
    else:
        low, high = limits
        distance = tf.minimum(values - low, high - values)
        often = tf.reduce_mean(tf.cast(distance <= SATURATION * (high - low), tf.float32), axis=0)
        saturated = tf.reduce_mean(tf.cast(often > 0.5, tf.float32), axis=-1)
    dead = tf.reduce_all(values == 0, axis=0)
    return {
        UNITS_DEAD: tf.reduce_mean(tf.cast(dead, tf.float32), axis=-1),
        UNITS_SATURATED: saturated,
    }


def _activation_measure(values, limits, histograms):
    measures = {
        "activation_mean": tf.reduce_mean(values),
        "activation_std": tf.math.reduce_std(values),
    } | shares_of_units(values, limits)
    if histograms:
        rows = histogram(tf.reshape(values, [1, -1]))
        measures[ACTIVATIONS] = {key: part[0] for key, part in rows.items()}
    return measures


def signal_measures(outputs, ranges, inputs, slopes, output_gradients) -> dict[str, tf.Tensor]:
    """What a full record of the trainer holds of the hidden layers' activations.

    Args:
        outputs: of each activation, `[batch, units]`.
        ranges: as `activation_measures` takes them.
        inputs: of each activation, after any normalization, `[batch, units]`.
        slopes: the derivative of each activation at its inputs, `[batch, units]`. For one
            that is not elementwise (softmax): the derivative of the sum of its outputs.
        output_gradients: gradients of an example's loss with respect to `outputs`.

    Returns:
        What `activation_measures` returns and, `[layers]` each, `activation_inputs`, a
        histogram; `activation_slope`, the mean derivative; and
        `activation_gradient_rms`.
    """
    return activation_measures([[output] for output in outputs], ranges) | {
        ACTIVATION_INPUTS: measure_each(histogram, inputs),
        ACTIVATION_SLOPE: measure_each(mean, slopes),
        ACTIVATION_GRADIENT: measure_each(rms, output_gradients),
    }
