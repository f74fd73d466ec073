"""`Yardstick`: what a batch costs, and what one answer for all of its examples would cost."""

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

from mnist_vg.keras_models.graphs import kinds_of
from mnist_vg.keras_models.losses import Losses, has_losses
from mnist_vg.runs.tags import (
    EXAMPLE_WEIGHT,
    LOSS_DATA,
    LOSS_SAME_ANSWER,
    NONFINITE_BATCH,
    OUTPUT_SPREAD,
)

ROUNDING = 1e-6
"""Relative difference between two losses that is no more than rounding in float32."""

SPREAD = 1e-3
"""Answers that differ by less than this share of their size are the same; see the symptom."""

MOST_VALUES = 2**22
"""Values of an output that are looked at. Of float32, 16 MiB."""

_MAY_FAIL = (
    *("Assert", "CheckNumerics", "Cholesky", "MatrixInverse", "MatrixSolve", "MatrixTriangular"),
    *("BatchMatrix", "MatrixSquareRoot", "Lu", "Qr", "Svd", "SelfAdjointEig", "Eig", "Ensure"),
)
"""Operations that raise for some values, such as those of a singular matrix."""


class Yardstick:
    """Measures in a training step how much better a model is than one that ignores its inputs.

    The same answer for all inputs is the mean of the outputs on the batch. A model that has
    learned nothing about its inputs does as well with it as with its own outputs, whatever the
    loss is. Both losses are of the same examples, so the difference between two batches cancels.
    (The best constant answer to a squared error is the mean of the targets: Hastie et al. 2009,
    section 2.4.)

    A `compute_loss` of the model's own may add what no answer changes, and is no yardstick.

    Args:
        model: compiled.
        known: whether its loss says how much is learned.
    """

    tags = (LOSS_DATA, LOSS_SAME_ANSWER, OUTPUT_SPREAD, EXAMPLE_WEIGHT, *NONFINITE_BATCH)
    """What `measure` returns, in this order."""

    def __init__(self, model: keras.Model, known: bool = True):
        self._constant = False
        kept = type(model).compute_loss is keras.Model.compute_loss
        usable = known and kept and has_losses(model)
        self._losses = Losses(model, self._wrapped) if usable else None

    def measure(self, x, y, outputs, sample_weight) -> tf.Tensor:
        """Measure a batch.

        Args:
            x: inputs.
            y: targets.
            outputs: what the model answers.
            sample_weight: of the examples.

        Returns:
            The loss without penalties, that of the same answer for all inputs, the root mean
            square of what differs between the answers over that of the answers, the mean weight
            of the examples, and how many values of inputs, targets and outputs are not finite:
            float64 `[7]`. NaN for what cannot be known, or is not there.
        """
        counts = [_nonfinite(part) for part in (x, y, outputs)]
        y, outputs, sample_weight = _bounded(y, outputs, sample_weight)
        spread = _spread(outputs)
        losses = self._both_losses(y, outputs, sample_weight, spread)
        weights = [tf.reduce_mean(weight) for weight in _floating(sample_weight)]
        weight = tf.add_n(weights) / len(weights) if weights else np.nan
        numbers = (*losses, spread, weight, *counts)
        return tf.stack([tf.cast(number, tf.float64) for number in numbers])

    def _both_losses(self, y, outputs, sample_weight, spread):
        unknown = [float("nan"), float("nan")]
        if self._losses is None or y is None:
            return unknown
        try:
            both = tf.function(lambda: self._compute(y, outputs, sample_weight), autograph=False)
            if _is_unsafe(both.get_concrete_function().graph):
                return unknown
            loss, same = both()
        except Exception:  # The loss is someone's own, and may not be made for a second call.
            return unknown
        # Such a loss does not depend on which example gets which answer: no yardstick.
        blind = (tf.abs(loss - same) <= ROUNDING * tf.abs(loss)) & (spread > SPREAD)
        known = tf.math.is_finite(spread) & ~blind
        return tf.where(known, loss, np.nan), tf.where(known, same, np.nan)

    def _compute(self, y, outputs, sample_weight):
        pair = []
        for self._constant in (False, True):
            loss = tf.reduce_mean(self._losses(y, outputs, sample_weight))
            # Keras has divided it by the number of replicas, which add theirs up.
            pair.append(_replicas() * tf.cast(loss, tf.float32))
        return pair

    def _wrapped(self, entry):
        def loss(y_true, y_pred, sample_weight=None):
            if self._constant:
                y_pred = _same_answer(y_pred, entry.loss)
            return entry.loss(y_true, y_pred, sample_weight)

        return loss


def _same_answer(outputs, loss):
    """The mean of the outputs over the batch for each example; of logits, that of probabilities."""
    outputs = tf.convert_to_tensor(outputs)
    values = tf.cast(outputs, tf.float32)
    if getattr(loss, "_fn_kwargs", {}).get("from_logits", False):
        if "binary" in getattr(loss, "name", ""):
            mean = tf.reduce_mean(tf.sigmoid(values), axis=0, keepdims=True)
            mean = tf.math.log(mean) - tf.math.log1p(-mean)
        else:
            mean = tf.math.log(tf.reduce_mean(tf.nn.softmax(values), axis=0, keepdims=True))
    else:
        mean = tf.reduce_mean(values, axis=0, keepdims=True)
    same = tf.cast(tf.broadcast_to(mean, tf.shape(values)), outputs.dtype)
    same.set_shape(outputs.shape)
    if (mask := get_keras_mask(outputs)) is not None:
        set_keras_mask(same, mask)
    return same


def _spread(tree):
    """Of the output that differs most between examples; NaN of a single example."""
    spreads = [tf.constant(0.0)]
    parts = _floating(tree)
    for part in parts:
        values = tf.cast(part, tf.float32)
        around = values - tf.reduce_mean(values, axis=0, keepdims=True)
        sizes = [tf.sqrt(tf.reduce_mean(tf.square(each))) for each in (around, values)]
        spreads.append(tf.math.divide_no_nan(*sizes))
    several = bool(parts) and tf.reduce_all([tf.shape(part)[0] > 1 for part in parts])
    return tf.where(several, tf.reduce_max(spreads), np.nan)


def _nonfinite(tree):
    counts = [tf.reduce_sum(tf.cast(~tf.math.is_finite(p), tf.int32)) for p in _floating(tree)]
    return tf.add_n(counts) if counts else tf.constant(0)


def _floating(tree):
    parts = [part for part in keras.tree.flatten(tree) if isinstance(part, tf.Tensor)]
    return [part for part in parts if part.dtype.is_floating and part.shape.rank]


def _replicas():
    context = tf.distribute.get_replica_context()
    return 1.0 if context is None else float(context.num_replicas_in_sync)


def _bounded(*trees):
    """The first examples of a batch, so many that the outputs have at most `MOST_VALUES`."""
    parts = [part for tree in trees for part in keras.tree.flatten(tree) if part is not None]
    plain = all(
        isinstance(p, tf.Tensor) and p.shape.rank and get_keras_mask(p) is None for p in parts
    )
    sizes = [part.shape[1:].num_elements() for part in parts] if plain else []
    if not sizes or None in sizes or not max(sizes):
        return trees
    most = max(MOST_VALUES // max(sizes), 2)
    return keras.tree.map_structure(lambda part: None if part is None else part[:most], trees)


def _is_unsafe(graph):
    """Whether a function changes a variable, draws a number, calls Python or may fail by value."""
    return any(
        (kind.is_stateful and kind.name != "ReadVariableOp" and "Call" not in kind.name)
        or kind.name.startswith(_MAY_FAIL)
        for kind in kinds_of(graph)
    )
