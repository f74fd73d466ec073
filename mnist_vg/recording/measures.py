"""Measures: pure functions from tensors to numbers, safe inside an XLA-compiled function.

Every measure takes float `[rows, values]`, one row per measured tensor, and returns
one number per row (a histogram: thirty). Histograms leave out values that are not finite,
and `nonfinite_count` counts them. The other measures let them through, so that an
explosion shows.

Of a sparse gradient only the rows of the table that the batch has touched are passed. Then
`zeros` tells a measure how many zeros each row has beside its values.
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
"""Values in a sample. The share of a bucket is then known to 0.2% (one standard
error, `sqrt(p (1 - p) / n)`), less than a drawn histogram shows."""

RUN = 64
"""Neighbouring values that a sample takes together, since memory is fetched in such blocks."""

_NUMBERS = np.arange(SAMPLE // RUN)
_PLACES = (_NUMBERS + _NUMBERS * (5**0.5 - 1) / 2 % 1) / len(_NUMBERS)
"""Where a sample's runs of neighbours are, as shares of the row: one in each of equal parts.

The place inside a part is a multiple of the golden ratio. If all runs were at the same
distance, they could all be in a few columns of a matrix.
"""

STACKED = 2**14
"""Tensors of one size with at most this many values are copied together and measured at once."""

SATURATION = float(1 / (1 + np.exp(5)))
"""A bounded activation counts as saturated within this share of its range from an end.

That is where a sigmoid is at an input of 5, the bound of DeepDiagnosis (Wardat et al.
2022). For tanh, which is the same curve, it is an input of 2.5."""


def mean_abs(values, zeros=None) -> tf.Tensor:
    """Mean absolute value, float32 `[rows]`: the tutorial's measure of a gradient."""
    return _mean(tf.abs(tf.cast(values, tf.float32)), zeros)


def norm(values, zeros=None) -> tf.Tensor:
    """Euclidean norm, float32 `[rows]`."""
    return tf.sqrt(_sum(tf.square(tf.cast(values, tf.float32))))


def mean(values, zeros=None) -> tf.Tensor:
    """Mean with its sign, float32 `[rows]`."""
    return _mean(tf.cast(values, tf.float32), zeros)


def std(values, zeros=None) -> tf.Tensor:
    """Standard deviation of the row as a population, float32 `[rows]`."""
    values = tf.cast(values, tf.float32)
    center = _mean(values, zeros)
    squares = _sum(tf.square(values - center[:, tf.newaxis]))
    if zeros is not None:
        squares += tf.cast(zeros, tf.float32) * tf.square(center)
    return tf.sqrt(squares / _total(values, zeros))


def rms(values) -> tf.Tensor:
    """Root mean square, float32 `[rows]`: the standard deviation about zero."""
    return tf.sqrt(_mean(tf.square(tf.cast(values, tf.float32))))


def squared_distance(values, others) -> tf.Tensor:
    """Square of the Euclidean distance between tensors of the same known shape, float64."""
    large = others.shape.num_elements() > LARGE
    return (_compiled_squared_distance if large else _squared_distance)(values, others)


def _squared_distance(values, others):
    difference = tf.cast(tf.reshape(values - others, [1, -1]), tf.float64)
    return _sum(tf.square(difference))[0]


# Compiled, it keeps no difference in memory, let alone one in float64.
_compiled_squared_distance = tf.function(_squared_distance, jit_compile=True, autograph=False)


def zero_share(values, zeros=None) -> tf.Tensor:
    """Share of values that are exactly zero, float32 `[rows]`."""
    count = _sum(tf.cast(values == 0, tf.float32))
    if zeros is not None:
        count += tf.cast(zeros, tf.float32)
    return count / _total(values, zeros)


def nonfinite_count(values, zeros=None) -> tf.Tensor:
    """How many values are NaN or infinite, float32 `[rows]`."""

    def count():
        return _sum(tf.cast(~tf.math.is_finite(values), tf.float32))

    if not _is_long(values):
        return count()
    none = tf.reduce_all(_all_finite(values))
    return tf.cond(none, lambda: tf.zeros(values.shape[0]), count)


def nonfinite_share(values, zeros=None) -> tf.Tensor:
    """Share of values that are NaN or infinite, float32 `[rows]`."""
    return nonfinite_count(values) / _total(values, zeros)


def _is_long(values):
    return (values.shape[1] or 0) > LARGE


def _all_finite(values):
    # A norm is finite only if all values are, and for long rows it is computed anyway.
    return tf.math.is_finite(norm(values))


def _mean(values, zeros=None):
    return _sum(values) / _total(values, zeros)


def _total(values, zeros):
    """How many values a row has, with its zeros."""
    if zeros is None and values.shape[1] is not None:
        return values.shape[1]
    zeros = 0 if zeros is None else zeros
    return tf.cast(tf.shape(values)[1], tf.float32) + tf.cast(zeros, tf.float32)


def _sum(values):
    """Sum of each row.

    For a long row it is a product with ones: on a CPU, XLA splits a product among the
    cores, but not a sum, and so takes a third of the time. Nor does it keep in memory what
    the product takes.
    """
    if not _is_long(values):
        return tf.reduce_sum(values, axis=1)
    size = values.shape[1]
    width = 1024
    whole = size // width * width
    lines = tf.reshape(values[:, :whole], [values.shape[0], -1, width])
    sums = tf.linalg.matvec(lines, tf.ones([width], values.dtype))
    return tf.reduce_sum(sums, axis=1) + tf.reduce_sum(values[:, whole:], axis=1)


def histogram(values, zeros=None) -> dict[str, tf.Tensor]:
    """Counts in 30 buckets of equal width between a row's smallest and largest value.

    The counts are those of `tf.summary.histogram` to the last bit: float64 throughout, a
    bucket holds its left edge, the last bucket holds both edges, and if all values are
    equal, the last bucket holds them all. Counting takes one pass over the values;
    TensorBoard's op builds a one-hot row for each value.

    In a row of more than `LARGE` values, `SAMPLE` evenly spread ones are counted, each for as
    many values as it stands for. The smallest and the largest are those of the whole row or,
    if a value in it is not finite, of the sample.

    Returns:
        `min` and `max`, float64 `[rows]`, and `counts`, float64 `[rows, 30]`, of the
        finite values. A row without finite values has zeros in `counts`.
    """
    if values.shape[1] is not None:
        return (_sampled_histogram if _is_long(values) else _histogram)(values, zeros)
    return tf.cond(
        tf.shape(values)[1] > LARGE,
        lambda: _sampled_histogram(values, zeros),
        lambda: _histogram(values, zeros),
    )


def _histogram(values, zeros=None, ends=None, weight=None):
    least, largest = (tf.cast(end, tf.float64)[:, tf.newaxis] for end in ends or _ends(values))
    if zeros is not None:
        least = tf.where(zeros > 0, tf.minimum(least, 0), least)
        largest = tf.where(zeros > 0, tf.maximum(largest, 0), largest)
    width = (largest - least) / BUCKETS

    def count(values):
        bucket = tf.floor((tf.cast(values, tf.float64) - least) / width)
        # If all values are equal, the quotient is NaN, and casting NaN to int is undefined.
        bucket = tf.where(bucket < BUCKETS, bucket, BUCKETS - 1)
        # What is beyond the last bucket is not counted.
        bucket = tf.cast(tf.where(tf.math.is_finite(values), bucket, BUCKETS), tf.int32)
        unweighted = tf.zeros([0], tf.int32)
        counts = tf.raw_ops.DenseBincount(input=bucket, size=BUCKETS, weights=unweighted)
        return tf.cast(counts, tf.float64)

    counts = count(values)
    if weight is not None:
        counts *= weight
    if zeros is not None:
        zero = tf.where(zeros > 0, tf.zeros_like(least), least)
        counts += tf.cast(zeros, tf.float64) * count(zero)
    return {"min": least[:, 0], "max": largest[:, 0], "counts": counts}


def _ends(values):
    """The smallest and the largest finite value of each row."""
    finite = tf.math.is_finite(values)
    infinity = tf.constant(np.inf, values.dtype)
    return (
        tf.reduce_min(tf.where(finite, values, infinity), axis=1),
        tf.reduce_max(tf.where(finite, values, -infinity), axis=1),
    )


def _sampled_histogram(values, zeros=None):
    sample = _sample(values)
    # Without a look at each value, whether it is finite, XLA takes a third of the time.
    ends = tf.reduce_min(values, axis=1), tf.reduce_max(values, axis=1)
    known = _all_finite(values)
    ends = [tf.where(known, *pair) for pair in zip(ends, _ends(sample), strict=True)]
    return _histogram(sample, zeros, ends, tf.shape(values)[1] / SAMPLE)


def _sample(values):
    """`SAMPLE` values of each row, from all parts of it."""
    rows, size = values.shape[0], tf.shape(values)[1]
    runs = tf.reshape(values[:, : size // RUN * RUN], [rows, -1, RUN])
    places = tf.cast(_PLACES * tf.cast(size // RUN, tf.float64), tf.int32)
    return tf.reshape(tf.gather(runs, places, axis=1), [rows, -1])


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


def measures_of(sizes, histograms=True, full=False, norms=False) -> tuple[dict, dict, dict]:
    """What a record holds of every layer: measures by the name of their tags.

    The norm of a layer of more than `LARGE` values cannot be had from its histogram, which
    is one of a sample. With such a layer, a default record has the norms, too.

    Args:
        sizes: of the layers, in values.
        histograms: whether to add histograms.
        full: whether to add means, spreads, norms and shares.
        norms: whether a default record has the norms in any case.

    Returns:
        Those of the gradients, of the weights, and of the gradients after clipping.
    """
    if full:
        gradient, weight, clipped = FULL_GRADIENT, FULL_WEIGHT, FULL_CLIPPED
    else:
        norms = norms or max(sizes, default=0) > LARGE
        gradient = GRADIENT | ({"gradient_norm": norm} if norms else {})
        weight = WEIGHT | ({"weight_norm": norm} if norms else {})
        clipped = {}
    if histograms:
        gradient, weight = gradient | {GRADIENTS: histogram}, weight | {WEIGHTS: histogram}
    return gradient, weight, clipped


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
        By the name of its tags what `measures_of` lists, float32 `[layers]` each, those of
        clipped gradients only if there are any. A histogram is a dict of `min` and `max`
        `[layers]` and `counts` `[layers, 30]`.
    """
    sizes = [w.shape[-1] if stacked else w.shape.num_elements() for w in weights]
    measures = measures_of(sizes, histograms, full)
    return measure_parts(measures, (gradients, weights, clipped or []), stacked)


def measure_parts(measures, parts, stacked=False, compiled=False) -> dict[str, tf.Tensor]:
    """Apply to each part its own measures, in few operations.

    Args:
        measures: for each part a dict: name to measure.
        parts: for each part its tensors; a part without any is left out.
        stacked: as `layer_measures` takes it.
        compiled: whether XLA compiles the measures of each size of more than `STACKED` values.
            It takes a quarter of a second for a size, and small tensors are no faster then.

    Returns:
        By name, the measures of all parts, in the order of their tensors.
    """
    used = [pair for pair in zip(measures, parts, strict=True) if all(pair)]
    functions = dict.fromkeys(function for names, _ in used for function in names.values())

    def measure(rows):
        return {function.__name__: function(rows) for function in functions}

    large = tf.function(measure, jit_compile=True, autograph=False)

    def measure_rows(rows):
        return large(rows) if compiled and rows.shape[1] > STACKED else measure(rows)

    # Gradients and weights have the same sizes, so one call measures them together. The
    # compiler drops what is not used.
    together = measure_each(measure_rows, [t for _, part in used for t in part], stacked)
    rows = [sum(t.shape[:-1].num_elements() if stacked else 1 for t in part) for _, part in used]
    ends = np.cumsum(rows)
    return {
        name: tf.nest.map_structure(
            lambda values, part=slice(end - count, end): values[part], together[function.__name__]
        )
        for (names, _), end, count in zip(used, ends, rows, strict=True)
        for name, function in names.items()
    }


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
